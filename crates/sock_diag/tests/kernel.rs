//! The kernel this runs on, without privilege and in the namespace at hand: only sockets of the test's own are judged.
//! What needs privilege is tried either way: as root it must work, otherwise it must be refused.

#![allow(clippy::print_stdout, reason = "what this kernel answered belongs into the log")]

mod sample;

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::sys::socket::{self, AddressFamily, SockFlag, SockType, SockaddrIn, sockopt};
use sample::dump_all;
use sock_diag::{
    Cookie, DestroyEvents, DumpRequest, Error, Event, EventGroups, Extensions, FEATURES, Family, Kernel,
    Namespace, NamespaceError, Protocol, RecvBuffer, SocketRecord, SocketState, StateSet, Support, TimerKind,
    attribute, destroy, dump, lookup,
};

/// Whether we hold CAP_NET_ADMIN over this namespace: by asking the kernel for something harmless that needs it.
fn is_net_admin() -> bool {
    let socket = socket::socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, None);
    let socket = socket.expect("a socket");
    let off: libc::c_int = 0;
    // SAFETY: setsockopt reads one int from `off`, which outlives the call.
    let status = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_REPAIR,
            (&raw const off).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    status == 0
}

/// SO_COOKIE: the socket's name by another way than sock_diag.
fn cookie(socket: &impl AsFd) -> Cookie {
    let mut cookie = 0u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `length` bytes into `cookie`, which outlives the call.
    let status = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_COOKIE,
            (&raw mut cookie).cast(),
            &mut length,
        )
    };
    assert_eq!(status, 0, "SO_COOKIE");
    Cookie(cookie)
}

fn inode(socket: &impl AsFd) -> u64 {
    let fd = socket.as_fd().as_raw_fd();
    fs::metadata(format!("/proc/self/fd/{fd}")).expect("our own descriptor").ino()
}

fn uid() -> u32 {
    fs::metadata("/proc/thread-self").expect("/proc").uid()
}

fn kernel() -> Kernel {
    Kernel::open().expect("a sock_diag socket")
}

/// The record of our socket in a dump: found by its cookie.
fn dumped(request: &DumpRequest<'_>, cookie: Cookie) -> SocketRecord {
    let (records, summary) = dump_all(&mut kernel(), request);
    let summary = summary.expect("a dump");
    assert_eq!((summary.foreign, summary.malformed), (0, 0));
    let mut ours = records.into_iter().filter(|r| r.id.cookie == cookie);
    ours.next().unwrap_or_else(|| panic!("no socket {cookie} in {request:?}"))
}

fn look_up(record: &SocketRecord) -> Option<SocketRecord> {
    lookup(&mut kernel(), record.protocol, record.family, &record.id, &mut RecvBuffer::new())
        .expect("an answer")
}

struct Pair {
    listener: TcpListener,
    client: TcpStream,
    server: TcpStream,
}

impl Pair {
    fn new(address: impl Into<std::net::IpAddr>) -> Pair {
        let listener = TcpListener::bind((address.into(), 0)).expect("a listener");
        let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
        let (server, _) = listener.accept().expect("a connection");
        Pair { listener, client, server }
    }
}

fn reset_on_close(socket: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    socket::setsockopt(socket, sockopt::Linger, &linger).expect("SO_LINGER");
}

