//! `sockeye sockets` held to `ss`: the same sockets for generated command lines, or ss is shown to be wrong.
//!
//! Three answers are compared for each command line: sockeye's, ss's, and that of a model over the sockets this very
//! process opened. Sockeye must give what the words mean. ss must give the same, or exactly what the model predicts of
//! its flaws. What both print of each socket is compared in columns.rs.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod columns;
mod generator;
mod model;
mod world;

use std::collections::BTreeMap;
use std::fs;
use std::ops::RangeInclusive;
use std::time::Duration;

use generator::Generator;
use model::{Case, Flaw};
use sockeye_tests::{Dice, Namespace, drop_privilege, in_namespace};
use world::{Program, World, ss_is_there};

/// Nothing in the zoo changes by itself for this long.
const STABLE: Duration = Duration::from_secs(30);

/// How a batch of command lines came out.
#[derive(Default)]
struct Score {
    cases: usize,
    sockets: usize,
    empty: usize,
    refused: usize,
    wrong: usize,
    repeated: usize,
    by_flaw: BTreeMap<&'static str, usize>,
}

impl Score {
    fn print(&self, seed: u64) {
        let equal = self.cases - self.refused - self.wrong;
        eprintln!(
            "batch {seed}: {} command lines, {} sockets listed ({} listings empty); sockeye right in all; ss equal in {equal}, \
             unable to read {}, wrong in {}: {:?}; asked again: {}",
            self.cases, self.sockets, self.empty, self.refused, self.wrong, self.by_flaw, self.repeated
        );
    }
}

/// Which flaws this ss has: for each, its listing of one command line is what the words mean, or what the flaw makes
/// of them.
fn flaws_of_ss(world: &mut World) -> Vec<Flaw> {
    let mut found = Vec::new();
    for flaw in Flaw::ALL {
        let probe = flaw.probe();
        let listed = Program::Ss.list(&probe.arguments(Program::Ss), probe.only()).unwrap();
        let listed = world.identify(&listed).unwrap();
        let without = probe.selects(world, &found);
        found.push(*flaw);
        let with = probe.selects(world, &found);
        if listed == without {
            found.pop();
        } else if listed != with {
            let typed = probe.arguments(Program::Ss).join(" ");
            panic!("{flaw:?} does not explain ss {typed}: it {}", difference(world, &listed, &with));
        }
    }
    found
}

/// One command line, asked of both; Err tells what does not fit.
fn compare(case: &Case, world: &mut World, flaws: &[Flaw], score: &mut Score) -> Result<(), String> {
    let meant = case.selects(world, &[]);
    let ours = Program::Sockeye.list(&case.arguments(Program::Sockeye), case.only())?;
    let ours = world.identify(&ours)?;
    if ours != meant {
        return Err(format!("sockeye {}", difference(world, &ours, &meant)));
    }
    let theirs = Program::Ss.list(&case.arguments(Program::Ss), case.only());
    let theirs = match (theirs, case.ss_refuses()) {
        (Ok(theirs), _) => world.identify(&theirs)?,
        (Err(said), true) if said.contains("inet prefix is expected") => {
            score.refused += 1;
            return count(score, &meant);
        }
        (Err(said), _) => return Err(format!("ss refuses: {said}")),
    };
    let predicted = case.selects(world, flaws);
    if theirs != predicted {
        return Err(format!("ss {}", difference(world, &theirs, &predicted)));
    }
    if theirs != meant {
        score.wrong += 1;
        for flaw in flaws {
            let others: Vec<Flaw> = flaws.iter().copied().filter(|other| other != flaw).collect();
            if case.selects(world, &others) != predicted {
                *score.by_flaw.entry(flaw.name()).or_default() += 1;
            }
        }
    }
    count(score, &meant)
}

fn count(score: &mut Score, listed: &[usize]) -> Result<(), String> {
    score.cases += 1;
    score.sockets += listed.len();
    score.empty += usize::from(listed.is_empty());
    Ok(())
}

fn difference(world: &World, listed: &[usize], expected: &[usize]) -> String {
    let not_in = |these: &[usize], others: &[usize]| -> String {
        let missing = these.iter().filter(|at| !others.contains(at));
        missing.map(|at| format!("\n    {:?}", world.animals[*at])).collect()
    };
    format!(
        "lists {} instead of {}; too many:{}\n  missing:{}",
        listed.len(),
        expected.len(),
        not_in(listed, expected),
        not_in(expected, listed)
    )
}

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Caller {
    Root,
    OrdinaryUser,
}

