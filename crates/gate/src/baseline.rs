//! What an earlier run came to, in a small file that is reviewed and kept with the code, and how far another may go beyond.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::account::Account;
use crate::budget::line_of;
use crate::limit::{Measure, Unit};
use crate::place::Place;
use crate::verdict::{Finding, Outcome, evidence, grade};

/// The version of the file that is written.
const FORMAT: u32 = 1;

/// A number that is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Figure {
    /// Connections begun, of the whole run and of each destination.
    Opens,
    /// Connections a listener took on.
    Accepts,
    /// Most ports in use towards one destination.
    PeakPorts,
    /// Sockets left in TIME_WAIT.
    TimeWaitLeft,
    /// Sockets not closed.
    Leaked,
}

impl Figure {
    const ALL: [Figure; 5] =
        [Figure::Opens, Figure::Accepts, Figure::PeakPorts, Figure::TimeWaitLeft, Figure::Leaked];

    /// Its name in the file and in a tolerance.
    pub const fn key(self) -> &'static str {
        match self {
            Figure::Opens => "opens",
            Figure::Accepts => "accepts",
            Figure::PeakPorts => "peak_ports",
            Figure::TimeWaitLeft => "time_wait_left",
            Figure::Leaked => "leaked",
        }
    }

    const fn text(self) -> &'static str {
        match self {
            Figure::Opens => "connections opened",
            Figure::Accepts => "connections accepted",
            Figure::PeakPorts => "ports in use towards one destination",
            Figure::TimeWaitLeft => "sockets left in TIME_WAIT",
            Figure::Leaked => "sockets not closed",
        }
    }

    /// What is tolerated where nothing else is said. Opens and accepts of a deterministic test are the same each time. What
    /// looks find at one instant, and who of two closes first, is not.
    const fn usual(self) -> Allowance {
        match self {
            Figure::Opens | Figure::Accepts => Allowance { ratio: 0.1, more: 0.0 },
            Figure::PeakPorts | Figure::TimeWaitLeft => Allowance { ratio: 0.25, more: 5.0 },
            Figure::Leaked => Allowance { ratio: 0.0, more: 0.0 },
        }
    }
}

/// So much more is as good.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Allowance {
    ratio: f64,
    more: f64,
}

/// How far a run may go beyond its baseline.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tolerance {
    all: Option<Allowance>,
    each: BTreeMap<Figure, Allowance>,
}

impl Tolerance {
    /// Reads `10%`, `5`, or a list `opens=10%,leaked=0`.
    ///
    /// # Errors
    /// How it is to be written.
    pub fn parse(text: &str) -> Result<Tolerance, String> {
        let mut tolerance = Tolerance::default();
        for part in text.split(',') {
            match part.split_once('=') {
                None => tolerance.all = Some(allowance(part)?),
                Some((key, value)) => {
                    let known = Figure::ALL.into_iter().find(|figure| figure.key() == key.trim());
                    let figure = known.ok_or_else(|| {
                        let keys: Vec<_> = Figure::ALL.iter().map(|figure| figure.key()).collect();
                        format!("{:?} is not compared; there are {}", key.trim(), keys.join(", "))
                    })?;
                    tolerance.each.insert(figure, allowance(value)?);
                }
            }
        }
        Ok(tolerance)
    }

    fn allowed(&self, figure: Figure, baseline: f64) -> f64 {
        // A tolerance for all is of what a run does; leaks are tolerated only by name.
        let all = self.all.filter(|_| figure != Figure::Leaked);
        let Allowance { ratio, more } = self.each.get(&figure).copied().or(all).unwrap_or(figure.usual());
        baseline * (1.0 + ratio) + more
    }
}

