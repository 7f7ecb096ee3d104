//! Destinations as a budget names them: an address or a prefix or `*`, and a port or `*`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Which destinations a rule is about.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The network and the length of its prefix; None: every address.
    network: Option<(IpAddr, u8)>,
    /// None: every port.
    port: Option<u16>,
}

/// A place that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write it like 10.0.9.12:443, [2001:db8::1]:443, 10.0.0.0/8:443, *:5432 or 10.0.9.12:*")]
pub struct PlaceError;

impl Place {
    /// This very destination.
    pub fn exactly(at: SocketAddr) -> Place {
        Place { network: Some((at.ip(), width(at.ip()))), port: Some(at.port()) }
    }

    /// All ports of an address.
    pub fn any_port(address: IpAddr) -> Place {
        Place { network: Some((address, width(address))), port: None }
    }

    /// Whether a connection to there is meant.
    pub fn holds(&self, at: SocketAddr) -> bool {
        self.port.is_none_or(|port| port == at.port())
            && self.network.is_none_or(|(network, length)| is_within(at.ip(), network, length))
    }
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The bits of an address, at the upper end.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

fn is_within(address: IpAddr, network: IpAddr, length: u8) -> bool {
    // An IPv4 connection of a socket for both families.
    let address = address.to_canonical();
    let differ = bits(address) ^ bits(network);
    address.is_ipv4() == network.is_ipv4() && (length == 0 || differ >> (128 - u32::from(length)) == 0)
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Place, PlaceError> {
        let (host, port) = text.trim().rsplit_once(':').ok_or(PlaceError)?;
        let port = match port {
            "*" => None,
            port => Some(port.parse().ok().filter(|port| *port != 0).ok_or(PlaceError)?),
        };
        if host == "*" {
            return Ok(Place { network: None, port });
        }
        // [2001:db8::]/32 and [2001:db8::/32] alike.
        let bare = match host.strip_prefix('[') {
            Some(rest) => Some(rest.replacen(']', "", 1)).filter(|bare| bare.len() < rest.len()),
            None => None,
        };
        let is_v6 = bare.is_some();
        let host = bare.unwrap_or(host.to_owned());
        let (address, length) = match host.split_once('/') {
            Some((address, length)) => (address, Some(length.parse::<u8>().map_err(|_| PlaceError)?)),
            None => (host.as_str(), None),
        };
        let address: IpAddr = match is_v6 {
            true => IpAddr::V6(address.parse().map_err(|_| PlaceError)?),
            false => IpAddr::V4(address.parse().map_err(|_| PlaceError)?),
        };
        let length = length.unwrap_or(width(address));
        if length > width(address) {
            return Err(PlaceError);
        }
        Ok(Place { network: Some((address, length)), port })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.network {
            None => write!(f, "*")?,
            Some((address, length)) => {
                let shown = match address {
                    IpAddr::V4(address) => address.to_string(),
                    IpAddr::V6(address) => format!("[{address}]"),
                };
                write!(f, "{shown}")?;
                if length != width(address) {
                    write!(f, "/{length}")?;
                }
            }
        }
        match self.port {
            None => write!(f, ":*"),
            Some(port) => write!(f, ":{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(place: &str, at: &str) -> bool {
        place.parse::<Place>().unwrap().holds(at.parse().unwrap())
    }

    #[test]
    fn places_hold_destinations() {
        for (place, at) in [
            ("10.0.9.12:443", "10.0.9.12:443"),
            ("10.0.0.0/8:443", "10.255.1.2:443"),
            ("0.0.0.0/0:443", "1.2.3.4:443"),
            ("*:5432", "[::1]:5432"),
            ("10.0.9.12:*", "10.0.9.12:1"),
            ("[2001:db8::]/32:443", "[2001:db8:1::9]:443"),
            ("[2001:db8::/32]:443", "[2001:db8:1::9]:443"),
            ("127.0.0.1:80", "[::ffff:127.0.0.1]:80"),
            ("*:*", "[::1]:1"),
        ] {
            assert!(holds(place, at), "{place} {at}");
        }
        for (place, at) in [
            ("10.0.9.12:443", "10.0.9.12:444"),
            ("10.0.9.12:443", "10.0.9.13:443"),
            ("10.0.0.0/8:443", "11.0.0.0:443"),
            ("0.0.0.0/0:443", "[::1]:443"),
            ("[2001:db8::]/32:443", "[2001:db9::]:443"),
        ] {
            assert!(!holds(place, at), "{place} {at}");
        }
        for text in [
            "",
            ":",
            "443",
            "10.0.9.12",
            "10.0.9.12:0",
            "10.0.9.12:65536",
            "10.0.0.0/33:1",
            "::1:80",
            "[::1]",
            "[1.2.3.4]:80",
            "a.b:80",
            "[::1/64/64]:1",
            "10.0.0.0/-1:1",
        ] {
            assert_eq!(text.parse::<Place>(), Err(PlaceError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_place_is_read_as_it_is_shown(v4 in any::<u32>(), v6 in any::<u128>(), is_v4: bool, length in 0u8..=128, port in prop::option::of(1u16..)) {
            let (address, length) = match is_v4 {
                true => (IpAddr::V4(v4.into()), length.min(32)),
                false => (IpAddr::V6(v6.into()), length),
            };
            let place = Place { network: Some((address, length)), port };
            prop_assert_eq!(place.to_string().parse::<Place>(), Ok(place));
            prop_assert!(place.holds(SocketAddr::new(address, port.unwrap_or(9))) || address.to_canonical() != address);
        }

        #[test]
        fn junk_is_refused_or_shown_again(text in ".{0,40}") {
            if let Ok(place) = text.parse::<Place>() {
                prop_assert_eq!(place.to_string().parse::<Place>(), Ok(place));
            }
        }
    }
}
