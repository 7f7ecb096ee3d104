//! `cargo xtask generate`: man pages and completions of the program, as files.
//!
//! The definition of the command line lives in the program, and the crates that write these do not belong into it. So a test of
//! the program writes them (`crates/cli/src/generated.rs`), and this runs that test.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::workspace::cargo;

/// Write man pages and completions (bash, zsh, fish) to target/generated
#[derive(clap::Args)]
pub(crate) struct Generate {
    /// Write them there
    #[arg(long, value_name = "FOLDER")]
    to: Option<PathBuf>,
}

impl Generate {
    pub(crate) fn run(&self) -> Result<()> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
        let folder = self.to.clone().unwrap_or_else(|| root.join("target/generated"));
        generate(root, &folder)?;
        eprintln!("man pages and completions are in {}", folder.display());
        Ok(())
    }
}

/// Fills `folder` with `man/` and `completions/`.
pub(crate) fn generate(root: &Path, folder: &Path) -> Result<()> {
    if folder.exists() {
        for written in ["man", "completions"].map(|name| folder.join(name)).iter().filter(|old| old.exists())
        {
            std::fs::remove_dir_all(written)
                .with_context(|| format!("cannot remove {}", written.display()))?;
        }
    }
    let absolute = std::path::absolute(folder).with_context(|| folder.display().to_string())?;
    let status = Command::new(cargo())
        .args(["test", "--quiet", "--package", "sockeye", "--bin", "sockeye", "generated::"])
        .current_dir(root)
        .env("SOCKEYE_GENERATE", absolute)
        .stdout(std::process::Stdio::null())
        .status()
        .context("cannot run cargo test")?;
    ensure!(status.success(), "the test that writes man pages and completions failed: {status}");
    // A test that was renamed would run nothing and succeed.
    ensure!(folder.join("man/sockeye.1").exists(), "nothing was written to {}", folder.display());
    Ok(())
}
