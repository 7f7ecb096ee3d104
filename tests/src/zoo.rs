//! The zoo: real sockets in every state there is, with a list of exactly what was opened.
//!
//! States that need a silent peer are made with a socket filter that drops every segment: it works on loopback, in
//! every family. That and SO_MARK need CAP_NET_ADMIN over the namespace, which [`crate::Namespace`] gives to any user.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use sock_diag::{Cookie, Family, Protocol, SocketState};

use crate::deadline::within;
use crate::proc_net::{ProcLine, proc_net};
use crate::socket::{self, named};

/// How long the kernel may take to bring one specimen into its state.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a zoo is to hold.
#[derive(Clone, Debug)]
pub struct ZooSpec {
    /// How many IPv4 destinations get a herd: one socket (and its peer) in every TCP state. The first herd's clients speak
    /// from 127.0.0.11 to 127.0.1.1, the second's from 127.0.0.12 to 127.0.1.2, and so on. 1–200.
    pub herds: u8,
    /// Whether to add a herd on ::1, one of v4-mapped addresses, and IPv6 UDP. False where IPv6 is off.
    pub ipv6: bool,
}

impl Default for ZooSpec {
    /// Three IPv4 herds, and IPv6.
    fn default() -> ZooSpec {
        ZooSpec { herds: 3, ipv6: true }
    }
}

/// One socket, as a complete and correct account of the namespace must show it.
#[derive(Debug)]
pub struct Specimen {
    /// What was done to make it.
    pub what: &'static str,
    /// Its protocol.
    pub protocol: Protocol,
    /// Of the socket: v4-mapped ones are `Inet6`.
    pub family: Family,
    /// As a record says it: `Close` for a bound TCP socket that does nothing, `SynRecv` for a request socket.
    pub state: SocketState,
    /// Local address and port; v4-mapped addresses stay IPv6.
    pub local: SocketAddr,
    /// Remote address and port; unspecified and 0 without a peer.
    pub remote: SocketAddr,
    /// SO_COOKIE, read while the socket was held. None for request and unaccepted sockets, which nobody can ask.
    pub cookie: Option<Cookie>,
    /// Inode of the socket file. None for mini, request, orphaned and unaccepted sockets.
    pub inode: Option<NonZeroU32>,
    /// Whether it is a TIME_WAIT bucket (also as an orphan's FIN_WAIT2).
    pub mini: bool,
    /// SO_BINDTODEVICE.
    pub interface: Option<NonZeroU32>,
    /// SO_MARK; 0 when not set, and for sockets nobody can ask.
    pub mark: u32,
    /// IP_BIND_ADDRESS_NO_PORT; false for sockets nobody can ask.
    pub bind_address_no_port: bool,
    held: Option<OwnedFd>,
}

impl Specimen {
    /// The descriptor, where the zoo holds one.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.held.as_ref().map(AsFd::as_fd)
    }

    /// Whether it is a bound TCP socket that neither listens nor is connected: `/proc/net` does not list those.
    pub fn is_bound_inactive(&self) -> bool {
        self.state == SocketState::Close && !self.protocol.is_datagram()
    }

    /// Whether `line` of `/proc/net` is this socket, in this state.
    pub fn is_shown_by(&self, line: &ProcLine) -> bool {
        (line.protocol, line.family, line.state) == (self.protocol, self.family, self.state)
            && (line.local, line.remote) == (self.local, self.remote)
            && line.inode == self.inode
            && (line.timer == 3) == self.mini
    }

    /// The socket `fd` as it is now.
    fn of(what: &'static str, protocol: Protocol, state: SocketState, fd: OwnedFd) -> io::Result<Specimen> {
        let local = socket::local(&fd)?;
        Ok(Specimen {
            what,
            protocol,
            family: socket::family_of(local.ip()),
            state,
            local,
            remote: socket::remote(&fd)?,
            cookie: Some(socket::cookie(&fd)?),
            inode: socket::inode(&fd)?,
            mini: false,
            interface: socket::interface(&fd)?,
            mark: socket::mark(&fd)?,
            bind_address_no_port: socket::bind_address_no_port(&fd)?,
            held: Some(fd),
        })
    }

    /// A TCP socket that only the kernel holds, between these two ends.
    fn unheld(what: &'static str, state: SocketState, local: SocketAddr, remote: SocketAddr) -> Specimen {
        Specimen {
            what,
            protocol: Protocol::Tcp,
            family: socket::family_of(local.ip()),
            state,
            local,
            remote,
            cookie: None,
            inode: None,
            mini: false,
            interface: None,
            mark: 0,
            bind_address_no_port: false,
            held: None,
        }
    }

    /// Closes the descriptor; the kernel keeps the socket, in `state`.
    fn abandoned(mut self, what: &'static str, state: SocketState, mini: bool) -> Specimen {
        self.held = None;
        Specimen { what, state, mini, inode: None, ..self }
    }

    /// Whether the kernel has it in its state by now.
    fn is_ready(&self) -> io::Result<bool> {
        if let Some(fd) = &self.held {
            return Ok(self.protocol.is_datagram() || socket::tcp_state(fd)? == self.state);
        }
        Ok(proc_net()?.iter().any(|line| self.is_shown_by(line)))
    }
}