fn allowance(text: &str) -> Result<Allowance, String> {
    let text = text.trim();
    let (number, is_percent) = match text.strip_suffix('%') {
        Some(number) => (number.trim_end(), true),
        None => (text, false),
    };
    match number.parse::<f64>() {
        Ok(number) if number.is_finite() && number >= 0.0 && is_percent => {
            Ok(Allowance { ratio: number / 100.0, more: 0.0 })
        }
        Ok(number) if number.is_finite() && number >= 0.0 => Ok(Allowance { ratio: 0.0, more: number }),
        _ => Err("write it like 10%, 5 or opens=10%,leaked=0".to_owned()),
    }
}

/// A baseline's text that cannot be read.
#[derive(PartialEq, Eq, Debug, thiserror::Error)]
pub enum BaselineError {
    /// It is no such file; where, and what is wrong with it.
    #[error("it is no baseline: {0}")]
    Unreadable(String),
    /// It is what another option writes.
    #[error("it is JSON, as --export-json writes it")]
    Json,
    /// A newer version wrote it.
    #[error(
        "it has format {0}, and this version reads up to {FORMAT}: use a newer sockeye, or save it again"
    )]
    Newer(u32),
    /// A destination makes no sense.
    #[error("its destination {0:?} is none")]
    Destination(String),
}

/// An earlier run's numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Baseline {
    total: BTreeMap<Figure, u64>,
    opens: BTreeMap<Place, u64>,
    /// Connections that nobody knows the destinations of.
    unplaced: u64,
    /// Ports that are another at each run: destinations there are told without theirs.
    ephemeral: RangeInclusive<u16>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    ephemeral_ports: [u16; 2],
    opens: u64,
    accepts: u64,
    peak_ports: u64,
    time_wait_left: u64,
    leaked: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    unplaced: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    destination: Vec<Opens>,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Opens {
    to: String,
    opens: u64,
}

/// The least version there is to tell.
#[derive(Deserialize)]
struct Version {
    format: u32,
}

impl Baseline {
    /// What this run came to. `ephemeral`: the range that servers without a port of their own get theirs from.
    pub fn of(account: &Account, ephemeral: RangeInclusive<u16>) -> Baseline {
        let opens = opens_of(account, &ephemeral);
        let total = Figure::ALL.map(|figure| match figure {
            // What is told, though not for certain: a run that is as good is not to be doubted.
            Figure::Leaked => (figure, account.leaks_told()),
            // What is in doubt is no more than that; the next run, which is sure of another part of it, breaks nothing.
            _ => (figure, measure(figure, account).max as u64),
        });
        Baseline {
            total: total.into(),
            unplaced: unplaced(account),
            opens: opens.into_iter().map(|(place, opens)| (place, opens.max as u64)).collect(),
            ephemeral,
        }
    }

