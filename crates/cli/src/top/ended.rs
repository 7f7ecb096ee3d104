//! Connections that ended shortly before a tick of a recording: how long they had lived, and whose they were.

use std::sync::Arc;

use jiff::Timestamp;
use sockeye_core::{LifetimeReport, Lifetimes};
use sockeye_recording::{Connection, Destination, Setting, Sink, Tick, Time, Warning};

use super::chapter::timestamp;
use super::look::{Look, OwnerRow};
use crate::by::By;
use crate::history::reading::{Owners, closed_sample};

/// More of them are not looked at, unless one tick has them.
pub(super) const MOST_ENDED: u64 = 200_000;
/// More owners than anybody scrolls through.
const MOST_OWNERS: usize = 4_096;

/// Columns of connections that are looked at.
const COLUMNS: [&str; 14] = [
    "netns",
    "protocol",
    "direction",
    "local_address",
    "local_port",
    "remote_address",
    "remote_port",
    "lifetime_min_ms",
    "lifetime_max_ms",
    "owner_pid",
    "owner_name",
    "owner_uid",
    "owner_user",
    "owner_cgroup",
];

/// Connections that ended shortly before a tick.
pub(crate) struct Ended {
    period: [Timestamp; 2],
    lifetimes: Arc<LifetimeReport>,
    owners: Vec<OwnerRow>,
}

impl Ended {
    /// Tells a look of them.
    pub(super) fn tell(&self, look: &mut Look) {
        look.lifetimes = Some(Arc::clone(&self.lifetimes));
        look.owners = Some(self.owners.clone());
        look.recorded.iter_mut().for_each(|it| it.ended = Some(self.period));
    }
}

/// Connections that ended, folded.
pub(super) struct Ending {
    netns: u64,
    lifetimes: Lifetimes,
    owners: Owners,
    /// By the numbers of their owners.
    counts: Vec<u64>,
}

impl Ending {
    /// Of a namespace, none yet.
    pub(super) fn of(netns: u64) -> Ending {
        let (lifetimes, owners) = (Lifetimes::new(), Owners::new(By::Owner));
        Ending { netns, lifetimes, owners, counts: Vec::new() }
    }

    /// All of them, which ended between these.
    pub(super) fn of_period(self, [begin, end]: [Time; 2]) -> Ended {
        let seconds = end.0.saturating_sub(begin.0).max(1) as f64 / 1e3;
        Ended {
            period: [timestamp(begin), timestamp(end)],
            lifetimes: Arc::new(self.lifetimes.report(std::iter::empty())),
            owners: self.owner_rows(seconds),
        }
    }

    /// Who had them; who is not known comes with an empty name.
    fn owner_rows(&self, seconds: f64) -> Vec<OwnerRow> {
        let row = |(owner, count): (usize, &u64)| {
            let name = self.owners.names.get(owner).cloned().unwrap_or_default();
            OwnerRow {
                label: name.name.unwrap_or_else(|| "not known".to_owned()),
                pid: name.pid,
                uid: name.uid,
                user: name.user.or(name.uid.map(|uid| uid.to_string())).unwrap_or_default(),
                group: name.cgroup.unwrap_or_default(),
                closes_per_second: (*count as f64 / seconds) as f32,
                ..OwnerRow::default()
            }
        };
        let mut most: Vec<(usize, &u64)> =
            self.counts.iter().enumerate().filter(|(_, count)| **count > 0).collect();
        most.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let mut rows: Vec<OwnerRow> = most.into_iter().take(MOST_OWNERS).map(row).collect();
        rows.sort_by(|a, b| a.place().cmp(&b.place()));
        rows
    }
}

impl Sink for Ending {
    fn settings(&mut self, _: &[Setting]) {}

    fn ticks(&mut self, _: &[Tick]) {}

    fn destinations(&mut self, _: &[Destination]) {}

    fn warnings(&mut self, _: &[Warning]) {}

    fn connections(&mut self, rows: &[Connection]) {
        for row in rows.iter().filter(|row| row.netns == self.netns) {
            let owner = self.owners.number(row.into());
            let sample = closed_sample(row, owner);
            self.lifetimes.record(sample.group, sample.lifetime);
            let place = owner.0 as usize;
            if self.counts.len() <= place {
                self.counts.resize(place + 1, 0);
            }
            self.counts[place] += 1;
        }
    }

    fn connection_columns(&self) -> Option<&[&'static str]> {
        Some(&COLUMNS)
    }
}
