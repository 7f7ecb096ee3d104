//! The project's own rules for files, which no other tool checks.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::rust_code::{blank_all_but_code, has_word};

const LONGEST_FILE: usize = 700;

/// Files that may be longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Files and folders (with a `/` at the end) that may hold `unsafe`, and the system calls they wrap.
const UNSAFE_FILES: &[(&str, &str)] = &[
    ("benches/src/program.rs", "wait4"),
    ("benches/src/raw_walk.rs", "a netlink socket: send, recv"),
    ("benches/src/stopwatch.rs", "clock_gettime of the thread"),
    ("crates/cli/src/run/child.rs", "between fork and exec: one write"),
    ("crates/cli/src/terminal.rs", "ioctl TIOCGWINSZ"),
    ("crates/cli/tests/confined/mod.rs", "between fork and exec: mounts, namespaces, seccomp, limits"),
    ("crates/trace/src/rings.rs", "ioctl PERF_EVENT_IOC_SET_FILTER; a descriptor lent as a number"),
    ("crates/host/src/isolation.rs", "ioctl SIOCSIFFLAGS for lo"),
    ("crates/host/src/port_probe.rs", "setsockopt IP_LOCAL_PORT_RANGE"),
    ("crates/host/tests/kernel.rs", "unshare between fork and exec; SIOCSIFFLAGS for lo"),
    ("crates/sock_diag/src/events.rs", "getsockopt SO_MEMINFO"),
    ("crates/sock_diag/src/namespace.rs", "ioctl NS_GET_NSTYPE"),
    ("crates/sock_diag/src/source.rs", "getsockopt SO_NETNS_COOKIE"),
    ("crates/sock_diag/tests/", "kernel.rs and mptcp.rs open sockets of their own"),
    ("tests/", "the kit: unshare, fork, raw sockets, socket options, an allocator that counts"),
];

/// Names that say nothing about what is inside.
const EMPTY_NAMES: &[&str] = &["common", "helpers", "manager", "misc", "types", "util", "utils"];

/// Marks of unfinished work, written apart so that this file has none.
const UNFINISHED: &[&str] = &[concat!("FIX", "ME"), concat!("XX", "X"), concat!("TO", "DO")];

/// Beginnings of paths that exist on one machine only.
const PRIVATE_PATHS: &[&str] =
    &[concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

/// Folders nobody wrote by hand.
const GENERATED: &[&str] = &["target", ".git", "corpus", "artifacts", "__pycache__"];

/// One line per broken rule in the files under `root`.
pub(crate) fn check(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut findings = Vec::new();
    let mut files = Vec::new();
    for path in files_under(root)? {
        let bytes = fs::read(&path).with_context(|| path.display().to_string())?;
        if let (Ok(text), Ok(name)) = (String::from_utf8(bytes), path.strip_prefix(root)) {
            let name = name.display().to_string();
            let broken = judge(&name, &text);
            findings.extend(broken.into_iter().map(|(line, what)| match line {
                0 => format!("{name}: {what}"),
                line => format!("{name}:{line}: {what}"),
            }));
            files.push((name, text));
        }
    }
    for (table, needs_it) in [(LONG_FILES, is_long as fn(&str) -> bool), (UNSAFE_FILES, is_unsafe)] {
        for (listed, _) in table {
            let mut covered = files.iter().filter(|(name, _)| covers(listed, name) && name.ends_with(".rs"));
            if !covered.any(|(_, text)| needs_it(text)) {
                findings.push(format!("{listed}: stands in a table of tidy and need not"));
            }
        }
    }
    Ok(findings)
}

/// Every file under `folder` that someone wrote, sorted.
pub(crate) fn files_under(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for child in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let child = child?;
            let is_generated = GENERATED.iter().any(|name| child.file_name() == *name);
            match child.file_type()? {
                _ if is_generated => {}
                kind if kind.is_dir() => folders.push(child.path()),
                kind if kind.is_file() => files.push(child.path()),
                _ => {}
            }
        }
    }
    files.sort();
    Ok(files)
}

fn is_listed(table: &[(&str, &str)], name: &str) -> bool {
    table.iter().any(|row| covers(row.0, name))
}

fn covers(listed: &str, name: &str) -> bool {
    listed == name || listed.ends_with('/') && name.starts_with(listed)
}

fn is_long(text: &str) -> bool {
    text.lines().count() > LONGEST_FILE
}

fn is_unsafe(text: &str) -> bool {
    has_word(&blank_all_but_code(text), "unsafe")
}

/// The rules that the file `name` breaks, each with its line, or 0 for the file as a whole.
fn judge(name: &str, text: &str) -> Vec<(usize, String)> {
    let mut broken = Vec::new();
    // Licences and locks are others' words; recorded outputs show what was printed.
    if name.starts_with("LICENSE") || name.ends_with(".lock") || name.ends_with(".snap") {
        return broken;
    }
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        // Two spaces at the end of a line mean a line break in Markdown, where a backslash does as well.
        if line.ends_with([' ', '\t', '\r']) {
            broken.push((number, "white space at the end".to_owned()));
        }
        for mark in UNFINISHED.iter().filter(|mark| has_word(line, mark)) {
            broken.push((number, format!("{mark}: finish it or say it in an issue")));
        }
        for path in PRIVATE_PATHS.iter().filter(|path| names_path(line, path)) {
            broken.push((number, format!("{path}…: a path of one machine")));
        }
    }
    if name.ends_with(".rs") {
        judge_rust(name, text, &mut broken);
    }
    broken
}

