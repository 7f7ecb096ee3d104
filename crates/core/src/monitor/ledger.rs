//! Opens and closes by group and in all: counts since the start, and rates over windows of whole ticks.
//!
//! What happened in a tick is one entry for each group it happened to. Memory follows the churn of the longest window,
//! not destinations times windows.

use std::collections::VecDeque;

use hashbrown::HashMap;

use crate::churn::{Flow, RATE_WINDOWS_S, Rates};
use crate::lifetimes::Group;
use crate::moment::Moment;

/// A group of the ledger by its index.
pub(crate) type Account = u32;

/// Accounts that always are: everything, by kind.
pub(crate) const TCP: Account = 0;
pub(crate) const OUTGOING: Account = 1;
pub(crate) const INCOMING: Account = 2;
pub(crate) const UDP: Account = 3;
/// TCP connections that belong to no destination and no listener.
pub(crate) const OTHER: Account = 4;
const FIXED: usize = 5;

const WINDOWS: usize = RATE_WINDOWS_S.len();

/// Opens, closes.
type Pair = [u32; 2];

#[derive(Clone, Copy)]
struct Line {
    group: Group,
    /// Followed sockets that belong to it.
    sockets: u32,
    tick: Pair,
    windows: [Pair; WINDOWS],
}

impl Line {
    const fn new(group: Group) -> Line {
        Line { group, sockets: 0, tick: [0; 2], windows: [[0; 2]; WINDOWS] }
    }

    fn is_idle(&self) -> bool {
        self.sockets == 0 && self.tick == [0; 2] && self.windows == [[0; 2]; WINDOWS]
    }
}

/// One tick that is still in a window.
struct Tick {
    length_ms: u64,
    entries: u32,
}

/// The books of one namespace.
pub(crate) struct Ledger {
    accounts: HashMap<Group, Account>,
    lines: Vec<Line>,
    free: Vec<Account>,
    /// Free from the next sweep on: within one an account stands for one group.
    closed: Vec<Account>,
    /// Groups the running tick has touched.
    touched: Vec<Account>,
    ticks: VecDeque<Tick>,
    /// The entries of these ticks, one tick after another.
    entries: VecDeque<(Account, Pair)>,
    /// How many of the newest ticks each window holds, how many entries these have, how long they are together.
    windows: [Window; WINDOWS],
    last_tick: Moment,
    since_start: [[u64; 3]; FIXED],
}