#[test]
fn our_tcp_sockets_are_dumped_as_they_are() {
    let mut addresses: Vec<std::net::IpAddr> = vec![Ipv4Addr::LOCALHOST.into()];
    match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => addresses.push(Ipv6Addr::LOCALHOST.into()),
        Err(error) => assert!(!fs::exists("/proc/net/if_inet6").unwrap_or(false), "no IPv6 here? {error}"),
    }
    for address in addresses {
        let pair = Pair::new(address);
        let family = if address.is_ipv4() { Family::Inet } else { Family::Inet6 };
        let ends = [
            (pair.client.local_addr(), pair.client.peer_addr(), cookie(&pair.client), inode(&pair.client)),
            (pair.server.local_addr(), pair.server.peer_addr(), cookie(&pair.server), inode(&pair.server)),
        ];
        for (local, remote, cookie, inode) in ends {
            let (local, remote) = (local.expect("an address"), remote.expect("an address"));
            for request in [DumpRequest::all(Protocol::Tcp), DumpRequest::all(Protocol::Tcp).family(family)] {
                let record = dumped(&request, cookie);
                assert_eq!(record.protocol, Protocol::Tcp);
                assert_eq!((record.family, record.state), (family, SocketState::Established));
                assert_eq!(SocketAddr::new(record.id.local_address, record.id.local_port), local);
                assert_eq!(SocketAddr::new(record.id.remote_address, record.id.remote_port), remote);
                assert_eq!(record.uid, Some(uid()));
                assert_eq!(record.inode.map(|i| u64::from(i.get())), Some(inode));
                assert_eq!(record.shutdown, Some(0));
                assert!(!record.is_mini() && !record.is_bound_inactive());
                let found = look_up(&record).expect("it is there");
                assert_eq!((found.id, found.state, found.inode), (record.id, record.state, record.inode));
            }
        }
        let other = if family == Family::Inet { Family::Inet6 } else { Family::Inet };
        let (records, _) = dump_all(&mut kernel(), &DumpRequest::all(Protocol::Tcp).family(other));
        assert!(records.iter().all(|r| r.family == other && r.id.cookie != cookie(&pair.client)));

        let listening =
            dumped(&DumpRequest::all(Protocol::Tcp).states(StateSet::LISTEN), cookie(&pair.listener));
        assert_eq!((listening.state, listening.id.remote_port), (SocketState::Listen, 0));
        assert_eq!(look_up(&listening).map(|r| r.id), Some(listening.id));
    }
}

#[test]
fn a_closed_connection_is_found_no_more_though_its_listener_is() {
    let pair = Pair::new(Ipv4Addr::LOCALHOST);
    let record = dumped(&DumpRequest::all(Protocol::Tcp), cookie(&pair.server));
    // A reset leaves no TIME_WAIT behind.
    reset_on_close(&pair.server);
    drop(pair.server);
    let mut client = &pair.client;
    assert!(client.read(&mut [0]).is_err(), "reset");
    assert_eq!(look_up(&record), None);
    let any = SocketRecord { id: record.id.with_any_cookie(), ..record };
    assert_eq!(look_up(&any), None, "the listener on the same port is not it");
    let mut stale = dumped(&DumpRequest::all(Protocol::Tcp), cookie(&pair.listener));
    stale.id.cookie = record.id.cookie;
    assert_eq!(look_up(&stale), None, "a listener with another cookie");
}

#[test]
fn a_time_wait_keeps_its_cookie_and_tells_the_time_left() {
    let pair = Pair::new(Ipv4Addr::LOCALHOST);
    let name = cookie(&pair.client);
    let before = dumped(&DumpRequest::all(Protocol::Tcp), name);
    drop(pair.client);
    drop(pair.server);
    let request = DumpRequest::all(Protocol::Tcp).states(StateSet::of(&[SocketState::TimeWait]));
    let record = dumped(&request, name);
    assert!(record.is_mini());
    assert_eq!((record.timer.kind, record.state), (TimerKind::TimeWait, SocketState::TimeWait));
    assert!((50_000..=60_000).contains(&record.timer.expires_ms), "{:?}", record.timer);
    assert_eq!((record.uid, record.inode, record.id), (None, None, before.id));
    assert_eq!(look_up(&before).map(|r| r.state), Some(SocketState::TimeWait));
}