/// Compares `cases` generated command lines; to be called inside a namespace.
fn batch(seed: u64, cases: usize, ipv6: bool, caller: Caller) {
    let mut world = World::open(ipv6);
    let cgroup = own_cgroup();
    if cgroup.is_none() {
        eprintln!("batch {seed}: no cgroup2 here: `cgroup` is not among the conditions");
    }
    if caller == Caller::OrdinaryUser {
        drop_privilege().unwrap();
    }
    // Everything there is: this also learns the cookies that only the kernel could tell.
    let everything = Program::Sockeye.list(&["-atu".to_owned()], None).unwrap();
    let everything = world.identify(&everything).unwrap();
    assert_eq!(
        everything,
        (0..world.animals.len()).collect::<Vec<usize>>(),
        "sockeye -atu lists all there is"
    );

    let flaws = flaws_of_ss(&mut world);
    let mut dice = Dice(seed);
    let mut score = Score::default();
    for number in 0..cases {
        let mut generator = Generator::new(&world, dice, caller == Caller::Root, cgroup.clone());
        let case = generator.case();
        dice = generator.dice;
        let mut outcome = compare(&case, &mut world, &flaws, &mut score);
        if outcome.is_err() {
            // Perhaps a socket changed between the two calls; what is really wrong stays wrong.
            score.repeated += 1;
            outcome = compare(&case, &mut world, &flaws, &mut score);
        }
        if outcome.is_err() {
            let (case, what) = shrunk(case, &mut world, &flaws);
            let typed = case.arguments(Program::Ss).join(" ");
            panic!("case {number} of seed {seed}, made smaller: {typed}\n  {what}\n  {case:?}");
        }
    }
    score.print(seed);
    assert!(world.opened.elapsed() < STABLE, "so slow that sockets may have changed by themselves");
    assert!(score.repeated <= 3, "differences that come and go");
    assert!(score.empty * 2 < score.cases, "most listings are empty: the cases say little");
}

/// The smallest case found inside one that does not fit, and what does not fit in it.
fn shrunk(mut case: Case, world: &mut World, flaws: &[Flaw]) -> (Case, String) {
    'smaller: loop {
        for candidate in case.smaller() {
            if compare(&candidate, world, flaws, &mut Score::default()).is_err() {
                case = candidate;
                continue 'smaller;
            }
        }
        let what = compare(&case, world, flaws, &mut Score::default()).err();
        return (case, what.unwrap_or_else(|| "went away while it was made smaller".to_owned()));
    }
}

/// Path in the file system of this process's cgroup v2, as ss wants it.
fn own_cgroup() -> Option<String> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let mount = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let mount = mount.into_iter().find(|fields| fields.get(2) == Some(&"cgroup2"))?[1].to_owned();
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?.trim_end_matches('/').to_owned();
    Some(format!("{mount}{path}")).filter(|path| fs::metadata(path).is_ok())
}

/// A batch for each of these seeds, each with sockets of its own: none grows old.
fn batches(seeds: RangeInclusive<u64>, namespace: &Namespace, ipv6: bool, caller: Caller) {
    if ss_is_there() {
        for seed in seeds {
            namespace.clone().run(|| batch(seed, 50, ipv6, caller));
        }
    }
}

#[test]
fn lists_what_ss_lists() {
    batches(1..=3, &Namespace::new(), true, Caller::Root);
}

#[test]
fn lists_what_ss_lists_again() {
    batches(4..=6, &Namespace::new(), true, Caller::Root);
}

#[test]
fn lists_what_ss_lists_to_an_ordinary_user() {
    batches(7..=8, &Namespace::new(), true, Caller::OrdinaryUser);
}

#[test]
fn lists_what_ss_lists_without_ipv6() {
    batches(9..=10, &Namespace::new().no_ipv6(), false, Caller::Root);
}

#[test]
fn prints_what_ss_prints() {
    if ss_is_there() {
        in_namespace(|| columns::compare("columns", Caller::Root));
    }
}

#[test]
fn prints_what_ss_prints_to_an_ordinary_user() {
    if ss_is_there() {
        in_namespace(|| columns::compare("columns, ordinary user", Caller::OrdinaryUser));
    }
}

/// Without CAP_NET_ADMIN the kernel refuses a filter on marks. ss then reads /proc, which has no marks, takes each for 0
/// and lists accordingly; sockeye says why it cannot.
#[test]
fn a_filter_on_marks_needs_privilege_and_sockeye_says_so() {
    in_namespace(|| {
        let _world = World::open(false);
        let arguments = ["-tan", "fwmark", "0x5eed"].map(str::to_owned);
        let found = Program::Sockeye.run(&arguments);
        let lines = String::from_utf8(found.stdout).unwrap().lines().count();
        assert!(found.status.success() && lines == 2, "a header and the one socket with this mark");
        drop_privilege().unwrap();
        let refused = Program::Sockeye.run(&arguments);
        let said = String::from_utf8(refused.stderr).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{said}");
        assert!(said.contains("CAP_NET_ADMIN"), "{said}");
        assert_eq!(String::from_utf8(refused.stdout).unwrap(), "", "no socket is listed");
    });
}
