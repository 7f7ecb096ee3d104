//! What the contests said, as a table for people and as JSON; and the doubts: how busy the machine was.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use sockeye_benches::{Row, Sample, Scale};

/// Above this, other work shares the processors with what is measured.
const BUSY_LOAD: f64 = 1.0;

/// The result of a whole run.
pub(crate) struct Verdict {
    sockets: usize,
    rounds: usize,
    kernel: String,
    processors: usize,
    /// Mean number of runnable tasks in the minute before the start.
    load_average: f64,
    contests: Vec<(&'static str, Vec<Row>)>,
    pub(crate) programs: Vec<ProgramCost>,
    /// No program's peak can be told to be less.
    pub(crate) memory_floor_bytes: u64,
}

/// What a program used, medians over its runs; of memory the largest.
pub(crate) struct ProgramCost {
    name: String,
    wall_ms: f64,
    user_ms: f64,
    system_ms: f64,
    peak_bytes: u64,
}

impl ProgramCost {
    /// None for a contender that is no program.
    pub(crate) fn of(name: &str, runs: &[Sample]) -> Option<ProgramCost> {
        let costs: Vec<_> = runs.iter().filter_map(|run| run.cost).collect();
        Some(ProgramCost {
            name: name.to_owned(),
            wall_ms: median_ms(runs.iter().map(|run| run.wall))?,
            user_ms: median_ms(costs.iter().map(|cost| cost.user))?,
            system_ms: median_ms(costs.iter().map(|cost| cost.system))?,
            peak_bytes: costs.iter().map(|cost| cost.peak_bytes).max()?,
        })
    }
}

impl Verdict {
    /// Looks at the machine, and says so at once when it is busy.
    pub(crate) fn begin(sockets: usize, rounds: usize) -> Result<Verdict> {
        let load = std::fs::read_to_string("/proc/loadavg").context("/proc/loadavg")?;
        let load_average = load.split(' ').next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN);
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").context("osrelease")?;
        let verdict = Verdict {
            sockets,
            rounds,
            kernel: kernel.trim().to_owned(),
            processors: std::thread::available_parallelism().map_or(1, usize::from),
            load_average,
            contests: Vec::new(),
            programs: Vec::new(),
            memory_floor_bytes: 0,
        };
        let Verdict { kernel, processors, .. } = &verdict;
        say(&format!(
            "Linux {kernel}, {processors} processors, load average {load_average:.2}; {sockets} sockets; \
             {rounds} rounds, everyone in turn"
        ));
        if load_average > BUSY_LOAD {
            say("WARNING: other work is running; the ratios below are less certain than their ranges tell");
        }
        Ok(verdict)
    }

    pub(crate) fn add(&mut self, contest: &'static str, rows: Vec<Row>) {
        self.contests.push((contest, rows));
    }

    /// Whether anything is over its target.
    pub(crate) fn is_over(&self) -> bool {
        self.contests.iter().flat_map(|(_, rows)| rows).any(|row| row.is_over() == Some(true))
    }

    /// The table.
    pub(crate) fn print(&self) {
        for (contest, rows) in &self.contests {
            say(&format!(
                "\n{:<36} {:>7} {:>17}  {:>6} {:>4}   median ms, for context only",
                contest.to_uppercase(),
                "median",
                "[min – max]",
                "target",
                ""
            ));
            rows.iter().for_each(|row| say(&line(row)));
        }
        say(&format!(
            "\n{:<36} {:>9} {:>9} {:>9} {:>10}",
            "PROGRAMS", "wall ms", "user ms", "system ms", "peak MiB"
        ));
        for cost in &self.programs {
            let ProgramCost { name, wall_ms, user_ms, system_ms, peak_bytes } = cost;
            let at_most = if *peak_bytes <= self.memory_floor_bytes { "≤ " } else { "" };
            let peak = format!("{at_most}{:.1}", mib(*peak_bytes));
            say(&format!("{name:<36} {wall_ms:>9.1} {user_ms:>9.1} {system_ms:>9.1} {peak:>10}"));
        }
        say(&format!(
            "(peak: ru_maxrss, which cannot tell less than the {:.1} MiB of the process that starts them)",
            mib(self.memory_floor_bytes)
        ));
    }

    /// The same for programs to read.
    pub(crate) fn to_json(&self) -> String {
        let rows = self.contests.iter().flat_map(|(contest, rows)| {
            rows.iter().map(move |row| {
                let scale = match row.scale {
                    Scale::Wall => "wall_ratio",
                    Scale::Processor => "processor_ratio",
                    Scale::ExtraWallMs => "extra_wall_ms",
                };
                json!({
                    "contest": contest,
                    "name": row.name,
                    "scale": scale,
                    "median": row.median,
                    "min": row.min,
                    "max": row.max,
                    "target": row.target,
                    "over": row.is_over(),
                    "judged": { "name": row.judged.0, "median_ms": row.judged.1 },
                    "against": { "name": row.against.0, "median_ms": row.against.1 },
                })
            })
        });
        let programs = self.programs.iter().map(|cost| {
            let ProgramCost { name, wall_ms, user_ms, system_ms, peak_bytes } = cost;
            json!({
                "name": name, "wall_ms": wall_ms, "user_ms": user_ms, "system_ms": system_ms,
                "peak_bytes": peak_bytes,
            })
        });
        let whole = json!({
            "schema": "sockeye.bench/1",
            "kernel": self.kernel,
            "processors": self.processors,
            "load_average": self.load_average,
            "sockets": self.sockets,
            "rounds": self.rounds,
            "memory_floor_bytes": self.memory_floor_bytes,
            "rows": rows.collect::<Vec<_>>(),
            "programs": programs.collect::<Vec<_>>(),
        });
        format!("{whole:#}\n")
    }
}

fn line(row: &Row) -> String {
    let number = |value: f64| match row.scale {
        Scale::Wall | Scale::Processor => format!("{value:.3}"),
        Scale::ExtraWallMs => format!("{value:.1} ms"),
    };
    let range = match row.scale {
        Scale::Wall | Scale::Processor => format!("[{:.3} – {:.3}]", row.min, row.max),
        Scale::ExtraWallMs => format!("[{:.1} – {:.1}]", row.min, row.max),
    };
    let target = row.target.map(|target| format!("≤ {target}")).unwrap_or_default();
    let verdict = match row.is_over() {
        None => "",
        Some(false) => "ok",
        Some(true) => "OVER",
    };
    let ((judged, judged_ms), (against, against_ms)) = (&row.judged, &row.against);
    format!(
        "{:<36} {:>7} {range:>17}  {target:>6} {verdict:>4}   {judged} {judged_ms:.1}, {against} {against_ms:.1}",
        row.name,
        number(row.median)
    )
}

fn median_ms(times: impl Iterator<Item = Duration>) -> Option<f64> {
    let mut times: Vec<_> = times.collect();
    times.sort_unstable();
    times.get(times.len() / 2).map(|time| time.as_secs_f64() * 1e3)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

#[allow(clippy::print_stdout, reason = "the table is this program's result")]
fn say(line: &str) {
    println!("{line}");
}