    /// Reads a file's text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Baseline, BaselineError> {
        if text.trim_start().starts_with('{') {
            return Err(BaselineError::Json);
        }
        // Without the line itself: a file may be of one.
        let told = |error: toml::de::Error| {
            let line = line_of(text, error.span().map_or(0, |span| span.start));
            BaselineError::Unreadable(format!("line {line}: {}", error.message()))
        };
        let Version { format } = toml::from_str(text).map_err(told)?;
        if format > FORMAT {
            return Err(BaselineError::Newer(format));
        }
        let file: File = toml::from_str(text).map_err(told)?;
        let place = |one: &Opens| one.to.parse().map_err(|_| BaselineError::Destination(one.to.clone()));
        let opens = file.destination.iter().map(|one| Ok((place(one)?, one.opens)));
        Ok(Baseline {
            opens: opens.collect::<Result<_, BaselineError>>()?,
            unplaced: file.unplaced,
            total: BTreeMap::from([
                (Figure::Opens, file.opens),
                (Figure::Accepts, file.accepts),
                (Figure::PeakPorts, file.peak_ports),
                (Figure::TimeWaitLeft, file.time_wait_left),
                (Figure::Leaked, file.leaked),
            ]),
            ephemeral: file.ephemeral_ports[0]..=file.ephemeral_ports[1],
        })
    }

    /// The text of a file: always the same for the same numbers.
    pub fn text(&self) -> String {
        let total = |figure| self.total.get(&figure).copied().unwrap_or(0);
        let file = File {
            format: FORMAT,
            ephemeral_ports: [*self.ephemeral.start(), *self.ephemeral.end()],
            opens: total(Figure::Opens),
            accepts: total(Figure::Accepts),
            peak_ports: total(Figure::PeakPorts),
            time_wait_left: total(Figure::TimeWaitLeft),
            leaked: total(Figure::Leaked),
            unplaced: self.unplaced,
            destination: self
                .opens
                .iter()
                .map(|(place, opens)| Opens { to: place.to_string(), opens: *opens })
                .collect(),
        };
        // Numbers, and strings without control characters: it cannot fail.
        let text = toml::to_string(&file).unwrap_or_default();
        format!("# What a run came to; `sockeye run --baseline` compares with it.\n{text}")
    }

    /// How a run stands to it, figure by figure.
    pub(crate) fn findings(&self, account: &Account, tolerance: &Tolerance) -> Vec<Finding> {
        let mut findings = Vec::new();
        for figure in Figure::ALL {
            let baseline = self.total.get(&figure).copied().unwrap_or(0);
            let value = measure(figure, account);
            findings.push(self.finding(account, tolerance, figure, None, value, baseline));
        }
        let now = opens_of(account, &self.ephemeral);
        let unseen = Measure { min: 0.0, max: unplaced(account) as f64 };
        let mut places: Vec<Place> = self.opens.keys().chain(now.keys()).copied().collect();
        places.sort_unstable();
        places.dedup();
        for place in places {
            let baseline = self.opens.get(&place).copied().unwrap_or(self.unplaced);
            let value = now.get(&place).copied().unwrap_or(unseen);
            findings.push(self.finding(account, tolerance, Figure::Opens, Some(place), value, baseline));
        }
        findings
    }

    fn finding(
        &self,
        account: &Account,
        tolerance: &Tolerance,
        figure: Figure,
        place: Option<Place>,
        value: Measure,
        baseline: u64,
    ) -> Finding {
        let baseline = baseline as f64;
        let allowed = tolerance.allowed(figure, baseline);
        let outcome = match grade(value.min, value.max, allowed) {
            // What is in doubt may be as much as it was.
            Outcome::Kept if value.min == value.max && tolerance.allowed(figure, value.max) < baseline => {
                Outcome::Better
            }
            outcome => outcome,
        };
        let told = match outcome {
            Outcome::Broken | Outcome::Doubtful => evidence(account, |one| {
                place.is_none_or(|place| place_of(one.remote, &self.ephemeral) == place)
            }),
            _ => Vec::new(),
        };
        Finding {
            rule: match place {
                Some(place) => format!("baseline {} to {place}", figure.key()),
                None => format!("baseline {}", figure.key()),
            },
            text: figure.text(),
            unit: Unit::Count,
            value: Some(value),
            allowed,
            is_minimum: false,
            baseline: Some(baseline),
            outcome,
            evidence: told,
        }
    }
}

fn measure(figure: Figure, account: &Account) -> Measure {
    match figure {
        Figure::Opens => account.opens.into(),
        Figure::Accepts => account.accepts.into(),
        Figure::PeakPorts => account.peak_ports.into(),
        Figure::TimeWaitLeft => Measure::exactly(account.time_wait_left as f64),
        Figure::Leaked => account.leaked().into(),
    }
}

/// Connections that may have gone anywhere.
fn unplaced(account: &Account) -> u64 {
    account.opens.max.saturating_sub(account.destinations.iter().map(|one| one.opens.min).sum())
}

fn place_of(remote: std::net::SocketAddr, ephemeral: &RangeInclusive<u16>) -> Place {
    match ephemeral.contains(&remote.port()) {
        true => Place::any_port(remote.ip()),
        false => Place::exactly(remote),
    }
}

