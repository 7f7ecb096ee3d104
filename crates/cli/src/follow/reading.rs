//! What a sweep of a watch reads: its dumps, who bound by number, and the lookups of what was missing.

use std::ops::ControlFlow;

use sock_diag::{Cookie, DumpRequest, Error, Family, Protocol, SocketId, SocketRecord, StateSet};
use sockeye_core::{Closed, ClosedBy, Moment};

use super::Follow;
use super::live::Live;
use super::watched::Watched;
use crate::explain;
use crate::feed::Feed;
use crate::sweep::unread_protocol;

/// Most lookups of one sweep, some microseconds each; what is left is looked up after the next.
const MOST_LOOKUPS: usize = 2_000;
/// Who closed first is asked so soon after the end at the latest: from then on connect() may take over a TIME_WAIT.
const TELLING_MS: u64 = 1_000;

/// What a sweep takes: where the answers come from, and who is told.
pub(crate) struct Reading<'a> {
    pub(crate) feed: &'a mut Feed,
    pub(crate) watched: &'a mut Watched,
    /// Reads events between records; None where nobody does.
    pub(super) live: Option<&'a mut Live>,
}

impl<'a> Reading<'a> {
    /// Of one namespace among many: its events are read before and after, not meanwhile.
    pub(crate) fn of(feed: &'a mut Feed, watched: &'a mut Watched) -> Reading<'a> {
        Reading { feed, watched, live: None }
    }

    /// All dumps: listeners, then the connected with (now and then) the bound, then UDP. Returns the sockets read.
    pub(crate) fn read_all(&mut self) -> anyhow::Result<u64> {
        self.feed.begin_sweep();
        if let Some(onlooker) = &mut self.watched.onlooker {
            onlooker.begin(&self.feed.surroundings().core_settings());
        }
        let connected = StateSet::ALL.minus(StateSet::LISTEN).minus(StateSet::BOUND_INACTIVE);
        let tcp = |error| explain::dump(Protocol::Tcp, error);
        let listeners = self.dump(Protocol::Tcp, StateSet::LISTEN).map_err(tcp)?;
        let mut with_bound = self.watched.reads_bound();
        if with_bound {
            self.watched.forget_bound();
        }
        let others = match with_bound {
            true => match self.dump(Protocol::Tcp, connected.union(StateSet::BOUND_INACTIVE)) {
                // When this was captured, they were not read.
                Err(Error::NotCaptured { .. }) => {
                    with_bound = false;
                    self.dump(Protocol::Tcp, connected)
                }
                dumped => dumped,
            },
            false => self.dump(Protocol::Tcp, connected),
        }
        .map_err(tcp)?;
        let mut records = listeners + others;
        self.watched.all_connected_read(with_bound, records);
        self.read_binders(with_bound && others > 0);
        if self.watched.udp_unreadable.is_none() {
            match self.dump(Protocol::Udp, StateSet::ALL) {
                Ok(more) => records += more,
                Err(error) => {
                    let error = explain::dump(Protocol::Udp, error);
                    self.watched.udp_unreadable = Some(unread_protocol(&error));
                }
            }
        }
        Ok(records)
    }

    /// Who bound by number, as often as who is bound and idle: the monitor remembers it. What cannot be asked stays in doubt,
    /// and headrooms show it.
    fn read_binders(&mut self, asks: bool) {
        if !self.feed.is_replay() && !asks {
            return self.feed.forget_bound_by_number();
        }
        if let Ok(bound) = self.feed.bound_by_number() {
            for (cookie, port) in bound {
                self.watched.monitor.observe_bound(Cookie(*cookie), *port);
                if let Some(onlooker) = &mut self.watched.onlooker {
                    onlooker.bound(*port);
                }
            }
        }
    }

    fn dump(&mut self, protocol: Protocol, states: StateSet) -> sock_diag::Result<u64> {
        let (watched, live) = (&mut self.watched, &mut self.live);
        let request = DumpRequest::all(protocol).states(states);
        let summary = self.feed.dump(&request, |diag| {
            watched.record(&diag.to_record());
            if let Some(live) = live {
                live.between_records();
            }
            ControlFlow::Continue(())
        })?;
        self.watched.malformed += summary.malformed;
        Ok(summary.records)
    }

    /// What became of the sockets that the sweep did not find, as far as it can be asked.
    pub(crate) fn look_up_missing(&mut self) -> anyhow::Result<Vec<(Cookie, Option<SocketRecord>)>> {
        let mut settled = Vec::new();
        for missing in self.watched.monitor.missing(MOST_LOOKUPS) {
            // A UDP socket, or one without a peer, is not found by its addresses: it would take a dump each. The next
            // sweep will tell.
            if missing.protocol != Protocol::Tcp || missing.id.remote_port == 0 {
                continue;
            }
            match self.feed.lookup(missing.protocol, missing.family, &missing.id) {
                Ok(found) => settled.push((missing.id.cookie, found)),
                Err(Error::NotCaptured { .. }) => {}
                Err(error) => return Err(explain::dump(missing.protocol, error)),
            }
        }
        Ok(settled)
    }
}

impl Follow {
    pub(super) fn reading(&mut self) -> Reading<'_> {
        Reading { feed: &mut self.feed, watched: &mut self.watched, live: self.live.as_mut() }
    }

    /// Takes the closes that the monitor has found so far. Before each sweep, which may teach it more, and before the step is
    /// kept in a capture: a replay takes them at the same points.
    pub(super) fn take_closed(&mut self) -> anyhow::Result<()> {
        let mut closed = self.watched.monitor.take_closed();
        if let Some(whose) = &mut self.watched.whose {
            whose.gone(closed.iter().map(|closed| closed.cookie));
        }
        if !self.tells_closed {
            return Ok(());
        }
        self.ask_who_closed(&mut closed)?;
        self.closed.append(&mut closed);
        Ok(())
    }

    /// Who closed first, of connections that only their events have told of: the side that did has a TIME_WAIT now.
    fn ask_who_closed(&mut self, closed: &mut [Closed]) -> anyhow::Result<()> {
        // A replay has the answers to what was asked.
        let asked_at = self.live.as_ref().map_or(Moment::default(), Live::now);
        let unknown = closed.iter_mut().filter(|one| {
            let may_tell = asked_at.ms_since(one.at.earliest) <= TELLING_MS;
            one.closed_by == ClosedBy::Unknown && one.end.is_some() && may_tell
        });
        for one in unknown.take(MOST_LOOKUPS) {
            let (Some(local), Some(remote)) = (one.local, one.remote) else { continue };
            if one.protocol != Protocol::Tcp || remote.port() == 0 {
                continue;
            }
            let family = if local.is_ipv4() { Family::Inet } else { Family::Inet6 };
            let id = SocketId {
                local_address: local.ip(),
                local_port: local.port(),
                remote_address: remote.ip(),
                remote_port: remote.port(),
                interface: None,
                cookie: Cookie::ANY,
            };
            match self.feed.left_time_wait(one.cookie, family, &id) {
                Ok(Some(true)) => one.closed_by = ClosedBy::Local,
                // Both sides have said that they are done, and this one need not wait.
                Ok(Some(false)) if one.is_orderly() == Some(true) => one.closed_by = ClosedBy::Remote,
                Ok(_) => {}
                Err(error) => return Err(explain::dump(one.protocol, error)),
            }
        }
        Ok(())
    }
}
