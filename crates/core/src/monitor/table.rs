//! The table of followed sockets by cookie: forty bytes each and its place in the index.
//!
//! Dumps visit the kernel's hash in a stable order, so the record after a socket is nearly always the one that followed
//! it last time: that guess is tried before any hashing. What a socket's fields mean for counts is the Monitor's matter.

use hashbrown::HashTable;
use sock_diag::{Cookie, SocketState, TimerKind};

use crate::closed::{ClosedBy, Direction};
use crate::moment::{Moment, When};
use crate::port_origin::PortOrigin;

use super::paged::Paged;

/// Index of a followed socket. Slot 0 is nobody's: what comes before the first record.
pub(crate) type Slot = u32;

/// How far a socket has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    /// Alive, nobody has closed.
    Open,
    /// Alive; this side closed first.
    ClosingHere,
    /// Alive; the other side closed first.
    ClosedThere,
    /// Its full socket is gone or a mini socket has taken its place: counted as closed, remembered until nothing more
    /// can come of it.
    Gone,
}

impl Stage {
    /// Of a record.
    #[inline]
    pub(crate) fn of(state: SocketState, timer: TimerKind) -> Stage {
        match state {
            _ if timer == TimerKind::TimeWait => Stage::Gone,
            SocketState::TimeWait => Stage::Gone,
            SocketState::FinWait1 | SocketState::FinWait2 | SocketState::Closing => Stage::ClosingHere,
            SocketState::CloseWait | SocketState::LastAck => Stage::ClosedThere,
            _ => Stage::Open,
        }
    }

    pub(crate) fn closed_by(self) -> ClosedBy {
        match self {
            Stage::ClosingHere => ClosedBy::Local,
            Stage::ClosedThere => ClosedBy::Remote,
            Stage::Open | Stage::Gone => ClosedBy::Unknown,
        }
    }
}

/// What is remembered of one socket beside its cookie: 28 bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Socket {
    birth: [u32; 2],
    /// Index of its group in the ledger.
    pub(crate) group: u32,
    /// Its ends as [`Addresses`](super::ends::Addresses) packs them.
    pub(crate) local: u32,
    pub(crate) remote: u32,
    pub(crate) local_port: u16,
    pub(crate) remote_port: u16,
    flags: u16,
    /// The sweep that saw it last, modulo 256.
    pub(crate) seen: u8,
    /// Sweeps in a row that did not see it.
    pub(crate) missed: u8,
}

/// The highest three flags are a number: how it came by its port.
const ORIGIN_SHIFT: u32 = 13;

/// A latest birth takes 42 bits (139 years of milliseconds), its doubt 22 (70 minutes, then "older than the watch").
const DOUBT_BITS: u32 = 22;
const OLDER: u64 = (1 << DOUBT_BITS) - 1;

impl Socket {
    pub(crate) const NOBODY: Socket = Socket {
        birth: [0; 2],
        group: 0,
        local: 0,
        remote: 0,
        local_port: 0,
        remote_port: 0,
        flags: 0,
        seen: 0,
        missed: 0,
    };

    /// None: older than the watch, which began at `latest`.
    pub(crate) fn set_birth(&mut self, earliest: Option<Moment>, latest: Moment) {
        let doubt = earliest.map_or(OLDER, |earliest| latest.ms_since(earliest).min(OLDER));
        let packed = latest.0 << DOUBT_BITS | doubt;
        self.birth = [packed as u32, (packed >> 32) as u32];
    }

    /// Not after this moment.
    pub(crate) fn born_by(&self) -> Moment {
        Moment(self.packed_birth() >> DOUBT_BITS)
    }

    /// When it was born; None when that is older than the watch.
    pub(crate) fn birth(&self) -> Option<When> {
        let (latest, doubt) = (self.born_by(), self.packed_birth() & OLDER);
        (doubt < OLDER).then(|| When::between(latest.minus_ms(doubt), latest))
    }

    fn packed_birth(&self) -> u64 {
        u64::from(self.birth[1]) << 32 | u64::from(self.birth[0])
    }

    #[inline]
    pub(crate) fn stage(&self) -> Stage {
        match self.flags & 3 {
            0 => Stage::Open,
            1 => Stage::ClosingHere,
            2 => Stage::ClosedThere,
            _ => Stage::Gone,
        }
    }

