//! `/proc/net/{tcp,tcp6,udp,udp6,udplite,udplite6}`: the kernel's other account of the same sockets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU32;
use std::{fs, io};

use sock_diag::{Family, Protocol, SocketState};

/// One line of those files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProcLine {
    /// From the file's name.
    pub protocol: Protocol,
    /// From the file's name.
    pub family: Family,
    /// `st`. Bound-inactive TCP sockets are not listed at all.
    pub state: SocketState,
    /// `local_address`; v4-mapped addresses stay IPv6.
    pub local: SocketAddr,
    /// `rem_address`.
    pub remote: SocketAddr,
    /// `inode`; None for sockets no process holds.
    pub inode: Option<NonZeroU32>,
    /// `uid`; 0 where the kernel keeps none.
    pub uid: u32,
    /// First half of `tr:tm->when`: 3 for TIME_WAIT buckets.
    pub timer: u8,
}

/// Every socket `/proc/net` lists in the calling process's namespace. A file that is not there has no lines.
///
/// # Errors
/// A file that cannot be read, or a line that is not understood.
pub fn proc_net() -> io::Result<Vec<ProcLine>> {
    let mut lines = Vec::new();
    for (file, protocol, family) in [
        ("tcp", Protocol::Tcp, Family::Inet),
        ("tcp6", Protocol::Tcp, Family::Inet6),
        ("udp", Protocol::Udp, Family::Inet),
        ("udp6", Protocol::Udp, Family::Inet6),
        ("udplite", Protocol::UdpLite, Family::Inet),
        ("udplite6", Protocol::UdpLite, Family::Inet6),
    ] {
        let text = match fs::read_to_string(format!("/proc/self/net/{file}")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        for line in text.lines().skip(1) {
            let parsed = parse(line, protocol, family);
            lines.push(parsed.ok_or_else(|| io::Error::other(format!("/proc/net/{file}: {line:?}")))?);
        }
    }
    Ok(lines)
}

fn parse(line: &str, protocol: Protocol, family: Family) -> Option<ProcLine> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    Some(ProcLine {
        protocol,
        family,
        local: address(fields.get(1)?)?,
        remote: address(fields.get(2)?)?,
        state: SocketState::from_raw(u8::from_str_radix(fields.get(3)?, 16).ok()?),
        timer: u8::from_str_radix(fields.get(5)?.split(':').next()?, 16).ok()?,
        uid: fields.get(7)?.parse().ok()?,
        inode: NonZeroU32::new(fields.get(9)?.parse().ok()?),
    })
}

/// `0100007F:1F90`: 32-bit words in the host's byte order, a port in plain hexadecimal.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let word =
        |at: usize| Some(u32::from_str_radix(address.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    let address = match address.len() {
        8 => IpAddr::V4(Ipv4Addr::from(word(0)?)),
        32 => {
            let mut octets = [0; 16];
            for (at, four) in octets.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            IpAddr::V6(Ipv6Addr::from(octets))
        }
        _ => return None,
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood() {
        let line = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0";
        let parsed = parse(line, Protocol::Tcp, Family::Inet).unwrap();
        assert_eq!((parsed.state, parsed.uid, parsed.timer), (SocketState::Listen, 1000, 0));
        assert_eq!(parsed.inode, NonZeroU32::new(4711));
        assert_eq!(parsed.local.port(), 8080);
        #[cfg(target_endian = "little")]
        {
            assert_eq!(parsed.local.ip(), Ipv4Addr::LOCALHOST);
            let mapped = "0000000000000000FFFF00000100007F:0016";
            assert_eq!(address(mapped), "[::ffff:127.0.0.1]:22".parse().ok());
        }
        assert_eq!(parse("nonsense", Protocol::Tcp, Family::Inet), None);
        assert_eq!(address("0100007F"), None);
    }
}
