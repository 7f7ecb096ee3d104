//! What can be limited: which number of an account, in which unit, and whether less or more of it is too much.

use std::fmt;

use crate::account::{Account, Count, DestinationAccount, Lived};
use crate::place::Place;

/// One of the numbers that a budget may limit.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Limit {
    /// Connections begun by connect().
    MaxOpens,
    /// The same per second of the whole run.
    MaxOpenRate,
    /// Ports in use towards one destination, TIME_WAIT included.
    MaxPorts,
    /// Share of the usable ports towards one destination.
    MaxOccupancy,
    /// Sockets in TIME_WAIT at the end.
    MaxTimeWait,
    /// Requests with their answers per connection, in the mean.
    MinReuse,
    /// The median of lifetimes.
    LifetimeP50Min,
    /// Sockets that were not closed.
    MaxLeaked,
}

/// How a number is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// 1,204
    Count,
    /// 34.5 a second
    PerSecond,
    /// 78.1 %
    Share,
    /// 250 ms
    Milliseconds,
    /// 12.5
    PerConnection,
}

/// A number of an account with its doubt.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measure {
    /// At least.
    pub min: f64,
    /// At most.
    pub max: f64,
}

impl Measure {
    /// Without doubt.
    pub const fn exactly(value: f64) -> Measure {
        Measure { min: value, max: value }
    }
}

impl From<Count> for Measure {
    fn from(count: Count) -> Measure {
        Measure { min: count.min as f64, max: count.max as f64 }
    }
}

impl Limit {
    /// All of them, in the order in which they are told.
    pub const ALL: [Limit; 8] = [
        Limit::MaxOpens,
        Limit::MaxOpenRate,
        Limit::MaxPorts,
        Limit::MaxOccupancy,
        Limit::MaxTimeWait,
        Limit::MinReuse,
        Limit::LifetimeP50Min,
        Limit::MaxLeaked,
    ];

    /// Its name in a budget's file and in JSON; the option has dashes.
    pub const fn key(self) -> &'static str {
        match self {
            Limit::MaxOpens => "max_opens",
            Limit::MaxOpenRate => "max_open_rate",
            Limit::MaxPorts => "max_ports",
            Limit::MaxOccupancy => "max_occupancy",
            Limit::MaxTimeWait => "max_time_wait",
            Limit::MinReuse => "min_reuse",
            Limit::LifetimeP50Min => "lifetime_p50_min",
            Limit::MaxLeaked => "max_leaked",
        }
    }

    /// What is counted, for people.
    pub const fn text(self) -> &'static str {
        match self {
            Limit::MaxOpens => "connections opened",
            Limit::MaxOpenRate => "connections opened per second",
            Limit::MaxPorts => "ports in use towards one destination",
            Limit::MaxOccupancy => "share of the ports in use towards one destination",
            Limit::MaxTimeWait => "sockets left in TIME_WAIT",
            Limit::MinReuse => "requests with answers per connection",
            Limit::LifetimeP50Min => "median lifetime",
            Limit::MaxLeaked => "sockets not closed",
        }
    }

    /// Its unit.
    pub const fn unit(self) -> Unit {
        match self {
            Limit::MaxOpens | Limit::MaxPorts | Limit::MaxTimeWait | Limit::MaxLeaked => Unit::Count,
            Limit::MaxOpenRate => Unit::PerSecond,
            Limit::MaxOccupancy => Unit::Share,
            Limit::MinReuse => Unit::PerConnection,
            Limit::LifetimeP50Min => Unit::Milliseconds,
        }
    }

    /// Whether less than the limit breaks it.
    pub const fn is_minimum(self) -> bool {
        matches!(self, Limit::MinReuse | Limit::LifetimeP50Min)
    }

    /// Reads a value as it is typed: `1000`, `2.5`, `80%`, `250ms`.
    ///
    /// # Errors
    /// How it is to be written.
    pub fn parse(self, text: &str) -> Result<f64, String> {
        let text = text.trim();
        let (number, how) = match self.unit() {
            Unit::Count => (text.parse::<u32>().ok().map(f64::from), "write a whole number, like 100"),
            Unit::PerSecond | Unit::PerConnection => (text.parse().ok(), "write a number, like 2.5"),
            Unit::Share => (share(text), "write a share, like 80% or 0.8"),
            Unit::Milliseconds => {
                let known = milliseconds(text).filter(|ms| *ms <= LONGEST_MS);
                (known, "write a duration of a year at most, like 250ms, 5s or 2m")
            }
        };
        number.filter(|number| number.is_finite() && *number >= 0.0).ok_or_else(|| how.to_owned())
    }

    /// What a run came to. `place`: only towards there; counts are of all these destinations together, ports and shares of
    /// the worst. None where nothing tells.
    pub fn measure(self, account: &Account, place: Option<&Place>) -> Option<Measure> {
        let Some(place) = place else { return self.of_all(account) };
        let there: Vec<&DestinationAccount> =
            account.destinations.iter().filter(|one| place.holds(one.remote)).collect();
        let sum = |number: fn(&DestinationAccount) -> u64| {
            Measure::exactly(there.iter().map(|one| number(one)).sum::<u64>() as f64)
        };
        let most = |number: fn(&DestinationAccount) -> f64| {
            Measure::exactly(there.iter().map(|one| number(one)).fold(0.0, f64::max))
        };
        // What could not be told of any destination may be of each, but only once.
        let doubt = there.iter().map(|one| one.opens.max - one.opens.min).max().unwrap_or(0);
        let opens: u64 = there.iter().map(|one| one.opens.min).sum();
        let opens = Measure { min: opens as f64, max: (opens + doubt) as f64 };
        match self {
            Limit::MaxOpens => Some(opens),
            Limit::MaxOpenRate => Some(per_second(opens, account.duration_ms)),
            Limit::MaxPorts => {
                let [min, max] =
                    [most(|one| one.peak_ports.min as f64), most(|one| one.peak_ports.max as f64)];
                Some(Measure { min: min.min, max: max.max })
            }
            Limit::MaxOccupancy => Some(most(|one| one.peak_occupancy)),
            Limit::MaxTimeWait => Some(sum(|one| one.time_wait_left)),
            Limit::MaxLeaked => {
                let [min, max] = [sum(|one| one.leaked.min), sum(|one| one.leaked.max)];
                Some(Measure { min: min.min, max: max.max })
            }
            // The least reused, and the one whose connections are the briefest.
            Limit::MinReuse => least(there.iter().filter_map(|one| one.exchanges)).map(Measure::exactly),
            Limit::LifetimeP50Min => {
                let medians = there.iter().filter_map(|one| median(&one.lived));
                medians.min_by(|a, b| a.max.total_cmp(&b.max))
            }
        }
    }

    fn of_all(self, account: &Account) -> Option<Measure> {
        match self {
            Limit::MaxOpens => Some(account.opens.into()),
            Limit::MaxOpenRate => Some(per_second(account.opens.into(), account.duration_ms)),
            Limit::MaxPorts => Some(account.peak_ports.into()),
            Limit::MaxOccupancy => Some(Measure::exactly(account.peak_occupancy)),
            Limit::MaxTimeWait => Some(Measure::exactly(account.time_wait_left as f64)),
            Limit::MaxLeaked => Some(account.leaked().into()),
            Limit::MinReuse => account.exchanges.map(Measure::exactly),
            Limit::LifetimeP50Min => median(&account.lived),
        }
    }
}

