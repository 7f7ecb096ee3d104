//! Socket states as the kernel numbers them, their spellings, and sets of them.
//!
//! What a state means for ports or churn is core's business.

use std::fmt;

/// State of a socket, `enum tcp_state` of `include/net/tcp_states.h`.
///
/// UDP uses two of them: [`Established`](Self::Established) when connected, [`Close`](Self::Close) when not.
/// A record says `Close` for a bound TCP socket that neither listens nor is connected; a request asks for it as
/// [`BoundInactive`](Self::BoundInactive) (Linux 6.8).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[allow(missing_docs, reason = "the states of TCP are named as RFC 9293 names them")]
pub enum SocketState {
    Established,
    SynSent,
    SynRecv,
    FinWait1,
    FinWait2,
    TimeWait,
    Close,
    CloseWait,
    LastAck,
    Listen,
    Closing,
    /// A request socket inside the kernel; records call it [`SynRecv`](Self::SynRecv).
    NewSynRecv,
    BoundInactive,
    /// A number this version has no name for.
    Unknown(u8),
}

/// One row per known state: value, kernel number, ss's word, snake_case word, further accepted spellings.
const STATES: &[(SocketState, u8, &str, &str, &[&str])] = {
    use SocketState::*;
    &[
        (Established, 1, "ESTAB", "established", &["estab"]),
        (SynSent, 2, "SYN-SENT", "syn_sent", &["synsent"]),
        (SynRecv, 3, "SYN-RECV", "syn_recv", &["synrecv"]),
        (FinWait1, 4, "FIN-WAIT-1", "fin_wait1", &["fin_wait_1", "finwait1"]),
        (FinWait2, 5, "FIN-WAIT-2", "fin_wait2", &["fin_wait_2", "finwait2"]),
        (TimeWait, 6, "TIME-WAIT", "time_wait", &["timewait"]),
        (Close, 7, "UNCONN", "close", &["closed", "unconnected", "unconn"]),
        (CloseWait, 8, "CLOSE-WAIT", "close_wait", &["closewait"]),
        (LastAck, 9, "LAST-ACK", "last_ack", &["lastack"]),
        (Listen, 10, "LISTEN", "listen", &["listening"]),
        (Closing, 11, "CLOSING", "closing", &[]),
        (NewSynRecv, 12, "NEW-SYN-RECV", "new_syn_recv", &["newsynrecv"]),
        (BoundInactive, 13, "BOUND-INACTIVE", "bound_inactive", &["boundinactive", "bound", "bound_idle"]),
    ]
};

impl SocketState {
    /// Every state this version knows, in the kernel's order.
    pub fn all() -> impl Iterator<Item = SocketState> {
        STATES.iter().map(|row| row.0)
    }

    /// The state with this kernel number; never fails.
    #[inline]
    pub const fn from_raw(raw: u8) -> SocketState {
        use SocketState::*;
        match raw {
            1 => Established,
            2 => SynSent,
            3 => SynRecv,
            4 => FinWait1,
            5 => FinWait2,
            6 => TimeWait,
            7 => Close,
            8 => CloseWait,
            9 => LastAck,
            10 => Listen,
            11 => Closing,
            12 => NewSynRecv,
            13 => BoundInactive,
            other => Unknown(other),
        }
    }

    /// The kernel's number.
    #[inline]
    pub const fn raw(self) -> u8 {
        use SocketState::*;
        match self {
            Established => 1,
            SynSent => 2,
            SynRecv => 3,
            FinWait1 => 4,
            FinWait2 => 5,
            TimeWait => 6,
            Close => 7,
            CloseWait => 8,
            LastAck => 9,
            Listen => 10,
            Closing => 11,
            NewSynRecv => 12,
            BoundInactive => 13,
            Unknown(other) => other,
        }
    }

    /// The word ss prints; `UNKNOWN` for a number without a name.
    pub fn ss_name(self) -> &'static str {
        STATES.iter().find(|row| row.0 == self).map_or("UNKNOWN", |row| row.2)
    }

    /// The word of JSON, CSV and metrics; `unknown` for a number without a name.
    pub fn snake_name(self) -> &'static str {
        STATES.iter().find(|row| row.0 == self).map_or("unknown", |row| row.3)
    }

    /// The state someone typed: any case, `-` or `_` or neither, ss's words and the kernel's.
    pub fn from_name(name: &str) -> Option<SocketState> {
        let name = name.to_ascii_lowercase().replace('-', "_");
        STATES
            .iter()
            .find(|row| {
                row.3 == name
                    || row.2.to_ascii_lowercase().replace('-', "_") == name
                    || row.4.contains(&name.as_str())
            })
            .map(|row| row.0)
    }
}

impl fmt::Display for SocketState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.ss_name())
    }
}

