//! How many sockets there are of each protocol, family and state.

use sock_diag::{Family, Protocol, SocketRecord, SocketState};

const PROTOCOLS: [Protocol; 5] =
    [Protocol::Tcp, Protocol::Udp, Protocol::UdpLite, Protocol::Mptcp, Protocol::Unknown(0)];
const FAMILIES: [Family; 3] = [Family::Inet, Family::Inet6, Family::Unknown(0)];
/// States 1–13 by their number; 0 gathers those without a name.
const STATES: usize = 14;

/// Counts of sockets by protocol, family and state; every record of a sweep is in exactly one of them, repeats in
/// none. Numbers without a name count together as unknown.
///
/// Bound TCP sockets that neither listen nor are connected count as [`SocketState::BoundInactive`], though their
/// records say `Close`; v4-mapped sockets count as IPv6, which they are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SocketCounts {
    counts: [[[u32; STATES]; FAMILIES.len()]; PROTOCOLS.len()],
}

impl SocketCounts {
    /// Sockets of this protocol, family and state.
    pub fn count(&self, protocol: Protocol, family: Family, state: SocketState) -> u32 {
        self.counts[protocol_index(protocol)][family_index(family)][state_index(state)]
    }

    /// Sockets of this protocol in this state, both families.
    pub fn in_state(&self, protocol: Protocol, state: SocketState) -> u32 {
        FAMILIES.iter().map(|family| self.count(protocol, *family, state)).sum()
    }

    /// The states of this protocol that have sockets, in the kernel's order, those without a name first.
    pub fn states(&self, protocol: Protocol) -> impl Iterator<Item = (SocketState, u32)> + '_ {
        (0..STATES as u8)
            .map(SocketState::from_raw)
            .map(move |state| (state, self.in_state(protocol, state)))
            .filter(|(_, count)| *count > 0)
    }

    /// Sockets of this protocol and family.
    pub fn of_family(&self, protocol: Protocol, family: Family) -> u32 {
        self.counts[protocol_index(protocol)][family_index(family)].iter().sum()
    }

    /// Sockets of this protocol.
    pub fn of(&self, protocol: Protocol) -> u32 {
        FAMILIES.iter().map(|family| self.of_family(protocol, *family)).sum()
    }

    /// All sockets.
    pub fn total(&self) -> u32 {
        PROTOCOLS.iter().map(|protocol| self.of(*protocol)).sum()
    }

    #[inline]
    pub(crate) fn add(&mut self, record: &SocketRecord) {
        let state = if record.is_bound_inactive() { SocketState::BoundInactive } else { record.state };
        let family = &mut self.counts[protocol_index(record.protocol)][family_index(record.family)];
        family[state_index(state)] += 1;
    }

    pub(crate) fn add_all(&mut self, other: &SocketCounts) {
        let others = other.counts.as_flattened().as_flattened();
        for (count, more) in self.counts.as_flattened_mut().as_flattened_mut().iter_mut().zip(others) {
            *count += more;
        }
    }
}

#[inline]
fn protocol_index(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Tcp => 0,
        Protocol::Udp => 1,
        Protocol::UdpLite => 2,
        Protocol::Mptcp => 3,
        Protocol::Unknown(_) => 4,
    }
}

#[inline]
fn family_index(family: Family) -> usize {
    match family {
        Family::Inet => 0,
        Family::Inet6 => 1,
        Family::Unknown(_) => 2,
    }
}

#[inline]
fn state_index(state: SocketState) -> usize {
    match state {
        SocketState::Unknown(_) => 0,
        known => usize::from(known.raw()) % STATES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_tables() {
        assert!(PROTOCOLS.iter().enumerate().all(|(index, protocol)| protocol_index(*protocol) == index));
        assert!(FAMILIES.iter().enumerate().all(|(index, family)| family_index(*family) == index));
        let mut seen: Vec<_> = SocketState::all().map(state_index).collect();
        seen.dedup();
        assert_eq!(seen, (1..STATES).collect::<Vec<_>>());
    }
}
