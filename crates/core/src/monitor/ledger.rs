//! Opens and closes by group and in all: counts since the start, and rates over windows of whole intervals.
//!
//! What events tell belongs to the interval of the tick, what a sweep finds to the time since the last sweep: two streams,
//! whose rates are added. What happened in an interval is one entry for each group it happened to. Memory follows the churn
//! of the longest window, not destinations times windows.

use std::collections::{BTreeMap, VecDeque};

use crate::churn::{AccountRow, Flow, OriginRow, RATE_WINDOWS_S, Rates};
use crate::lifetimes::Group;
use crate::moment::Moment;
use crate::owner_id::OwnerId;
use crate::port_origin::PortOrigin;

/// A group of the ledger by its index.
pub(crate) type Account = u32;

/// Accounts that always are: everything, by kind.
pub(crate) const TCP: Account = 0;
pub(crate) const OUTGOING: Account = 1;
pub(crate) const INCOMING: Account = 2;
pub(crate) const UDP: Account = 3;
/// TCP connections that belong to no destination and no listener.
pub(crate) const OTHER: Account = 4;
/// TCP connections again, by how they came by their ports: an account for each [`PortOrigin`], in order.
const ORIGINS: Account = 5;
const FIXED: usize = ORIGINS as usize + PortOrigin::ALL.len();

const WINDOWS: usize = RATE_WINDOWS_S.len();

/// Opens, closes. Opens are below zero where sockets got their owner after the interval they opened in.
type Pair = [i32; 2];

/// By what something became known.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Source {
    Event = 0,
    Sweep = 1,
}

const SOURCES: usize = 2;

#[derive(Clone, Copy)]
struct Line {
    group: Group,
    owner: OwnerId,
    /// Followed sockets that belong to it.
    sockets: u32,
    /// Of these, the ones alive.
    live: u32,
    /// Entries of intervals that are about it.
    entries: u32,
    /// It was found idle in this sweep.
    was_idle: bool,
    /// Of the interval that goes on, by source.
    running: [Pair; SOURCES],
    windows: [[Pair; WINDOWS]; SOURCES],
}

impl Line {
    const fn new(group: Group, owner: OwnerId) -> Line {
        Line {
            group,
            owner,
            sockets: 0,
            live: 0,
            entries: 0,
            was_idle: false,
            running: [[0; 2]; SOURCES],
            windows: [[[0; 2]; WINDOWS]; SOURCES],
        }
    }

    fn tells_nothing(&self) -> bool {
        let nothing = Line::new(self.group, self.owner);
        self.sockets == 0 && (self.running, self.windows) == (nothing.running, nothing.windows)
    }

    /// Whether nothing is going to be told either: what was added and taken away at different times leaves a window at
    /// different times.
    fn is_idle(&self) -> bool {
        self.entries == 0 && self.tells_nothing()
    }
}

/// An interval that is still in a window.
struct Interval {
    length_ms: u64,
    entries: u32,
}

/// The intervals of one source.
struct Stream {
    /// Groups that the running interval has touched.
    touched: Vec<Account>,
    intervals: VecDeque<Interval>,
    /// The entries of these, one interval after another.
    entries: VecDeque<(Account, Pair)>,
    windows: [Window; WINDOWS],
    /// When the running interval began.
    began: Moment,
}

impl Stream {
    fn new(start: Moment) -> Stream {
        Stream {
            touched: Vec::new(),
            intervals: VecDeque::new(),
            entries: VecDeque::new(),
            windows: [Window::default(); WINDOWS],
            began: start,
        }
    }
}

/// The account of connections that came by their ports in this way.
pub(crate) const fn origin_account(origin: PortOrigin) -> Account {
    ORIGINS + origin as Account
}

