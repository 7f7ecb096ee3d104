//! Every package that is compiled, for the program or its tests, has a licence that deny.toml allows.

use anyhow::Context;

use crate::spdx;
use crate::workspace::{Package, Workspace};

/// One line per package that may not be used, here or by the fuzz targets, which are a workspace of their own.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(workspace.root().join("deny.toml")).context("deny.toml")?;
    let deny: toml::Table = text.parse().context("deny.toml")?;
    let allowed = allowed(&deny).context("deny.toml: [licenses] allow is not a list of texts")?;
    let mut findings = objections(workspace, &allowed);
    let fuzz = workspace.root().join("fuzz");
    if fuzz.exists() {
        findings.extend(objections(&Workspace::open(&fuzz)?, &allowed));
    }
    Ok(findings)
}

fn objections(workspace: &Workspace, allowed: &[&str]) -> Vec<String> {
    workspace.packages().iter().filter_map(|package| objection(package, allowed)).collect()
}

fn allowed(deny: &toml::Table) -> Option<Vec<&str>> {
    deny.get("licenses")?.get("allow")?.as_array()?.iter().map(|licence| licence.as_str()).collect()
}

fn objection(package: &Package, allowed: &[&str]) -> Option<String> {
    let Package { name, version, license, .. } = package;
    let Some(license) = license else { return Some(format!("{name} {version}: no licence expression")) };
    match spdx::is_satisfied(license, allowed) {
        Ok(true) => None,
        Ok(false) => Some(format!("{name} {version}: deny.toml does not allow {license}")),
        Err(error) => Some(format!("{name} {version}: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(license: Option<&str>) -> Package {
        Package {
            name: "some".into(),
            version: "1.0.0".into(),
            license: license.map(str::to_owned),
            is_member: false,
            dependencies: vec![],
        }
    }

    #[test]
    fn objections() {
        let object = |license| objection(&package(license), &["MIT"]);
        assert_eq!(object(Some("MIT")), None);
        assert_eq!(
            object(Some("GPL-3.0-only")).unwrap(),
            "some 1.0.0: deny.toml does not allow GPL-3.0-only"
        );
        assert_eq!(object(None).unwrap(), "some 1.0.0: no licence expression");
        assert!(object(Some("MIT OR")).unwrap().contains("found the end"));
    }

    #[test]
    fn the_list_is_read_from_where_cargo_deny_reads_it() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        assert_eq!(allowed(&table("[licenses]\nallow = [\"MIT\"]")), Some(vec!["MIT"]));
        assert_eq!(allowed(&table("[licenses]\nallow = [1]")), None);
        assert_eq!(allowed(&table("[bans]\nallow = [\"MIT\"]")), None);
    }
}