#[test]
fn udp_sockets_connected_and_not_are_dumped_and_looked_up() {
    let idle = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let wildcard = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a socket");
    let connected = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    connected.connect(idle.local_addr().expect("an address")).expect("connected");
    // Both ends of one pair: a lookup the wrong way round finds the peer.
    let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    let peer2 = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    peer.connect(peer2.local_addr().expect("an address")).expect("connected");
    peer2.connect(peer.local_addr().expect("an address")).expect("connected");

    for (socket, state) in [
        (&idle, SocketState::Close),
        (&wildcard, SocketState::Close),
        (&connected, SocketState::Established),
        (&peer, SocketState::Established),
        (&peer2, SocketState::Established),
    ] {
        let record = dumped(&DumpRequest::all(Protocol::Udp), cookie(socket));
        assert_eq!((record.state, record.protocol), (state, Protocol::Udp));
        assert_eq!(record.id.local_port, socket.local_addr().expect("an address").port());
        assert_eq!(record.inode.map(|i| u64::from(i.get())), Some(inode(socket)));
        assert_eq!(look_up(&record).map(|r| r.id), Some(record.id), "{record:?}");
        if state == SocketState::Established {
            let any = SocketRecord { id: record.id.with_any_cookie(), ..record };
            assert_eq!(look_up(&any).map(|r| r.id), Some(record.id), "by addresses alone");
        }
    }
    let record = dumped(&DumpRequest::all(Protocol::Udp), cookie(&idle));
    drop(connected);
    drop(idle);
    assert_eq!(look_up(&record), None);
}

fn bound(kind: SockType, address: SockaddrIn) -> OwnedFd {
    let socket = socket::socket(AddressFamily::Inet, kind, SockFlag::SOCK_CLOEXEC, None).expect("a socket");
    socket::setsockopt(&socket, sockopt::ReusePort, &true).expect("SO_REUSEPORT");
    socket::bind(socket.as_raw_fd(), &address).expect("a port");
    socket
}

fn any_port() -> SockaddrIn {
    SockaddrIn::from(std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))
}

#[test]
fn sockets_that_share_a_port_are_each_found() {
    for (kind, protocol) in [(SockType::Stream, Protocol::Tcp), (SockType::Datagram, Protocol::Udp)] {
        let first = bound(kind, any_port());
        let address: SockaddrIn = socket::getsockname(first.as_raw_fd()).expect("an address");
        let group = [first, bound(kind, address), bound(kind, address)];
        if kind == SockType::Stream {
            for socket in &group {
                socket::listen(socket, socket::Backlog::new(8).expect("a backlog")).expect("listening");
            }
        }
        for socket in &group {
            let record = dumped(&DumpRequest::all(protocol), cookie(socket));
            assert_eq!(look_up(&record).map(|r| r.id), Some(record.id), "{protocol}");
        }
    }
}

#[test]
fn a_bound_socket_is_found_as_the_probe_says() {
    let support = FEATURES.iter().find(|f| f.name == "bound_inactive").expect("a feature").probe();
    let socket = bound(SockType::Stream, any_port());
    let address: SockaddrIn = socket::getsockname(socket.as_raw_fd()).expect("an address");
    let request = DumpRequest::all(Protocol::Tcp).states(StateSet::BOUND_INACTIVE);
    let (records, summary) = dump_all(&mut kernel(), &request);
    summary.expect("a dump");
    let name = cookie(&socket);
    let Some(record) = records.into_iter().find(|r| r.id.cookie == name) else {
        assert_eq!(support, Support::No);
        return;
    };
    assert_eq!(support, Support::Yes);
    assert_eq!((record.state, record.id.local_port), (SocketState::Close, address.port()));
    assert!(record.is_bound_inactive() && record.is_in(request.states));
    assert_eq!(look_up(&record).map(|r| r.id), Some(record.id));
    let (others, _) =
        dump_all(&mut kernel(), &DumpRequest::all(Protocol::Tcp).states(StateSet::from_bits(0xfff)));
    assert!(others.iter().all(|r| r.id.cookie != name), "0xfff does not ask for it");
    drop(socket);
    assert_eq!(look_up(&record), None);
}

