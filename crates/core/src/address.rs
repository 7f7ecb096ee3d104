//! Addresses as numbers: IPv4 and v4-mapped IPv6 are one space, as they are for the kernel's port checks. And what the
//! wildcards cover.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(crate) const ANY4: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
pub(crate) const ANY6: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Whether the first is a wildcard that stands for the second, too: its sockets keep their ports from those on the other,
/// and the other way round.
///
/// `::` is taken to cover IPv4, which IPV6_V6ONLY would deny: a record does not tell it.
pub(crate) fn covers(wildcard: IpAddr, address: IpAddr) -> bool {
    wildcard == ANY6 || wildcard == ANY4 && address.is_ipv4()
}

/// An address as two halves of its 128 bits, IPv4 as v4-mapped. Two words rather than a u128, whose alignment
/// would cost a third more in every table.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Address {
    high: u64,
    low: u64,
}

impl Address {
    #[inline]
    pub(crate) fn of(address: IpAddr) -> Address {
        match address {
            IpAddr::V4(v4) => Address { high: 0, low: 0xffff_0000_0000 | u64::from(v4.to_bits()) },
            IpAddr::V6(v6) => {
                let bits = v6.to_bits();
                Address { high: (bits >> 64) as u64, low: bits as u64 }
            }
        }
    }

    /// The address back, v4-mapped as IPv4.
    pub(crate) fn ip(self) -> IpAddr {
        Ipv6Addr::from_bits(u128::from(self.high) << 64 | u128::from(self.low)).to_canonical()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_cover_their_family_and_the_greater_one_both() {
        let [v4, v6] = ["10.0.0.7", "fe80::1"].map(|text| text.parse().unwrap());
        assert_eq!([v4, v6, ANY4, ANY6].map(|address| covers(ANY4, address)), [true, false, true, false]);
        assert_eq!([v4, v6, ANY4, ANY6].map(|address| covers(ANY6, address)), [true; 4]);
        assert!(!covers(v4, v4) && !covers(v6, v6), "they are no wildcards");
    }

    #[test]
    fn mapped_and_plain_are_the_same() {
        for (text, canonical) in
            [("10.0.0.7", "10.0.0.7"), ("::ffff:10.0.0.7", "10.0.0.7"), ("fe80::1", "fe80::1"), ("::", "::")]
        {
            let address = Address::of(text.parse().unwrap());
            assert_eq!(address.ip(), canonical.parse::<IpAddr>().unwrap());
        }
        assert!(Address::of("0.0.0.0".parse().unwrap()) != Address::of("::".parse().unwrap()));
    }
}
