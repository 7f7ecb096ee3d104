//! Ends of sockets: destroy events, and what a close leaves in the books.

use sock_diag::{Protocol, SocketRecord};

use crate::closed::{Closed, ClosedBy, Evidence, TcpEnd};
use crate::moment::{Lifetime, Moment, When};

use super::brief::Key;
use super::ledger::Happening;
use super::table::{Flag, Slot, Socket};
use super::{EVENT_DELAY_MS, JIFFY_MS, Monitor, accounts_of};

impl Monitor {
    /// A destroy event, read at this moment: without delay but for what other events and dumps take.
    pub fn destroyed(&mut self, record: &SocketRecord, end: Option<TcpEnd>, at: Moment) {
        let death = When::between(at.minus_ms(EVENT_DELAY_MS), at);
        match self.table.find(record.id.cookie) {
            Some(slot) => {
                let socket = self.table.socket_mut(slot);
                socket.set(Flag::Told, true);
                if socket.is_live() {
                    self.close(slot, death, Evidence::Event, end);
                }
            }
            None if self.sweeps > 1 || (self.sweeps == 1 && self.sweep.is_none()) => {
                self.meet_end(record, end, death);
            }
            // Before there is a baseline nobody knows what began after it.
            None => {}
        }
    }

    /// The event of a socket that no sweep has seen: born and dead since the last one, unless it never was a connection,
    /// ended before the watch began, or its TIME_WAIT has been counted under another cookie.
    fn meet_end(&mut self, record: &SocketRecord, end: Option<TcpEnd>, death: When) {
        let has_remote = record.id.remote_port != 0 || !record.id.remote_address.is_unspecified();
        let age = end.filter(|end| end.established == Some(true)).and_then(|end| end.min_age_ms);
        match record.protocol {
            Protocol::Tcp => {
                // A listener or an idle socket: nothing sent, nobody addressed.
                let sent = end.and_then(|end| end.segments_out).is_some_and(|segments| segments > 0);
                if !has_remote && !sent {
                    return;
                }
                if age.is_some_and(|age| age > death.latest.ms_since(self.since) + JIFFY_MS) {
                    return;
                }
                let key = Key::of_id(&record.id);
                if let Some(slot) = self.briefs.find(&key, true, &self.table, &self.ends) {
                    self.briefs.remove(slot, &mut self.table, &self.ends);
                    self.table.socket_mut(slot).set(Flag::Told, true);
                    return;
                }
            }
            // A socket that never had a port was in no table either.
            Protocol::Udp if record.id.local_port != 0 => {}
            _ => return,
        }
        // The last sweep that was over before its end did not see it alive.
        let is_amid = self.sweep.is_some() || death.earliest < self.ended;
        let swept = if is_amid { self.began[1] } else { self.began[0] };
        let is_older = age.is_some_and(|age| age > death.latest.ms_since(swept) + JIFFY_MS);
        let earliest = if is_older { self.since } else { swept };
        let slot = self.add(record, Some(earliest), death.latest, false);
        self.open(slot, false);
        self.close(slot, death, Evidence::Event, end);
        self.table.socket_mut(slot).set(Flag::Told, true);
        if record.protocol == Protocol::Tcp && has_remote {
            self.briefs.insert(slot, &mut self.table, &self.ends);
        }
    }

    /// A socket has ended: the one place where a close is counted.
    pub(super) fn close(&mut self, slot: Slot, death: When, evidence: Evidence, end: Option<TcpEnd>) {
        let socket = *self.table.socket(slot);
        let lifetime = self.lifetime(&socket, death, end);
        let attempt = end.is_some_and(|end| end.established == Some(false));
        let closed_by = match (socket.stage().closed_by(), evidence) {
            (ClosedBy::Unknown, Evidence::TimeWait) => ClosedBy::Local,
            (ClosedBy::Unknown, Evidence::Event) if attempt => ClosedBy::Reset,
            (known, _) => known,
        };
        self.table.socket_mut(slot).set_stage(super::Stage::Gone);
        self.ledger.note(accounts_of(&socket), Happening::Closed);
        if let Some(lifetimes) = self.lifetimes.as_mut().filter(|_| !socket.is(Flag::Udp)) {
            lifetimes.record(self.ledger.group(socket.group), lifetime);
        }
        if let Some(closed) = &mut self.closed {
            closed.push(Closed {
                protocol: if socket.is(Flag::Udp) { Protocol::Udp } else { Protocol::Tcp },
                cookie: self.table.cookie(slot),
                local: self.ends.local_end(&socket),
                remote: self.ends.remote_end(&socket),
                direction: socket.direction(),
                closed_by,
                at: death,
                lifetime,
                evidence,
                // A reset by this side wipes the socket's counters before it is freed.
                end: end.filter(|end| end.segments_out != Some(0)),
            });
        }
    }

    fn lifetime(&self, socket: &Socket, death: When, end: Option<TcpEnd>) -> Lifetime {
        let told = end.filter(|end| end.established == Some(true));
        let age = told.and_then(|end| end.min_age_ms);
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
                let min_ms = known.min_ms.max(age.saturating_sub(JIFFY_MS)).min(most);
                let exact = told.is_some_and(|end| end.age_is_exact) && age + JIFFY_MS >= known.min_ms;
                let max_ms = if exact { Some(most.min(age + JIFFY_MS).max(min_ms)) } else { known.max_ms };
                Lifetime { min_ms, max_ms }
            }
            // Ages beyond what is known are not ages.
            _ => known,
        }
    }
}