fn opens_of(account: &Account, ephemeral: &RangeInclusive<u16>) -> BTreeMap<Place, Measure> {
    let mut opens: BTreeMap<Place, Measure> = BTreeMap::new();
    for one in &account.destinations {
        let sum = opens.entry(place_of(one.remote, ephemeral)).or_insert(Measure::exactly(0.0));
        // Doubt counts once, as it is the same connections that may be anybody's.
        let doubt = (sum.max - sum.min).max((one.opens.max - one.opens.min) as f64);
        sum.min += one.opens.min as f64;
        sum.max = sum.min + doubt;
    }
    opens
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Count, DestinationAccount, Leak, LeakKind, Lived};
    use crate::verdict::Verdict;
    use proptest::prelude::*;

    const EPHEMERAL: RangeInclusive<u16> = 32768..=60999;

    fn account(opens: &[(u16, u64)]) -> Account {
        Account {
            opens: Count::exactly(opens.iter().map(|(_, opens)| opens).sum()),
            destinations: opens
                .iter()
                .map(|(port, opens)| DestinationAccount {
                    local_address: [127, 0, 0, 1].into(),
                    remote: ([127, 0, 0, 1], *port).into(),
                    opens: Count::exactly(*opens),
                    closes: 0,
                    peak_live: 0,
                    peak_ports: Count::default(),
                    peak_occupancy: 0.0,
                    time_wait_left: 0,
                    exchanges: None,
                    lived: Lived::default(),
                    leaked: Count::exactly(0),
                    owners: Vec::new(),
                })
                .collect(),
            ..Account::default()
        }
    }

    fn outcomes(now: &Account, baseline: &Baseline, tolerance: &str) -> Vec<(String, Outcome)> {
        let mut verdict = Verdict::default();
        verdict.compare(now, baseline, &Tolerance::parse(tolerance).unwrap());
        let remarkable = verdict.findings.into_iter().filter(|finding| finding.outcome != Outcome::Kept);
        remarkable.map(|finding| (finding.rule, finding.outcome)).collect()
    }

    #[test]
    fn a_fifth_more_is_found_and_the_same_is_not() {
        for opens in [5, 10, 50, 1_000, 100_000] {
            let baseline = Baseline::of(&account(&[(80, opens)]), EPHEMERAL);
            let mut verdict = Verdict::default();
            verdict.compare(&account(&[(80, opens)]), &baseline, &Tolerance::default());
            assert!(verdict.findings.iter().all(|finding| finding.outcome == Outcome::Kept), "{opens}");
            let mut verdict = Verdict::default();
            verdict.compare(&account(&[(80, opens * 6 / 5)]), &baseline, &Tolerance::default());
            assert_eq!(verdict.broken().count(), 2, "{opens}: of the run, and of the destination");
        }
    }

    #[test]
    fn what_is_no_baseline_is_told_in_a_line() {
        let why = |text: &str| Baseline::parse(text).unwrap_err().to_string();
        assert_eq!(why("\n {\"schema\":\"sockeye.run/1\"}"), "it is JSON, as --export-json writes it");
        assert_eq!(
            why("format = 1\nopens = 'x'\n"),
            "it is no baseline: line 2: invalid type: string \"x\", expected u64"
        );
        assert_eq!(why("# nothing"), "it is no baseline: line 1: missing field `format`");
        assert!(why("format = 9").contains("use a newer sockeye"));
    }

    #[test]
    fn what_is_new_what_is_less_and_what_is_tolerated() {
        let baseline = Baseline::of(&account(&[(80, 100), (443, 50)]), EPHEMERAL);
        let now = account(&[(80, 100), (443, 20), (5432, 1)]);
        let better = |rule: &str| (rule.to_owned(), Outcome::Better);
        let broken = |rule: &str| (rule.to_owned(), Outcome::Broken);
        let usual = [
            better("baseline opens"),
            better("baseline opens to 127.0.0.1:443"),
            broken("baseline opens to 127.0.0.1:5432"),
        ];
        assert_eq!(outcomes(&now, &baseline, "opens=10%"), usual);
        assert_eq!(outcomes(&now, &baseline, "50"), [], "fifty more or less");
        let mut leaky = account(&[(80, 100), (443, 50)]);
        leaky.leaks.push(Leak {
            kind: LeakKind::Open,
            remote: None,
            owner: String::new(),
            count: 1,
            is_certain: true,
        });
        assert_eq!(outcomes(&leaky, &baseline, "50"), [broken("baseline leaked")]);
        assert_eq!(outcomes(&leaky, &baseline, "leaked=1"), []);
    }

    #[test]
    fn servers_without_a_port_of_their_own_are_the_same_at_each_run() {
        let baseline = Baseline::of(&account(&[(40_001, 30), (40_002, 12)]), EPHEMERAL);
        assert_eq!(outcomes(&account(&[(51_000, 12), (52_000, 30)]), &baseline, "0%"), []);
        assert!(baseline.text().contains("to = \"127.0.0.1:*\"\nopens = 42\n"), "{}", baseline.text());
    }

    #[test]
    fn texts_that_are_none_are_refused() {
        for (text, said) in [
            ("", "no baseline"),
            ("format = 2", "newer sockeye"),
            ("format = 1\nopens = 3", "missing field"),
            ("format = 1\nmuch = 3", "unknown field"),
            ("}", "no baseline"),
        ] {
            let error = Baseline::parse(text).unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
        let text = Baseline::of(&account(&[(80, 1)]), EPHEMERAL).text().replace("127.0.0.1:80", "nowhere");
        assert!(matches!(Baseline::parse(&text), Err(BaselineError::Destination(_))));
        for text in ["", "%", "-1", "ten", "open=3", "opens=", "1%%"] {
            assert!(Tolerance::parse(text).is_err(), "{text}");
        }
    }

    /// What is told of a run where this is true: of each destination some are not seen, and of the whole some may be
    /// others'.
    fn in_doubt(truth: &[(u16, u64)], seen: &[u64], others: u64) -> Account {
        let seen: Vec<_> =
            truth.iter().zip(seen).map(|((port, opens), seen)| (*port, (*seen).min(*opens))).collect();
        let mut account = account(&seen);
        account.destinations.retain(|one| one.opens.min > 0);
        let all: u64 = truth.iter().map(|(_, opens)| opens).sum();
        account.opens.max = all + others;
        let unseen = account.opens.max - account.opens.min;
        for one in &mut account.destinations {
            one.opens.max += unseen;
            one.peak_ports = one.opens;
        }
        account.accepts = Count::between(account.opens.min, all + others);
        account.peak_ports = account.opens;
        account
    }

    proptest! {
        #[test]
        fn the_same_run_is_as_good_whatever_is_seen_of_it(
            truth in prop::collection::btree_map(1u16..20, 0u64..300, 0..5),
            seen in prop::collection::vec(prop::collection::vec(0u64..300, 5), 2),
            others in prop::collection::vec(0u64..100, 2),
        ) {
            let truth: Vec<_> = truth.into_iter().collect();
            let [before, now] = [0, 1].map(|run| in_doubt(&truth, &seen[run], others[run]));
            let mut verdict = Verdict::default();
            verdict.compare(&now, &Baseline::of(&before, EPHEMERAL), &Tolerance::parse("0").unwrap());
            prop_assert!(verdict.passes(), "{:?}", verdict.broken().collect::<Vec<_>>());
        }

        #[test]
        fn a_file_is_read_back(opens in prop::collection::btree_map(1u16.., 0u64..1 << 40, 0..9)) {
            let opens: Vec<_> = opens.into_iter().collect();
            let baseline = Baseline::of(&account(&opens), EPHEMERAL);
            prop_assert_eq!(Baseline::parse(&baseline.text()).unwrap(), baseline);
        }
    }
}