#[test]
fn attributes_come_as_documented() {
    let pair = Pair::new(Ipv4Addr::LOCALHOST);
    let name = cookie(&pair.client);
    let collect = |extensions| {
        let mut found = None;
        let request = DumpRequest::all(Protocol::Tcp).extensions(extensions);
        dump(&mut kernel(), &request, &mut RecvBuffer::new(), |diag| {
            if diag.to_record().id.cookie == name {
                let kinds: Vec<u16> = diag.attributes().map(|a| a.kind).collect();
                let rtt = diag.tcp_info().and_then(|info| info.rtt_us());
                let congestion = diag.congestion().map(<[u8]>::to_vec);
                found = Some((kinds, diag.to_record(), rtt, congestion, diag.memory()));
            }
            std::ops::ControlFlow::Continue(())
        })
        .expect("a dump");
        found.expect("our socket")
    };
    let (kinds, record, rtt, congestion, memory) = collect(Extensions::NONE);
    println!("unasked attributes: {kinds:?}; net admin: {}", is_net_admin());
    assert!(kinds.contains(&attribute::SHUTDOWN));
    assert_eq!(kinds.contains(&attribute::MARK), is_net_admin(), "MARK needs CAP_NET_ADMIN");
    assert_eq!(record.mark.is_some(), is_net_admin());
    assert_eq!((rtt, congestion, memory), (None, None, None), "not asked for");
    if is_net_admin() {
        socket::setsockopt(&pair.client, sockopt::Mark, &0x1234).expect("SO_MARK");
        assert_eq!(collect(Extensions::NONE).1.mark, Some(0x1234));
    }

    let (_, _, rtt, congestion, memory) =
        collect(Extensions::INFO.union(Extensions::CONG).union(Extensions::SKMEMINFO));
    assert!(rtt.is_some());
    let mut buffer = [0u8; 16];
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: getsockopt writes at most `length` bytes into `buffer`, which outlives the call.
    let status = unsafe {
        libc::getsockopt(
            pair.client.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_CONGESTION,
            buffer.as_mut_ptr().cast(),
            &mut length,
        )
    };
    assert_eq!(status, 0, "TCP_CONGESTION");
    let named = buffer.split(|b| *b == 0).next().unwrap_or_default();
    assert_eq!(congestion.as_deref(), Some(named));
    let limit = socket::getsockopt(&pair.client, sockopt::RcvBuf).expect("SO_RCVBUF");
    assert_eq!(memory.expect("asked for").receive_limit_bytes as usize, limit);

    // IP_BIND_ADDRESS_NO_PORT shows in the options.
    let before = collect(Extensions::NONE).1.options;
    let on: libc::c_int = 1;
    // SAFETY: setsockopt reads one int from `on`, which outlives the call.
    let status = unsafe {
        libc::setsockopt(
            pair.client.as_raw_fd(),
            libc::IPPROTO_IP,
            libc::IP_BIND_ADDRESS_NO_PORT,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    assert_eq!(status, 0, "IP_BIND_ADDRESS_NO_PORT");
    let after = collect(Extensions::NONE).1.options;
    assert_eq!(before.is_some(), kinds.contains(&attribute::SOCKOPT));
    if let (Some(before), Some(after)) = (before, after) {
        assert_eq!((before.bind_address_no_port(), after.bind_address_no_port()), (false, true));
    }
}

/// Reads events until one has each of these cookies, and returns the protocols they came with; None after a loss.
fn ends_of(events: &mut DestroyEvents, cookies: &[Cookie]) -> Option<Vec<Protocol>> {
    let mut protocols = vec![None; cookies.len()];
    let mut buffer = RecvBuffer::new();
    let mut lost = false;
    let deadline = Instant::now() + Duration::from_secs(20);
    while protocols.iter().any(Option::is_none) {
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no event for each of {cookies:?}: {protocols:?}");
        events
            .read(Some(left), &mut buffer, |event| match event {
                Event::Destroyed(diag) => {
                    let record = diag.to_record();
                    if let Some(i) = cookies.iter().position(|c| *c == record.id.cookie) {
                        assert_eq!((record.state, record.inode), (SocketState::Close, None));
                        assert_eq!(protocols[i], None, "one end each");
                        protocols[i] = Some(record.protocol);
                        if record.protocol == Protocol::Tcp {
                            let state = diag.tcp_info().and_then(|info| info.state());
                            assert_eq!(state, Some(7), "the last tcp_info comes along");
                        }
                    }
                }
                Event::Lost(_) => lost = true,
            })
            .expect("events");
        if lost {
            return None;
        }
    }
    Some(protocols.into_iter().flatten().collect())
}

#[test]
fn destroy_events_tell_of_our_sockets() {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut events = DestroyEvents::open(EventGroups::ALL, 4 << 20).expect("a subscription");
        let granted = events.receive_buffer_bytes();
        let any_socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        if socket::setsockopt(&any_socket, sockopt::RcvBufForce, &65_536).is_ok() {
            assert_eq!(granted, 4 << 20, "SO_RCVBUFFORCE takes and reports what was asked for");
        } else {
            assert!(granted > 0 && granted <= 4 << 20);
        }
        let pair = Pair::new(Ipv4Addr::LOCALHOST);
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let names = [cookie(&pair.server), cookie(&pair.client), cookie(&udp)];
        // Reset, so that the sockets end now and not after TIME_WAIT.
        reset_on_close(&pair.server);
        drop(pair.server);
        let mut client = &pair.client;
        assert!(client.read(&mut [0]).is_err(), "reset");
        drop((pair.client, pair.listener, udp));
        // A burst of other sockets' ends may fill an ordinary user's buffer: then once more.
        if let Some(protocols) = ends_of(&mut events, &names) {
            assert_eq!(protocols, [Protocol::Tcp, Protocol::Tcp, Protocol::Udp]);
            break;
        }
        assert!(Instant::now() < deadline, "events are lost every time");
    }
}

#[test]
fn a_full_buffer_is_told_as_a_loss_and_reading_goes_on() {
    let mut events = DestroyEvents::open(EventGroups::UDP, 4096).expect("a subscription");
    let deadline = Instant::now() + Duration::from_secs(20);
    let close_one = || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        cookie(&socket)
    };
    // The kernel sends events from a work queue of its own, so only its counter tells when the buffer is full.
    let mut closed = 0u64;
    while events.dropped().expect("this kernel counts its losses") == 0 {
        assert!(Instant::now() < deadline, "{closed} events fit into 4 KiB");
        close_one();
        closed += 1;
    }
    let mut buffer = RecvBuffer::new();
    let (mut seen, mut lost) = (0u64, 0u64);
    // Other tests' sockets end meanwhile: those are told as well, so there are at least as many as ours.
    while seen + lost < closed {
        assert!(Instant::now() < deadline, "{seen} seen, {lost} lost of {closed}");
        events
            .read(Some(Duration::from_millis(20)), &mut buffer, |event| match event {
                Event::Destroyed(_) => seen += 1,
                Event::Lost(Some(more)) => lost += u64::from(more),
                Event::Lost(None) => panic!("this kernel counts its losses"),
            })
            .expect("a full buffer is no error");
    }
    assert!(seen > 0 && lost > 0, "{seen} seen, {lost} lost");
    assert!(u64::from(events.dropped().expect("counted")) >= lost);
    println!("{closed} sockets closed: {seen} events seen, {lost} lost");
    // Reading goes on. Another burst from a parallel test may fill the buffer again, so this may take a few sockets.
    loop {
        assert!(Instant::now() < deadline, "no event after the loss");
        let name = close_one();
        let mut found = false;
        events
            .read(Some(Duration::from_millis(200)), &mut buffer, |event| {
                if let Event::Destroyed(diag) = event {
                    found |= diag.to_record().id.cookie == name;
                }
            })
            .expect("events");
        if found {
            break;
        }
    }
}