fn median(lived: &Lived) -> Option<Measure> {
    lived.p50.map(|p50| Measure { min: p50.min_ms as f64, max: p50.max_ms as f64 })
}

fn least(numbers: impl Iterator<Item = f64>) -> Option<f64> {
    numbers.min_by(f64::total_cmp)
}

/// Of a run of no length one millisecond is taken.
fn per_second(count: Measure, duration_ms: u64) -> Measure {
    let seconds = duration_ms.max(1) as f64 / 1e3;
    Measure { min: count.min / seconds, max: count.max / seconds }
}

fn share(text: &str) -> Option<f64> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().ok()? / 100.0,
        None => text.parse().ok()?,
    };
    (share <= 1.0).then_some(share)
}

/// No connection is asked to live longer.
const LONGEST_MS: f64 = 366.0 * 8.64e7;

/// A duration as it is typed, in milliseconds: a number with `ms`, `s`, `m`, `h` or `d`; without a unit, seconds.
pub fn milliseconds(text: &str) -> Option<f64> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1.0,
        "" | "s" => 1e3,
        "m" | "min" => 6e4,
        "h" => 3.6e6,
        "d" => 8.64e7,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

/// A number in its unit, for people: `1,204`, `34.5/s`, `78.1 %`, `250 ms`.
impl Unit {
    /// As it is shown.
    pub fn show(self, value: f64) -> String {
        match self {
            Unit::Count => grouped(value.round() as u64),
            Unit::PerSecond => format!("{value:.1}/s"),
            Unit::Share => format!("{:.1} %", value * 100.0),
            Unit::PerConnection => format!("{value:.1}"),
            Unit::Milliseconds if value >= 10_000.0 => format!("{:.1} s", value / 1e3),
            Unit::Milliseconds => format!("{value:.0} ms"),
        }
    }
}

/// Thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            shown.push(',');
        }
        shown.push(digit);
    }
    shown
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_in_their_units() {
        for (limit, text, value) in [
            (Limit::MaxOpens, "100", 100.0),
            (Limit::MaxOpenRate, "2.5", 2.5),
            (Limit::MaxOccupancy, "80%", 0.8),
            (Limit::MaxOccupancy, "0.8", 0.8),
            (Limit::LifetimeP50Min, "250ms", 250.0),
            (Limit::LifetimeP50Min, "5s", 5_000.0),
            (Limit::LifetimeP50Min, "2m", 120_000.0),
            (Limit::MinReuse, "10", 10.0),
            (Limit::MaxLeaked, "0", 0.0),
        ] {
            assert_eq!(limit.parse(text), Ok(value), "{limit} {text}");
        }
        for (limit, text) in [
            (Limit::MaxOpens, "1.5"),
            (Limit::MaxOpens, "-1"),
            (Limit::MaxOpens, ""),
            (Limit::MaxOpenRate, "inf"),
            (Limit::MaxOpenRate, "NaN"),
            (Limit::MaxOccupancy, "80"),
            (Limit::LifetimeP50Min, "5 weeks"),
            (Limit::LifetimeP50Min, "1..5s"),
        ] {
            assert!(limit.parse(text).is_err(), "{limit} {text}");
        }
    }

    #[test]
    fn values_are_shown_in_their_units() {
        assert!(Limit::LifetimeP50Min.parse("366d").is_ok());
        assert!(Limit::LifetimeP50Min.parse("367d").unwrap_err().contains("a year at most"));
        assert_eq!(Unit::Count.show(1_234_567.0), "1,234,567");
        assert_eq!(Unit::Count.show(999.0), "999");
        assert_eq!(Unit::Share.show(0.781), "78.1 %");
        assert_eq!(Unit::Milliseconds.show(250.4), "250 ms");
        assert_eq!(Unit::Milliseconds.show(12_340.0), "12.3 s");
    }
}
