//! Sockets that are no destination's: incoming ones by listening port, and traffic counts in general.

use crate::churn::Rates;
use crate::curve::{Curve, WINDOW_SECONDS, rate};
use crate::port_set::PortSet;

/// Numbers of connected sockets and of those that were.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Sockets not in TIME_WAIT.
    pub live: u32,
    /// Sockets in TIME_WAIT: this side closed first, less than about 60 s ago.
    pub time_wait: u32,
    /// TIME_WAIT sockets whose close lies in the last 60 s.
    pub closes: u32,
}

impl Traffic {
    /// Live and TIME_WAIT together.
    pub fn sockets(&self) -> u32 {
        self.live + self.time_wait
    }

    /// Active closes per second, mean of the last 60 s.
    pub fn closes_per_second(&self) -> f64 {
        rate(self.closes)
    }

    /// Counts one socket; `closed_seconds_ago` when it is in TIME_WAIT.
    #[inline]
    pub(crate) fn count(&mut self, closed_seconds_ago: Option<u8>) {
        match closed_seconds_ago {
            None => self.live += 1,
            Some(seconds) => {
                self.time_wait += 1;
                self.closes += u32::from(usize::from(seconds) < WINDOW_SECONDS);
            }
        }
    }

    pub(crate) fn add(&mut self, other: Traffic) {
        self.live += other.live;
        self.time_wait += other.time_wait;
        self.closes += other.closes;
    }
}

/// A listening TCP port, whatever addresses it listens on, and its incoming sockets.
#[derive(Clone, PartialEq, Debug)]
pub struct Listener {
    /// The port.
    pub port: u16,
    /// Sockets with this local port, requests (SYN_RECV) among them, listeners not.
    pub traffic: Traffic,
    /// Closes of the last 60 s that this side began.
    pub curve: Curve,
    /// Connections accepted and closed over time; None for a single sweep.
    pub rates: Option<Rates>,
}

impl Listener {
    const fn idle(port: u16) -> Listener {
        Listener {
            port,
            traffic: Traffic { live: 0, time_wait: 0, closes: 0 },
            curve: Curve::EMPTY,
            rates: None,
        }
    }
}

/// Connected sockets by local port, while it is not yet known which ports have a listener.
pub(crate) struct PortTallies {
    /// 1 + the port's index in `tallies`; 0 for a port not seen.
    slots: Box<[u32]>,
    tallies: Vec<Listener>,
}

impl PortTallies {
    pub(crate) fn new() -> PortTallies {
        PortTallies { slots: vec![0; 1 << 16].into_boxed_slice(), tallies: Vec::new() }
    }

    /// Counts a connected socket; `closed_seconds_ago` when it is in TIME_WAIT.
    #[inline]
    pub(crate) fn add(&mut self, port: u16, closed_seconds_ago: Option<u8>) {
        let tally = self.tally(port);
        tally.traffic.count(closed_seconds_ago);
        if let Some(seconds) = closed_seconds_ago {
            tally.curve.add(seconds);
        }
    }

    pub(crate) fn absorb(&mut self, other: PortTallies) {
        for more in other.tallies {
            let tally = self.tally(more.port);
            tally.traffic.add(more.traffic);
            tally.curve.add_all(&more.curve);
        }
    }

    #[inline]
    fn tally(&mut self, port: u16) -> &mut Listener {
        let slot = &mut self.slots[usize::from(port)];
        if *slot == 0 {
            self.tallies.push(Listener::idle(port));
            *slot = self.tallies.len() as u32;
        }
        &mut self.tallies[*slot as usize - 1]
    }

    /// A row for each listening port, lowest first, and the sum over the ports without a listener.
    pub(crate) fn divide(mut self, listening: &PortSet) -> (Vec<Listener>, Traffic) {
        let mut other = Traffic::default();
        self.tallies.retain(|tally| {
            let listens = listening.contains(tally.port);
            if !listens {
                other.add(tally.traffic);
            }
            listens
        });
        let idle = listening.iter().filter(|port| self.slots[usize::from(*port)] == 0).map(Listener::idle);
        self.tallies.extend(idle);
        self.tallies.sort_unstable_by_key(|tally| tally.port);
        (self.tallies, other)
    }
}
