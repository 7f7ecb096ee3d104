//! Who descends from this process: children, their children, and orphans that came back to it.
//!
//! Orphans come back because this process is made the reaper of its descendants (`PR_SET_CHILD_SUBREAPER`).

use std::collections::{HashMap, HashSet};
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid};

/// All that live now, in no order. Who was born while it looked may be missing; zombies are not told.
pub(crate) fn descendants() -> Vec<Pid> {
    census().0.into_iter().map(|pid| Pid::from_raw(pid as i32)).collect()
}

/// The same, and all others that live now.
pub(crate) fn census() -> (HashSet<u32>, HashSet<u32>) {
    let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = living_parent(&stat) {
            children.entry(parent).or_default().push(pid);
        }
    }
    let mut found = HashSet::new();
    let mut next = vec![getpid().as_raw() as u32];
    while let Some(pid) = next.pop() {
        // A process's number may have been given out again while we read; no one is asked twice.
        next.extend(children.remove(&pid).into_iter().flatten().filter(|child| found.insert(*child)));
    }
    // Who was not reached.
    let others = children.into_values().flatten().collect();
    (found, others)
}

/// Sends a signal to all of them. Returns how many there were.
pub(crate) fn signal_all(signal: Signal) -> usize {
    let all = descendants();
    for pid in &all {
        // Who is gone meanwhile needs none.
        let _ = kill(*pid, signal);
    }
    all.len()
}

/// The parent in `/proc/<pid>/stat`; None of a zombie, and of what is no such text.
fn living_parent(stat: &[u8]) -> Option<u32> {
    // A process may call itself anything, parentheses included.
    let after = stat.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(stat.get(after + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?;
    let parent = fields.next()?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(parent)
}

/// Whether a process has begun to end: it has no memory any more, and its descriptors are being closed or were.
pub(crate) fn is_ending(pid: u32) -> bool {
    match fs::read(format!("/proc/{pid}/statm")) {
        Ok(text) => text.starts_with(b"0 "),
        Err(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn parents_are_read_behind_any_name() {
        assert_eq!(living_parent(b"12 (a) S 7 1 1"), Some(7));
        assert_eq!(living_parent(b"12 (a) R 3 (b) S 7 1 1"), Some(7));
        assert_eq!(living_parent(b"12 (a) Z 7 1 1"), None);
        for junk in [&b""[..], b"12", b"12 (a)", b"12 (a) S", b"12 (a) S x", b"\xff) \xff 1"] {
            assert_eq!(living_parent(junk), None);
        }
    }

    #[test]
    fn a_child_descends_until_it_has_ended() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = Pid::from_raw(child.id() as i32);
        assert!(descendants().contains(&pid) && !is_ending(child.id()));
        drop(child.stdin.take());
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !is_ending(child.id()) {
            assert!(std::time::Instant::now() < deadline, "cat has no input and goes on");
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(!descendants().contains(&pid) && is_ending(child.id()));
    }
}
