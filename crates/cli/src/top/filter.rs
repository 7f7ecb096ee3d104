//! A filter as it is typed: what was typed, what of it can be used, and what is wrong with the rest.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;

use sock_diag::filter::{Filter, Holder, Names};
use sock_diag::{Cookie, SocketId, SocketRecord, SocketState, Timer, TimerKind};
use sockeye_core::{DestinationId, PortRange};
use sockeye_host::owners::{OwnerFiles, Users};
use sockeye_host::{Cgroups, Services};

use super::look::{ListenerRow, OwnerRow, Place};
use super::view::Screen;
use crate::whose::Who;

/// The kernel keeps so many bytes of a process's name.
const LONGEST_NAME: usize = 15;

/// What stands in the prompt.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Typed {
    pub(crate) text: String,
    /// The last text that could be read, which is what filters while a longer one is typed.
    pub(crate) good: Option<Arc<Filter>>,
    pub(crate) error: Option<String>,
}

/// Names that need no waiting: a name server is not asked between two keys, and no process looked into. Who is meant by a
/// process's number or name is known to who follows the sockets.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct NamesAtHand {
    pub(crate) range: Option<PortRange>,
    pub(crate) place: Arc<Place>,
}

impl NamesAtHand {
    /// Processes are not looked up here; those of a capture are not known.
    fn processes(&self) -> Option<Vec<u32>> {
        (!self.place.is_replay).then(Vec::new)
    }
}

impl Names for NamesAtHand {
    fn service(&self, name: &str) -> Option<u16> {
        let services = Services::of_system();
        services
            .port(sock_diag::Protocol::Tcp, name)
            .or_else(|| services.port(sock_diag::Protocol::Udp, name))
    }

    fn interface(&self, name: &str) -> Option<NonZeroU32> {
        let found = self.place.interfaces.iter().find(|(_, known)| known.as_str() == name);
        found.and_then(|(index, _)| NonZeroU32::new(*index))
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        Cgroups::find().ok().flatten()?.id(Path::new(path)).ok()
    }

    fn cgroups_below(&self, path: &str) -> Option<Vec<u64>> {
        Cgroups::find().ok().flatten()?.ids_below(Path::new(path)).ok()
    }

    fn user(&self, name: &str) -> Option<u32> {
        Users::read(&OwnerFiles::of_this_host().passwd).uid(name)
    }

    fn sockets_of_pid(&self, _: u32) -> Option<Vec<u32>> {
        self.processes()
    }

    fn sockets_of_name(&self, _: &str) -> Option<Vec<u32>> {
        self.processes()
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        self.range.map(|range| (range.first, range.last))
    }
}

/// The terms that can be told of a screen's rows, and how that is said; None: all of them.
fn terms(screen: Screen) -> Option<(&'static [&'static str], &'static str)> {
    match screen {
        Screen::Destinations => Some((
            &["src", "dst", "dport", "family"],
            "destinations are filtered by src, dst and dport; 6 has sockets",
        )),
        Screen::Listeners => {
            Some((&["src", "sport", "family"], "listeners are filtered by src and sport; 6 has sockets"))
        }
        Screen::Owners => {
            Some((&["pid", "comm", "user"], "owners are filtered by pid, comm and user; 6 has sockets"))
        }
        Screen::Ports | Screen::Lifetimes | Screen::Sockets | Screen::Namespaces => None,
    }
}

impl Typed {
    /// The text is another one now.
    pub(crate) fn set(&mut self, text: String, names: &NamesAtHand, screen: Screen) {
        self.text = text;
        if self.text.trim().is_empty() {
            (self.good, self.error) = (None, None);
            return;
        }
        match Filter::parse(&self.text, names) {
            Ok(filter) => {
                let beyond = terms(screen).and_then(|(known, told)| {
                    let term = filter.terms().into_iter().find(|term| !known.contains(term))?;
                    Some(format!("{term}: {told}"))
                });
                match beyond {
                    Some(told) => self.error = Some(told),
                    None => (self.good, self.error) = (Some(Arc::new(filter)), None),
                }
            }
            Err(error) => {
                let told = error.render(&self.text);
                self.error = told.lines().last().map(|line| line.trim_start_matches([' ', '^']).to_owned());
            }
        }
    }

    /// Whether a destination is let through.
    pub(crate) fn lets(&self, id: &DestinationId) -> bool {
        let remote = SocketId { remote_address: id.remote_address, remote_port: id.remote_port, ..NO_ENDS };
        self.lets_record(&record_of(SocketId { local_address: id.local_address, ..remote }))
    }

    /// Whether a listener is let through; one of several addresses is as if it had none.
    pub(crate) fn lets_listener(&self, row: &ListenerRow) -> bool {
        let local_address = row.address.unwrap_or(NO_ENDS.local_address);
        self.lets_record(&record_of(SocketId { local_address, local_port: row.port, ..NO_ENDS }))
    }

    /// Whether an owner is let through.
    pub(crate) fn lets_owner(&self, row: &OwnerRow) -> bool {
        let record = SocketRecord { uid: row.uid, ..record_of(NO_ENDS) };
        let is_held = |holder: &Holder| match holder {
            Holder::Pid(pid) => row.pid == Some(*pid),
            Holder::Named(name) => row.label.as_bytes() == kept(name),
        };
        self.good.as_ref().is_none_or(|filter| filter.matches_held(&record, &is_held).unwrap_or(true))
    }