    #[inline]
    pub(crate) fn set_stage(&mut self, stage: Stage) {
        self.flags = self.flags & !3 | stage as u16;
    }

    pub(crate) fn is_live(&self) -> bool {
        self.stage() != Stage::Gone
    }

    pub(crate) fn direction(&self) -> Direction {
        match self.flags >> 2 & 3 {
            0 => Direction::Outgoing,
            1 => Direction::Incoming,
            _ => Direction::Unknown,
        }
    }

    pub(crate) fn set_direction(&mut self, direction: Direction) {
        self.flags = self.flags & !(3 << 2) | (direction as u16) << 2;
    }

    /// How it came by its port, as far as that is known.
    #[inline]
    pub(crate) fn port_origin(&self) -> PortOrigin {
        let origin = usize::from(self.flags >> ORIGIN_SHIFT);
        PortOrigin::ALL.get(origin).copied().unwrap_or(PortOrigin::Unknown)
    }

    pub(crate) fn set_port_origin(&mut self, origin: PortOrigin) {
        self.flags = self.flags & ((1 << ORIGIN_SHIFT) - 1) | (origin as u16) << ORIGIN_SHIFT;
    }

    #[inline]
    pub(crate) fn is(&self, flag: Flag) -> bool {
        self.flags & flag as u16 != 0
    }

    #[inline]
    pub(crate) fn set(&mut self, flag: Flag, on: bool) {
        self.flags = if on { self.flags | flag as u16 } else { self.flags & !(flag as u16) };
    }
}

/// Yes-or-no knowledge of a socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(crate) enum Flag {
    /// UDP, else TCP.
    Udp = 1 << 6,
    /// Of family AF_INET6, perhaps with v4-mapped addresses.
    Inet6 = 1 << 7,
    /// `remote` is an IPv4 address itself.
    RemoteInline = 1 << 8,
    /// Bound to an interface, without which no lookup finds it.
    OnInterface = 1 << 9,
    /// Its destroy event has come.
    Told = 1 << 10,
    /// First seen in the sweep that is going on.
    New = 1 << 11,
    /// `remote` is the number of an IPv6 address that no other socket shares.
    RemoteAlone = 1 << 12,
}

/// A place in the table: forty bytes.
#[derive(Clone, Copy)]
struct Row {
    /// 0: nobody's.
    cookie: u64,
    /// The slot whose record came after this one's last time; of a free slot, the next free one.
    next: Slot,
    socket: Socket,
}

const _: () = assert!(size_of::<Row>() == 40);

const FREE: Row = Row { cookie: 0, next: 0, socket: Socket::NOBODY };

/// Sockets by cookie.
pub(crate) struct Table {
    index: HashTable<Slot>,
    rows: Paged<Row>,
    free: Slot,
    last: Slot,
    count: usize,
}

impl Table {
    pub(crate) fn new() -> Table {
        let mut rows = Paged::new();
        rows.push(FREE);
        Table { index: HashTable::new(), rows, free: 0, last: 0, count: 0 }
    }

    /// Followed sockets, the gone ones that are remembered among them.
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    /// A dump begins: what comes first is guessed from what came first last time.
    pub(crate) fn begin(&mut self) {
        self.last = 0;
    }

    /// The socket of the next record of a dump.
    #[inline]
    pub(crate) fn follow(&mut self, cookie: Cookie) -> Option<Slot> {
        let guess = self.rows[self.last].next;
        if self.rows[guess].cookie == cookie.0 && guess != 0 {
            self.last = guess;
            return Some(guess);
        }
        let slot = self.find(cookie)?;
        self.come(slot);
        Some(slot)
    }

    /// Notes that this slot's record came after the last one.
    fn come(&mut self, slot: Slot) {
        self.rows[self.last].next = slot;
        self.last = slot;
    }

    /// The socket with this cookie.
    pub(crate) fn find(&self, cookie: Cookie) -> Option<Slot> {
        self.index.find(hash(cookie.0), |slot| self.rows[*slot].cookie == cookie.0).copied()
    }

    /// Adds a socket whose cookie is not in the table, as that of the next record of a dump.
    pub(crate) fn insert(&mut self, cookie: Cookie, socket: Socket) -> Slot {
        let row = Row { cookie: cookie.0, next: 0, socket };
        let slot = match self.free {
            0 => self.rows.push(row),
            free => {
                self.free = self.rows[free].next;
                self.rows[free] = row;
                free
            }
        };
        let rows = &self.rows;
        self.index.insert_unique(hash(cookie.0), slot, |slot| hash(rows[*slot].cookie));
        self.count += 1;
        self.come(slot);
        slot
    }

