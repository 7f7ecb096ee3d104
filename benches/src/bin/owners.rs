//! What finding the owners of many sockets costs: the first time, and at each tick while some are closed and opened.
//!
//! Sockets of AF_UNIX that are bound to nothing stand for all: a descriptor is read the same way whatever the socket's family.

use std::collections::VecDeque;
use std::fs;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::os::fd::AsRawFd;
use std::os::linux::fs::MetadataExt;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use sock_diag::Cookie;
use sockeye_benches::timed;
use sockeye_host::owners::Owners;

const PROCESSES: usize = 10;
/// Not more a process than its limit usually lets it have.
const SOCKETS: usize = 190_000;
/// Closed and opened between two ticks.
const CHURN: usize = 1_000;
const TICKS: usize = 10;
const BUDGET: Duration = Duration::from_millis(5);

fn main() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        None => measure(),
        Some("hold") => hold(SOCKETS / PROCESSES),
        Some(_) => bail!("owners (no arguments)"),
    }
}

fn measure() -> Result<()> {
    let mut workers = (0..PROCESSES).map(|_| Worker::begin()).collect::<Result<Vec<_>>>()?;
    let mut owners = Owners::of_this_host();
    let mut say = stdout();
    let before = sockeye_benches::own_resident_bytes()?;

    for worker in &mut workers {
        worker.sockets(SOCKETS / PROCESSES)?.iter().for_each(|(_, inode)| want(&mut owners, *inode));
    }
    let wanted = sockeye_benches::own_resident_bytes()?;
    let first = work(&mut owners, SOCKETS)?;
    writeln!(say, "first time, {SOCKETS} sockets of {PROCESSES} processes: {first}")?;
    let found = sockeye_benches::own_resident_bytes()?;
    let each = |bytes: u64| bytes.saturating_sub(before) / SOCKETS as u64;
    writeln!(
        say,
        "memory above the idle process: {} bytes a socket when all are wanted, {} when all are found",
        each(wanted),
        each(found)
    )?;

    let begin = Instant::now();
    let mut everyone = Owners::of_this_host();
    everyone.read_everyone();
    let known = everyone.known_sockets();
    writeln!(say, "read as a whole: {known} sockets in {:.1?}", begin.elapsed())?;
    drop(everyone);

    for told in [true, false] {
        let mut ticks = Spent::default();
        for _ in 0..TICKS {
            for worker in &mut workers {
                for (gone, inode) in worker.churn(CHURN / PROCESSES)? {
                    if told {
                        owners.gone(gone);
                    }
                    want(&mut owners, inode);
                }
            }
            ticks.add(&work(&mut owners, CHURN)?);
        }
        let how = if told { "told what is gone" } else { "told nothing" };
        writeln!(say, "{TICKS} ticks of {CHURN} new sockets, {how}: {ticks}")?;
    }
    Ok(())
}

/// Processor time spent in calls of `work`: on a busy machine the clock would tell of others.
#[derive(Default)]
struct Spent {
    all: Duration,
    calls: u32,
    longest: Duration,
}

impl Spent {
    fn add(&mut self, other: &Spent) {
        self.all += other.all;
        self.calls += other.calls;
        self.longest = self.longest.max(other.longest);
    }
}

impl std::fmt::Display for Spent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Spent { all, calls, longest } = self;
        write!(f, "{all:.1?} in {calls} calls of {BUDGET:?}, the longest {longest:.2?}")
    }
}

fn want(owners: &mut Owners, inode: u32) {
    owners.want(Cookie(u64::from(inode)), inode, 0, None);
}

/// Works until all that are wanted are found.
fn work(owners: &mut Owners, wanted: usize) -> Result<Spent> {
    let mut spent = Spent::default();
    let mut found = 0;
    loop {
        let mut left = 0;
        let took = timed(|| {
            left = owners.work(BUDGET).left;
            Ok(())
        })?;
        spent.add(&Spent { all: took.processor, calls: 1, longest: took.processor });
        found += owners.answers().iter().filter(|(_, owner)| owner.is_some()).count();
        if left == 0 {
            ensure!(found == wanted, "{found} of {wanted} are found");
            return Ok(spent);
        }
    }
}

/// A process that holds sockets.
struct Worker {
    child: Child,
    orders: ChildStdin,
    reports: BufReader<ChildStdout>,
}

impl Worker {
    fn begin() -> Result<Worker> {
        let program = std::env::current_exe()?;
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$0\" hold"]).arg(program);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().context("stdin")?;
        let reports = BufReader::new(child.stdout.take().context("stdout")?);
        Ok(Worker { child, orders, reports })
    }

    /// Pairs of inodes: what was closed (0: nothing) and what was opened.
    fn sockets(&mut self, count: usize) -> Result<Vec<(u32, u32)>> {
        let mut pairs = Vec::with_capacity(count);
        let mut line = String::new();
        for _ in 0..count {
            line.clear();
            self.reports.read_line(&mut line)?;
            let (gone, new) = line.trim_end().split_once(' ').context("a worker has ended")?;
            pairs.push((gone.parse()?, new.parse()?));
        }
        Ok(pairs)
    }

    fn churn(&mut self, count: usize) -> Result<Vec<(u32, u32)>> {
        writeln!(self.orders, "{count}")?;
        self.sockets(count)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In the worker: opens the sockets, then closes and opens as many as each line says, anywhere among them.
fn hold(count: usize) -> Result<()> {
    let open = || -> Result<(UnixDatagram, u32)> {
        let socket = UnixDatagram::unbound()?;
        let inode = fs::metadata(format!("/proc/self/fd/{}", socket.as_raw_fd()))?.st_ino();
        Ok((socket, u32::try_from(inode)?))
    };
    let mut out = stdout().lock();
    let mut held = VecDeque::with_capacity(count);
    for _ in 0..count {
        let (socket, inode) = open()?;
        writeln!(out, "0 {inode}")?;
        held.push_back((socket, inode));
    }
    out.flush()?;
    let mut dice = 1_u64;
    for line in stdin().lines() {
        let mut gone = Vec::new();
        for _ in 0..line?.parse()? {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (dice >> 33) as usize % held.len();
            let (_, inode) = held.swap_remove_back(at).context("one of them")?;
            gone.push(inode);
        }
        for gone in gone {
            let (socket, inode) = open()?;
            writeln!(out, "{gone} {inode}")?;
            held.push_back((socket, inode));
        }
        out.flush()?;
    }
    Ok(())
}
