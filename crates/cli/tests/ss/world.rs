//! The sockets there are, by the account of who opened them, and the two programs that are asked for them.
//!
//! What a filter selects of them is told in model.rs.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Output};
use std::time::Instant;

use sock_diag::{Family, Protocol, SocketState};
use sockeye_tests::{Zoo, ZooSpec};

/// Protocol, local and remote end of a socket; in one namespace no two sockets agree in it.
pub(crate) type Ends = (Protocol, SocketAddr, SocketAddr);

/// One socket, with all that a filter can ask about.
#[derive(Debug)]
pub(crate) struct Animal {
    pub(crate) protocol: Protocol,
    pub(crate) family: Family,
    pub(crate) state: SocketState,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    /// Index of the interface it is bound to, 0 for none.
    pub(crate) interface: u32,
    pub(crate) mark: u32,
    /// TIME_WAIT buckets and request sockets: belong to no process and no cgroup.
    pub(crate) mini: bool,
    /// bind() was given a port, not 0.
    pub(crate) bound_by_hand: bool,
    /// SO_COOKIE, where somebody could ask.
    pub(crate) cookie: Option<u64>,
}

impl Animal {
    pub(crate) fn ends(&self) -> Ends {
        (self.protocol, self.local, self.remote)
    }

    /// A bound TCP socket that neither listens nor is connected.
    pub(crate) fn is_bound_inactive(&self) -> bool {
        self.protocol == Protocol::Tcp && self.state == SocketState::Close
    }
}

/// Every TCP and UDP socket of the namespace; open until this is dropped.
pub(crate) struct World {
    pub(crate) animals: Vec<Animal>,
    pub(crate) opened: Instant,
    _zoo: Zoo,
    _regulars: Regulars,
}

/// Sockets on ports chosen by hand, which the zoo does not have.
#[derive(Default)]
struct Regulars {
    listeners: Vec<TcpListener>,
    streams: Vec<TcpStream>,
    datagrams: Vec<UdpSocket>,
}

/// Ports bound by hand: below, inside and above the ephemeral range.
pub(crate) const CHOSEN_PORTS: [u16; 5] = [443, 5353, 8443, 40_404, 61_234];

impl World {
    /// Opens it all; must be alone in its namespace.
    pub(crate) fn open(ipv6: bool) -> World {
        let zoo = Zoo::open(&ZooSpec { herds: 2, ipv6 }).unwrap();
        let mut animals: Vec<Animal> = zoo
            .specimens
            .iter()
            .filter(|specimen| matches!(specimen.protocol, Protocol::Tcp | Protocol::Udp))
            .map(|specimen| Animal {
                protocol: specimen.protocol,
                family: specimen.family,
                state: specimen.state,
                local: specimen.local,
                remote: specimen.remote,
                interface: specimen.interface.map_or(0, |index| index.get()),
                mark: specimen.mark,
                mini: specimen.mini || specimen.state == SocketState::SynRecv,
                bound_by_hand: false,
                cookie: specimen.cookie.map(|cookie| cookie.0),
            })
            .collect();
        let mut regulars = Regulars::default();
        regulars.open(Ipv4Addr::new(127, 0, 0, 9).into(), &mut animals);
        if ipv6 {
            regulars.open(Ipv6Addr::LOCALHOST.into(), &mut animals);
        }
        World { animals, opened: Instant::now(), _zoo: zoo, _regulars: regulars }
    }

    /// Which of the animals each listed socket is.
    ///
    /// # Errors
    /// A socket that is none of them, is listed twice, or has another's cookie. A cookie not known yet is learnt.
    pub(crate) fn identify(&mut self, listing: &[Listed]) -> Result<Vec<usize>, String> {
        let by_ends: HashMap<Ends, usize> =
            self.animals.iter().enumerate().map(|(at, animal)| (animal.ends(), at)).collect();
        assert_eq!(by_ends.len(), self.animals.len(), "the ends tell sockets apart");
        let mut found = Vec::new();
        for socket in listing {
            let at = *by_ends.get(&socket.ends).ok_or_else(|| format!("nobody opened {socket:?}"))?;
            if socket.state.is_some_and(|state| state != self.animals[at].state) {
                return Err(format!("{socket:?} is in another state: {:?}", self.animals[at]));
            }
            let known = self.animals[at].cookie.get_or_insert(socket.cookie);
            if *known != socket.cookie {
                return Err(format!("{socket:?} has the cookie {known}"));
            }
            found.push(at);
        }
        found.sort_unstable();
        match found.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(format!("listed twice: {:?}", self.animals[pair[0]])),
            None => Ok(found),
        }
    }
}

