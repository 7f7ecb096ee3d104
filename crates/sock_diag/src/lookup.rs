//! One socket at a time: is it still there, what does it say now, and SOCK_DESTROY.

use std::ops::ControlFlow;

use crate::dump::{DumpRequest, DumpSummary, answer, dump};
use crate::error::{Errno, Error, Result};
use crate::record::{Cookie, Family, Protocol, SocketId, SocketRecord};
use crate::request::{Extensions, SOCK_DIAG_BY_FAMILY, one_socket};
use crate::source::{RecvBuffer, Source};
use crate::state::StateSet;
use crate::wire::DiagMsg;

/// Asks for the socket with this identity. None when there is none: it is gone, whatever a dump said.
///
/// With a cookie the answer is that very socket; with [`Cookie::ANY`] it is whichever has the 4-tuple now. A listener
/// on the local port, which the kernel offers when the connection is gone, does not count.
///
/// # Errors
/// [`Error::Refused`] for anything but "no such socket". Privileges: none.
///
/// # Cost
/// One hash lookup, a few microseconds. The kernel cannot look up a bound-inactive socket at all, and of sockets that
/// share a port (SO_REUSEPORT) offers any one: where a cookie is given and such a socket is not found, a dump decides.
/// MPTCP sockets always take a dump: mptcp_diag looks for a token, which no record tells.
pub fn lookup(
    source: &mut dyn Source,
    protocol: Protocol,
    family: Family,
    id: &SocketId,
    buffer: &mut RecvBuffer,
) -> Result<Option<SocketRecord>> {
    if protocol == Protocol::Mptcp {
        return find_by_dump(source, protocol, family, id, StateSet::ALL, buffer);
    }
    // udp_diag reads the identity of a lookup as a packet's to the socket ("swapped for historical reasons", says
    // udp_dump_one), that of a SOCK_DESTROY as the socket's own.
    let as_packet = SocketId {
        local_address: id.remote_address,
        local_port: id.remote_port,
        remote_address: id.local_address,
        remote_port: id.local_port,
        ..*id
    };
    let asked = if protocol.is_datagram() { &as_packet } else { id };
    let mut request = one_socket(protocol, family, asked, Extensions::NONE, false);
    let found = match exchange(source, "looking up a socket", protocol, &mut request, buffer, |diag| {
        diag.to_record()
    }) {
        Ok(found) => found.filter(|record| is_same(record, id)),
        Err(error) if is_gone(&error) => None,
        Err(error) => return Err(error),
    };
    let is_unique = !protocol.is_datagram() && id.remote_port != 0;
    if found.is_some() || is_unique || id.cookie == Cookie::ANY {
        return Ok(found);
    }
    let states = match protocol.is_datagram() {
        true => StateSet::ALL,
        false => StateSet::LISTEN.union(StateSet::BOUND_INACTIVE),
    };
    find_by_dump(source, protocol, family, id, states, buffer)
}

/// Asks one TCP socket for more than a record has, such as its `tcp_info`: `read` sees the answer in place. None when there
/// is no such socket any more.
///
/// # Errors
/// As [`lookup`]. Privileges: none.
///
/// # Cost
/// One hash lookup, a few microseconds. Sockets without a remote end (bound, listening) may not be found.
pub fn inspect<T>(
    source: &mut dyn Source,
    family: Family,
    id: &SocketId,
    extensions: Extensions,
    buffer: &mut RecvBuffer,
    read: impl FnOnce(&DiagMsg<'_>) -> T,
) -> Result<Option<T>> {
    let mut request = one_socket(Protocol::Tcp, family, id, extensions, false);
    let mut read = Some(read);
    let answer = exchange(source, "inspecting a socket", Protocol::Tcp, &mut request, buffer, |diag| {
        let read = read.take().filter(|_| is_same(&diag.to_record(), id))?;
        Some(read(diag))
    });
    match answer {
        Ok(found) => Ok(found.flatten()),
        Err(error) if is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks through all sockets in `states`.
fn find_by_dump(
    source: &mut dyn Source,
    protocol: Protocol,
    family: Family,
    id: &SocketId,
    states: StateSet,
    buffer: &mut RecvBuffer,
) -> Result<Option<SocketRecord>> {
    let mut found = None;
    dump(source, &DumpRequest::all(protocol).family(family).states(states), buffer, |diag| {
        let record = diag.to_record();
        if !is_same(&record, id) {
            return ControlFlow::Continue(());
        }
        found = Some(record);
        ControlFlow::Break(())
    })?;
    Ok(found)
}

/// Ends the socket with this identity (SOCK_DESTROY): its owner reads ECONNABORTED. False when it is already gone.
///
/// # Errors
/// [`Error::Refused`]: EPERM without CAP_NET_ADMIN, EOPNOTSUPP on a kernel without CONFIG_INET_DIAG_DESTROY, and for
/// MPTCP.
/// Since: Linux 4.5.
pub fn destroy(
    source: &mut dyn Source,
    protocol: Protocol,
    family: Family,
    id: &SocketId,
    buffer: &mut RecvBuffer,
) -> Result<bool> {
    let mut request = one_socket(protocol, family, id, Extensions::NONE, true);
    match exchange(source, "destroying a socket", protocol, &mut request, buffer, |diag| diag.to_record()) {
        Ok(_) => Ok(true),
        Err(error) if is_gone(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// ENOENT: no socket has the 4-tuple. ESTALE: one has, with another cookie.
fn is_gone(error: &Error) -> bool {
    matches!(error.refusal(), Some(Errno(libc::ENOENT | libc::ESTALE)))
}

/// The cookie alone says so where it was asked for; the kernel offers a listener for a connection that is gone.
fn is_same(record: &SocketRecord, id: &SocketId) -> bool {
    if id.cookie != Cookie::ANY {
        return record.id.cookie == id.cookie;
    }
    let ends = |id: &SocketId| {
        let addresses = (id.local_address.to_canonical(), id.remote_address.to_canonical());
        (addresses, id.local_port, id.remote_port)
    };
    ends(&record.id) == ends(id)
}

/// One request that is answered by one record, or by a verdict alone.
fn exchange<T>(
    source: &mut dyn Source,
    operation: &'static str,
    protocol: Protocol,
    request: &mut [u8],
    buffer: &mut RecvBuffer,
    mut read: impl FnMut(&DiagMsg<'_>) -> T,
) -> Result<Option<T>> {
    let exchange = source.send(request)?;
    let mut found = Ok(None);
    answer(source, operation, exchange, buffer, &mut DumpSummary::default(), |message, _| {
        let diag = DiagMsg::parse(message.payload, protocol).filter(|_| message.kind == SOCK_DIAG_BY_FAMILY);
        found = match diag {
            Some(diag) => Ok(Some(read(&diag))),
            None => Err(Error::Malformed { operation, what: "the answer is no whole record" }),
        };
        ControlFlow::Break(())
    })?;
    found
}
