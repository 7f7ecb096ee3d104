//! Dependencies point one way: sock_diag ← core ← host ← cli, trace ← cli, and core takes only values from sock_diag.

use std::fs;

use anyhow::Context;

use crate::rust_code::blank_all_but_code;
use crate::tidy;
use crate::workspace::Workspace;

/// What each crate of ours may be built on. A new crate gets a row; benches, tests and xtask stand outside and
/// nothing is built on them.
const LAYERS: &[(&str, &[&str])] = &[
    ("sockeye-sock-diag", &[]),
    ("sockeye-core", &["sockeye-sock-diag"]),
    ("sockeye-host", &["sockeye-sock-diag", "sockeye-core"]),
    ("sockeye-trace", &[]),
    ("sockeye-gate", &[]),
    ("sockeye-recording", &[]),
    (
        "sockeye",
        &[
            "sockeye-sock-diag",
            "sockeye-core",
            "sockeye-host",
            "sockeye-trace",
            "sockeye-gate",
            "sockeye-recording",
        ],
    ),
];

/// Members that may use every crate of [`LAYERS`].
const OUTSIDE: &[&str] = &["sockeye-benches", "sockeye-tests", "xtask"];

/// What core may name of sock_diag: values without a socket, a buffer or an errno.
const VALUES: &[&str] = &[
    "Cookie",
    "Family",
    "Protocol",
    "SocketId",
    "SocketOptions",
    "SocketRecord",
    "SocketState",
    "StateSet",
    "TcpInfo",
    "Timer",
    "TimerKind",
];

/// One line per dependency that points the wrong way.
pub(crate) fn check(workspace: &Workspace) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    let members: Vec<_> = workspace.packages().iter().filter(|package| package.is_member).collect();
    for member in &members {
        let ours = member.dependencies.iter().filter(|name| members.iter().any(|other| other.name == **name));
        findings.extend(ours.filter_map(|dependency| edge_finding(&member.name, dependency)));
        if row(&member.name).is_none() && !OUTSIDE.contains(&member.name.as_str()) {
            findings.push(format!("{}: has no row in LAYERS", member.name));
        }
    }
    for path in tidy::files_under(&workspace.root().join("crates/core/src"))? {
        if path.extension().is_some_and(|extension| extension == "rs") {
            let source = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
            let shown = path.strip_prefix(workspace.root()).unwrap_or(&path).display();
            let named = names_of_sock_diag(&blank_all_but_code(&source));
            let others = named.into_iter().filter(|name| !VALUES.contains(&name.as_str()));
            findings.extend(others.map(|name| format!("{shown}: core may not name sock_diag::{name}")));
        }
    }
    Ok(findings)
}

fn row(name: &str) -> Option<&'static [&'static str]> {
    LAYERS.iter().find(|row| row.0 == name).map(|row| row.1)
}

fn edge_finding(member: &str, dependency: &str) -> Option<String> {
    let allowed = match row(member) {
        Some(allowed) => allowed.contains(&dependency),
        None => row(dependency).is_some() || dependency == "sockeye-tests",
    };
    (!allowed).then(|| format!("{member}: may not be built on {dependency}"))
}

/// The first path segment after each `sock_diag`, in a group or alone; the empty name for the crate itself,
/// renamed or imported whole.
fn names_of_sock_diag(code: &str) -> Vec<String> {
    let mut names = Vec::new();
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    for (at, krate) in code.match_indices("sock_diag") {
        let (before, after) = (&code[..at], &code[at + krate.len()..]);
        if before.ends_with(is_part) || after.starts_with(is_part) {
            continue;
        }
        let Some(path) = after.trim_start().strip_prefix("::") else {
            names.push(String::new());
            continue;
        };
        let path = path.trim_start();
        match path.strip_prefix('{') {
            Some(group) => names.extend(group_names(group)),
            None => names.push(first_name(path)),
        }
    }
    names
}

/// First segments of the paths in a group, whose opening brace is already read.
fn group_names(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut starts = vec![0];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => starts.push(at + 1),
            _ => {}
        }
    }
    let names = starts.iter().map(|start| group[*start..].trim_start());
    names.filter(|name| !name.starts_with('}')).map(first_name).collect()
}

fn first_name(path: &str) -> String {
    path.chars().take_while(|c| c.is_alphanumeric() || "_*".contains(*c)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edges_point_down() {
        assert_eq!(edge_finding("sockeye-core", "sockeye-sock-diag"), None);
        assert_eq!(edge_finding("sockeye", "sockeye-host"), None);
        assert_eq!(edge_finding("sockeye-benches", "sockeye-host"), None);
        assert_eq!(edge_finding("sockeye-benches", "sockeye-tests"), None);
        assert_eq!(
            edge_finding("sockeye-core", "sockeye-host").unwrap(),
            "sockeye-core: may not be built on sockeye-host"
        );
        assert!(edge_finding("sockeye", "sockeye-tests").is_some());
        assert!(edge_finding("sockeye-tests", "xtask").is_some());
    }

    #[test]
    fn every_spelling_of_a_use_is_seen() {
        for (code, names) in [
            ("use sock_diag::Cookie;", vec!["Cookie"]),
            ("use sock_diag::{Cookie, Timer as T,\n};", vec!["Cookie", "Timer"]),
            ("use sock_diag::{self, record::{A, B}, Family};", vec!["self", "record", "Family"]),
            ("fn f() -> ::sock_diag :: Error {}", vec!["Error"]),
            ("use sock_diag::*;", vec!["*"]),
            ("use sock_diag as s;", vec![""]),
            ("let sock_diagram = my_sock_diag::X;", vec![]),
        ] {
            assert_eq!(names_of_sock_diag(code), names, "{code}");
        }
    }
}
