//! `cargo xtask fuzz`: builds the fuzz targets with libFuzzer on the stable toolchain and runs them.
//!
//! What cargo-fuzz does with `-s none`, without installing it. The targets themselves live in `fuzz/targets`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// Coverage by inline counters, the addresses of what they count, and the operands of comparisons.
const INSTRUMENTATION: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Cdebug-assertions -Coverflow-checks -Ccodegen-units=1";

/// Longer inputs say nothing new and slow the rest down.
const INPUT_LIMIT_BYTES: u32 = 4096;

/// Fuzz the targets in fuzz/targets, all of them unless some are named
#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// Only these
    targets: Vec<String>,
    /// How long each runs
    #[arg(long, value_name = "N", default_value_t = 60, conflicts_with = "smoke")]
    seconds: u64,
    /// 10 seconds each, from the committed corpus alone
    #[arg(long)]
    smoke: bool,
    /// Put what was found into the committed corpus, minimised
    #[arg(long, conflicts_with = "smoke")]
    grow: bool,
}

impl Fuzz {
    pub(crate) fn run(&self) -> Result<()> {
        let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?.join("fuzz");
        let known = targets(&fuzz)?;
        for target in &self.targets {
            ensure!(known.contains(target), "no target {target}; there are {}", known.join(", "));
        }
        let chosen = if self.targets.is_empty() { &known } else { &self.targets };
        let binary = build(&fuzz)?;
        say(format_args!(
            "{:<12} {:>8} {:>12} {:>9} {:>7}",
            "target", "seconds", "executions", "coverage", "inputs"
        ));
        let mut crashed = Vec::new();
        for name in chosen {
            let target = Target { name, fuzz: &fuzz, binary: &binary };
            if !target.fuzz(if self.smoke { 10 } else { self.seconds }, self.smoke)? {
                crashed.push(name.as_str());
            } else if self.grow {
                target.grow()?;
            }
        }
        ensure!(crashed.is_empty(), "crashed: {}", crashed.join(", "));
        Ok(())
    }
}

/// Every target has a committed corpus of its name; a test holds the table to that.
fn targets(fuzz: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for directory in fs::read_dir(fuzz.join("corpus")).context("fuzz/corpus")? {
        names.push(directory?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn build(fuzz: &Path) -> Result<PathBuf> {
    let version = Command::new("rustc").arg("-vV").output().context("rustc -vV")?;
    let version = String::from_utf8_lossy(&version.stdout).into_owned();
    let host =
        version.lines().find_map(|line| line.strip_prefix("host: ")).context("rustc -vV names no host")?;
    // With a target named, cargo leaves build scripts and macros without the instrumentation, which could not link.
    let status = Command::new("cargo")
        .args(["build", "--release", "--quiet", "--target", host])
        .current_dir(fuzz)
        .env("RUSTFLAGS", INSTRUMENTATION)
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .context("cargo build")?;
    ensure!(status.success(), "the fuzz targets do not build");
    Ok(fuzz.join("target").join(host).join("release/sockeye-fuzz"))
}

struct Target<'a> {
    name: &'a str,
    fuzz: &'a Path,
    binary: &'a Path,
}

impl Target<'_> {
    /// Runs for this long; false after a crash, which has been told.
    fn fuzz(&self, seconds: u64, smoke: bool) -> Result<bool> {
        let artifacts = self.fuzz.join("artifacts").join(self.name);
        fs::create_dir_all(&artifacts)?;
        // libFuzzer writes what it finds into the first directory.
        let found = if smoke { self.emptied("smoke")? } else { self.found() };
        fs::create_dir_all(&found)?;
        let output = self
            .command()
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(format!("-max_total_time={seconds}"))
            .args(["-print_final_stats=1", "-timeout=10"])
            .args([&found, &self.corpus()])
            .stdout(Stdio::null())
            .output()
            .with_context(|| format!("running {}", self.binary.display()))?;
        let log = String::from_utf8_lossy(&output.stderr);
        let executions = log.lines().find_map(|l| l.strip_prefix("stat::number_of_executed_units:"));
        let coverage = log.lines().rev().find_map(|l| l.split(" cov: ").nth(1)?.split(' ').next());
        say(format_args!(
            "{:<12} {seconds:>8} {:>12} {:>9} {:>7}",
            self.name,
            executions.unwrap_or("?").trim(),
            coverage.unwrap_or("?"),
            count(&self.corpus())? + count(&found)?,
        ));
        if output.status.success() {
            // A run that saw no coverage was built without instrumentation, and proves nothing.
            ensure!(coverage.is_some_and(|c| c != "0"), "{} ran without coverage", self.name);
            return Ok(true);
        }
        let lines: Vec<&str> = log.lines().collect();
        say(format_args!("{}", lines[lines.len().saturating_sub(40)..].join("\n")));
        Ok(false)
    }

    /// Replaces the committed corpus by the fewest inputs that reach as much as it and all that was found.
    fn grow(&self) -> Result<()> {
        let merged = self.emptied("merged")?;
        let status = self
            .command()
            // By edges alone: counts and operands would keep twice as many.
            .args(["-set_cover_merge=1", "-use_counters=0", "-use_cmp=0"])
            .args([&merged, &self.corpus(), &self.found()])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if !status.success() || count(&merged)? == 0 {
            bail!("merging the corpus of {} failed", self.name);
        }
        for old in fs::read_dir(self.corpus())? {
            fs::remove_file(old?.path())?;
        }
        for new in fs::read_dir(&merged)? {
            let new = new?;
            fs::copy(new.path(), self.corpus().join(new.file_name()))?;
        }
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.binary);
        command.env("SOCKEYE_FUZZ_TARGET", self.name).arg(format!("-max_len={INPUT_LIMIT_BYTES}"));
        command
    }

    fn corpus(&self) -> PathBuf {
        self.fuzz.join("corpus").join(self.name)
    }

    fn found(&self) -> PathBuf {
        self.fuzz.join("target/found").join(self.name)
    }

    fn emptied(&self, purpose: &str) -> Result<PathBuf> {
        let directory = self.fuzz.join("target").join(purpose).join(self.name);
        if directory.exists() {
            fs::remove_dir_all(&directory)?;
        }
        fs::create_dir_all(&directory)?;
        Ok(directory)
    }
}

fn count(directory: &Path) -> Result<usize> {
    Ok(fs::read_dir(directory)?.count())
}

#[allow(clippy::print_stdout, reason = "the table is this command's result")]
fn say(line: std::fmt::Arguments<'_>) {
    println!("{line}");
}
