//! Which rules a run has kept, and what broke the others.

use crate::account::{Account, DestinationAccount};
use crate::baseline::{Baseline, Tolerance};
use crate::budget::{Budget, Rule};
use crate::limit::{Limit, Measure, Unit};

/// How a run stands to one rule.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Outcome {
    /// Too much, for certain.
    Broken,
    /// Perhaps too much: the number is in doubt, and part of what it may be is too much.
    Doubtful,
    /// Nothing tells.
    NotKnown,
    /// Less than a baseline: it had better be saved anew.
    Better,
    /// All right.
    Kept,
}

impl Outcome {
    /// The word of JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Broken => "broken",
            Outcome::Doubtful => "doubtful",
            Outcome::NotKnown => "not_known",
            Outcome::Better => "better",
            Outcome::Kept => "kept",
        }
    }
}

/// One rule and how the run stands to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Finding {
    /// The rule's name, with its place if it has one.
    pub rule: String,
    /// What is counted, for people.
    pub text: &'static str,
    /// How numbers are written.
    pub unit: Unit,
    /// The run's number; None where nothing tells.
    pub value: Option<Measure>,
    /// What is allowed.
    pub allowed: f64,
    /// Whether less breaks it.
    pub is_minimum: bool,
    /// What the baseline had; None for a budget's rule.
    pub baseline: Option<f64>,
    /// How it came out.
    pub outcome: Outcome,
    /// Who did it: the destinations with the most, and who opened them. Empty where nothing is broken.
    pub evidence: Vec<String>,
}

/// All of them.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Verdict {
    /// In the order of the rules.
    pub findings: Vec<Finding>,
}

/// So many destinations are named as evidence.
const MOST_EVIDENCE: usize = 3;

impl Verdict {
    /// Holds a run to a budget.
    pub fn of(account: &Account, budget: &Budget) -> Verdict {
        Verdict { findings: budget.rules.iter().map(|rule| by_budget(account, rule)).collect() }
    }

    /// Holds it to a baseline as well.
    pub fn compare(&mut self, account: &Account, baseline: &Baseline, tolerance: &Tolerance) {
        self.findings.extend(baseline.findings(account, tolerance));
    }

    /// Whether no rule is broken for certain.
    pub fn passes(&self) -> bool {
        self.broken().next().is_none()
    }

    /// What is broken.
    pub fn broken(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.outcome == Outcome::Broken)
    }
}

fn by_budget(account: &Account, rule: &Rule) -> Finding {
    let Rule { limit, allowed, place } = rule;
    let value = limit.measure(account, place.as_ref());
    let outcome = match value {
        None => Outcome::NotKnown,
        Some(value) if limit.is_minimum() => grade(-value.max, -value.min, -allowed),
        Some(value) => grade(value.min, value.max, *allowed),
    };
    let evidence = match outcome {
        Outcome::Broken | Outcome::Doubtful => {
            evidence(account, |one| place.is_none_or(|place| place.holds(one.remote)))
        }
        _ => Vec::new(),
    };
    let is_doubted = outcome == Outcome::Doubtful && *limit == Limit::MaxLeaked;
    let doubt = account.leaks_doubt.clone().filter(|_| is_doubted);
    Finding {
        rule: rule.to_string(),
        text: limit.text(),
        unit: limit.unit(),
        value,
        allowed: *allowed,
        is_minimum: limit.is_minimum(),
        baseline: None,
        outcome,
        evidence: doubt.into_iter().chain(evidence).collect(),
    }
}

/// Where more is worse.
pub(crate) fn grade(min: f64, max: f64, allowed: f64) -> Outcome {
    if min > allowed {
        Outcome::Broken
    } else if max > allowed {
        Outcome::Doubtful
    } else {
        Outcome::Kept
    }
}

/// The destinations with the most opens, and what of them is not closed.
pub(crate) fn evidence(account: &Account, is_meant: impl Fn(&DestinationAccount) -> bool) -> Vec<String> {
    let mut there: Vec<_> = account.destinations.iter().filter(|one| is_meant(one)).collect();
    there.sort_by_key(|one| (std::cmp::Reverse((one.opens.min, one.leaked.max)), one.remote));
    let mut told: Vec<String> = there.iter().take(MOST_EVIDENCE).map(|one| line(one)).collect();
    if there.len() > MOST_EVIDENCE {
        told.push(format!("and {} more destinations", there.len() - MOST_EVIDENCE));
    }
    told
}