/// Whether an absolute path that begins with `path` stands in `line`; `target/home/` is not one.
fn names_path(line: &str, path: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "._-/}".contains(c);
    line.match_indices(path).any(|(at, _)| !line[..at].ends_with(goes_on))
}

fn judge_rust(name: &str, text: &str, broken: &mut Vec<(usize, String)>) {
    if !text.lines().next().is_some_and(|line| line.starts_with("//! ") && line.len() > "//! ".len()) {
        broken.push((1, "the first line must say, after //!, what the file owns".to_owned()));
    }
    let length = text.lines().count();
    if is_long(text) && !is_listed(LONG_FILES, name) {
        broken.push((
            0,
            format!("{length} lines, more than {LONGEST_FILE}: split it, or list it with a reason"),
        ));
    }
    let path = Path::new(name);
    let says_nothing = |part: &str| EMPTY_NAMES.contains(&part);
    if path.with_extension("").iter().any(|part| part.to_str().is_some_and(says_nothing)) {
        broken.push((0, "a module's name says what it owns".to_owned()));
    }
    let code = blank_all_but_code(text);
    if let Some(at) = code.lines().position(|line| has_word(line, "unsafe"))
        && !is_listed(UNSAFE_FILES, name)
    {
        broken.push((
            at + 1,
            "unsafe: only in files that tidy lists with the system call they wrap".to_owned(),
        ));
    }
    for (number, line) in code.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if line.contains(concat!("todo", "!")) {
            broken.push((number, "unfinished".to_owned()));
        }
        let module = line.trim().strip_suffix('{').and_then(|line| line.rsplit_once("mod "));
        if module.is_some_and(|(_, name)| says_nothing(name.trim())) {
            broken.push((number, "a module's name says what it owns".to_owned()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said about a file with this name and text.
    fn said(name: &str, text: &str) -> Vec<String> {
        judge(name, text).into_iter().map(|(line, what)| format!("{line} {what}")).collect()
    }

    #[track_caller]
    fn assert_broken(name: &str, text: &str, expected: &str) {
        let said = said(name, text);
        assert!(said.len() == 1 && said[0].starts_with(expected), "{said:?}");
    }

    #[test]
    fn a_good_file_breaks_nothing() {
        let text = "//! What it owns.\n// never unsafe\nconst WORDS: &str = \"unsafe todo!\";\nfn f() {}\n";
        assert_eq!(said("crates/core/src/pool.rs", text), [""; 0]);
        assert_eq!(said("README.md", "# Title\n"), [""; 0]);
    }

    #[test]
    fn each_rule_is_told_with_its_line() {
        assert_broken("src/a.rs", "fn f() {}\n", "1 the first line");
        assert_broken("src/a.rs", "//!\n", "1 the first line");
        assert_broken("src/a.rs", "", "1 the first line");
        assert_broken("src/util.rs", "//! X.\n", "0 a module's name");
        assert_broken("src/types/mod.rs", "//! X.\n", "0 a module's name");
        assert_broken("src/a.rs", "//! X.\npub mod helpers {\n}\n", "2 a module's name");
        assert_broken("src/a.rs", "//! X.\nfn f() { unsafe { g() } }\n", "2 unsafe");
        assert_broken(
            "src/a.rs",
            &format!("//! X.\nfn f() {{ {}(); }}\n", UNFINISHED[2].to_lowercase() + "!"),
            "2 unfinished",
        );
        assert_broken("README.md", "a \nb\n", "1 white space");
        assert_broken("README.md", &format!("a\nb {}: c\n", UNFINISHED[0]), "2 FIX");
        assert_broken("Cargo.toml", &format!("path = \"{}me\"\n", PRIVATE_PATHS[0]), "1 /ho");
        assert_broken("src/a.rs", &format!("//! X.\n{}", "fn f() {}\n".repeat(LONGEST_FILE)), "0 701 lines");
        assert_eq!(said("src/a.rs", &format!("//! X.\n{}", "fn f() {}\n".repeat(LONGEST_FILE - 1))), [""; 0]);
    }

    #[test]
    fn only_absolute_paths_are_private() {
        let home = PRIVATE_PATHS[0];
        assert!(names_path(&format!("see {home}me"), home));
        assert!(names_path(&format!("\"{home}"), home));
        assert!(!names_path(&format!("https://example.org{home}x"), home));
        assert!(!names_path(&format!("target{home}x"), home));
    }

    #[test]
    fn tables_hold_only_what_needs_a_row() {
        let (listed, _) = UNSAFE_FILES[0];
        assert_eq!(said(listed, "//! X.\nfn f() { unsafe { g() } }\n"), [""; 0]);
        assert!(covers("tests/", "tests/src/fork.rs") && !covers("tests/", "crates/tests/a.rs"));
        assert!(!covers("src/a.rs", "src/a.rs.rs"));
        assert!(is_unsafe("fn f() { unsafe { g() } }") && !is_unsafe("// unsafe\n"));
        // An empty tree needs no row at all, so each row of the tables is told.
        let root = std::env::temp_dir().join(format!("sockeye-tidy-{}", std::process::id()));
        fs::create_dir_all(&root).unwrap();
        let findings = check(&root).unwrap();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(findings.len(), LONG_FILES.len() + UNSAFE_FILES.len(), "{findings:?}");
    }
}