/// The books of one namespace.
pub(crate) struct Ledger {
    /// In order, so that those of a group stand together.
    accounts: BTreeMap<(Group, OwnerId), Account>,
    lines: Vec<Line>,
    free: Vec<Account>,
    /// Found idle in this sweep: those that are when the next one begins are free. Within one an account stands for one group
    /// and owner, and most that are idle for a moment are joined again: a socket is nobody's before it is its owner's.
    idle: Vec<Account>,
    /// By source.
    streams: [Stream; SOURCES],
    since_start: [[u64; 3]; FIXED],
    /// Opens and closes since the start as they were at the last tick, and those of the interval before it.
    ticked: [[u64; 2]; FIXED],
    last: [[u64; 2]; FIXED],
}

/// How many of the newest intervals a window holds, how many entries these have, how long they are together.
#[derive(Clone, Copy, Default)]
struct Window {
    intervals: usize,
    entries: usize,
    length_ms: u64,
}

/// What can happen.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Happening {
    Opened = 0,
    Closed = 1,
}

impl Ledger {
    pub(crate) fn new(start: Moment) -> Ledger {
        Ledger {
            accounts: BTreeMap::new(),
            lines: vec![Line::new(Group::Other, OwnerId::UNKNOWN); FIXED],
            free: Vec::new(),
            idle: Vec::new(),
            streams: [Stream::new(start), Stream::new(start)],
            since_start: [[0; 3]; FIXED],
            ticked: [[0; 2]; FIXED],
            last: [[0; 2]; FIXED],
        }
    }

    /// The account of a group and an owner, for one socket more.
    pub(crate) fn join(&mut self, group: Group, owner: OwnerId) -> Account {
        let account = match (group, owner) {
            (Group::Other, OwnerId::UNKNOWN) => OTHER,
            _ => match self.accounts.get(&(group, owner)) {
                Some(account) => *account,
                None => self.open(group, owner),
            },
        };
        self.lines[account as usize].sockets += 1;
        account
    }

    /// The accounts of a group that have something to tell.
    fn accounts_of(&self, group: Group) -> impl Iterator<Item = Account> {
        let owners = (group, OwnerId::UNKNOWN)..=(group, OwnerId(u32::MAX));
        let accounts = self.accounts.range(owners).map(|(_, account)| *account);
        accounts.filter(|account| !self.lines[*account as usize].tells_nothing())
    }

    /// A followed socket is another owner's from now on; so is its opening, if it is one since the start. Its account then.
    pub(crate) fn hand_over(
        &mut self,
        from: Account,
        owner: OwnerId,
        is_live: bool,
        opened: bool,
    ) -> Account {
        let to = self.join(self.group(from), owner);
        if is_live {
            self.lines[from as usize].live -= 1;
            self.lines[to as usize].live += 1;
        }
        if opened {
            self.add(from, Happening::Opened, Source::Sweep, -1);
            self.add(to, Happening::Opened, Source::Sweep, 1);
        }
        self.leave(from);
        to
    }

    /// The account of UDP sockets, for one more.
    pub(crate) fn join_udp(&mut self) -> Account {
        self.lines[UDP as usize].sockets += 1;
        UDP
    }

    /// A sweep begins: accounts that have been idle may be used for other groups.
    pub(crate) fn begin_sweep(&mut self) {
        for account in std::mem::take(&mut self.idle) {
            let line = &mut self.lines[account as usize];
            line.was_idle = false;
            if line.is_idle() {
                self.accounts.remove(&(line.group, line.owner));
                self.free.push(account);
            }
        }
    }

    /// The watch begins now: what came before is no tick.
    pub(crate) fn start(&mut self, at: Moment) {
        self.streams.iter_mut().for_each(|stream| stream.began = at);
    }

    fn open(&mut self, group: Group, owner: OwnerId) -> Account {
        let line = Line::new(group, owner);
        let account = match self.free.pop() {
            Some(account) => {
                self.lines[account as usize] = line;
                account
            }
            None => {
                self.lines.push(line);
                (self.lines.len() - 1) as Account
            }
        };
        self.accounts.insert((group, owner), account);
        account
    }

    /// One socket less.
    pub(crate) fn leave(&mut self, account: Account) {
        self.lines[account as usize].sockets -= 1;
        self.note_if_idle(account);
    }

