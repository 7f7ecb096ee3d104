//! The table of followed sockets by cookie: forty bytes each and its place in the index.
//!
//! Dumps visit the kernel's hash in a stable order, so the record after a socket is nearly always the one that followed
//! it last time: that guess is tried before any hashing. What a socket's fields mean for counts is the Monitor's matter.

use hashbrown::HashTable;
use sock_diag::{Cookie, SocketState, TimerKind};

use crate::closed::{ClosedBy, Direction};
use crate::moment::{Moment, When};
use crate::port_origin::PortOrigin;

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
    /// Its ends as [`Ends`](super::ends::Ends) packs them.
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

/// A latest birth takes 40 bits (34 years of milliseconds), its doubt 24 (4.6 hours, then "older than the watch").
const DOUBT_BITS: u32 = 24;
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

    #[inline]
    pub(crate) fn origin(&self) -> PortOrigin {
        match self.flags >> 4 & 3 {
            0 => PortOrigin::Unknown,
            1 => PortOrigin::Chosen,
            2 => PortOrigin::Bound,
            _ => PortOrigin::Accepted,
        }
    }

    pub(crate) fn set_origin(&mut self, origin: PortOrigin) {
        let bits = match origin {
            PortOrigin::Unknown => 0,
            PortOrigin::Chosen => 1,
            PortOrigin::Bound => 2,
            PortOrigin::Accepted => 3,
        };
        self.flags = self.flags & !(3 << 4) | bits << 4;
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
}

/// Sockets by cookie.
pub(crate) struct Table {
    index: HashTable<Slot>,
    cookies: Vec<u64>,
    /// The slot whose record came after this one's last time; of a free slot, the next free one.
    next: Vec<Slot>,
    sockets: Vec<Socket>,
    free: Slot,
    last: Slot,
    count: usize,
}

impl Table {
    pub(crate) fn new() -> Table {
        Table {
            index: HashTable::new(),
            cookies: vec![0],
            next: vec![0],
            sockets: vec![Socket::NOBODY],
            free: 0,
            last: 0,
            count: 0,
        }
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
        let guess = self.next[self.last as usize];
        if self.cookies[guess as usize] == cookie.0 && guess != 0 {
            self.last = guess;
            return Some(guess);
        }
        let slot = self.find(cookie)?;
        self.come(slot);
        Some(slot)
    }

    /// Notes that this slot's record came after the last one.
    fn come(&mut self, slot: Slot) {
        self.next[self.last as usize] = slot;
        self.last = slot;
    }

    /// The socket with this cookie.
    pub(crate) fn find(&self, cookie: Cookie) -> Option<Slot> {
        self.index.find(hash(cookie.0), |slot| self.cookies[*slot as usize] == cookie.0).copied()
    }

    /// Adds a socket whose cookie is not in the table, as that of the next record of a dump.
    pub(crate) fn insert(&mut self, cookie: Cookie, socket: Socket) -> Slot {
        let slot = match self.free {
            0 => self.grow(),
            free => {
                self.free = self.next[free as usize];
                free
            }
        };
        let at = slot as usize;
        self.cookies[at] = cookie.0;
        self.next[at] = 0;
        self.sockets[at] = socket;
        self.enter(slot);
        self.count += 1;
        self.come(slot);
        slot
    }

    /// Forgets a socket.
    pub(crate) fn remove(&mut self, slot: Slot) {
        self.leave(slot);
        let at = slot as usize;
        self.cookies[at] = 0;
        self.sockets[at] = Socket::NOBODY;
        self.next[at] = self.free;
        self.free = slot;
        self.count -= 1;
        if self.last == slot {
            self.last = 0;
        }
    }

    fn enter(&mut self, slot: Slot) {
        let cookies = &self.cookies;
        self.index.insert_unique(hash(cookies[slot as usize]), slot, |slot| hash(cookies[*slot as usize]));
    }

    fn leave(&mut self, slot: Slot) {
        let cookie = self.cookies[slot as usize];
        if let Ok(entry) = self.index.find_entry(hash(cookie), |candidate| *candidate == slot) {
            entry.remove();
        }
    }

    /// A new slot at the end. Grows by an eighth: doubling would cost the limit of memory at a blow.
    fn grow(&mut self) -> Slot {
        if self.cookies.len() == self.cookies.capacity() {
            let more = (self.cookies.len() / 8).max(1024);
            self.cookies.reserve_exact(more);
            self.next.reserve_exact(more);
            self.sockets.reserve_exact(more);
        }
        self.cookies.push(0);
        self.next.push(0);
        self.sockets.push(Socket::NOBODY);
        (self.cookies.len() - 1) as Slot
    }

    pub(crate) fn cookie(&self, slot: Slot) -> Cookie {
        Cookie(self.cookies[slot as usize])
    }

    #[inline]
    pub(crate) fn socket(&self, slot: Slot) -> &Socket {
        &self.sockets[slot as usize]
    }

    #[inline]
    pub(crate) fn socket_mut(&mut self, slot: Slot) -> &mut Socket {
        &mut self.sockets[slot as usize]
    }

    /// All slots in use.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> + '_ {
        (1..self.cookies.len()).filter(|at| self.cookies[*at] != 0).map(|at| at as Slot)
    }
}

/// Cookies count up: all that is needed is to spread their low bits over the word.
#[inline]
fn hash(cookie: u64) -> u64 {
    let wide = u128::from(cookie) * 0x9e37_79b9_7f4a_7c15;
    (wide as u64) ^ (wide >> 64) as u64
}
