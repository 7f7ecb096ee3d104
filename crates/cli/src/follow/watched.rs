//! What is told to the Monitor, and what is remembered beside it: bound sockets between their walks, and losses.

use std::collections::BTreeMap;
use std::time::Duration;

use sock_diag::{Cookie, Event, SocketRecord};
use sockeye_core::{Counters, Moment, Monitor, OwnerId, TcpEnd, When};

use super::onlooker::Onlooker;
use crate::fleet::shared::Arrivals;
use crate::stuck::Search;
use crate::sweep::Note;
use crate::whose::Whose;

/// With fewer sockets than this the walk of the bind hash is cheap enough for every sweep.
const WALK_IS_CHEAP: u64 = 20_000;
/// With more, it is taken in every tenth sweep.
const SWEEPS_PER_WALK: u32 = 10;

/// The monitor and its surroundings.
pub(crate) struct Watched {
    pub(crate) monitor: Monitor,
    /// Who sees the records of sweeps beside the monitor.
    pub(crate) onlooker: Option<Box<dyn Onlooker>>,
    pub(crate) whose: Option<Whose>,
    /// The same, where owners are known for all namespaces together.
    pub(crate) arrivals: Option<Arrivals>,
    /// Finds those that warnings are about, where owners are not followed.
    pub(crate) search: Search,
    /// The last moment the monitor was told.
    pub(crate) now: Moment,
    /// Bound sockets as they were last read, to be told again in sweeps that do not read them. Few on any host.
    bound: BTreeMap<Cookie, SocketRecord>,
    /// How many sweeps ago they were read.
    bound_age: u32,
    /// TCP sockets of the last sweep.
    sockets: u64,
    pub(crate) udp_unreadable: Option<Note>,
    pub(crate) malformed: u64,
    lost: u64,
    lost_uncounted: bool,
}

impl Watched {
    pub(crate) fn new(monitor: Monitor, whose: Option<Whose>) -> Watched {
        Watched {
            monitor,
            onlooker: None,
            whose,
            arrivals: None,
            search: Search::new(true),
            now: Moment::default(),
            bound: BTreeMap::new(),
            bound_age: 0,
            sockets: 0,
            udp_unreadable: None,
            malformed: 0,
            lost: 0,
            lost_uncounted: false,
        }
    }

    /// A sweep begins.
    pub(crate) fn begin_sweep(&mut self, at: Moment) {
        if let Some(whose) = &mut self.whose {
            whose.begin_sweep(&mut self.monitor);
        }
        self.monitor.begin_sweep(at);
    }

    /// Events are about to be told.
    pub(crate) fn expect_events(&mut self) {
        if let Some(whose) = &mut self.whose {
            whose.catch_up(&mut self.monitor);
        }
    }

    /// A record of a sweep.
    #[inline]
    pub(crate) fn record(&mut self, record: &SocketRecord) {
        if record.is_bound_inactive() {
            self.bound.insert(record.id.cookie, *record);
        }
        let is_new = self.monitor.observe(record);
        if let Some(whose) = &mut self.whose {
            whose.see(&mut self.monitor, record, is_new);
        }
        if let (true, Some(arrivals)) = (is_new, &mut self.arrivals) {
            arrivals.meet(&mut self.monitor, record);
        }
        self.show(record);
    }

    #[inline]
    fn show(&mut self, record: &SocketRecord) {
        if let Some(onlooker) = &mut self.onlooker {
            let (monitor, whose, cookie) = (&self.monitor, self.whose.as_ref(), record.id.cookie);
            let who = || whose.zip(monitor.owner(cookie)).map(|(whose, owner)| whose.who(owner));
            onlooker.record(record, &|| who().unwrap_or_default());
        }
    }

    /// Goes on looking for the owners of sockets, for as long as this.
    pub(super) fn find_owners(&mut self, budget: Duration) {
        if let Some(whose) = &mut self.whose {
            whose.work(&mut self.monitor, budget);
        }
    }

    /// What has ended is nobody's any more, where owners are known for all namespaces together.
    pub(crate) fn forget_closed(&mut self) {
        if let Some(arrivals) = &self.arrivals {
            arrivals.forget_closed(&mut self.monitor);
        }
    }

    /// A destroy event, or the loss of some.
    pub(crate) fn event(&mut self, at: When, event: &Event<'_>) {
        self.now = self.now.max(at.latest);
        match event {
            Event::Destroyed(diag) => {
                let record = diag.to_record();
                self.bound.remove(&record.id.cookie);
                let mut end = diag.tcp_info().map(|info| TcpEnd::of(&info));
                // Whoever resets a connection forgets its peer first, and with it all that was counted (tcp_disconnect):
                // zeros that mean "not known".
                if let Some(end) = end.as_mut().filter(|_| record.id.remote_port == 0) {
                    (end.sent_bytes, end.received_bytes, end.retransmits, end.controls_acked) =
                        (None, None, None, None);
                }
                let maker = self.whose.as_mut().and_then(|whose| whose.maker(&record));
                self.monitor.destroyed(&record, end, at, maker.unwrap_or(OwnerId::UNKNOWN));
            }
            Event::Lost(lost) => {
                self.lost += u64::from(lost.unwrap_or(0));
                self.lost_uncounted |= lost.is_none();
                self.monitor.lost_events(*lost);
            }
        }
    }

    pub(crate) fn end_sweep(&mut self, at: Moment, counters: &Counters) {
        self.now = at;
        if let Some(whose) = &mut self.whose {
            whose.end_sweep();
        }
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.end(&mut self.monitor);
        }
        self.monitor.end_sweep(at, counters);
    }

    /// Whether the next dump should read bound sockets.
    pub(crate) fn reads_bound(&self) -> bool {
        self.sockets < WALK_IS_CHEAP || self.bound_age + 1 >= SWEEPS_PER_WALK
    }

    /// They are about to be read again.
    pub(crate) fn forget_bound(&mut self) {
        self.bound.clear();
    }

    /// All TCP sockets were read. Bound ones that were not are told as they were last: behind the others, so that one which
    /// has connected since is known by its cookie.
    pub(crate) fn all_connected_read(&mut self, with_bound: bool, records: u64) {
        self.sockets = records;
        if with_bound {
            self.bound_age = 0;
            return;
        }
        self.bound_age += 1;
        let bound = std::mem::take(&mut self.bound);
        for record in bound.values() {
            self.monitor.observe(record);
            self.show(record);
        }
        self.bound = bound;
    }

    /// What an output should tell beside the report's warnings.
    pub(crate) fn write_notes(&self, hears_events: bool, notes: &mut Vec<Note>) {
        let mut note = |id, message| notes.push(Note { id, message });
        if !hears_events {
            note(
                "no_events",
                "destroy events are not heard: connections shorter than the interval may be missed, and closes are found by \
                 sweeps"
                    .to_owned(),
            );
        }
        if self.lost > 0 || self.lost_uncounted {
            let more = if self.lost_uncounted { " or more" } else { "" };
            note(
                "events_lost",
                format!(
                    "destroy events lost: {}{more}; connections that lived between two sweeps are missing, other closes \
                     are found by sweeps; a larger buffer (as root, or with a higher net.core.rmem_max) loses fewer",
                    self.lost
                ),
            );
        }
        notes.extend(self.udp_unreadable.clone());
        notes.extend(self.whose.iter().flat_map(Whose::notes));
        let mut note = |id, message| notes.push(Note { id, message });
        if self.malformed > 0 {
            note("malformed", format!("messages that could not be read as sockets: {}", self.malformed));
        }
    }
}
