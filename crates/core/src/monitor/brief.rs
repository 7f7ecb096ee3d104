//! Connections born and dead between two sweeps, by their ends: how the event and the TIME_WAIT of one are joined.
//!
//! The kernel gives a socket its cookie when somebody first reads it, and TIME_WAIT inherits only a cookie that is there
//! by then. So the event of a brief connection and its TIME_WAIT have two cookies, and come in either order.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use sock_diag::SocketId;

use crate::address::Address;

use super::ends::Addresses;
use super::table::{Flag, Slot, Table};

/// Slots of brief connections, one or more for the same ends.
pub(crate) struct Briefs {
    slots: HashTable<Slot>,
    hasher: DefaultHashBuilder,
}

impl Briefs {
    pub(crate) fn new() -> Briefs {
        Briefs { slots: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    /// Puts a socket here.
    pub(crate) fn insert(&mut self, slot: Slot, table: &mut Table, ends: &Addresses) {
        table.socket_mut(slot).set(Flag::Brief, true);
        let hasher = &self.hasher;
        let hash = |slot: &Slot| hasher.hash_one(Key::of(*slot, table, ends));
        self.slots.insert_unique(hash(&slot), slot, hash);
    }

    /// Takes a socket from here.
    pub(crate) fn remove(&mut self, slot: Slot, table: &mut Table, ends: &Addresses) {
        table.socket_mut(slot).set(Flag::Brief, false);
        let hash = self.hasher.hash_one(Key::of(slot, table, ends));
        if let Ok(entry) = self.slots.find_entry(hash, |candidate| *candidate == slot) {
            entry.remove();
        }
    }

    /// A brief connection with these ends, known by its TIME_WAIT (`remains`) or by its event.
    pub(crate) fn find(&self, key: &Key, remains: bool, table: &Table, ends: &Addresses) -> Option<Slot> {
        let same = |slot: &Slot| {
            table.socket(*slot).is(Flag::Remains) == remains && Key::of(*slot, table, ends) == *key
        };
        self.slots.find(self.hasher.hash_one(key), same).copied()
    }
}

/// Both ends of a connection, as they are compared.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    local: Address,
    remote: Address,
    local_port: u16,
    remote_port: u16,
}

impl Key {
    pub(crate) fn of(slot: Slot, table: &Table, ends: &Addresses) -> Key {
        let socket = table.socket(slot);
        Key {
            local: ends.local(socket),
            remote: ends.remote(socket),
            local_port: socket.local_port,
            remote_port: socket.remote_port,
        }
    }

    pub(crate) fn of_id(id: &SocketId) -> Key {
        Key {
            local: Address::of(id.local_address),
            remote: Address::of(id.remote_address),
            local_port: id.local_port,
            remote_port: id.remote_port,
        }
    }
}