/// Sockets in every state, open until this is dropped.
///
/// In a fresh namespace [`specimens`](Self::specimens) is all there is: the other ends are specimens too. Nothing
/// changes state by itself for 30 s; after 60 s TIME_WAIT and request sockets begin to vanish.
#[derive(Debug)]
pub struct Zoo {
    /// Every socket of the zoo.
    pub specimens: Vec<Specimen>,
    /// What this kernel does not have, in words. Empty on one that has all that was asked for.
    pub missing: Vec<&'static str>,
}

/// Where one herd lives.
#[derive(Clone, Copy)]
struct Pasture {
    /// Address the listeners bind.
    listen: IpAddr,
    /// Address the clients connect to.
    server: IpAddr,
    /// Address the clients speak from.
    client: IpAddr,
}

/// Options a client may have.
#[derive(Clone, Copy, Default)]
struct ClientOptions {
    explicit_port: bool,
    on_loopback_interface: bool,
    mark: Option<u32>,
}

/// Both ends of a connection.
struct Pair {
    client: OwnedFd,
    server: OwnedFd,
}

impl Zoo {
    /// Opens it all, and waits until every specimen is in its state.
    ///
    /// Cost: about 30 sockets a herd, some milliseconds.
    ///
    /// # Errors
    /// Names the specimen that could not be made; nothing asked for is left out, but for what
    /// [`missing`](Self::missing) says.
    ///
    /// # Privileges
    /// CAP_NET_ADMIN over the network namespace. Where a test is about an ordinary user, it opens the zoo and then calls
    /// [`drop_privilege`](crate::drop_privilege).
    pub fn open(spec: &ZooSpec) -> io::Result<Zoo> {
        let mut zoo = Zoo { specimens: Vec::new(), missing: Vec::new() };
        for herd in 0..spec.herds {
            let server = IpAddr::V4(Ipv4Addr::new(127, 0, 1, 1 + herd));
            let client = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11 + herd));
            zoo.open_herd(Pasture { listen: server, server, client })?;
        }
        let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
        zoo.open_with_options(Pasture { listen: Ipv4Addr::UNSPECIFIED.into(), server: v4, client: v4 })?;
        zoo.open_datagrams(Protocol::Udp, spec.ipv6)?;
        match socket::open(Protocol::UdpLite, Family::Inet) {
            Ok(_) => zoo.open_datagrams(Protocol::UdpLite, spec.ipv6)?,
            Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => {
                zoo.missing.push("UDP-Lite (EPROTONOSUPPORT)");
            }
            Err(error) => return Err(named("a UDP-Lite socket", error)),
        }
        if spec.ipv6 {
            let v6 = IpAddr::V6(Ipv6Addr::LOCALHOST);
            zoo.open_herd(Pasture { listen: v6, server: v6, client: v6 })?;
            let mapped = |address: Ipv4Addr| IpAddr::V6(address.to_ipv6_mapped());
            zoo.open_herd(Pasture {
                listen: Ipv6Addr::UNSPECIFIED.into(),
                server: mapped(Ipv4Addr::new(127, 0, 2, 1)),
                client: mapped(Ipv4Addr::LOCALHOST),
            })?;
            zoo.open_v6_alone()?;
        }
        zoo.settle()?;
        Ok(zoo)
    }

    /// The specimens in `state`.
    pub fn in_state(&self, state: SocketState) -> impl Iterator<Item = &Specimen> {
        self.specimens.iter().filter(move |specimen| specimen.state == state)
    }

    /// Every TCP state on one pasture.
    fn open_herd(&mut self, pasture: Pasture) -> io::Result<()> {
        let place = format!("the herd from {} to {}", pasture.client, pasture.server);
        let opened = self.open_every_state(pasture);
        opened.map_err(|error| named(&place, error))
    }

    fn open_every_state(&mut self, pasture: Pasture) -> io::Result<()> {
        let listener = listener(pasture.listen)?;
        let door = SocketAddr::new(pasture.server, socket::local(&listener)?.port());
        let pair = || connected(&listener, door, pasture.client, ClientOptions::default());

        self.open_established(&listener, door, pasture)?;
        self.open_handshakes(door, pasture)?;
        self.open_half_closed(&pair)?;
        self.open_orphans(&pair)?;
        self.keep("listening", SocketState::Listen, listener)?;

        let idle = socket::open(Protocol::Tcp, socket::family_of(pasture.client))?;
        socket::bind(&idle, SocketAddr::new(pasture.client, 0))?;
        self.keep("bound, neither listening nor connected", SocketState::Close, idle)
    }

    fn open_established(&mut self, listener: &OwnedFd, door: SocketAddr, pasture: Pasture) -> io::Result<()> {
        let quiet = connected(listener, door, pasture.client, ClientOptions::default())?;
        self.keep_pair("connected", quiet, SocketState::Established, SocketState::Established)?;

        let unread = connected(listener, door, pasture.client, ClientOptions::default())?;
        socket::send(&unread.client, &[7; 1000])?;
        self.keep_pair("with 1000 bytes unread", unread, SocketState::Established, SocketState::Established)?;

        let unacknowledged = connected(listener, door, pasture.client, ClientOptions::default())?;
        socket::deafen(&unacknowledged.server)?;
        socket::send(&unacknowledged.client, &[7; 2000])?;
        let both = SocketState::Established;
        self.keep_pair("with 2000 bytes unacknowledged", unacknowledged, both, both)?;

        // Its port has an explicit binder: automatic connects leave it alone.
        let options = ClientOptions { explicit_port: true, ..ClientOptions::default() };
        let bound = connected(listener, door, pasture.client, options)?;
        self.keep_pair("bound to a port before connecting", bound, both, both)
    }

    fn open_handshakes(&mut self, door: SocketAddr, pasture: Pasture) -> io::Result<()> {
        let deaf_listener = listener(pasture.listen)?;
        socket::deafen(&deaf_listener)?;
        let deaf_door = SocketAddr::new(pasture.server, socket::local(&deaf_listener)?.port());
        let unanswered = client(pasture.client, ClientOptions::default())?;
        socket::connect(&unanswered, deaf_door)?;
        self.keep_towards(
            "connecting to a listener that drops SYNs",
            SocketState::SynSent,
            unanswered,
            deaf_door,
        )?;
        self.keep("listening, dropping all that comes", SocketState::Listen, deaf_listener)?;

        // A client deaf to the SYN-ACK leaves a request socket behind at the listener.
        let deaf = client(pasture.client, ClientOptions::default())?;
        socket::deafen(&deaf)?;
        socket::connect(&deaf, door)?;
        let from = socket::local(&deaf)?;
        self.keep_towards("connecting, dropping SYN-ACKs", SocketState::SynSent, deaf, door)?;
        self.add(Specimen::unheld("SYN-ACK unanswered", SocketState::SynRecv, door, from));

        // With TCP_DEFER_ACCEPT the server side stays a request socket until data comes.
        let deferring = listener(pasture.listen)?;
        socket::set(&deferring, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, 60)?;
        let deferring_door = SocketAddr::new(pasture.server, socket::local(&deferring)?.port());
        let silent = client(pasture.client, ClientOptions::default())?;
        socket::connect(&silent, deferring_door)?;
        let from = socket::local(&silent)?;
        self.keep_towards(
            "connected, server waits for data",
            SocketState::Established,
            silent,
            deferring_door,
        )?;
        self.add(Specimen::unheld("acceptance deferred", SocketState::SynRecv, deferring_door, from));
        self.keep("listening, accepting with the first data", SocketState::Listen, deferring)?;

        // Nobody calls accept() on this one.
        let idle = listener(pasture.listen)?;
        let idle_door = SocketAddr::new(pasture.server, socket::local(&idle)?.port());
        let waiting = client(pasture.client, ClientOptions::default())?;
        socket::connect(&waiting, idle_door)?;
        let from = socket::local(&waiting)?;
        self.keep_towards("connected, not accepted", SocketState::Established, waiting, idle_door)?;
        self.add(Specimen::unheld("waiting for accept", SocketState::Established, idle_door, from));
        self.keep("listening, never accepting", SocketState::Listen, idle)
    }

    /// FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK and CLOSING with their descriptors held.
    fn open_half_closed(&mut self, pair: &dyn Fn() -> io::Result<Pair>) -> io::Result<()> {
        use SocketState::*;
        let polite = pair()?;
        socket::shutdown_send(&polite.client)?;
        self.keep_pair("client shut down", polite, FinWait2, CloseWait)?;

        let unanswered = pair()?;
        socket::deafen(&unanswered.server)?;
        socket::shutdown_send(&unanswered.client)?;
        self.keep_pair("client shut down, server drops its FIN", unanswered, FinWait1, Established)?;

        let crossed = pair()?;
        socket::deafen(&crossed.server)?;
        socket::shutdown_send(&crossed.client)?;
        socket::shutdown_send(&crossed.server)?;
        self.keep_pair("both shut down, server drops the client's FIN", crossed, Closing, FinWait1)?;

        let last = pair()?;
        socket::shutdown_send(&last.client)?;
        // The kernel may delay the acknowledgement of a FIN: the client may not go deaf before it has come.
        reach(&last.server, CloseWait)?;
        reach(&last.client, FinWait2)?;
        socket::deafen(&last.client)?;
        socket::shutdown_send(&last.server)?;
        self.keep_pair("both shut down, client drops the server's FIN", last, FinWait2, LastAck)
    }

    /// What the kernel keeps after close(): TIME_WAIT, orphans, and the FIN_WAIT2 mini socket.
    fn open_orphans(&mut self, pair: &dyn Fn() -> io::Result<Pair>) -> io::Result<()> {
        use SocketState::*;
        let done = pair()?;
        // Both cookies are read before the close: a mini socket keeps a cookie that was ever asked for.
        let client = Specimen::of("", Protocol::Tcp, Established, done.client)?;
        self.add(client.abandoned("closed first", TimeWait, true));
        reach(&done.server, CloseWait)?;
        drop(done.server);

        let half = pair()?;
        let client = Specimen::of("", Protocol::Tcp, Established, half.client)?;
        self.keep("peer has closed", CloseWait, half.server)?;
        self.add(client.abandoned("closed, peer still open", FinWait2, true));

        let unanswered = pair()?;
        socket::deafen(&unanswered.server)?;
        let client = Specimen::of("", Protocol::Tcp, Established, unanswered.client)?;
        self.keep("drops the peer's FIN", Established, unanswered.server)?;
        self.add(client.abandoned("closed, FIN unanswered", FinWait1, false));

        let last = pair()?;
        socket::shutdown_send(&last.client)?;
        // The kernel may delay the acknowledgement of a FIN: the client may not go deaf before it has come.
        reach(&last.server, CloseWait)?;
        reach(&last.client, FinWait2)?;
        socket::deafen(&last.client)?;
        let server = Specimen::of("", Protocol::Tcp, CloseWait, last.server)?;
        self.keep("shut down, drops the peer's FIN", FinWait2, last.client)?;
        self.add(server.abandoned("closed last, FIN unanswered", LastAck, false));
        Ok(())
    }

    /// Wildcard listener, bound interface, mark.
    fn open_with_options(&mut self, pasture: Pasture) -> io::Result<()> {
        let listener = listener(pasture.listen)?;
        let door = SocketAddr::new(pasture.server, socket::local(&listener)?.port());
        let both = SocketState::Established;
        let options = ClientOptions { on_loopback_interface: true, ..ClientOptions::default() };
        let bound = connected(&listener, door, pasture.client, options)?;
        self.keep_pair("client bound to lo", bound, both, both)?;
        for mark in [1_u32, 0x5eed, 0x8000_0000] {
            let options = ClientOptions { mark: Some(mark), ..ClientOptions::default() };
            let marked = connected(&listener, door, pasture.client, options)?;
            self.keep_pair("client marked", marked, both, both)?;
        }
        self.keep("listening on every IPv4 address", SocketState::Listen, listener)
    }

    /// What only IPv6 has: listeners for it alone, and dual-stack ones with an IPv4 client.
    fn open_v6_alone(&mut self) -> io::Result<()> {
        let alone = socket::open(Protocol::Tcp, Family::Inet6)?;
        socket::set(&alone, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
        socket::bind(&alone, (Ipv6Addr::UNSPECIFIED, 0).into())?;
        socket::listen(&alone, 16)?;
        self.keep("listening on every IPv6 address, not IPv4", SocketState::Listen, alone)?;

        let dual = listener(Ipv6Addr::UNSPECIFIED.into())?;
        let door = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), socket::local(&dual)?.port());
        let mixed = connected(&dual, door, Ipv4Addr::LOCALHOST.into(), ClientOptions::default())?;
        let both = SocketState::Established;
        self.keep_pair("IPv4 client of an IPv6 listener", mixed, both, both)?;
        self.keep("listening on every address", SocketState::Listen, dual)
    }

    fn open_datagrams(&mut self, protocol: Protocol, ipv6: bool) -> io::Result<()> {
        let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), Ipv4Addr::UNSPECIFIED.into()];
        if ipv6 {
            addresses.extend([
                IpAddr::V6(Ipv6Addr::LOCALHOST),
                Ipv6Addr::UNSPECIFIED.into(),
                Ipv4Addr::LOCALHOST.to_ipv6_mapped().into(),
            ]);
        }
        for address in addresses {
            let receiver = socket::open(protocol, socket::family_of(address))?;
            socket::bind(&receiver, SocketAddr::new(address, 0))?;
            let at = socket::local(&receiver)?;
            self.add(Specimen::of("bound, not connected", protocol, SocketState::Close, receiver)?);
            if !address.is_unspecified() {
                let sender = socket::open(protocol, socket::family_of(address))?;
                socket::connect(&sender, at)?;
                self.add(Specimen::of("connected", protocol, SocketState::Established, sender)?);
            }
        }
        Ok(())
    }

    fn keep(&mut self, what: &'static str, state: SocketState, fd: OwnedFd) -> io::Result<()> {
        self.add(Specimen::of(what, Protocol::Tcp, state, fd).map_err(|error| named(what, error))?);
        Ok(())
    }

    /// Like [`keep`](Self::keep), for a socket that is connecting and will not tell its peer yet.
    fn keep_towards(
        &mut self,
        what: &'static str,
        state: SocketState,
        fd: OwnedFd,
        remote: SocketAddr,
    ) -> io::Result<()> {
        let specimen = Specimen::of(what, Protocol::Tcp, state, fd).map_err(|error| named(what, error))?;
        self.add(Specimen { remote, ..specimen });
        Ok(())
    }

    fn keep_pair(
        &mut self,
        what: &'static str,
        pair: Pair,
        client: SocketState,
        server: SocketState,
    ) -> io::Result<()> {
        self.keep(what, client, pair.client)?;
        self.keep(what, server, pair.server)
    }

    fn add(&mut self, specimen: Specimen) {
        self.specimens.push(specimen);
    }

    /// Waits until every specimen is in its state.
    fn settle(&self) -> io::Result<()> {
        for specimen in &self.specimens {
            let ready = within(PATIENCE, || match specimen.is_ready() {
                Ok(false) => None,
                answer => Some(answer),
            });
            if ready.transpose()?.is_none() {
                return Err(io::Error::other(format!("never came into its state: {specimen:?}")));
            }
        }
        Ok(())
    }
}

