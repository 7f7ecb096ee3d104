//! A filter as it is typed: what was typed, what of it can be used, and what is wrong with the rest.

use std::sync::Arc;

use sock_diag::filter::{Filter, Names};
use sock_diag::{Cookie, SocketId, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{DestinationId, PortRange};
use sockeye_host::Services;

/// What stands in the prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Typed {
    pub(crate) text: String,
    /// The last text that could be read, which is what filters while a longer one is typed.
    pub(crate) good: Option<Arc<Filter>>,
    pub(crate) error: Option<String>,
}

/// Names that need no waiting: a name server is not asked between two keys.
pub(crate) struct NamesAtHand {
    pub(crate) range: Option<PortRange>,
}

impl Names for NamesAtHand {
    fn service(&self, name: &str) -> Option<u16> {
        let services = Services::of_system();
        services
            .port(sock_diag::Protocol::Tcp, name)
            .or_else(|| services.port(sock_diag::Protocol::Udp, name))
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        self.range.map(|range| (range.first, range.last))
    }
}

impl Typed {
    /// The text is another one now. `of_ends`: of what is filtered nothing but its ends is known.
    pub(crate) fn set(&mut self, text: String, names: &NamesAtHand, of_ends: bool) {
        self.text = text;
        if self.text.trim().is_empty() {
            (self.good, self.error) = (None, None);
            return;
        }
        match Filter::parse(&self.text, names) {
            Ok(filter) => match filter.beyond_endpoints().filter(|_| of_ends) {
                Some(term) => {
                    self.error = Some(format!(
                        "{term}: destinations are filtered by src, dst and dport; 6 has sockets"
                    ));
                }
                None => (self.good, self.error) = (Some(Arc::new(filter)), None),
            },
            Err(error) => {
                let told = error.render(&self.text);
                self.error = told.lines().last().map(|line| line.trim_start_matches([' ', '^']).to_owned());
            }
        }
    }

    /// Whether a destination is let through.
    pub(crate) fn lets(&self, id: &DestinationId) -> bool {
        self.good.as_ref().is_none_or(|filter| filter.matches(&record_of(id)).unwrap_or(true))
    }
}

/// A socket of a destination, of which nothing but the ends is said.
fn record_of(id: &DestinationId) -> SocketRecord {
    SocketRecord {
        protocol: id.protocol,
        family: if id.remote_address.is_ipv4() { sock_diag::Family::Inet } else { sock_diag::Family::Inet6 },
        state: SocketState::Established,
        id: SocketId {
            local_address: id.local_address,
            local_port: 0,
            remote_address: id.remote_address,
            remote_port: id.remote_port,
            interface: None,
            cookie: Cookie(0),
        },
        timer: Timer { kind: TimerKind::Off, expires_ms: 0, retransmits: 0 },
        rqueue_bytes: 0,
        wqueue_bytes: 0,
        uid: None,
        inode: None,
        mark: None,
        cgroup_id: None,
        options: None,
        shutdown: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(text: &str, of_ends: bool) -> Typed {
        let mut typed = Typed::default();
        for end in 1..=text.len() {
            typed.set(text[..end].to_owned(), &NamesAtHand { range: None }, of_ends);
        }
        typed
    }

    fn to(remote: [u8; 4], remote_port: u16) -> DestinationId {
        DestinationId {
            protocol: sock_diag::Protocol::Tcp,
            local_address: [10, 0, 0, 7].into(),
            remote_address: remote.into(),
            remote_port,
        }
    }

    #[test]
    fn what_was_typed_last_and_can_be_read_filters() {
        let half = typed("dport = 80 or", true);
        assert!(half.error.is_some(), "an operand is missing");
        assert!(half.lets(&to([10, 0, 9, 12], 80)) && !half.lets(&to([10, 0, 9, 12], 443)));
        assert!(!typed("dst 10.0.9.0/24", true).lets(&to([10, 0, 8, 1], 80)));
        assert!(typed("src 10.0.0.7", true).lets(&to([10, 0, 8, 1], 80)));
    }

    #[test]
    fn destinations_have_no_state() {
        let of_destinations = typed("state established", true);
        assert!(of_destinations.good.is_none() && of_destinations.error.unwrap().starts_with("state"));
        assert!(typed("state established", false).good.is_some());
        let mut cleared = typed("dport = 80", true);
        cleared.set("  ".to_owned(), &NamesAtHand { range: None }, true);
        assert_eq!((cleared.good, cleared.error), (None, None));
    }

    #[test]
    fn no_text_is_too_strange() {
        for text in ["((((", "dst [", "sport > ", "\u{1b}[31m", "dport = 99999", "dst nohost.invalid"] {
            assert!(typed(text, true).error.is_some(), "{text}");
        }
    }
}