    fn note_if_idle(&mut self, account: Account) {
        let line = &mut self.lines[account as usize];
        if account as usize >= FIXED && !line.was_idle && line.is_idle() {
            line.was_idle = true;
            self.idle.push(account);
        }
    }

    pub(crate) fn group(&self, account: Account) -> Group {
        self.lines[account as usize].group
    }

    pub(crate) fn owner(&self, account: Account) -> OwnerId {
        self.lines[account as usize].owner
    }

    /// How many accounts there are, used or not.
    pub(crate) fn accounts(&self) -> usize {
        self.lines.len()
    }

    /// Every account of connections that has something to tell; `time_wait`: how many of its sockets are in TIME_WAIT.
    pub(crate) fn rows(&self, time_wait: &[u64]) -> Vec<AccountRow> {
        let accounts = (0..).zip(self.lines.iter().zip(time_wait));
        let groups = accounts.filter(|(account, _)| *account == OTHER || *account >= FIXED as Account);
        let told = groups.filter(|(_, (line, _))| !line.tells_nothing());
        told.map(|(account, (line, time_wait))| AccountRow {
            group: line.group,
            owner: line.owner,
            live: line.live.into(),
            time_wait: *time_wait,
            rates: self.rates(account).at_least_zero(),
        })
        .collect()
    }

    /// Connections by how they came by their ports, in order; `time_wait`: how many of each are in TIME_WAIT.
    pub(crate) fn origins(&self, time_wait: [u64; PortOrigin::ALL.len()]) -> Vec<OriginRow> {
        let rows = PortOrigin::ALL.into_iter().zip(time_wait).map(|(origin, time_wait)| {
            let account = origin_account(origin);
            let live = self.lines[account as usize].live.into();
            OriginRow { origin, live, time_wait, rates: self.rates(account).at_least_zero() }
        });
        rows.filter(|row| row.live + row.time_wait > 0 || row.rates != Rates::default()).collect()
    }

    /// More has become known of how a live connection came by its port; its opening goes along, if it is one since the start.
    pub(crate) fn move_origin(&mut self, from: PortOrigin, to: PortOrigin, opened: bool) {
        let (from, to) = (origin_account(from), origin_account(to));
        self.lines[from as usize].live -= 1;
        self.lines[to as usize].live += 1;
        if opened {
            self.add(from, Happening::Opened, Source::Sweep, -1);
            self.add(to, Happening::Opened, Source::Sweep, 1);
        }
    }

    /// Notes what happened to a socket of these accounts.
    pub(crate) fn note(
        &mut self,
        accounts: impl IntoIterator<Item = Account>,
        what: Happening,
        source: Source,
    ) {
        for account in accounts {
            let live = &mut self.lines[account as usize].live;
            *live = match what {
                Happening::Opened => *live + 1,
                Happening::Closed => live.saturating_sub(1),
            };
            self.add(account, what, source, 1);
            if let Some(counts) = self.since_start.get_mut(account as usize) {
                counts[1 + what as usize] += 1;
            }
        }
    }

    fn add(&mut self, account: Account, what: Happening, source: Source, count: i32) {
        let running = &mut self.lines[account as usize].running[source as usize];
        if *running == [0; 2] {
            self.streams[source as usize].touched.push(account);
        }
        running[what as usize] += count;
    }

    /// So many connections that were opened and closed as outgoing, and so many of unknown direction, came in. Their rates
    /// stay where they were.
    pub(crate) fn place_as_incoming(&mut self, outgoing: u64, unknown: u64) {
        for what in [Happening::Opened, Happening::Closed] {
            self.since_start[OUTGOING as usize][1 + what as usize] -= outgoing;
            self.since_start[INCOMING as usize][1 + what as usize] += outgoing + unknown;
        }
    }

    /// A socket that was there before.
    pub(crate) fn note_at_start(&mut self, accounts: impl IntoIterator<Item = Account>) {
        for account in accounts {
            self.lines[account as usize].live += 1;
            if let Some(counts) = self.since_start.get_mut(account as usize) {
                counts[0] += 1;
            }
        }
    }

