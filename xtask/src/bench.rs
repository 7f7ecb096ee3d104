//! `cargo xtask bench`: builds what is measured and runs it: sockeye against the kernel, or instructions counted.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::instructions;
use crate::workspace::cargo;

/// Compare sockeye with the raw recv loop and ss on real sockets, as ratios taken in one interleaved run
#[derive(clap::Args)]
pub(crate) struct Bench {
    /// Sockets to open, both ends of every connection
    #[arg(long, value_name = "N", default_value_t = 120_000)]
    sockets: usize,
    /// How often everyone is measured, at least 5
    #[arg(long, value_name = "R", default_value_t = 7)]
    rounds: u16,
    /// Also write the result to FILE
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when something is over its target, or counts more instructions than the baseline allows
    #[arg(long)]
    check: bool,
    /// Instead, count the instructions of the pure parts with valgrind and compare with benches/instructions.toml
    #[arg(long, conflicts_with_all = ["sockets", "rounds", "json"])]
    instructions: bool,
    /// Write the counts into the baseline
    #[arg(long, requires = "instructions", conflicts_with = "check")]
    update: bool,
}

impl Bench {
    pub(crate) fn run(&self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
        if self.instructions {
            let programs = build(root, &["sockeye-benches"], &["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"])?;
            let baseline = root.join("benches/instructions.toml");
            return instructions::run(&program(&programs, "scenario")?, &baseline, self.update, self.check);
        }
        let programs = build(root, &["sockeye", "sockeye-benches"], &[])?;
        let mut command = Command::new(program(&programs, "against_kernel")?);
        command.args(["--sockets", &self.sockets.to_string(), "--rounds", &self.rounds.to_string()]);
        command.args(self.check.then_some("--check"));
        if let Some(file) = &self.json {
            command.arg("--json").arg(file);
        }
        let status = command.status().context("running the benchmark")?;
        ensure!(status.success(), "the benchmark: {status}");
        Ok(())
    }
}

/// Builds packages in release, without these variables of the environment, and tells where their programs are.
fn build(root: &Path, packages: &[&str], without: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = Command::new(cargo());
    command.args(["build", "--release", "--message-format", "json-render-diagnostics"]).current_dir(root);
    for package in packages {
        command.args(["--package", package]);
    }
    for variable in without {
        command.env_remove(variable);
    }
    let output = command.stderr(std::process::Stdio::inherit()).output().context("cannot run cargo build")?;
    if !output.status.success() {
        bail!("cargo build: {}", output.status);
    }
    let messages = String::from_utf8(output.stdout).context("cargo build")?;
    let programs = messages.lines().filter_map(|line| {
        let message: Value = serde_json::from_str(line).ok()?;
        message["executable"].as_str().map(PathBuf::from)
    });
    Ok(programs.collect())
}

fn program(programs: &[PathBuf], name: &str) -> Result<PathBuf> {
    let found = programs.iter().find(|path| path.file_name().is_some_and(|file| file == name));
    found.cloned().with_context(|| format!("cargo built no {name}"))
}