/// A set of states: the `idiag_states` mask of a request, bit n for state n.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct StateSet(u32);

impl StateSet {
    /// No state.
    pub const EMPTY: StateSet = StateSet(0);
    /// Every state the kernel can be asked for, bound-inactive among them.
    pub const ALL: StateSet = StateSet(0x3ffe);
    /// Listeners alone: the cheapest dump there is, it never visits the established hash.
    pub const LISTEN: StateSet = StateSet::of(&[SocketState::Listen]);
    /// Bound sockets that neither listen nor are connected. Since: Linux 6.8; older kernels return none. Cost: a walk of the
    /// bind hash, +17 % of a whole dump; alone more, for the kernel walks the established hash then as well.
    pub const BOUND_INACTIVE: StateSet = StateSet::of(&[SocketState::BoundInactive]);
    /// What ss lists without `-a` or `-l`: open, not listening, not mere request or TIME_WAIT buckets.
    pub const CONNECTED_DEFAULT: StateSet = StateSet::ALL.minus(StateSet::of(&[
        SocketState::Listen,
        SocketState::Close,
        SocketState::TimeWait,
        SocketState::SynRecv,
        SocketState::NewSynRecv,
        SocketState::BoundInactive,
    ]));

    /// The set of the states in `states`; unknown ones above bit 31 are left out.
    pub const fn of(states: &[SocketState]) -> StateSet {
        let mut bits = 0;
        let mut i = 0;
        while i < states.len() {
            let raw = states[i].raw();
            if raw < 32 {
                bits |= 1 << raw;
            }
            i += 1;
        }
        StateSet(bits)
    }

    /// The set with this mask.
    pub const fn from_bits(bits: u32) -> StateSet {
        StateSet(bits)
    }

    /// The mask as a request carries it.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Whether the set holds no state.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `state` is in the set.
    #[inline]
    pub const fn contains(self, state: SocketState) -> bool {
        let raw = state.raw();
        raw < 32 && self.0 & (1 << raw) != 0
    }

    /// All of both.
    pub const fn union(self, other: StateSet) -> StateSet {
        StateSet(self.0 | other.0)
    }

    /// What both have.
    pub const fn intersection(self, other: StateSet) -> StateSet {
        StateSet(self.0 & other.0)
    }

    /// This set without `other`.
    pub const fn minus(self, other: StateSet) -> StateSet {
        StateSet(self.0 & !other.0)
    }
}

impl fmt::Display for StateSet {
    /// The states by their snake_case words, separated by commas.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words: Vec<_> =
            SocketState::all().filter(|s| self.contains(*s)).map(SocketState::snake_name).collect();
        f.pad(&words.join(", "))
    }
}

impl fmt::Debug for StateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(SocketState::all().filter(|s| self.contains(*s))).finish()
    }
}

impl FromIterator<SocketState> for StateSet {
    fn from_iter<I: IntoIterator<Item = SocketState>>(states: I) -> StateSet {
        states.into_iter().fold(StateSet::EMPTY, |set, state| set.union(StateSet::of(&[state])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_round_trip() {
        for raw in 0..=u8::MAX {
            assert_eq!(SocketState::from_raw(raw).raw(), raw);
        }
        for (state, raw, ..) in STATES {
            assert_eq!(SocketState::from_raw(*raw), *state);
        }
    }

    #[test]
    fn every_spelling_is_understood() {
        for (text, state) in [
            ("ESTAB", SocketState::Established),
            ("established", SocketState::Established),
            ("TIME-WAIT", SocketState::TimeWait),
            ("time_wait", SocketState::TimeWait),
            ("TimeWait", SocketState::TimeWait),
            ("fin-wait-1", SocketState::FinWait1),
            ("FIN_WAIT2", SocketState::FinWait2),
            ("listening", SocketState::Listen),
            ("closed", SocketState::Close),
            ("unconnected", SocketState::Close),
            ("bound-inactive", SocketState::BoundInactive),
        ] {
            assert_eq!(SocketState::from_name(text), Some(state), "{text}");
        }
        for state in SocketState::all() {
            assert_eq!(SocketState::from_name(state.ss_name()), Some(state));
            assert_eq!(SocketState::from_name(state.snake_name()), Some(state));
        }
        assert_eq!(SocketState::from_name("estableshed"), None);
    }

    #[test]
    fn sets_hold_what_they_say() {
        assert_eq!(SocketState::all().collect::<StateSet>(), StateSet::ALL);
        assert!(!StateSet::ALL.contains(SocketState::Unknown(200)));
        assert!(!StateSet::CONNECTED_DEFAULT.contains(SocketState::Listen));
        assert!(StateSet::CONNECTED_DEFAULT.contains(SocketState::CloseWait));
    }
}
