//! The workspace as `cargo metadata` tells it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;

/// The workspace and every package it is built from on Linux.
pub(crate) struct Workspace {
    root: PathBuf,
    packages: Vec<Package>,
}

/// A package, ours or someone else's.
pub(crate) struct Package {
    /// Name on the registry or in the workspace.
    pub(crate) name: String,
    /// Version.
    pub(crate) version: String,
    /// SPDX expression; None when Cargo.toml has none.
    pub(crate) license: Option<String>,
    /// Whether it belongs to this workspace.
    pub(crate) is_member: bool,
    /// Names of the packages it is compiled with; those of its tests and build scripts are left out.
    pub(crate) dependencies: Vec<String>,
}

/// The cargo that runs this, or the one in PATH.
pub(crate) fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

impl Workspace {
    /// Asks cargo about the workspace that `folder` belongs to.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Workspace> {
        let output = Command::new(cargo())
            .args(["metadata", "--format-version", "1", "--filter-platform", "x86_64-unknown-linux-gnu"])
            .current_dir(folder)
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo metadata")?;
        if !output.status.success() {
            bail!("cargo metadata: {}", output.status);
        }
        let metadata = serde_json::from_slice(&output.stdout).context("cargo metadata")?;
        Workspace::from_metadata(&metadata).context("cargo metadata lacks a field")
    }

    fn from_metadata(metadata: &Value) -> Option<Workspace> {
        let members = metadata["workspace_members"].as_array()?;
        let mut packages = Vec::new();
        for package in metadata["packages"].as_array()? {
            let dependencies = package["dependencies"].as_array()?.iter();
            packages.push(Package {
                name: package["name"].as_str()?.to_owned(),
                version: package["version"].as_str()?.to_owned(),
                license: package["license"].as_str().map(str::to_owned),
                is_member: members.contains(&package["id"]),
                dependencies: dependencies
                    .filter(|dependency| dependency["kind"].is_null())
                    .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
                    .collect(),
            });
        }
        Some(Workspace { root: PathBuf::from(metadata["workspace_root"].as_str()?), packages })
    }

    /// The folder of the workspace's Cargo.toml.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// All packages, the workspace's own among them.
    pub(crate) fn packages(&self) -> &[Package] {
        &self.packages
    }
}