#[test]
fn nothing_to_read_is_a_timeout() {
    // No sockets of ours; other programs' ends may arrive, and are then no timeout.
    let mut events = DestroyEvents::open(EventGroups::TCP, 1 << 20).expect("a subscription");
    let began = Instant::now();
    let mut seen = 0;
    let read = events.read(Some(Duration::from_millis(30)), &mut RecvBuffer::new(), |_| seen += 1);
    assert_eq!(read.expect("a timeout is no error"), seen);
    assert!(seen > 0 || began.elapsed() >= Duration::from_millis(30));
}

#[test]
fn destroying_our_socket_needs_privilege() {
    let pair = Pair::new(Ipv4Addr::LOCALHOST);
    let record = dumped(&DumpRequest::all(Protocol::Tcp), cookie(&pair.client));
    let end = || destroy(&mut kernel(), Protocol::Tcp, Family::Inet, &record.id, &mut RecvBuffer::new());
    let support = FEATURES.iter().find(|f| f.name == "sock_destroy").expect("a feature").probe();
    let mut client = &pair.client;
    match end() {
        Ok(destroyed) => {
            assert!(destroyed && is_net_admin());
            assert_eq!(support, Support::Yes);
            let error = client.read(&mut [0]).expect_err("the socket was ended");
            assert_eq!(error.raw_os_error(), Some(libc::ECONNABORTED));
            assert!(!end().expect("an answer"), "it is gone already");
        }
        Err(error) if error.refusal().is_some_and(|e| e.0 == libc::EPERM) => {
            assert!(!is_net_admin());
            assert_eq!(support, Support::Yes);
        }
        Err(error) => {
            assert_eq!(error.refusal().map(|e| e.0), Some(libc::EOPNOTSUPP), "{error}");
            assert_eq!(support, Support::No);
        }
    }
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    udp.connect(udp.local_addr().expect("an address")).expect("connected to itself");
    let record = dumped(&DumpRequest::all(Protocol::Udp), cookie(&udp));
    let ended = destroy(&mut kernel(), Protocol::Udp, Family::Inet, &record.id, &mut RecvBuffer::new());
    if is_net_admin() && support == Support::Yes {
        assert!(ended.expect("an answer"));
    } else {
        assert!(ended.is_err());
    }
}