    fn lets_record(&self, record: &SocketRecord) -> bool {
        self.good.as_ref().is_none_or(|filter| filter.matches(record).unwrap_or(true))
    }
}

/// Whether the filter asks for more than a record of a socket that has ended can tell.
pub(crate) fn asks_owner(filter: &Filter) -> bool {
    filter.terms().iter().any(|term| matches!(*term, "user" | "cgroup" | "pid" | "comm"))
}

/// Whether it is one of those a filter names.
pub(crate) fn is_held_by(who: &Who<'_>, holder: &Holder) -> bool {
    match holder {
        Holder::Pid(pid) => who.process.is_some_and(|process| process.pid == *pid),
        Holder::Named(name) => who.name().is_some_and(|own| own.as_bytes() == kept(name)),
    }
}

fn kept(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(LONGEST_NAME)]
}

const NO_ENDS: SocketId = SocketId {
    local_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    local_port: 0,
    remote_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
    remote_port: 0,
    interface: None,
    cookie: Cookie(0),
};

/// A socket of which nothing but the ends is said.
fn record_of(id: SocketId) -> SocketRecord {
    let is_ipv4 = id.local_address.is_ipv4() && id.remote_address.is_ipv4();
    SocketRecord {
        protocol: sock_diag::Protocol::Tcp,
        family: if is_ipv4 { sock_diag::Family::Inet } else { sock_diag::Family::Inet6 },
        state: SocketState::Established,
        id,
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

    fn typed(text: &str, screen: Screen) -> Typed {
        let mut typed = Typed::default();
        for end in 1..=text.len() {
            typed.set(text[..end].to_owned(), &NamesAtHand::default(), screen);
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
        let half = typed("dport = 80 or", Screen::Destinations);
        assert!(half.error.is_some(), "an operand is missing");
        assert!(half.lets(&to([10, 0, 9, 12], 80)) && !half.lets(&to([10, 0, 9, 12], 443)));
        assert!(!typed("dst 10.0.9.0/24", Screen::Destinations).lets(&to([10, 0, 8, 1], 80)));
        assert!(typed("src 10.0.0.7", Screen::Destinations).lets(&to([10, 0, 8, 1], 80)));
    }

    #[test]
    fn destinations_have_no_state() {
        let of_destinations = typed("state established", Screen::Destinations);
        assert!(of_destinations.good.is_none() && of_destinations.error.unwrap().starts_with("state"));
        assert!(typed("state established", Screen::Sockets).good.is_some());
        let mut cleared = typed("dport = 80", Screen::Destinations);
        cleared.set("  ".to_owned(), &NamesAtHand::default(), Screen::Destinations);
        assert_eq!((cleared.good, cleared.error), (None, None));
    }

    #[test]
    fn no_text_is_too_strange() {
        for text in ["((((", "dst [", "sport > ", "\u{1b}[31m", "dport = 99999", "dst nohost.invalid"] {
            assert!(typed(text, Screen::Destinations).error.is_some(), "{text}");
        }
    }

    #[test]
    fn each_screen_is_filtered_by_what_is_known_of_its_rows() {
        for (screen, text, is_known) in [
            (Screen::Destinations, "dst 10/8 and dport = 443", true),
            (Screen::Destinations, "sport = 443", false),
            (Screen::Destinations, "comm = nginx", false),
            (Screen::Listeners, "sport = 443 or src 10/8", true),
            (Screen::Listeners, "dport = 443", false),
            (Screen::Owners, "comm = nginx and user = 33 or pid = 7", true),
            (Screen::Owners, "dport = 443", false),
            (Screen::Sockets, "comm = nginx and state time-wait and dport = 443", true),
        ] {
            let typed = typed(text, screen);
            assert_eq!(typed.error.is_none(), is_known, "{text} of {screen:?}: {:?}", typed.error);
        }
    }

    #[test]
    fn owners_and_listeners_are_let_through() {
        let nginx =
            OwnerRow { label: "nginx".to_owned(), pid: Some(812), uid: Some(33), ..OwnerRow::default() };
        for (text, lets) in [
            ("comm = nginx", true),
            ("comm = ngin", false),
            ("pid = 812 and user = 33", true),
            ("not user = 33", false),
            ("pid = 813", false),
        ] {
            assert_eq!(typed(text, Screen::Owners).lets_owner(&nginx), lets, "{text}");
        }
        let row = ListenerRow { port: 443, address: Some([10, 0, 0, 7].into()), ..ListenerRow::default() };
        let lets = |text| typed(text, Screen::Listeners).lets_listener(&row);
        assert!(lets("sport = 443") && lets("src 10/8") && !lets("sport < 443"));
    }

    #[test]
    fn processes_of_a_capture_are_not_known() {
        let place = Arc::new(Place { is_replay: true, ..Place::default() });
        let mut typed = Typed::default();
        typed.set("comm = nginx".to_owned(), &NamesAtHand { range: None, place }, Screen::Sockets);
        assert!(typed.good.is_none() && typed.error.is_some());
    }
}
