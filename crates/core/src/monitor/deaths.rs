//! Ends of sockets: destroy events, and what a close leaves in the books.

use sock_diag::{Cookie, Protocol, SocketRecord};

use crate::closed::{Closed, ClosedBy, Direction, Evidence, TcpEnd};
use crate::moment::{Lifetime, When};
use crate::owner_id::OwnerId;

use super::ledger::{Happening, Source};
use super::table::{Flag, Slot, Socket, Stage};
use super::{JIFFY_MS, Monitor, accounts_of, group_by};

impl Monitor {
    /// A destroy event. It was read at this moment, or, where events had to wait for the reader, came between two. `owner`:
    /// whose it was, if that is known of a socket that no sweep has seen.
    pub fn destroyed(
        &mut self,
        record: &SocketRecord,
        end: Option<TcpEnd>,
        at: impl Into<When>,
        owner: OwnerId,
    ) {
        let at: When = at.into();
        match self.table.find(record.id.cookie) {
            Some(slot) => {
                let socket = self.table.socket_mut(slot);
                socket.set(Flag::Told, true);
                if socket.is_live() {
                    let direction = socket.direction();
                    let death = self.lateness.death(at, direction, end);
                    self.close(slot, death, Evidence::Event, end);
                }
            }
            None if self.sweeps > 1 || (self.sweeps == 1 && self.sweep.is_none()) => {
                self.meet_end(record, end, at, owner);
            }
            // Before there is a baseline nobody knows what began after it.
            None => {}
        }
    }

    /// The event of a socket that no sweep has seen: born and dead since the last one, unless it never was a connection,
    /// ended before the watch began, or has been counted by its TIME_WAIT.
    fn meet_end(&mut self, record: &SocketRecord, end: Option<TcpEnd>, at: When, owner: OwnerId) {
        if self.departed.knows(record.id.cookie) {
            return;
        }
        // A reset clears the port and leaves the address. A listener or an idle socket has neither.
        let has_remote = record.id.remote_port != 0 || !record.id.remote_address.is_unspecified();
        let age = end.and_then(|end| end.min_age_ms);
        match record.protocol {
            Protocol::Tcp if !has_remote => return,
            // It had ended when the watch began, and a program kept it.
            Protocol::Tcp if age.is_some_and(|age| age > at.latest.ms_since(self.since) + JIFFY_MS) => {
                return;
            }
            Protocol::Tcp => {}
            // A socket that never had a port was in no table either.
            Protocol::Udp if record.id.local_port != 0 => {}
            _ => return,
        }
        let death = self.lateness.death(at, self.direction(record), end);
        // The last sweep that was over before its end did not see it alive.
        let is_over = |sweep: &usize| self.ended[*sweep] <= death.earliest;
        let swept = (usize::from(self.sweep.is_some())..3).find(is_over);
        let swept = swept.map_or(self.since, |sweep| self.began[sweep]);
        let since_swept = at.latest.ms_since(swept) + JIFFY_MS;
        // It was dead by then, and a program kept it.
        let heard = end.and_then(|end| end.heard_ms);
        let is_older = [age, heard].into_iter().flatten().any(|ms| ms > since_swept);
        let earliest = if is_older { self.since } else { swept };
        let mut socket = Socket::NOBODY;
        socket.set_birth(Some(earliest), death.latest);
        self.describe(&mut socket, record, owner);
        socket.set_stage(Stage::Open);
        let heard = heard.map(|ms| When::between(at.earliest.minus_ms(ms), at.latest.minus_ms(ms)));
        let tuple = self.briefs.tuple(&self.ends.both(&socket));
        let is_counted = record.protocol == Protocol::Tcp
            && record.id.remote_port != 0
            && self.briefs.ended(tuple, death, heard, self.sweeps);
        if !is_counted {
            self.ledger.note(accounts_of(&socket), Happening::Opened, Source::Event);
            self.count_close(&socket, record.id.cookie, death, Evidence::Event, end);
            if record.protocol == Protocol::Tcp && socket.direction() != Direction::Incoming {
                let counts = self.unplaced.entry(socket.local_port).or_default();
                counts[usize::from(socket.direction() == Direction::Unknown)] += 1;
            }
        }
        self.ends.release(&socket);
        self.ledger.leave(socket.group);
    }

    /// A followed socket has ended.
    pub(super) fn close(&mut self, slot: Slot, death: When, evidence: Evidence, end: Option<TcpEnd>) {
        let socket = *self.table.socket(slot);
        self.count_close(&socket, self.table.cookie(slot), death, evidence, end);
        let gone = self.table.socket_mut(slot);
        gone.set_stage(Stage::Gone);
        // From here on two sweeps more.
        gone.missed = 0;
    }

    /// The one place where a close is counted.
    fn count_close(
        &mut self,
        socket: &Socket,
        cookie: Cookie,
        death: When,
        evidence: Evidence,
        end: Option<TcpEnd>,
    ) {
        let lifetime = self.lifetime(socket, death, end);
        let closed_by = match (socket.stage().closed_by(), evidence) {
            _ if end.is_some_and(|end| end.is_reset) => ClosedBy::Reset,
            (ClosedBy::Unknown, Evidence::TimeWait) => ClosedBy::Local,
            (known, _) => known,
        };
        let source = if evidence == Evidence::Event { Source::Event } else { Source::Sweep };
        self.ledger.note(accounts_of(socket), Happening::Closed, source);
        if let Some((by, lifetimes)) = self.lifetimes.as_mut().filter(|_| !socket.is(Flag::Udp)) {
            lifetimes.record(group_by(&self.ledger, socket, *by), lifetime);
        }
        if let Some(kept) = &mut self.closed {
            let mut closed = Closed {
                protocol: if socket.is(Flag::Udp) { Protocol::Udp } else { Protocol::Tcp },
                cookie,
                local: self.ends.local_end(socket),
                remote: self.ends.remote_end(socket),
                owner: self.ledger.owner(socket.group),
                direction: socket.direction(),
                closed_by,
                at: death,
                lifetime,
                evidence,
                // A reset by this side wipes the socket's counters before it is freed.
                end: end.filter(|end| !end.is_reset),
            };
            if closed.closed_by == ClosedBy::Unknown && closed.is_orderly() == Some(false) {
                closed.closed_by = ClosedBy::Reset;
            }
            kept.push(closed);
        }
    }

    fn lifetime(&self, socket: &Socket, death: When, end: Option<TcpEnd>) -> Lifetime {
        let age = end.and_then(|end| end.min_age_ms);
        let delay = end.map_or(0, |_| self.lateness.most_ms(socket.direction(), end));
        let birth = match socket.is(Flag::New) {
            true => Some(When::between(self.began[1], death.latest)),
            false => socket.birth(),
        };
        let known = match birth {
            Some(birth) => Lifetime::between(birth, death),
            None => Lifetime { min_ms: death.earliest.ms_since(self.since), max_ms: None },
        };
        let most = known.max_ms.unwrap_or(u64::MAX);
        match age {
            Some(age) if age <= most.saturating_add(JIFFY_MS) => {
                let min_ms = known.min_ms.max(age.saturating_sub(delay)).min(most);
                let exact = end.is_some_and(|end| end.age_is_exact) && age + JIFFY_MS >= known.min_ms;
                let max_ms = if exact { Some(most.min(age + JIFFY_MS).max(min_ms)) } else { known.max_ms };
                Lifetime { min_ms, max_ms }
            }
            // Ages beyond what is known are not ages.
            _ => known,
        }
    }
}
