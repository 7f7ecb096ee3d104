//! What watches and closes look like, byte for byte: captures of made-up hosts over time, read by the program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::fs::File;
use std::io::Read;

use insta::assert_snapshot;
use nix::pty::{Winsize, openpty};
use recorded::{run, sockeye, watches};
use serde_json::Value;
use tempfile::TempDir;

/// What it prints; it must end well. Notes are for stderr.
#[track_caller]
fn printed(arguments: &str) -> String {
    let said = watches::print(watches::proxy, arguments);
    assert_eq!(said.code, 0, "sockeye {arguments}: {said:?}");
    assert!(said.stderr.lines().all(|line| line.starts_with("sockeye: ")), "{said:?}");
    said.stdout
}

#[test]
fn watch_formats() {
    assert_snapshot!("watch_table", printed("watch"));
    assert_snapshot!("watch_table_no_header", printed("watch -H"));
    assert_snapshot!("watch_table_colour", printed("watch --color always").replace('\x1b', "␛"));
    assert_snapshot!("watch_jsonl", printed("watch --json"));
    assert_snapshot!("watch_csv", printed("watch -o csv"));
    assert_eq!(printed("watch -o json"), printed("watch --json"), "the word of other commands is understood");
}

#[test]
fn a_header_stands_on_every_screenful() {
    let on_terminal = |rows: u16| {
        let directory = TempDir::new().unwrap();
        let capture = watches::proxy(directory.path());
        let size = Winsize { ws_row: rows, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        let pty = openpty(Some(&size), None).unwrap();
        let mut command = sockeye("watch --color never");
        command.arg("--replay").arg(capture).stdout(pty.slave);
        let output = command.spawn().unwrap();
        drop(command);
        let (mut terminal, mut bytes, mut text) = (File::from(pty.master), [0; 4096], Vec::new());
        // A terminal nobody writes to any more answers EIO.
        while let Ok(count) = terminal.read(&mut bytes) {
            text.extend_from_slice(&bytes[..count]);
        }
        assert!(output.wait_with_output().unwrap().status.success());
        String::from_utf8(text).unwrap().replace("\r\n", "\n")
    };
    let headers = |text: &str| text.lines().map(|line| line.starts_with("TIME")).collect::<Vec<_>>();
    let plain = printed("watch");
    assert_eq!(headers(&plain), [true, false, false, false, false, false], "a pipe has one");
    assert_eq!(on_terminal(24), plain);
    let small = on_terminal(4);
    assert_eq!(headers(&small), [true, false, false, true, false, false, true, false]);
    let rows = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with("TIME")).map(str::to_owned).collect()
    };
    assert_eq!(rows(&small), rows(&plain));
}

#[test]
fn closes_formats() {
    assert_snapshot!("closes_table", printed("closes"));
    assert_snapshot!("closes_table_colour", printed("closes --color always").replace('\x1b', "␛"));
    assert_snapshot!("closes_jsonl", printed("closes --json"));
    assert_snapshot!("closes_csv", printed("closes -o csv"));
    assert_snapshot!("closes_filtered", printed("closes -H dst 10.0.9.12 and not sport = 40000"));
}

#[test]
fn a_replay_is_the_same_every_time() {
    for arguments in ["watch", "watch --json", "watch -o csv", "closes", "closes --json", "closes -o csv"] {
        assert_eq!(printed(arguments), printed(arguments), "{arguments}");
    }
}

#[test]
fn a_replay_can_be_cut_short() {
    let all = printed("watch -H");
    assert_eq!(all.lines().count(), 5);
    assert_eq!(printed("watch -H 1 2").lines().collect::<Vec<_>>(), all.lines().take(2).collect::<Vec<_>>());
    assert_eq!(printed("watch -H --for 3s").lines().count(), 3);
    let closes = printed("closes -H");
    assert_eq!(printed("closes -H --count 1"), closes.split_inclusive('\n').take(1).collect::<String>());
}

#[test]
fn top_bounds_the_lists_of_a_line() {
    let lists = |arguments: &str| -> (usize, usize) {
        let text = printed(arguments);
        let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        let length = |name: &str| line[name].as_array().unwrap().len();
        (length("destinations"), length("listeners"))
    };
    assert_eq!(lists("watch --json --top 0"), (0, 0));
    assert_eq!(lists("watch --json --top 1"), (1, 1));
    assert_eq!(lists("watch --json"), (2, 1));
}

#[test]
fn helps_of_streams() {
    for (name, arguments) in [("help_watch", "watch --help"), ("help_closes", "closes --help")] {
        let said = run(arguments);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""));
        assert!(said.stdout.lines().all(|line| line.chars().count() <= 100));
        assert_snapshot!(name, said.stdout);
    }
}
