//! MPTCP sockets of this kernel: dumped under their own protocol, and looked up though mptcp_diag knows only tokens.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::sys::socket::{Backlog, SockaddrIn, bind, connect, getsockname, listen};
use sock_diag::{
    Cookie, DumpRequest, Errno, FEATURES, Kernel, Protocol, RecvBuffer, SocketId, SocketRecord, SocketState,
    Support, destroy, dump, lookup,
};

fn mptcp_socket() -> io::Result<OwnedFd> {
    // SAFETY: socket() takes numbers only.
    let fd = unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, i32::from(Protocol::Mptcp.raw()))
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the descriptor was just made, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The MPTCP sockets with this port on one of their ends.
fn dumped(port: u16) -> Vec<SocketRecord> {
    let mut seen = Vec::new();
    let mut kernel = Kernel::open().expect("a sock_diag socket");
    dump(&mut kernel, &DumpRequest::all(Protocol::Mptcp), &mut RecvBuffer::new(), |diag| {
        let record = diag.to_record();
        if record.id.local_port == port || record.id.remote_port == port {
            seen.push(record);
        }
        std::ops::ControlFlow::Continue(())
    })
    .expect("a dump");
    seen
}

fn look_up(record: &SocketRecord, id: SocketId) -> Option<SocketRecord> {
    let mut kernel = Kernel::open().expect("a sock_diag socket");
    lookup(&mut kernel, record.protocol, record.family, &id, &mut RecvBuffer::new()).expect("a lookup")
}

#[test]
fn mptcp_sockets_are_dumped_and_looked_up() {
    let probe = FEATURES.iter().find(|feature| feature.name == "mptcp_diag").expect("a probe");
    let listener = match mptcp_socket() {
        Ok(listener) => listener,
        Err(error) => {
            // A kernel without MPTCP says the same twice; one that has it switched off may still be asked for it.
            let known = [libc::EPROTONOSUPPORT, libc::EINVAL, libc::ENOPROTOOPT];
            assert!(error.raw_os_error().is_some_and(|errno| known.contains(&errno)), "{error}");
            assert!(error.raw_os_error() == Some(libc::ENOPROTOOPT) || probe.probe() == Support::No);
            return;
        }
    };
    let any_port = SockaddrIn::from(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0));
    bind(listener.as_raw_fd(), &any_port).expect("bind");
    listen(&listener, Backlog::new(5).expect("a backlog")).expect("listen");
    let address: SockaddrIn = getsockname(listener.as_raw_fd()).expect("getsockname");
    let client = mptcp_socket().expect("a second socket");
    connect(client.as_raw_fd(), &address).expect("connect");

    let records = dumped(address.port());
    let in_state = |state| records.iter().filter(move |record| record.state == state);
    assert_eq!(in_state(SocketState::Listen).count(), 1, "{records:?}");
    assert!(in_state(SocketState::Established).count() >= 1, "{records:?}");
    for record in &records {
        assert_eq!(record.protocol, Protocol::Mptcp);
        assert_eq!(look_up(record, record.id).map(|found| found.id), Some(record.id), "by cookie");
        let any = look_up(record, record.id.with_any_cookie());
        assert_eq!(any.map(|found| found.id), Some(record.id), "by addresses and ports");
        // SOCK_DESTROY is not for MPTCP; without CAP_NET_ADMIN the answer does not get so far.
        let mut kernel = Kernel::open().expect("a sock_diag socket");
        let refused =
            destroy(&mut kernel, record.protocol, record.family, &record.id, &mut RecvBuffer::new());
        let errno = refused.expect_err("no destroying").refusal();
        assert!(matches!(errno, Some(Errno(libc::EOPNOTSUPP | libc::EPERM))), "{errno:?}");
        let another = SocketId { cookie: Cookie(record.id.cookie.0 ^ 1 << 60), ..record.id };
        assert_eq!(look_up(record, another), None, "another cookie is another socket");
    }
}