impl Regulars {
    fn open(&mut self, address: IpAddr, animals: &mut Vec<Animal>) {
        let unspecified: IpAddr = match address {
            IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let nobody = SocketAddr::new(unspecified, 0);
        let mut add = |protocol, state, local, remote, bound_by_hand| {
            animals.push(Animal {
                protocol,
                family: if address.is_ipv4() { Family::Inet } else { Family::Inet6 },
                state,
                local,
                remote,
                interface: 0,
                mark: 0,
                mini: false,
                bound_by_hand,
                cookie: None,
            });
        };
        for port in CHOSEN_PORTS {
            let listener = TcpListener::bind((address, port)).unwrap();
            let door = listener.local_addr().unwrap();
            add(Protocol::Tcp, SocketState::Listen, door, nobody, true);
            let client = TcpStream::connect(door).unwrap();
            let (server, from) = listener.accept().unwrap();
            add(Protocol::Tcp, SocketState::Established, from, door, false);
            // Shares the listener's port; the kernel does not count it as bound by hand.
            add(Protocol::Tcp, SocketState::Established, door, from, false);
            self.listeners.push(listener);
            self.streams.extend([client, server]);

            let receiver = UdpSocket::bind((address, port)).unwrap();
            add(Protocol::Udp, SocketState::Close, receiver.local_addr().unwrap(), nobody, true);
            self.datagrams.push(receiver);
        }
    }
}

/// A socket as a program lists it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Listed {
    pub(crate) ends: Ends,
    /// None where ss leaves the column out: it does when only one state was asked for.
    pub(crate) state: Option<SocketState>,
    pub(crate) cookie: u64,
    /// The name after `%`.
    pub(crate) interface: Option<String>,
    pub(crate) receive_queue: u64,
    pub(crate) send_queue: u64,
    /// What follows the addresses: words as printed.
    pub(crate) details: Vec<String>,
}

/// One of the two programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Program {
    Ss,
    Sockeye,
}

impl Program {
    /// Runs it in this namespace. Whatever is printed must be numeric and without a header: the caller asks for it.
    pub(crate) fn run(self, arguments: &[String]) -> Output {
        let mut command = match self {
            Program::Ss => Command::new("ss"),
            Program::Sockeye => Command::new(env!("CARGO_BIN_EXE_sockeye")),
        };
        if self == Program::Sockeye {
            command.arg("sockets");
        }
        command.args(arguments).env_remove("TCPDIAG_FILE").output().unwrap()
    }

    /// The TCP and UDP sockets it lists for `arguments`; Err holds what it complained of instead.
    pub(crate) fn list(self, arguments: &[String], only: Option<Protocol>) -> Result<Vec<Listed>, String> {
        let mut all = ["-H", "-O", "-e", "-n"].map(str::to_owned).to_vec();
        all.extend_from_slice(arguments);
        let output = self.run(&all);
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).trim().to_string());
        }
        let text = String::from_utf8(output.stdout).unwrap();
        Ok(text.lines().filter_map(|line| listed(line, only)).collect())
    }
}

/// Whether `ss` is there. When it is not, says so; under CI that is a failure.
pub(crate) fn ss_is_there() -> bool {
    if Command::new("ss").arg("--version").output().is_ok() {
        return true;
    }
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "`ss` (iproute2) is needed");
    eprintln!("SKIPPED: there is no `ss` (iproute2) to compare with");
    false
}

/// Reads a line; None for a socket that is neither TCP nor UDP. `only` is the protocol when no column names it.
///
/// # Panics
/// When the line is not understood: then nothing can be compared.
pub(crate) fn listed(line: &str, only: Option<Protocol>) -> Option<Listed> {
    let mut words = line.split_whitespace().peekable();
    let protocol = match words.peek()? {
        word if word.starts_with(|c: char| c.is_ascii_lowercase()) => match words.next()? {
            "tcp" => Protocol::Tcp,
            "udp" => Protocol::Udp,
            _ => return None,
        },
        _ => only.unwrap_or_else(|| panic!("which protocol? {line:?}")),
    };
    let state = words.peek().and_then(|word| SocketState::all().find(|state| state.ss_name() == *word));
    if state.is_some() {
        words.next();
    }
    let mut next = || words.next().unwrap_or_else(|| panic!("too short: {line:?}"));
    let number = |word: &str| word.parse().unwrap_or_else(|_| panic!("{line:?}"));
    let (receive_queue, send_queue) = (number(next()), number(next()));
    let (local, interface) = end(next());
    let (remote, _) = end(next());
    let details: Vec<String> = words.map(str::to_owned).collect();
    let cookie = details.iter().find_map(|word| word.strip_prefix("sk:"));
    let cookie = cookie.and_then(|hexadecimal| u64::from_str_radix(hexadecimal, 16).ok());
    Some(Listed {
        ends: (protocol, local, remote),
        state,
        cookie: cookie.unwrap_or_else(|| panic!("no cookie: {line:?}")),
        interface,
        receive_queue,
        send_queue,
        details,
    })
}

/// `127.0.0.1%lo:80`, `[::1]:80`, `*:80` (of ss: `::`, not for IPv6 alone), a port of `*` is 0.
fn end(text: &str) -> (SocketAddr, Option<String>) {
    let (host, port) = text.rsplit_once(':').unwrap_or_else(|| panic!("{text:?}"));
    let (host, interface) = match host.split_once('%') {
        Some((host, interface)) => (host, Some(interface.to_owned())),
        None => (host, None),
    };
    let address = match host.trim_start_matches('[').trim_end_matches(']') {
        "*" => Ipv6Addr::UNSPECIFIED.into(),
        host => host.parse().unwrap_or_else(|_| panic!("{text:?}")),
    };
    let port = if port == "*" { 0 } else { port.parse().unwrap_or_else(|_| panic!("{text:?}")) };
    (SocketAddr::new(address, port), interface)
}
