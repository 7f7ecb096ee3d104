//! sockeye beside the raw recv loop and `ss`, on real sockets in a private namespace: the contests, and what is hoped
//! for. How they are told is verdict.rs; `cargo xtask bench` builds and starts this.

mod verdict;

use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use sock_diag::{DumpRequest, Extensions, Family, Kernel, Protocol, RecvBuffer, StateSet, dump};
use sockeye_benches::{
    Comparison, Contender, Contest, Program, RawWalk, Sample, Scale, own_peak_bytes, timed,
};
use sockeye_core::{Counters, Moment, Monitor, Settings, Sweep};
use sockeye_tests::{Load, Namespace};

use crate::verdict::{ProgramCost, Verdict};

/// Few enough that a listener has thousands of connections, as behind a proxy.
const DESTINATIONS: u8 = 8;

#[derive(Parser)]
struct Arguments {
    /// Sockets of the load, both ends of every connection
    #[arg(long, default_value_t = 120_000)]
    sockets: usize,
    /// How often everyone is measured
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(5..))]
    rounds: u16,
    /// Also write the result to this file
    #[arg(long)]
    json: Option<PathBuf>,
    /// Fail when something is over its target
    #[arg(long)]
    check: bool,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let rounds = usize::from(arguments.rounds);
    let sockeye = std::env::current_exe()?.with_file_name("sockeye");
    ensure!(sockeye.exists(), "{} is not built", sockeye.display());
    Namespace::new().enter().context("making a private network namespace")?;

    let mut verdict = Verdict::begin(arguments.sockets, rounds)?;
    // Idle comes first: the hash of connections is shared between namespaces, and foreign sockets lengthen its chains.
    verdict.add("idle namespace", idle(&sockeye)?.run(rounds)?);
    let load = Load::established(arguments.sockets / 2, DESTINATIONS).context("opening the load")?;
    check_load(&load)?;
    // Programs before our own sweeps, as the kernel counts our peak as theirs.
    verdict.memory_floor_bytes = own_peak_bytes()?;
    let mut programs = programs(&sockeye)?;
    verdict.add("programs, wall-clock time", programs.run(rounds)?);
    verdict.programs = programs.samples().filter_map(|(name, runs)| ProgramCost::of(name, runs)).collect();
    drop(programs);
    verdict.add("sweeps, processor time", sweeps()?.run(rounds)?);
    verdict.add("raw walks, processor time", walks()?.run(rounds)?);
    drop(load);

    verdict.print();
    if let Some(path) = &arguments.json {
        std::fs::write(path, verdict.to_json()).with_context(|| path.display().to_string())?;
    }
    let failed = arguments.check && verdict.is_over();
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// `sockeye` where there is nothing to see.
fn idle(sockeye: &Path) -> Result<Contest<'static>> {
    let mut contest = Contest::new();
    let walk = contest.enter("raw loop, nothing there", raw(&[tcp()])?);
    let program = contest.enter("sockeye", program(sockeye, ""));
    contest.compare(Comparison {
        name: "sockeye beyond the empty walk",
        judged: program,
        against: walk,
        scale: Scale::ExtraWallMs,
        target: Some(10.0),
    });
    Ok(contest)
}

/// The dumps disagree with the load only when something is broken: then nothing below means anything.
fn check_load(load: &Load) -> Result<()> {
    let (mut kernel, mut buffer) = (Kernel::open()?, RecvBuffer::new());
    let summary = dump(&mut kernel, &tcp(), &mut buffer, |_| ControlFlow::Continue(()))?;
    ensure!(
        summary.records == load.sockets() as u64,
        "{} sockets opened, {} dumped",
        load.sockets(),
        summary.records
    );
    Ok(())
}