fn line(one: &DestinationAccount) -> String {
    let count = |number: u64| Unit::Count.show(number as f64);
    let mut line = format!("{}: {} opened", one.remote, count(one.opens.min));
    if let Some(p50) = one.lived.p50 {
        line += &format!(", half of them for {} at most", Unit::Milliseconds.show(p50.max_ms as f64));
    }
    for (number, what) in [
        (one.time_wait_left, "left in TIME_WAIT"),
        (one.leaked.max, "not closed"),
        (one.peak_ports.min, if one.peak_ports.min == 1 { "port at once" } else { "ports at once" }),
    ] {
        if number > 0 {
            line += &format!(", {} {what}", count(number));
        }
    }
    let owners: Vec<String> = one
        .owners
        .iter()
        .take(MOST_EVIDENCE)
        .map(|(owner, opens)| format!("{owner} {}", count(*opens)))
        .collect();
    if !owners.is_empty() {
        line += &format!(" (by {})", owners.join(", "));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{Count, Leak, LeakKind, Lived, Span};

    fn towards(port: u16, opens: Count) -> DestinationAccount {
        DestinationAccount {
            local_address: [127, 0, 0, 1].into(),
            remote: ([127, 0, 0, 1], port).into(),
            opens,
            closes: opens.min,
            peak_live: 1,
            peak_ports: Count::exactly(opens.min),
            peak_occupancy: 0.25,
            time_wait_left: 3,
            exchanges: Some(2.0),
            lived: Lived {
                completed: opens.min,
                p50: Some(Span { min_ms: 40, max_ms: 45 }),
                ..Lived::default()
            },
            leaked: Count::exactly(1),
            owners: vec![("curl (7)".to_owned(), opens.min)],
        }
    }

    fn account() -> Account {
        Account {
            duration_ms: 2_000,
            opens: Count::exactly(120),
            peak_ports: Count::exactly(100),
            peak_occupancy: 0.25,
            time_wait_left: 6,
            exchanges: Some(2.0),
            lived: Lived { completed: 120, p50: Some(Span { min_ms: 40, max_ms: 45 }), ..Lived::default() },
            leaks: vec![Leak {
                kind: LeakKind::Open,
                remote: None,
                owner: String::new(),
                count: 2,
                is_certain: true,
            }],
            destinations: vec![towards(80, Count::exactly(100)), towards(443, Count::between(20, 25))],
            ..Account::default()
        }
    }

    fn outcome(limit: Limit, allowed: f64, place: Option<&str>) -> Outcome {
        let place = place.map(|place| place.parse().unwrap());
        let rules = vec![Rule { limit, allowed, place }];
        Verdict::of(&account(), &Budget { rules }).findings[0].outcome
    }

    #[test]
    fn each_limit_is_kept_at_its_edge_and_broken_beyond() {
        for (limit, kept, broken) in [
            (Limit::MaxOpens, 120.0, 119.0),
            (Limit::MaxOpenRate, 60.0, 59.9),
            (Limit::MaxPorts, 100.0, 99.0),
            (Limit::MaxOccupancy, 0.25, 0.24),
            (Limit::MaxTimeWait, 6.0, 5.0),
            (Limit::MaxLeaked, 2.0, 1.0),
        ] {
            assert_eq!(outcome(limit, kept, None), Outcome::Kept, "{limit}");
            assert_eq!(outcome(limit, broken, None), Outcome::Broken, "{limit}");
        }
        for (reuse, expected) in [(3.0, Outcome::Broken), (2.0, Outcome::Kept)] {
            assert_eq!(outcome(Limit::MinReuse, reuse, None), expected, "{reuse}");
        }
        for (p50, expected) in [(40.0, Outcome::Kept), (43.0, Outcome::Doubtful), (46.0, Outcome::Broken)] {
            assert_eq!(outcome(Limit::LifetimeP50Min, p50, None), expected, "{p50}");
        }
    }

    #[test]
    fn a_leak_that_is_not_certain_breaks_nothing_and_says_why() {
        let doubted = |certain: bool, missed: u64| {
            let leaks = vec![Leak { is_certain: certain, ..account().leaks.remove(0) }];
            let leaks_doubt = (!certain || missed > 0).then(|| "nobody saw it".to_owned());
            let account = Account { leaks, leaks_missed: missed, leaks_doubt, ..account() };
            let rules = vec![Rule { limit: Limit::MaxLeaked, allowed: 1.0, place: None }];
            let finding = Verdict::of(&account, &Budget { rules }).findings.remove(0);
            (finding.outcome, finding.evidence.first().is_some_and(|line| line == "nobody saw it"))
        };
        assert_eq!(doubted(true, 0), (Outcome::Broken, false));
        assert_eq!(doubted(true, 5), (Outcome::Broken, false));
        assert_eq!(doubted(false, 0), (Outcome::Doubtful, true));
        assert_eq!(doubted(false, 5), (Outcome::Doubtful, true));
    }

    #[test]
    fn places_are_judged_by_their_own_numbers() {
        assert_eq!(outcome(Limit::MaxOpens, 100.0, Some("*:80")), Outcome::Kept);
        assert_eq!(outcome(Limit::MaxOpens, 99.0, Some("*:80")), Outcome::Broken);
        assert_eq!(outcome(Limit::MaxOpens, 20.0, Some("*:443")), Outcome::Doubtful);
        assert_eq!(outcome(Limit::MaxOpens, 19.0, Some("*:443")), Outcome::Broken);
        assert_eq!(outcome(Limit::MaxOpens, 125.0, Some("*:*")), Outcome::Kept, "the doubt counts once");
        assert_eq!(outcome(Limit::MaxOpens, 0.0, Some("*:1")), Outcome::Kept, "nothing went there");
        assert_eq!(outcome(Limit::MinReuse, 1.0, Some("*:1")), Outcome::NotKnown);
        assert_eq!(outcome(Limit::MaxLeaked, 1.0, Some("*:*")), Outcome::Broken);
    }

    #[test]
    fn what_is_broken_names_who_did_it() {
        let place = Some("*:80".parse().unwrap());
        let rules = vec![Rule { limit: Limit::MaxOpens, allowed: 10.0, place }];
        let verdict = Verdict::of(&account(), &Budget { rules });
        assert!(!verdict.passes());
        let broken = verdict.broken().next().unwrap();
        assert_eq!(broken.rule, "max_opens to *:80");
        assert_eq!(
            broken.evidence,
            ["127.0.0.1:80: 100 opened, half of them for 45 ms at most, 3 left in TIME_WAIT, 1 not closed, \
              100 ports at once (by curl (7) 100)"]
        );
    }
}