#[derive(Clone, Copy, Default)]
struct Window {
    ticks: usize,
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
            accounts: HashMap::new(),
            lines: vec![Line::new(Group::Other); FIXED],
            free: Vec::new(),
            closed: Vec::new(),
            touched: Vec::new(),
            ticks: VecDeque::new(),
            entries: VecDeque::new(),
            windows: [Window::default(); WINDOWS],
            last_tick: start,
            since_start: [[0; 3]; FIXED],
        }
    }

    /// The account of a group, for one socket more.
    pub(crate) fn join(&mut self, group: Group) -> Account {
        let account = match group {
            Group::Other => OTHER,
            group => match self.accounts.get(&group) {
                Some(account) => *account,
                None => self.open(group),
            },
        };
        self.lines[account as usize].sockets += 1;
        account
    }

    /// The account of UDP sockets, for one more.
    pub(crate) fn join_udp(&mut self) -> Account {
        self.lines[UDP as usize].sockets += 1;
        UDP
    }

    /// A sweep begins: accounts that were closed before may be used for other groups.
    pub(crate) fn begin_sweep(&mut self) {
        self.free.append(&mut self.closed);
    }

    /// The watch begins now: what came before is no tick.
    pub(crate) fn start(&mut self, at: Moment) {
        self.last_tick = at;
    }

    fn open(&mut self, group: Group) -> Account {
        let account = match self.free.pop() {
            Some(account) => {
                self.lines[account as usize] = Line::new(group);
                account
            }
            None => {
                self.lines.push(Line::new(group));
                (self.lines.len() - 1) as Account
            }
        };
        self.accounts.insert(group, account);
        account
    }

    /// One socket less.
    pub(crate) fn leave(&mut self, account: Account) {
        self.lines[account as usize].sockets -= 1;
        self.close_if_idle(account);
    }

    fn close_if_idle(&mut self, account: Account) {
        let line = &self.lines[account as usize];
        let is_open = self.accounts.get(&line.group) == Some(&account);
        if account as usize >= FIXED && line.is_idle() && is_open {
            self.accounts.remove(&line.group);
            self.closed.push(account);
        }
    }

    pub(crate) fn group(&self, account: Account) -> Group {
        self.lines[account as usize].group
    }

    /// Notes what happened to a socket of these accounts.
    pub(crate) fn note(&mut self, accounts: impl IntoIterator<Item = Account>, what: Happening) {
        for account in accounts {
            let tick = &mut self.lines[account as usize].tick;
            if *tick == [0; 2] {
                self.touched.push(account);
            }
            tick[what as usize] += 1;
            if let Some(counts) = self.since_start.get_mut(account as usize) {
                counts[1 + what as usize] += 1;
            }
        }
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
            if let Some(counts) = self.since_start.get_mut(account as usize) {
                counts[0] += 1;
            }
        }
    }

    /// The tick ends: windows move on. How long it was, milliseconds.
    pub(crate) fn tick(&mut self, at: Moment) -> u64 {
        let length_ms = at.ms_since(self.last_tick);
        self.last_tick = at;
        let touched = std::mem::take(&mut self.touched);
        for account in &touched {
            let line = &mut self.lines[*account as usize];
            let tick = std::mem::take(&mut line.tick);
            line.windows.iter_mut().for_each(|window| (0..2).for_each(|what| window[what] += tick[what]));
            self.entries.push_back((*account, tick));
        }
        self.ticks.push_back(Tick { length_ms, entries: touched.len() as u32 });
        for window in &mut self.windows {
            window.ticks += 1;
            window.entries += touched.len();
            window.length_ms += length_ms;
        }
        self.touched = touched;
        self.touched.clear();
        for index in 0..WINDOWS {
            self.shorten(index);
        }
        let longest = self.windows[WINDOWS - 1].ticks;
        while self.ticks.len() > longest {
            if let Some(tick) = self.ticks.pop_front() {
                for _ in 0..tick.entries {
                    if let Some((account, _)) = self.entries.pop_front() {
                        self.close_if_idle(account);
                    }
                }
            }
        }
        length_ms
    }

    /// Drops the oldest ticks of a window while the others are long enough without.
    fn shorten(&mut self, index: usize) {
        let long_enough = u64::from(RATE_WINDOWS_S[index]) * 1_000;
        loop {
            let Window { ticks, entries, length_ms } = self.windows[index];
            let Some(oldest) = self.ticks.len().checked_sub(ticks).and_then(|at| self.ticks.get(at)) else {
                return;
            };
            if ticks <= 1 || length_ms - oldest.length_ms < long_enough {
                return;
            }
            let first = self.entries.len() - entries;
            for (account, pair) in self.entries.range(first..first + oldest.entries as usize) {
                let window = &mut self.lines[*account as usize].windows[index];
                (0..2).for_each(|what| window[what] -= pair[what]);
            }
            self.windows[index] = Window {
                ticks: ticks - 1,
                entries: entries - oldest.entries as usize,
                length_ms: length_ms - oldest.length_ms,
            };
        }
    }

    /// Rates of a group; None when nothing is known of it.
    pub(crate) fn rates_of(&self, group: Group) -> Option<Rates> {
        self.accounts.get(&group).map(|account| self.rates(*account))
    }

    fn rates(&self, account: Account) -> Rates {
        let line = &self.lines[account as usize];
        let mut rates = Rates::default();
        for (index, window) in self.windows.iter().enumerate() {
            if window.length_ms > 0 {
                let seconds = window.length_ms as f32 / 1_000.0;
                rates.opens[index] = line.windows[index][0] as f32 / seconds;
                rates.closes[index] = line.windows[index][1] as f32 / seconds;
            }
        }
        rates
    }

    /// The flow of one of the fixed accounts.
    pub(crate) fn flow(&self, account: Account) -> Flow {
        let [at_start, opened, closed] = self.since_start[account as usize];
        let last = match (self.ticks.back(), self.entries.len()) {
            (Some(tick), entries) => self
                .entries
                .range(entries - tick.entries as usize..)
                .find(|(of, _)| *of == account)
                .map_or([0; 2], |(_, pair)| *pair),
            (None, _) => [0; 2],
        };
        Flow {
            at_start,
            opened,
            closed,
            last: (u64::from(last[0]), u64::from(last[1])),
            rates: self.rates(account),
        }
    }
}