/// The raw loop is a limit only as long as it receives what the dump receives.
fn check_bytes(request: &DumpRequest<'_>) -> Result<()> {
    let (mut kernel, mut buffer) = (Kernel::open()?, RecvBuffer::new());
    let dumped = dump(&mut kernel, request, &mut buffer, |_| ControlFlow::Continue(()))?.bytes;
    let received = RawWalk::of(std::slice::from_ref(request))?.run()?;
    ensure!(received == dumped, "the raw loop received {received} bytes, the dump {dumped}");
    Ok(())
}

/// Whole programs beside `ss`.
fn programs(sockeye: &Path) -> Result<Contest<'static>> {
    let mut contest = Contest::new();
    let mut ours =
        |arguments: &str| contest.enter(format!("sockeye {arguments}"), program(sockeye, arguments));
    let snapshot = ours("snapshot");
    let table = ours("sockets -Htan");
    let info = ours("sockets -HtanOi");
    let lines = ours("sockets -tan -o jsonl");
    let info_lines = ours("sockets -tani -o jsonl");
    let mut ss =
        |arguments: &str| contest.enter(format!("ss {arguments}"), program(Path::new("ss"), arguments));
    let ss_table = ss("-Htan");
    let ss_info = ss("-HtanOi");
    let walk = contest.enter("raw loop", raw(&[tcp()])?);
    for (name, judged, against, target) in [
        ("snapshot / ss -Htan", snapshot, ss_table, Some(0.25)),
        ("sockets -Htan / ss -Htan", table, ss_table, None),
        ("sockets -HtanOi / ss -HtanOi", info, ss_info, None),
        ("sockets -tan -o jsonl / ss -Htan", lines, ss_table, None),
        ("sockets -tani -o jsonl / ss -HtanOi", info_lines, ss_info, None),
        ("snapshot / raw loop", snapshot, walk, None),
        ("ss -Htan / raw loop", ss_table, walk, None),
    ] {
        contest.compare(wall(name, judged, against, target));
    }
    contest.compare(processor("snapshot / ss -Htan, processor", snapshot, ss_table, None));
    contest.compare(processor("snapshot / raw loop, processor", snapshot, walk, None));
    Ok(contest)
}

/// Our own sweeps beside the raw loop that receives the same bytes.
fn sweeps() -> Result<Contest<'static>> {
    let mut contest = Contest::new();
    let bound = StateSet::BOUND_INACTIVE;
    for (name, request) in [
        ("decode every record", tcp().states(StateSet::ALL.minus(bound))),
        ("the same, bound-inactive too", tcp()),
        ("the same, tcp_info too", tcp().extensions(Extensions::INFO)),
    ] {
        check_bytes(&request)?;
        let walk = contest.enter("raw loop", raw(std::slice::from_ref(&request))?);
        let decoded = contest.enter("decoded", decoded(request)?);
        contest.compare(processor(name, decoded, walk, Some(1.05)));
        if name == "decode every record" {
            let folded = contest.enter("folded", folded(tcp().states(StateSet::ALL.minus(bound)))?);
            contest.compare(processor("fold into a report", folded, walk, Some(1.15)));
            let followed = contest.enter(
                "followed",
                followed([StateSet::LISTEN, StateSet::ALL.minus(bound).minus(StateSet::LISTEN)])?,
            );
            contest.compare(processor("follow with a Monitor", followed, walk, Some(1.15)));
        }
    }
    Ok(contest)
}