    /// Forgets a socket.
    pub(crate) fn remove(&mut self, slot: Slot) {
        let hash = hash(self.rows[slot].cookie);
        if let Ok(entry) = self.index.find_entry(hash, |candidate| *candidate == slot) {
            entry.remove();
        }
        self.rows[slot] = Row { next: self.free, ..FREE };
        self.free = slot;
        self.count -= 1;
        if self.last == slot {
            self.last = 0;
        }
    }

    /// Gives room back when a storm is over and three quarters of it stand empty. Slots change.
    pub(crate) fn shrink(&mut self) {
        if self.rows.len() < WORTH_SHRINKING || self.count * 4 > self.rows.len() {
            return;
        }
        let old = std::mem::replace(self, Table::new());
        self.index.reserve(old.count, |_| 0);
        for row in old.rows.iter().filter(|row| row.cookie != 0) {
            self.insert(Cookie(row.cookie), row.socket);
        }
    }

    pub(crate) fn cookie(&self, slot: Slot) -> Cookie {
        Cookie(self.rows[slot].cookie)
    }

    #[inline]
    pub(crate) fn socket(&self, slot: Slot) -> &Socket {
        &self.rows[slot].socket
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self, slot: Slot) -> &mut Socket {
        &mut self.rows[slot].socket
    }

    /// All slots in use.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        self.rows.iter().zip(0..).filter(|(row, _)| row.cookie != 0).map(|(_, slot)| slot)
    }
}

/// With fewer rows there is little to give back.
const WORTH_SHRINKING: usize = 1 << 14;

/// Cookies count up: all that is needed is to spread their low bits over the word.
#[inline]
fn hash(cookie: u64) -> u64 {
    let wide = u128::from(cookie) * 0x9e37_79b9_7f4a_7c15;
    (wide as u64) ^ (wide >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table_of(cookies: std::ops::Range<u64>) -> Table {
        let mut table = Table::new();
        table.begin();
        for cookie in cookies {
            assert_eq!(table.follow(Cookie(cookie)), None);
            table.insert(Cookie(cookie), Socket { local_port: cookie as u16, ..Socket::NOBODY });
        }
        table
    }

    #[test]
    fn sockets_are_found_in_order_and_out_of_it() {
        let mut table = table_of(1..10_000);
        for step in [1, 7] {
            table.begin();
            for cookie in (1..10_000).step_by(step) {
                let slot = table.follow(Cookie(cookie)).unwrap();
                assert_eq!(
                    (table.cookie(slot), table.socket(slot).local_port),
                    (Cookie(cookie), cookie as u16)
                );
            }
        }
        assert_eq!(table.follow(Cookie(10_000)), None);
        assert_eq!(table.find(Cookie(0)), None);
    }

    #[test]
    fn places_are_used_again_and_room_is_given_back() {
        let mut table = table_of(1..40_001);
        for cookie in 1..=39_000 {
            table.remove(table.find(Cookie(cookie)).unwrap());
        }
        assert_eq!((table.len(), table.slots().count()), (1_000, 1_000));
        for cookie in 50_000..51_000 {
            table.insert(Cookie(cookie), Socket::NOBODY);
        }
        assert_eq!(table.rows.len(), 40_001);
        table.shrink();
        assert_eq!((table.len(), table.rows.len()), (2_000, 2_001));
        for cookie in (39_001..=40_000).chain(50_000..51_000) {
            let slot = table.find(Cookie(cookie)).unwrap();
            assert_eq!(table.cookie(slot), Cookie(cookie));
        }
        let rows = table.rows.len();
        table.shrink();
        assert_eq!(table.rows.len(), rows, "little to give back");
    }

    #[test]
    fn births_keep_their_bounds() {
        let mut socket = Socket::NOBODY;
        for (earliest, latest) in [(0, 0), (1_700_000_000_000, 1_700_000_300_000)] {
            socket.set_birth(Some(Moment(earliest)), Moment(latest));
            assert_eq!(socket.birth(), Some(When::between(Moment(earliest), Moment(latest))));
        }
        socket.set_birth(None, Moment(5));
        assert_eq!((socket.birth(), socket.born_by()), (None, Moment(5)));
    }
}
