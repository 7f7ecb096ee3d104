//! What a command did with sockets, as numbers with their doubt.

use std::net::{IpAddr, SocketAddr};

/// A number that is known, or the bounds it lies between.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Count {
    /// At least.
    pub min: u64,
    /// At most.
    pub max: u64,
}

impl Count {
    /// A number that is known.
    pub const fn exactly(number: u64) -> Count {
        Count { min: number, max: number }
    }

    /// Between two.
    pub fn between(min: u64, max: u64) -> Count {
        Count { min, max: max.max(min) }
    }

    /// Whether there is no doubt.
    pub const fn is_exact(self) -> bool {
        self.min == self.max
    }
}

/// A time that lies between two, milliseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// At least.
    pub min_ms: u64,
    /// At most.
    pub max_ms: u64,
}

/// How long connections lived that have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lived {
    /// How many have ended.
    pub completed: u64,
    /// Half of these lived no longer; None without any.
    pub p50: Option<Span>,
    /// Nine tenths of these.
    pub p90: Option<Span>,
    /// 99 of 100.
    pub p99: Option<Span>,
}

/// What a socket was that should have been closed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LeakKind {
    /// A connection that was open when its process ended.
    Open,
    /// A connection whose other side had closed long ago.
    CloseWait,
    /// A socket that was bound and never used.
    BoundIdle,
    /// A connection that a process holds which outlived the command.
    LeftRunning,
}

impl LeakKind {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            LeakKind::Open => "open",
            LeakKind::CloseWait => "close_wait",
            LeakKind::BoundIdle => "bound_idle",
            LeakKind::LeftRunning => "left_running",
        }
    }

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            LeakKind::Open => "still open when its process ended",
            LeakKind::CloseWait => "never closed after the other side did",
            LeakKind::BoundIdle => "bound, never connected, never closed",
            LeakKind::LeftRunning => "held by a process that outlived the command",
        }
    }
}

/// Sockets of one kind towards one place that were not closed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leak {
    /// In which way.
    pub kind: LeakKind,
    /// The other end, without the local one: ports of connect() differ from run to run. None for bound sockets.
    pub remote: Option<SocketAddr>,
    /// Whose; empty where nobody knows.
    pub owner: String,
    /// How many.
    pub count: u64,
    /// Whether they were seen not to be closed; otherwise it is told by when their process ended.
    pub is_certain: bool,
}

/// Connections that one destination got.
#[derive(Clone, PartialEq, Debug)]
pub struct DestinationAccount {
    /// From where.
    pub local_address: IpAddr,
    /// Where to.
    pub remote: SocketAddr,
    /// Connections begun.
    pub opens: Count,
    /// Of these, ended.
    pub closes: u64,
    /// Most at once that any look saw.
    pub peak_live: u64,
    /// Most ports in use at once, TIME_WAIT included: as any look saw, and as there may have been between two.
    pub peak_ports: Count,
    /// Greatest share of the usable ports that any look saw taken, 0–1.
    pub peak_occupancy: f64,
    /// Sockets in TIME_WAIT at the end.
    pub time_wait_left: u64,
    /// Requests with their answers per connection: as many as there were segments with data each way at most. Pipelined
    /// requests count as one. None where no end told.
    pub exchanges: Option<f64>,
    /// How long they lived.
    pub lived: Lived,
    /// Sockets of it that were not closed: certainly, and at most.
    pub leaked: Count,
    /// Who opened them, most first.
    pub owners: Vec<(String, u64)>,
}

/// How a command's sockets are known from others.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Scope {
    /// It has a network namespace of its own: there are no others.
    #[default]
    Namespace,
    /// It has a cgroup of its own, which sockets tell.
    Cgroup,
    /// By who holds them, as far as that is seen.
    Processes,
}

impl Scope {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Scope::Namespace => "netns",
            Scope::Cgroup => "cgroup",
            Scope::Processes => "processes",
        }
    }

    /// For people.
    pub const fn text(self) -> &'static str {
        match self {
            Scope::Namespace => "in a network namespace of its own",
            Scope::Cgroup => "told from others by its cgroup",
            Scope::Processes => "told from others by its processes",
        }
    }
}

/// What a command did from its start to its end.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Account {
    /// How its sockets are known from others.
    pub scope: Scope,
    /// From start to end, milliseconds.
    pub duration_ms: u64,
    /// Connections begun by connect(), failed ones too.
    pub opens: Count,
    /// Connections a listener took on.
    pub accepts: Count,
    /// Connections that ended, of both kinds.
    pub closes: u64,
    /// Most connections at once that any look saw, of both kinds.
    pub peak_live: u64,
    /// Most ports towards one destination in use at once.
    pub peak_ports: Count,
    /// Greatest occupancy of any destination, 0–1.
    pub peak_occupancy: f64,
    /// Sockets in TIME_WAIT at the end.
    pub time_wait_left: u64,
    /// The same of all connections begun.
    pub exchanges: Option<f64>,
    /// Who closed first: this host's end that connected, the other, a reset, not known.
    pub closed_by: [u64; 4],
    /// How long connections lived that have ended, of both kinds.
    pub lived: Lived,
    /// The same to be compared with another run: bounds in milliseconds and how many; shortest first. Without an upper bound:
    /// longer than that.
    pub lived_sample: Vec<(u64, Option<u64>, u64)>,
    /// What was not closed, most first.
    pub leaks: Vec<Leak>,
    /// Connections that may be leaks, too: of these nothing tells whether they were closed before their process ended.
    pub leaks_missed: u64,
    /// Why not every leak is certain, and what would make it so; None when each is, and none was missed.
    pub leaks_doubt: Option<String>,
    /// Most opens first.
    pub destinations: Vec<DestinationAccount>,
    /// What was not seen, and why; and what else to know.
    pub notes: Vec<String>,
}

impl Account {
    /// Sockets that were not closed: certainly, and at most.
    pub fn leaked(&self) -> Count {
        let certain = self.leaks.iter().filter(|leak| leak.is_certain).map(|leak| leak.count).sum();
        Count::between(certain, self.leaks_told() + self.leaks_missed)
    }

    /// The best single number of these.
    pub fn leaks_told(&self) -> u64 {
        self.leaks.iter().map(|leak| leak.count).sum()
    }
}