    /// The tick ends: the windows of what events told move on. How long it was, milliseconds.
    pub(crate) fn tick(&mut self, at: Moment) -> u64 {
        for ((now, then), last) in self.since_start.iter().zip(&mut self.ticked).zip(&mut self.last) {
            let counts = [now[1], now[2]];
            *last = [0, 1].map(|what| counts[what].saturating_sub(then[what]));
            *then = counts;
        }
        self.end_interval(Source::Event, at)
    }

    /// The sweep ends: the windows of what sweeps found move on.
    pub(crate) fn end_sweep(&mut self, at: Moment) {
        self.end_interval(Source::Sweep, at);
    }

    fn end_interval(&mut self, source: Source, at: Moment) -> u64 {
        let stream = &mut self.streams[source as usize];
        let length_ms = at.ms_since(stream.began);
        stream.began = at;
        for account in &stream.touched {
            let line = &mut self.lines[*account as usize];
            let pair = std::mem::take(&mut line.running[source as usize]);
            for window in &mut line.windows[source as usize] {
                (0..2).for_each(|what| window[what] += pair[what]);
            }
            line.entries += 1;
            stream.entries.push_back((*account, pair));
        }
        let entries = stream.touched.len();
        stream.touched.clear();
        stream.intervals.push_back(Interval { length_ms, entries: entries as u32 });
        for window in &mut stream.windows {
            window.intervals += 1;
            window.entries += entries;
            window.length_ms = window.length_ms.saturating_add(length_ms);
        }
        for index in 0..WINDOWS {
            self.shorten(source, index);
        }
        self.forget_aged(source);
        length_ms
    }

    /// Drops the oldest intervals of a window while the others are long enough without.
    fn shorten(&mut self, source: Source, index: usize) {
        let long_enough = u64::from(RATE_WINDOWS_S[index]) * 1_000;
        let stream = &mut self.streams[source as usize];
        loop {
            let Window { intervals, entries, length_ms } = stream.windows[index];
            let oldest =
                stream.intervals.len().checked_sub(intervals).and_then(|at| stream.intervals.get(at));
            let Some(oldest) = oldest else { return };
            if intervals <= 1 || length_ms.saturating_sub(oldest.length_ms) < long_enough {
                return;
            }
            let first = stream.entries.len() - entries;
            for (account, pair) in stream.entries.range(first..first + oldest.entries as usize) {
                let window = &mut self.lines[*account as usize].windows[source as usize][index];
                (0..2).for_each(|what| window[what] -= pair[what]);
            }
            stream.windows[index] = Window {
                intervals: intervals - 1,
                entries: entries - oldest.entries as usize,
                length_ms: length_ms.saturating_sub(oldest.length_ms),
            };
        }
    }

    /// Forgets the intervals that are in no window.
    fn forget_aged(&mut self, source: Source) {
        loop {
            let stream = &mut self.streams[source as usize];
            if stream.intervals.len() <= stream.windows[WINDOWS - 1].intervals {
                return;
            }
            let Some(aged) = stream.intervals.pop_front() else { return };
            for _ in 0..aged.entries {
                if let Some((account, _)) = self.streams[source as usize].entries.pop_front() {
                    self.lines[account as usize].entries -= 1;
                    self.note_if_idle(account);
                }
            }
        }
    }

    /// Rates of a group; None when nothing is known of it.
    pub(crate) fn rates_of(&self, group: Group) -> Option<Rates> {
        let mut rates = self.accounts_of(group).map(|account| self.rates(account));
        let first = rates.next()?;
        Some(rates.fold(first, Rates::plus))
    }

