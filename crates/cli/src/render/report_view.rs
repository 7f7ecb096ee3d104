//! A period as every format of a report shows it: names and estimates, worked out once.

use std::net::SocketAddr;

use jiff::Timestamp;
use sockeye_core::{
    DestinationHistory, DestinationId, DestinationRest, Group, GroupLifetimes, LifetimeReport, Moment,
    OwnerId, OwnerRest, Percentiles, Period, RemarkHistory,
};

use crate::by::OwnerName;
use crate::sweep::Note;
use crate::terminal::Harmless;

/// What is told of where a recording comes from.
#[derive(Clone, PartialEq, Debug, Default)]
pub(crate) struct Origin {
    /// The host that was recorded; None where the recording does not say.
    pub(crate) host_name: Option<String>,
    pub(crate) kernel_release: Option<String>,
    pub(crate) netns_inode: Option<u64>,
    pub(crate) netns_name: Option<String>,
}

/// One owner's connections that ended.
pub(crate) struct OwnerRow {
    pub(crate) name: OwnerName,
    /// Safe to show.
    pub(crate) label: String,
    pub(crate) ended: u64,
    pub(crate) bytes: [u64; 2],
    pub(crate) percentiles: Option<Percentiles>,
}

/// Moments of the period are milliseconds since 1970, UTC.
pub(crate) struct ReportView<'a> {
    pub(crate) period: &'a Period,
    pub(crate) origin: &'a Origin,
    pub(crate) destinations: Vec<DestinationHistory>,
    pub(crate) destination_rest: DestinationRest,
    pub(crate) owners: Vec<OwnerRow>,
    pub(crate) owner_rest: OwnerRest,
    pub(crate) lifetimes: LifetimeReport,
    /// Of each bucket.
    pub(crate) percentiles: Vec<Option<Percentiles>>,
    pub(crate) remarks: Vec<&'a RemarkHistory>,
    /// What reading the recording had to say.
    pub(crate) notes: &'a [Note],
    /// Destinations, owners and groups shown where a format does not show all.
    pub(crate) top: usize,
}

impl<'a> ReportView<'a> {
    /// `name`: what the numbers of owners stand for.
    pub(crate) fn new(
        period: &'a Period,
        origin: &'a Origin,
        notes: &'a [Note],
        top: usize,
        name: impl Fn(OwnerId) -> OwnerName,
    ) -> ReportView<'a> {
        let (destinations, destination_rest) = period.destinations();
        let (owners, owner_rest) = period.owners();
        let owners = owners
            .into_iter()
            .map(|row| {
                let name = name(row.owner);
                OwnerRow {
                    label: owner_label(&name),
                    name,
                    ended: row.ended,
                    bytes: row.bytes,
                    percentiles: row.percentiles(),
                }
            })
            .collect();
        ReportView {
            period,
            origin,
            destinations,
            destination_rest,
            owners,
            owner_rest,
            lifetimes: period.lifetimes(),
            percentiles: period.buckets().iter().map(|bucket| bucket.percentiles()).collect(),
            remarks: period.remarks(),
            notes,
            top,
        }
    }

    /// Listeners, those with the most connections first.
    pub(crate) fn listeners(&self) -> impl Iterator<Item = (u16, &GroupLifetimes)> {
        self.lifetimes.groups.iter().filter_map(|row| match row.group {
            Some(Group::Listener(port)) => Some((port, row)),
            _ => None,
        })
    }

    /// Lifetimes towards a destination.
    pub(crate) fn lifetimes_of(&self, id: &DestinationId) -> Option<Percentiles> {
        let group = Some(Group::Destination(*id));
        self.lifetimes.groups.iter().find(|row| row.group == group)?.completed_ms
    }

    /// The host and what else the heading says, safe to show.
    pub(crate) fn title(&self) -> String {
        let host = self.origin.host_name.as_deref().unwrap_or("a host");
        let mut title = Harmless(host).to_string();
        match (&self.origin.netns_name, self.origin.netns_inode) {
            (Some(name), _) => title += &format!("  netns {}", Harmless(name)),
            (None, Some(inode)) => title += &format!("  netns {inode}"),
            (None, None) => {}
        }
        title
    }

    /// `2026-11-22 19:30 – 20:30 UTC (1 h)`.
    pub(crate) fn span(&self) -> String {
        let [begin, end] = [self.period.begin(), self.period.end()].map(minute);
        let same_day = begin.get(..10) == end.get(..10);
        let end = if same_day { end.get(11..).unwrap_or(&end).to_owned() } else { end };
        format!("{begin} – {end} UTC ({})", length(self.period.end().ms_since(self.period.begin())))
    }

    /// Share of the period that was recorded, 0–1.
    pub(crate) fn recorded(&self) -> f64 {
        let length = self.period.end().ms_since(self.period.begin()).max(1);
        (self.period.totals().covered_ms as f64 / length as f64).min(1.0)
    }

    /// Mean rates over the time that was recorded, opens and closes; 0 where nothing was.
    pub(crate) fn mean_rates(&self) -> [f64; 2] {
        let totals = self.period.totals();
        let seconds = totals.covered_ms as f64 / 1000.0;
        [totals.opens, totals.closes].map(|count| if seconds > 0.0 { count as f64 / seconds } else { 0.0 })
    }
}

