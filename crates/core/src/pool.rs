//! The pool of ports automatic choice may use: the range without the reserved ones, and its two halves.
//!
//! Who takes ports of the pool is folded elsewhere.

use std::fmt;
use std::ops::RangeInclusive;

use crate::port_set::PortSet;

/// `net.ipv4.ip_local_port_range`: both ends belong to it. Empty when `last < first`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PortRange {
    /// Lowest port; its parity is the one connect() prefers.
    pub first: u16,
    /// Highest port.
    pub last: u16,
}

impl PortRange {
    /// The kernel's default, 32768–60999.
    pub const DEFAULT: PortRange = PortRange { first: 32_768, last: 60_999 };

    /// Number of ports, 0–65,536.
    pub const fn count(self) -> u32 {
        if self.last < self.first { 0 } else { self.last as u32 - self.first as u32 + 1 }
    }

    /// Whether the port lies in the range, reserved or not.
    #[inline]
    pub const fn contains(self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }

    /// Whether connect() tries this port in its first pass: it has the parity of the range's first port.
    /// bind() with port 0 does the opposite choice.
    #[inline]
    pub const fn prefers(self, port: u16) -> bool {
        (port ^ self.first) & 1 == 0
    }

    /// As a range of the standard library.
    pub const fn ports(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}–{}", self.first, self.last)
    }
}

/// The ports automatic choice may use: range − reserved. Shared by IPv4 and IPv6, one for TCP and one for UDP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pool {
    range: PortRange,
    ports: PortSet,
}

impl Pool {
    /// The pool of a range without the reserved ports; these may lie outside the range.
    pub fn new(range: PortRange, reserved: &PortSet) -> Pool {
        Pool { range, ports: PortSet::from_ranges([range.ports()]).minus(reserved) }
    }

    /// The range it is cut from.
    pub const fn range(&self) -> PortRange {
        self.range
    }

    /// Its ports.
    pub const fn ports(&self) -> &PortSet {
        &self.ports
    }

    /// How many ports of the range are reserved.
    pub fn reserved(&self) -> u32 {
        self.range.count() - self.ports.count()
    }

    /// As [`PortRange::prefers`].
    #[inline]
    pub const fn prefers(&self, port: u16) -> bool {
        self.range.prefers(port)
    }

    /// The lower half, as far as bind() with port 0 looks there first for a socket with SO_REUSEADDR: an even number of
    /// ports; all of a range of less than four.
    pub fn lower_half(&self) -> PortSet {
        let count = self.range.count();
        let ports = if count < 4 { count } else { count / 4 * 2 };
        let end = u32::from(self.range.first) + ports;
        PortSet::from_ranges((ports > 0).then(|| self.range.first..=(end - 1) as u16))
            .intersection(&self.ports)
    }

    /// How many of `ports` lie in the half that connect() prefers.
    pub fn count_preferred(&self, ports: &PortSet) -> u32 {
        ports.count_parity(self.range.first & 1)
    }

    /// The two ports of which connect() may leave one out: the range's ends when it has an odd number of ports,
    /// because the kernel walks an even number of them. A range of one port is whole.
    pub const fn uncertain_ends(&self) -> Option<[u16; 2]> {
        let count = self.range.count();
        if count > 1 && count % 2 == 1 { Some([self.range.first, self.range.last]) } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_follow_the_first_port() {
        let pool = Pool::new(PortRange { first: 1001, last: 1005 }, &[1002, 80].into_iter().collect());
        assert_eq!(pool.ports().iter().collect::<Vec<_>>(), [1001, 1003, 1004, 1005]);
        assert_eq!(pool.reserved(), 1);
        assert!(pool.prefers(1003) && !pool.prefers(1004));
        assert_eq!(pool.count_preferred(pool.ports()), 3);
        assert_eq!(pool.uncertain_ends(), Some([1001, 1005]));
    }

    #[test]
    fn the_lower_half_has_an_even_number_of_ports() {
        let lower = |first, last| {
            let reserved = [1002].into_iter().collect();
            Pool::new(PortRange { first, last }, &reserved).lower_half().iter().collect::<Vec<_>>()
        };
        assert_eq!(lower(1000, 1007), [1000, 1001, 1003]);
        assert_eq!(lower(1000, 1006), [1000, 1001]);
        assert_eq!(lower(1000, 1003), [1000, 1001]);
        assert_eq!(lower(1000, 1001), [1000, 1001]);
        assert_eq!(lower(1000, 1000), [1000]);
        assert_eq!(lower(1000, 999), []);
        assert_eq!(lower(u16::MAX - 1, u16::MAX), [u16::MAX - 1, u16::MAX]);
    }

    #[test]
    fn degenerate_ranges() {
        let none = PortSet::new();
        let one = Pool::new(PortRange { first: 7, last: 7 }, &none);
        assert_eq!((one.ports().count(), one.uncertain_ends()), (1, None));
        let empty = Pool::new(PortRange { first: 9, last: 3 }, &none);
        assert_eq!((empty.ports().count(), empty.reserved(), empty.uncertain_ends()), (0, 0, None));
        let all = Pool::new(PortRange { first: 0, last: u16::MAX }, &PortSet::from_ranges([0..=u16::MAX]));
        assert_eq!((all.ports().count(), all.reserved()), (0, 65_536));
    }
}