    fn rates(&self, account: Account) -> Rates {
        let line = &self.lines[account as usize];
        let mut rates = Rates::default();
        for (stream, windows) in self.streams.iter().zip(&line.windows) {
            for (index, window) in
                stream.windows.iter().enumerate().filter(|(_, window)| window.length_ms > 0)
            {
                let seconds = window.length_ms as f32 / 1_000.0;
                rates.opens[index] += windows[index][0] as f32 / seconds;
                rates.closes[index] += windows[index][1] as f32 / seconds;
            }
        }
        rates
    }

    /// The flow of one of the fixed accounts.
    pub(crate) fn flow(&self, account: Account) -> Flow {
        let [at_start, opened, closed] = self.since_start[account as usize];
        let [opened_last, closed_last] = self.last[account as usize];
        Flow { at_start, opened, closed, opened_last, closed_last, rates: self.rates(account) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn destination(port: u16) -> Group {
        Group::Listener(port)
    }

    fn open(ledger: &mut Ledger, account: Account, times: u32, source: Source) {
        (0..times).for_each(|_| ledger.note([TCP, account], Happening::Opened, source));
    }

    #[test]
    fn sockets_that_get_their_owners_one_by_one_take_two_accounts() {
        let mut ledger = Ledger::new(Moment(0));
        for sweep in 0..3 {
            ledger.begin_sweep();
            for _ in 0..1_000 {
                let unknown = ledger.join(destination(443), OwnerId::UNKNOWN);
                ledger.note([TCP, unknown], Happening::Opened, Source::Sweep);
                ledger.hand_over(unknown, OwnerId(7), true, true);
            }
            ledger.end_sweep(Moment(sweep * 1_000));
        }
        assert_eq!(ledger.accounts(), FIXED + 2);
        let rows = ledger.rows(&[0; FIXED + 2]);
        assert_eq!(rows.iter().map(|row| (row.owner, row.live)).collect::<Vec<_>>(), [(OwnerId(7), 3_000)]);
    }

    #[test]
    fn an_account_is_another_group_s_only_when_its_past_is_over() {
        let mut ledger = Ledger::new(Moment(0));
        let unknown = ledger.join(destination(443), OwnerId::UNKNOWN);
        ledger.note([TCP, unknown], Happening::Opened, Source::Sweep);
        ledger.end_sweep(Moment(1_000));
        ledger.begin_sweep();
        // Opened in one interval, handed over in the next: together nothing.
        ledger.hand_over(unknown, OwnerId(7), true, true);
        ledger.end_sweep(Moment(2_000));
        ledger.begin_sweep();
        let other = ledger.join(destination(80), OwnerId(8));
        for second in 3..=u64::from(RATE_WINDOWS_S[WINDOWS - 1]) + 3 {
            ledger.end_sweep(Moment(second * 1_000));
            ledger.begin_sweep();
            assert_eq!(ledger.rates(other), Rates::default());
        }
        assert_ne!(other, unknown);
        assert_eq!(ledger.join(destination(81), OwnerId(8)), unknown, "free by now");
    }

    #[test]
    fn windows_are_the_fewest_whole_intervals() {
        let mut ledger = Ledger::new(Moment(0));
        let account = ledger.join(destination(443), OwnerId::UNKNOWN);
        // Ten ticks of 400 ms, with 1, 2, 3, … opens.
        for opens in 1..=10 {
            open(&mut ledger, account, opens, Source::Event);
            assert_eq!(ledger.tick(Moment(u64::from(opens) * 400)), 400);
        }
        let flow = ledger.flow(TCP);
        assert_eq!((flow.opened, flow.opened_last, flow.closed_last), (55, 10, 0));
        // Three of them are 1.2 s; ten are all there is of 10 and 60 s.
        assert_eq!(flow.rates.opens, [27.0 / 1.2, 55.0 / 4.0, 55.0 / 4.0]);
        assert_eq!(ledger.rates_of(destination(443)), Some(flow.rates));
    }

    #[test]
    fn what_a_rare_sweep_finds_is_spread_over_the_time_since_the_last() {
        let mut ledger = Ledger::new(Moment(0));
        for second in 1..=4 {
            open(&mut ledger, OTHER, 7, Source::Event);
            ledger.tick(Moment(second * 1_000));
        }
        open(&mut ledger, OTHER, 50, Source::Sweep);
        open(&mut ledger, OTHER, 7, Source::Event);
        ledger.end_sweep(Moment(5_000));
        ledger.tick(Moment(5_000));
        assert_eq!(ledger.flow(TCP).rates.opens, [17.0, 17.0, 17.0]);
        assert_eq!(ledger.flow(TCP).opened_last, 57);
        // Until the next one it is the best that is known.
        ledger.tick(Moment(6_000));
        assert_eq!(ledger.flow(TCP).rates.opens[0], 10.0);
    }

    #[test]
    fn intervals_as_long_as_no_clock_runs_are_no_panic() {
        let mut ledger = Ledger::new(Moment(0));
        for at in [u64::MAX, 0, u64::MAX, 5, u64::MAX, 7] {
            open(&mut ledger, OTHER, 1, Source::Event);
            ledger.tick(Moment(at));
            ledger.end_sweep(Moment(at));
        }
        assert_eq!(ledger.flow(TCP).opened, 6);
    }

    #[test]
    fn accounts_are_closed_once_and_used_again_after_a_sweep() {
        let mut ledger = Ledger::new(Moment(0));
        let account = ledger.join(destination(1), OwnerId::UNKNOWN);
        for second in 1..=30 {
            open(&mut ledger, account, 1, Source::Event);
            ledger.tick(Moment(second * 1_000));
        }
        ledger.leave(account);
        // One long interval: all thirty age at once.
        ledger.tick(Moment(200_000));
        ledger.tick(Moment(400_000));
        assert_eq!(ledger.rates_of(destination(1)), None);
        let other = ledger.join(destination(2), OwnerId::UNKNOWN);
        assert_ne!(other, account, "not while a sweep may know it by this number");
        ledger.begin_sweep();
        let (third, fourth) =
            (ledger.join(destination(3), OwnerId::UNKNOWN), ledger.join(destination(4), OwnerId::UNKNOWN));
        assert_eq!(third, account);
        assert_ne!(third, fourth);
    }

    #[test]
    fn a_socket_handed_over_takes_its_opening_along() {
        let mut ledger = Ledger::new(Moment(0));
        let unknown = ledger.join(destination(443), OwnerId::UNKNOWN);
        let also = ledger.join(destination(443), OwnerId::UNKNOWN);
        assert_eq!(unknown, also);
        ledger.note([TCP, unknown], Happening::Opened, Source::Event);
        ledger.note([TCP, unknown], Happening::Opened, Source::Sweep);
        ledger.end_sweep(Moment(1_000));
        ledger.tick(Moment(1_000));
        let owned = ledger.hand_over(unknown, OwnerId(7), true, true);
        assert_eq!(ledger.hand_over(also, OwnerId(7), true, true), owned);
        let rows = |ledger: &Ledger| ledger.rows(&vec![0; ledger.accounts()]);
        let row = |ledger: &Ledger, owner| rows(ledger).into_iter().find(|row| row.owner == owner);
        assert_eq!(row(&ledger, OwnerId(7)).map(|row| row.live), Some(2));
        ledger.note([TCP, owned], Happening::Closed, Source::Event);
        ledger.end_sweep(Moment(2_000));
        ledger.tick(Moment(2_000));
        assert_eq!(
            ledger.rates_of(destination(443)).unwrap().opens[2],
            1.0,
            "the group's are what they were"
        );
        let row = row(&ledger, OwnerId(7)).unwrap();
        assert_eq!((row.live, row.rates.opens[0], row.rates.closes[0]), (1, 2.0, 1.0));
        // Both accounts of the group are closed when all is past.
        [owned, owned].into_iter().for_each(|account| ledger.leave(account));
        for second in [100, 200, 300] {
            ledger.end_sweep(Moment(second * 1_000));
            ledger.tick(Moment(second * 1_000));
        }
        assert_eq!((ledger.rates_of(destination(443)), rows(&ledger).len()), (None, 0));
    }
}
