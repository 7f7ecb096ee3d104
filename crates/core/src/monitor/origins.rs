//! How followed connections came by their local ports: what records tell at once, and what becomes known later.

use hashbrown::HashSet;
use sock_diag::{Cookie, SocketRecord};

use crate::churn::OriginRow;
use crate::closed::Direction;
use crate::destination::Destination;
use crate::fold::nearly_full;
use crate::lifetimes::Group;
use crate::port_origin::PortOrigin;

use super::Monitor;
use super::table::{Flag, Slot};

impl Monitor {
    /// Connections by how they came by their local ports: every way that some did, or did within the longest window of
    /// rates.
    ///
    /// Cost: a walk over all sockets.
    pub fn origins(&self) -> Vec<OriginRow> {
        let generation = self.sweeps as u8;
        let mut waiting = [0; PortOrigin::ALL.len()];
        for slot in self.table.slots() {
            let socket = self.table.socket(slot);
            if !socket.is_live() && socket.seen == generation && !socket.is(Flag::Udp) {
                waiting[socket.port_origin() as usize] += 1;
            }
        }
        self.ledger.origins(waiting)
    }

    /// How a connection came by its port, as far as its record tells.
    pub(super) fn origin(&self, record: &SocketRecord, direction: Direction) -> PortOrigin {
        let bound_no_port = record.options.is_some_and(|options| options.bind_address_no_port());
        match direction {
            Direction::Incoming => PortOrigin::Accepted,
            Direction::Outgoing if !record.is_mini() => {
                match self.settings.range().prefers(record.id.local_port) {
                    _ if bound_no_port => PortOrigin::Chosen,
                    true => PortOrigin::Preferred,
                    false => PortOrigin::OtherHalf,
                }
            }
            _ => PortOrigin::Unknown,
        }
    }

    /// Notes that the connected socket with this cookie bound its port by number: see [`Sweep::observe_bound`](crate::Sweep::observe_bound). Remembered
    /// as long as the socket is, TIME_WAIT included, so that it need not be read at every sweep.
    pub fn observe_bound(&mut self, cookie: Cookie, port: u16) {
        if let Some(slot) = self.table.find(cookie)
            && self.table.socket(slot).port_origin() != PortOrigin::Accepted
        {
            self.learn_origin(slot, PortOrigin::Bound);
        }
        if let Some(sweep) = &mut self.sweep {
            sweep.observe_bound(port);
        }
    }

    /// How a connection came by its port is known, or is no longer.
    fn learn_origin(&mut self, slot: Slot, origin: PortOrigin) {
        let socket = self.table.socket_mut(slot);
        let before = socket.port_origin();
        if before != origin && !socket.is(Flag::Udp) {
            socket.set_port_origin(origin);
            if socket.is_live() {
                let opened = socket.birth().is_some();
                self.ledger.move_origin(before, origin, opened);
            }
        }
    }

    /// Where a destination has nearly all ports that connect() prefers, it is not known who took the others.
    pub(super) fn doubt_origins(&mut self) {
        let pool = &self.report.tcp;
        let preferred =
            pool.pool.count_preferred(pool.pool.ports()) - pool.pool.count_preferred(&pool.held_ports);
        let crowded = |one: &&Destination| nearly_full(one.in_use_preferred, preferred);
        let crowded: HashSet<Group> =
            self.report.destinations.iter().filter(crowded).map(|one| Group::Destination(one.id)).collect();
        if crowded.is_empty() {
            return;
        }
        let is_doubtful = |slot: &Slot| {
            let socket = self.table.socket(*slot);
            socket.port_origin() == PortOrigin::OtherHalf
                && crowded.contains(&self.ledger.group(socket.group))
        };
        for slot in self.table.slots().filter(is_doubtful).collect::<Vec<Slot>>() {
            self.learn_origin(slot, PortOrigin::Unknown);
        }
    }
}