fn own_namespace() -> (u64, u64) {
    let namespace = fs::metadata("/proc/thread-self/ns/net").expect("/proc");
    (namespace.dev(), namespace.ino())
}

#[test]
fn the_current_namespace_is_known_and_entered() {
    let before = own_namespace();
    let namespace = Namespace::current().expect("a namespace");
    assert_eq!(namespace.inode(), before.1);
    assert_eq!((namespace.name(), namespace.to_string()), (None, format!("net:[{}]", before.1)));
    let by_pid = Namespace::find(&std::process::id().to_string()).expect("our process");
    let by_path = Namespace::find("/proc/self/ns/net").expect("our process");
    assert_eq!((by_pid.inode(), by_path.inode()), (before.1, before.1));

    match namespace.run(|| (own_namespace(), std::thread::current().id())) {
        Ok((inside, thread)) => {
            assert_eq!(inside, before);
            assert_ne!(thread, std::thread::current().id(), "work has a thread of its own");
            let panicked = catch_unwind(AssertUnwindSafe(|| namespace.run(|| panic!("inside"))));
            assert!(panicked.is_err());
            let there = Kernel::open_in(&namespace).expect("a socket");
            assert_eq!(there.namespace_cookie(), kernel().namespace_cookie());
        }
        Err(error) => {
            let Error::System { operation, source } = &error else { panic!("{error}") };
            assert_eq!(*operation, "entering the network namespace");
            assert_eq!(source.raw_os_error(), Some(libc::EPERM), "CAP_SYS_ADMIN is missing");
        }
    }
    assert_eq!(own_namespace(), before, "the calling thread stays");
}

#[test]
fn another_namespace_is_another() {
    let before = own_namespace();
    let (send, receive) = std::sync::mpsc::channel();
    let (finish, finished) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        let made = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET);
        send.send(made.map(|()| Namespace::current().expect("a namespace"))).expect("the test waits");
        let _ = finished.recv();
    });
    match receive.recv().expect("an answer") {
        Err(errno) => {
            assert_eq!(
                errno,
                nix::errno::Errno::EPERM,
                "without CAP_SYS_ADMIN there is no other namespace to try"
            );
        }
        Ok(other) => {
            assert_ne!(other.inode(), before.1);
            let pair = Pair::new(Ipv4Addr::LOCALHOST);
            let mut there = Kernel::open_in(&other).expect("a socket there");
            let cookies = (there.namespace_cookie(), kernel().namespace_cookie());
            if let (Some(there), Some(here)) = cookies {
                assert_ne!(there, here);
            }
            let (records, summary) = dump_all(&mut there, &DumpRequest::all(Protocol::Tcp));
            assert!(summary.is_ok() && records.is_empty(), "a new namespace has no sockets");
            let port = other
                .run(|| {
                    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("a listener");
                    (listener.local_addr().expect("an address").port(), listener)
                })
                .expect("entered");
            let (records, _) = dump_all(&mut there, &DumpRequest::all(Protocol::Tcp));
            let ports: Vec<u16> = records.iter().map(|r| r.id.local_port).collect();
            assert_eq!(ports, [port.0], "a socket made there stays there");
            let panicked = catch_unwind(AssertUnwindSafe(|| other.run(|| panic!("inside"))));
            assert!(panicked.is_err());
            assert_eq!(own_namespace(), before, "the calling thread stays");
            drop(pair);
        }
    }
    drop(finish);
    thread.join().expect("the thread ends");
}

