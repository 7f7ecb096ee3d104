//! The pure parts by name: what is repeated for instruction counts and timed by criterion.

use std::hint::black_box;

use sock_diag::SocketRecord;
use sock_diag::filter::{Filter, NoNames};
use sockeye_core::{Counters, Moment, Monitor, Settings, Sweep};

use crate::synthetic::{FILTERS, answer, decode, records};

const RECORDS: u32 = 100_000;
/// Filters are small: enough of them that what happens once (symbols bound, heap grown) does not count.
const PASSES: u32 = 1_000;

/// A pure part of sockeye, with its input.
pub struct Scenario {
    /// By which the baseline and the command line know it.
    pub name: &'static str,
    /// What instructions are counted for.
    pub unit: &'static str,
    /// How many units a run does.
    pub units: u32,
    /// Makes the input; what it returns does one run.
    pub prepare: fn() -> Box<dyn FnMut()>,
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "decode", unit: "record", units: RECORDS, prepare: prepare_decode },
    Scenario { name: "fold_100_destinations", unit: "record", units: RECORDS, prepare: || prepare_fold(100) },
    Scenario {
        name: "fold_100000_destinations",
        unit: "record",
        units: RECORDS,
        prepare: || prepare_fold(100_000),
    },
    Scenario {
        name: "monitor_100_destinations",
        unit: "record",
        units: RECORDS,
        prepare: || prepare_monitor(100),
    },
    Scenario {
        name: "monitor_100000_destinations",
        unit: "record",
        units: RECORDS,
        prepare: || prepare_monitor(100_000),
    },
    Scenario {
        name: "filter_matches",
        unit: "record",
        units: RECORDS * FILTERS.len() as u32,
        prepare: prepare_filter_matches,
    },
    Scenario {
        name: "filter_parse",
        unit: "filter",
        units: PASSES * FILTERS.len() as u32,
        prepare: prepare_filter_parse,
    },
    Scenario {
        name: "filter_compile",
        unit: "filter",
        units: PASSES * FILTERS.len() as u32,
        prepare: prepare_filter_compile,
    },
];

impl Scenario {
    /// The one with this name.
    pub fn find(name: &str) -> Option<&'static Scenario> {
        SCENARIOS.iter().find(|scenario| scenario.name == name)
    }
}

fn prepare_decode() -> Box<dyn FnMut()> {
    let bytes = answer(&records(RECORDS, 100));
    Box::new(move || {
        decode(black_box(&bytes), |record| {
            black_box(record);
        });
    })
}

fn prepare_fold(destinations: u32) -> Box<dyn FnMut()> {
    let records = records(RECORDS, destinations);
    Box::new(move || {
        let mut sweep = Sweep::new(&Settings::default());
        black_box(&records).iter().for_each(|record| sweep.observe(record));
        black_box(sweep.finish(&Counters::default()));
    })
}

/// A sweep of sockets that are all known, in the order of the last one.
fn prepare_monitor(destinations: u32) -> Box<dyn FnMut()> {
    let records = records(RECORDS, destinations);
    let mut monitor = Monitor::new(&Settings::default(), &Counters::default(), Moment(0), true);
    let mut now = Moment(0);
    let mut sweep = move || {
        monitor.begin_sweep(now);
        black_box(&records).iter().for_each(|record| {
            monitor.observe(record);
        });
        black_box(monitor.missing(1));
        monitor.end_sweep(now, &Counters::default());
        now = now.plus_ms(1_000);
        black_box(monitor.tick(now));
    };
    sweep();
    Box::new(sweep)
}

fn prepare_filter_matches() -> Box<dyn FnMut()> {
    let records: Vec<SocketRecord> = records(RECORDS, 1_000);
    let filters = parsed();
    Box::new(move || {
        for filter in black_box(&filters) {
            for record in &records {
                let _ = black_box(filter.matches(record));
            }
        }
    })
}

fn prepare_filter_parse() -> Box<dyn FnMut()> {
    Box::new(|| {
        for _ in 0..PASSES {
            black_box(parsed());
        }
    })
}

fn prepare_filter_compile() -> Box<dyn FnMut()> {
    let filters = parsed();
    Box::new(move || {
        for _ in 0..PASSES {
            for filter in black_box(&filters) {
                let _ = black_box(filter.compile());
            }
        }
    })
}

fn parsed() -> Vec<Filter> {
    FILTERS.iter().filter_map(|text| Filter::parse(black_box(text), &NoNames).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scenario_runs_and_is_found_by_its_name() {
        for scenario in SCENARIOS {
            assert_eq!(Scenario::find(scenario.name).map(|found| found.name), Some(scenario.name));
            let mut run = (scenario.prepare)();
            run();
            run();
        }
        assert!(Scenario::find("nothing").is_none());
    }

    #[test]
    fn every_filter_parses_compiles_and_matches_some() {
        let filters = parsed();
        assert_eq!(filters.len(), FILTERS.len());
        let records = records(1_000, 1_000);
        for (filter, text) in filters.iter().zip(FILTERS) {
            assert!(filter.compile().is_ok_and(|compiled| compiled.bytecode.is_some()), "{text}");
            assert!(records.iter().all(|record| filter.matches(record).is_ok()), "{text}");
        }
    }
}