/// What the kernel charges for its walks, one against another.
fn walks() -> Result<Contest<'static>> {
    let mut contest = Contest::new();
    let all_but_bound = || tcp().states(StateSet::ALL.minus(StateSet::BOUND_INACTIVE));
    let holders = StateSet::LISTEN.union(StateSet::BOUND_INACTIVE);
    let one = contest.enter("one walk", raw(&[all_but_bound()])?);
    let families = [Family::Inet, Family::Inet6].map(|family| all_but_bound().family(family));
    for (name, requests) in [
        ("IPv4 walk + IPv6 walk / one walk", families.as_slice()),
        ("IPv6 walk alone / one walk", &families[1..]),
        ("LISTEN only / one walk", &[tcp().states(StateSet::LISTEN)]),
        ("bound-inactive only / one walk", &[tcp().states(StateSet::BOUND_INACTIVE)]),
        ("with tcp_info / one walk", &[all_but_bound().extensions(Extensions::INFO)]),
        ("UDP / one walk", &[DumpRequest::all(Protocol::Udp)]),
        ("bound-inactive within / one walk", &[tcp()]),
        (
            "holders, then the rest / one walk",
            &[tcp().states(holders), tcp().states(StateSet::ALL.minus(holders))],
        ),
    ] {
        let other = contest.enter(name.split(" /").next().unwrap_or(name), raw(requests)?);
        contest.compare(processor(name, other, one, None));
    }
    Ok(contest)
}

fn tcp() -> DumpRequest<'static> {
    DumpRequest::all(Protocol::Tcp)
}

/// By the clock on the wall: what whoever waits for a program feels.
fn wall(name: &'static str, judged: Contender, against: Contender, target: Option<f64>) -> Comparison {
    Comparison { name, judged, against, scale: Scale::Wall, target }
}

/// By processor time, which other programs hardly touch: what work costs.
fn processor(name: &'static str, judged: Contender, against: Contender, target: Option<f64>) -> Comparison {
    Comparison { name, judged, against, scale: Scale::Processor, target }
}

fn program(path: &Path, arguments: &str) -> impl FnMut() -> Result<Sample> + use<> {
    let program = Program::new(path, arguments);
    move || program.run()
}

fn raw(requests: &[DumpRequest<'_>]) -> Result<impl FnMut() -> Result<Sample> + use<>> {
    let mut walk = RawWalk::of(requests)?;
    Ok(move || {
        timed(|| {
            walk.run()?;
            Ok(())
        })
    })
}

/// A dump that makes a record of everything.
fn decoded(request: DumpRequest<'static>) -> Result<impl FnMut() -> Result<Sample>> {
    let (mut kernel, mut buffer) = (Kernel::open()?, RecvBuffer::new());
    Ok(move || {
        timed(|| {
            dump(&mut kernel, &request, &mut buffer, |diag| {
                black_box(diag.to_record());
                ControlFlow::Continue(())
            })?;
            Ok(())
        })
    })
}

/// A dump that becomes a report.
fn folded(request: DumpRequest<'static>) -> Result<impl FnMut() -> Result<Sample>> {
    let (mut kernel, mut buffer) = (Kernel::open()?, RecvBuffer::new());
    Ok(move || {
        timed(|| {
            let mut sweep = Sweep::new(&Settings::default());
            dump(&mut kernel, &request, &mut buffer, |diag| {
                sweep.observe(&diag.to_record());
                ControlFlow::Continue(())
            })?;
            black_box(sweep.finish(&Counters::default()));
            Ok(())
        })
    })
}

/// A tick of a Monitor that knows every socket, of a dump for each set of states.
fn followed(states: [StateSet; 2]) -> Result<impl FnMut() -> Result<Sample>> {
    let (mut kernel, mut buffer) = (Kernel::open()?, RecvBuffer::new());
    let counters = Counters::default();
    let mut now = Moment(0);
    let mut monitor = Monitor::new(&Settings::default(), &counters, now, false);
    let mut tick = move || {
        now = now.plus_ms(1_000);
        monitor.begin_sweep(now);
        for states in states {
            dump(&mut kernel, &tcp().states(states), &mut buffer, |diag| {
                monitor.observe(&diag.to_record());
                ControlFlow::Continue(())
            })?;
        }
        black_box(monitor.missing(1));
        monitor.end_sweep(now, &counters);
        black_box(monitor.tick(now));
        Ok(())
    };
    tick()?;
    Ok(move || timed(&mut tick))
}
