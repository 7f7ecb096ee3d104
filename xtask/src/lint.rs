//! `cargo xtask lint`: every check of form, one after another, and a verdict at the end.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use clap::ValueEnum;

use crate::workspace::Workspace;
use crate::{layers, licences, tidy};

/// Check form: formatting, clippy, documentation, licences, tidiness, the direction of dependencies
#[derive(clap::Args)]
pub(crate) struct Lint {
    /// Run only these checks
    #[arg(value_enum)]
    checks: Vec<Check>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
enum Check {
    /// Nothing for rustfmt to change
    Format,
    /// No warning of clippy or the compiler, in any target
    Clippy,
    /// No warning of rustdoc
    Docs,
    /// Every dependency's licence is allowed by deny.toml
    Licences,
    /// The project's own rules for files
    Tidy,
    /// Dependencies point one way
    Layers,
}

impl Lint {
    /// Runs the checks and tells the broken ones together, so that one run shows everything.
    pub(crate) fn run(&self) -> anyhow::Result<()> {
        let workspace = Workspace::open(Path::new(env!("CARGO_MANIFEST_DIR")))?;
        let chosen = |check: &Check| self.checks.is_empty() || self.checks.contains(check);
        let mut broken = Vec::new();
        for check in Check::value_variants().iter().filter(|check| chosen(check)) {
            let name = format!("{check:?}").to_lowercase();
            eprintln!("── {name}");
            if let Err(error) = check.run(&workspace) {
                eprintln!("{error:#}");
                broken.push(name);
            }
        }
        match broken.as_slice() {
            [] => {
                eprintln!("── lint: all well");
                Ok(())
            }
            broken => bail!("lint: broken: {}", broken.join(", ")),
        }
    }
}

impl Check {
    fn run(self, workspace: &Workspace) -> anyhow::Result<()> {
        match self {
            Check::Format => cargo(workspace, &["fmt", "--all", "--check"], None),
            Check::Clippy => {
                cargo(workspace, &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], None)
            }
            Check::Docs => {
                cargo(workspace, &["doc", "--workspace", "--no-deps"], Some(("RUSTDOCFLAGS", "-D warnings")))
            }
            Check::Licences => told(licences::check(workspace)?),
            Check::Tidy => told(tidy::check(workspace.root())?),
            Check::Layers => told(layers::check(workspace)?),
        }
    }
}

fn cargo(workspace: &Workspace, arguments: &[&str], variable: Option<(&str, &str)>) -> anyhow::Result<()> {
    let mut command = Command::new(crate::workspace::cargo());
    command.args(arguments).envs(variable).current_dir(workspace.root());
    let status = command.status().context("cannot run cargo")?;
    if !status.success() {
        bail!("cargo {}: {status}", arguments.join(" "));
    }
    Ok(())
}

/// Fails with the findings, one a line, if there are any.
fn told(findings: Vec<String>) -> anyhow::Result<()> {
    match findings.len() {
        0 => Ok(()),
        count => bail!("{}\n{count} to mend", findings.join("\n")),
    }
}