/// As tables and charts name it: `10.0.0.7 → 10.0.9.12:8080`.
pub(crate) fn destination_label(id: &DestinationId) -> String {
    format!("{} → {}", id.local_address, SocketAddr::new(id.remote_address, id.remote_port))
}

fn owner_label(name: &OwnerName) -> String {
    let who = match (&name.name, name.pid) {
        (Some(process), Some(pid)) => Some(format!("{process} ({pid})")),
        (Some(process), None) => Some(process.clone()),
        (None, Some(pid)) => Some(format!("process {pid}")),
        (None, None) => None,
    };
    let user = name.user.clone().or(name.uid.map(|uid| format!("uid {uid}")));
    let parts: Vec<String> = [who, user, name.unit.clone()].into_iter().flatten().collect();
    match parts.is_empty() {
        true => {
            name.cgroup.as_deref().map_or("owner not known".to_owned(), |path| Harmless(path).to_string())
        }
        false => Harmless(&parts.join("  ")).to_string(),
    }
}

/// As a time; the epoch for what no calendar has.
pub(crate) fn timestamp(at: Moment) -> Timestamp {
    i64::try_from(at.0).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default()
}

/// `2026-11-22 19:31`.
pub(crate) fn minute(at: Moment) -> String {
    timestamp(at).strftime("%Y-%m-%d %H:%M").to_string()
}

/// As precise as needed to tell times so far apart: `19:31:04`, `19:31`, `11-22 19:31` or `11-22`.
pub(crate) fn clock(at: Moment, step_ms: u64, over_days: bool) -> String {
    let format = match (step_ms, over_days) {
        (0..60_000, false) => "%H:%M:%S",
        (0..86_400_000, false) => "%H:%M",
        (0..86_400_000, true) => "%m-%d %H:%M",
        _ => "%m-%d",
    };
    timestamp(at).strftime(format).to_string()
}

/// `90 s`, `1 h`, `3 h 20 min`, `2 d`.
pub(crate) fn length(ms: u64) -> String {
    let seconds = ms / 1000;
    let two = |large: u64, large_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{large} {large_unit}"),
        _ => format!("{large} {large_unit} {small} {small_unit}"),
    };
    match seconds {
        0 => format!("{ms} ms"),
        1..120 => format!("{seconds} s"),
        120..3_600 => two(seconds / 60, "min", seconds % 60, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3_600, "h"),
    }
}

#[cfg(test)]
pub(crate) mod example {
    //! An hour of a proxy that nearly runs out of ports.

    use std::net::Ipv4Addr;

    use sock_diag::Protocol;
    use sockeye_core::{
        ClosedBy, ClosedSample, DestinationSample, Lifetime, PoolSample, PortRange, TickSample,
    };

    use super::*;

    pub(crate) const BEGIN: Moment = Moment(1_795_375_800_000);

    fn towards(host: u8) -> DestinationId {
        DestinationId {
            protocol: Protocol::Tcp,
            local_address: Ipv4Addr::new(10, 0, 0, 7).into(),
            remote_address: Ipv4Addr::new(10, 0, 9, host).into(),
            remote_port: 8080,
        }
    }

    /// A wave between 0 and 1, the same on every machine.
    fn wave(at: u64, length: u64) -> f64 {
        let place = (at % length) as f64 / length as f64;
        let up = if place < 0.5 { place * 2.0 } else { 2.0 - place * 2.0 };
        up * up * (3.0 - 2.0 * up)
    }

    pub(crate) fn period() -> Period {
        period_of(240)
    }