#[test]
fn what_is_no_namespace_is_told() {
    for text in ["no-such-namespace", "", ".", "..", "4294967295"] {
        match Namespace::find(text) {
            Err(NamespaceError::Unknown { text: told, tried }) => {
                assert!(told == text && !tried.is_empty());
                assert_eq!(tried.len(), if text == "4294967295" { 2 } else { 1 });
            }
            other => panic!("{text:?}: {other:?}"),
        }
    }
    assert!(matches!(Namespace::find("/no/such/file"), Err(NamespaceError::Unknown { .. })));
    for path in ["/proc/self/status", "/proc/self", "/proc/self/ns/uts", "/dev/null"] {
        let found = Namespace::find(path);
        assert!(matches!(found, Err(NamespaceError::NotANamespace { .. })), "{path}: {found:?}");
    }
    // Through a file that is no directory: neither there nor openable.
    let found = Namespace::find("/proc/self/status/ns");
    assert!(matches!(found, Err(NamespaceError::Unreadable { .. })), "{found:?}");
}

#[test]
fn a_fifo_by_mistake_does_not_wait_for_its_writer() {
    let path = std::env::temp_dir().join(format!("sockeye-fifo-{}", std::process::id()));
    let name = CString::new(path.as_os_str().as_encoded_bytes()).expect("a path");
    // SAFETY: `name` is a string with its NUL, and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o700) }, 0, "a fifo");
    let found = Namespace::from_path(&path);
    fs::remove_file(&path).expect("our own file");
    assert!(matches!(found, Err(NamespaceError::NotANamespace { .. })), "{found:?}");
}

#[test]
fn every_probe_answers_and_agrees_with_what_dumps_do() {
    for feature in FEATURES {
        let support = feature.probe();
        println!("{:<16} since {:<8} {support}", feature.name, feature.since);
        assert!(!matches!(support, Support::CannotTell(_)), "{}: {support}", feature.name);
        let dumps = |protocol| {
            let request = DumpRequest::all(protocol).family(Family::Inet).states(StateSet::LISTEN);
            if dump_all(&mut kernel(), &request).1.is_ok() { Support::Yes } else { Support::No }
        };
        match feature.name {
            "tcp_diag" => assert_eq!(support, dumps(Protocol::Tcp)),
            "udp_diag" => assert_eq!(support, dumps(Protocol::Udp)),
            "udplite_diag" => assert_eq!(support, dumps(Protocol::UdpLite)),
            "mptcp_diag" => assert_eq!(support, dumps(Protocol::Mptcp)),
            "one_walk" => {
                let (_, summary) = dump_all(&mut kernel(), &DumpRequest::all(Protocol::Tcp));
                assert_eq!(summary.expect("a dump").walks == 1, support == Support::Yes);
            }
            "destroy_events" => {
                let opened = DestroyEvents::open(EventGroups::ALL, 4096).is_ok();
                assert_eq!(opened, support == Support::Yes);
            }
            // These two have tests of their own.
            "bound_inactive" | "sock_destroy" => {}
            other => panic!("{other} has no test"),
        }
    }
}

#[test]
fn the_same_sockets_are_in_proc() {
    let pair = Pair::new(Ipv4Addr::LOCALHOST);
    let record = dumped(&DumpRequest::all(Protocol::Tcp), cookie(&pair.client));
    let table = fs::read_to_string("/proc/net/tcp").expect("/proc/net/tcp");
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes([127, 0, 0, 1]), record.id.local_port);
    let inode = record.inode.expect("our socket has a file").to_string();
    let line =
        table.lines().find(|line| line.contains(&local) && line.split_whitespace().nth(9) == Some(&inode));
    let line = line.unwrap_or_else(|| panic!("no {local} with inode {inode}"));
    assert_eq!(line.split_whitespace().nth(3), Some("01"));
}