/// A listener on a port of the kernel's choice.
fn listener(address: IpAddr) -> io::Result<OwnedFd> {
    let listener = socket::open(Protocol::Tcp, socket::family_of(address))?;
    socket::bind(&listener, SocketAddr::new(address, 0))?;
    socket::listen(&listener, 128)?;
    Ok(listener)
}

/// A socket that will connect from `address`.
fn client(address: IpAddr, options: ClientOptions) -> io::Result<OwnedFd> {
    let client = socket::open(Protocol::Tcp, socket::family_of(address))?;
    if !options.explicit_port {
        socket::set(&client, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    }
    if let Some(mark) = options.mark {
        socket::set(&client, libc::SOL_SOCKET, libc::SO_MARK, mark as i32)?;
    }
    if options.on_loopback_interface {
        socket::set(&client, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX, 1)?;
    }
    socket::bind(&client, SocketAddr::new(address, 0))?;
    Ok(client)
}

/// A connection through `listener`, whose next connection it must be.
fn connected(listener: &OwnedFd, door: SocketAddr, from: IpAddr, options: ClientOptions) -> io::Result<Pair> {
    let client = client(from, options)?;
    socket::connect(&client, door)?;
    let accepted = within(PATIENCE, || socket::accept(listener).transpose());
    let server = match accepted.transpose()? {
        Some(server) => server,
        None => return Err(io::Error::other(format!("nobody came to {door}"))),
    };
    reach(&client, SocketState::Established)?;
    Ok(Pair { client, server })
}

/// Waits until a held TCP socket is in `state`.
fn reach(fd: &OwnedFd, state: SocketState) -> io::Result<()> {
    match within(PATIENCE, || (socket::tcp_state(fd).ok()? == state).then_some(())) {
        Some(()) => Ok(()),
        None => Err(io::Error::other(format!("stayed in {} instead of {state}", socket::tcp_state(fd)?))),
    }
}