    pub(crate) fn period_of(buckets: usize) -> Period {
        let mut period = Period::cut(BEGIN, BEGIN.plus_ms(3_600_000), buckets);
        let mut mixed = 7u64;
        let mut random = move || {
            mixed = mixed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (mixed >> 33) as f64 / f64::from(1u32 << 31)
        };
        let pool = PoolSample { range: PortRange::DEFAULT, reserved: 12, held: 31, usable: 28_189 };
        for second in (0..3_600u64).step_by(5) {
            // Nothing was recorded for four minutes.
            if (1_800..2_040).contains(&second) {
                continue;
            }
            let at = BEGIN.plus_ms(second * 1000);
            let busy = 0.2 + 0.75 * wave(second + 600, 3_600) + 0.04 * random();
            let mut worst = (towards(12), 0.0);
            let mut headroom_min = u32::MAX;
            for host in 12..24u8 {
                let share = busy / f64::from(host - 11).powf(1.3);
                let in_use = (28_189.0 * share) as u32;
                let opens = (2_000.0 * share) as u64;
                period.destination(&DestinationSample {
                    at,
                    id: towards(host),
                    in_use,
                    live: in_use / 20,
                    time_wait: in_use - in_use / 20,
                    occupancy: share,
                    headroom_min: 28_189 - in_use,
                    opens,
                    closes: opens.saturating_sub(u64::from(second % 3 == 0)),
                });
                headroom_min = headroom_min.min(28_189 - in_use);
                if share > worst.1 {
                    worst = (towards(host), share);
                }
            }
            let opens = (6_000.0 * busy) as u64;
            period.tick(&TickSample {
                at,
                interval_ms: 5_000,
                opens,
                closes: opens - 3,
                live: (4_000.0 * busy) as u64,
                time_wait: (60_000.0 * busy) as u64,
                pool: Some(pool),
                worst: Some(worst),
                headroom_min: Some(headroom_min),
                coverage: Some(0.998),
                events_lost: 0,
            });
            if worst.1 > 0.9 {
                period.remark(
                    at,
                    "nearly_exhausted",
                    "tcp 10.0.0.7 → 10.0.9.12:8080 has 1,204 of 28,189 ports left: reuse connections, or add a local or \
                     remote address",
                );
            }
            if worst.1 > 0.5 {
                period.remark(
                    at,
                    "parity_cliff",
                    "10.0.9.12:8080 is past 50 % of the pool: connect() now searches both halves and slows down",
                );
            }
            for _ in 0..((40.0 * busy) as u32) {
                let slow = random() < 0.12;
                let ms = if slow {
                    2_000.0 * (0.2 + 30.0 * random().powi(4))
                } else {
                    8.0 + 90.0 * random().powi(2)
                };
                let ms = (ms * (1.0 + busy)) as u64;
                let host = 12 + (12.0 * random().powi(3)) as u8;
                let incoming = random() < 0.2;
                let port = 32_768 + 2 * (14_116.0 * random().powf(1.5)) as u16 + u16::from(random() < 0.1);
                period.closed(&ClosedSample {
                    at,
                    group: if incoming { Group::Listener(443) } else { Group::Destination(towards(host)) },
                    local_port: (!incoming).then_some(port),
                    owner: OwnerId(if incoming { 1 } else { 1 + u32::from(host > 14) }),
                    lifetime: Lifetime {
                        min_ms: ms.saturating_sub(if slow { 900 } else { 1 }),
                        max_ms: Some(ms),
                    },
                    closed_by: if random() < 0.8 { ClosedBy::Local } else { ClosedBy::Remote },
                    bytes: Some([840, 12_400]),
                });
            }
        }
        period
    }

    pub(crate) fn origin() -> Origin {
        Origin {
            host_name: Some("web-7".to_owned()),
            kernel_release: Some("6.18.2".to_owned()),
            netns_inode: None,
            netns_name: Some("host".to_owned()),
        }
    }

    pub(crate) fn notes() -> Vec<Note> {
        vec![Note { id: "recording_gap", message: "nothing was recorded for 4 min".to_owned() }]
    }

    pub(crate) fn owner(owner: OwnerId) -> OwnerName {
        OwnerName {
            pid: Some(800 + owner.0),
            name: Some(if owner.0 == 1 {
                "nginx".to_owned()
            } else {
                "<script>alert(1)</script>".to_owned()
            }),
            user: Some("www-data".to_owned()),
            ..OwnerName::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_two_units_at_most() {
        for (ms, text) in [
            (400, "400 ms"),
            (90_000, "90 s"),
            (150_000, "2 min 30 s"),
            (3_600_000, "1 h"),
            (12_000_000, "3 h 20 min"),
            (90_000_000, "1 d 1 h"),
        ] {
            assert_eq!(length(ms), text);
        }
    }

    #[test]
    fn owners_are_named_by_what_is_known() {
        let user = OwnerName { uid: Some(33), ..OwnerName::default() };
        assert_eq!(
            (owner_label(&user), owner_label(&OwnerName::default())),
            ("uid 33".into(), "owner not known".into())
        );
        let hostile = OwnerName { pid: Some(1), name: Some("a\x1b[31m".into()), ..OwnerName::default() };
        assert_eq!(owner_label(&hostile), "a\\u{1b}[31m (1)");
    }

    #[test]
    fn times_that_no_calendar_has_are_no_panic() {
        assert_eq!(minute(Moment(u64::MAX)), "1970-01-01 00:00");
    }
}
