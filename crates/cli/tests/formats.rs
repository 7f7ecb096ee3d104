//! What every output looks like, byte for byte: captures of made-up hosts, read by the program.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::fs::File;
use std::io::Read;

use insta::assert_snapshot;
use nix::pty::{Winsize, openpty};
use recorded::{Host, hosts, run, sockeye};

/// What the program prints of this host to a terminal so wide.
fn on_terminal(host: &Host, columns: u16, arguments: &str) -> String {
    let directory = tempfile::TempDir::new().unwrap();
    let capture = host.capture(directory.path());
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let mut command = sockeye(arguments);
    command.arg("--replay").arg(capture).env("TERM", "xterm").stdout(pty.slave);
    let mut child = command.spawn().unwrap();
    // The command holds the terminal's other end: reading ends only when that is closed too.
    drop(command);
    let (mut terminal, mut bytes) = (File::from(pty.master), [0; 4096]);
    let mut text = Vec::new();
    // A terminal nobody writes to any more answers EIO.
    while let Ok(count) = terminal.read(&mut bytes) {
        text.extend_from_slice(&bytes[..count]);
    }
    assert!(child.wait().unwrap().success());
    // The terminal's driver puts a carriage return before each newline.
    String::from_utf8(text).unwrap().replace("\r\n", "\n")
}

/// Escape sequences in a form that can be read and kept.
fn visible(text: &str) -> String {
    text.replace('\x1b', "␛")
}

fn widest(text: &str) -> usize {
    text.lines().map(|line| line.chars().count()).max().unwrap_or(0)
}

#[test]
fn snapshot_screens() {
    assert_snapshot!("screen_idle", hosts::idle().print("snapshot"));
    assert_snapshot!("screen_proxy", hosts::proxy().print("snapshot"));
    assert_snapshot!("screen_busy_udp", hosts::busy_udp().print("snapshot"));
    assert_snapshot!("screen_troubled", hosts::troubled().print("snapshot"));
    assert_snapshot!("screen_portless", hosts::portless().print("snapshot"));
}

#[test]
fn snapshot_rows_asked_for() {
    let proxy = hosts::proxy();
    assert_snapshot!("screen_top_0", proxy.print("--top 0"));
    assert_snapshot!("screen_top_1", proxy.print("--top 1"));
    for key in ["in-use", "live", "time-wait", "closes", "headroom"] {
        let first = |output: String| output.lines().find(|line| line.contains(" → ")).unwrap().to_owned();
        assert!(first(proxy.print(&format!("--sort {key}"))).contains("10.0.9.12:8080"), "{key}");
    }
}

#[test]
fn snapshot_on_terminals() {
    let proxy = hosts::proxy();
    let plain = on_terminal(&proxy, 120, "--color never");
    assert_eq!(plain, proxy.print(""), "a pipe is as wide as a terminal of 120 columns");
    let narrow = on_terminal(&proxy, 80, "--color never");
    assert_snapshot!("screen_80", narrow);
    let wide = on_terminal(&proxy, 250, "--color never");
    assert_snapshot!("screen_250", wide);
    assert_snapshot!("screen_colour", visible(&on_terminal(&proxy, 120, "")));
    let troubled = on_terminal(&hosts::troubled(), 80, "");
    assert_snapshot!("screen_troubled_colour_80", visible(&troubled));
}

#[test]
fn snapshots_fit_their_terminals() {
    for (name, host) in [
        ("idle", hosts::idle()),
        ("proxy", hosts::proxy()),
        ("udp", hosts::busy_udp()),
        ("troubled", hosts::troubled()),
        ("portless", hosts::portless()),
        ("zoo", hosts::zoo()),
    ] {
        for columns in [80, 100, 140, 250] {
            let screen = on_terminal(&host, columns, "--color never");
            assert!(widest(&screen) <= usize::from(columns), "{name} in {columns} columns:\n{screen}");
        }
    }
}

#[test]
fn snapshot_json() {
    assert_snapshot!("json_idle", hosts::idle().print("--json"));
    assert_snapshot!("json_proxy", hosts::proxy().print("snapshot --top 2 -o json"));
    assert_snapshot!("json_troubled", hosts::troubled().print("--json --sort closes"));
    assert_snapshot!("json_portless", hosts::portless().print("--output json"));
}

#[test]
fn ports() {
    let proxy = hosts::proxy();
    assert_snapshot!("ports_screen", proxy.print("ports"));
    assert_snapshot!("ports_screen_200", on_terminal(&proxy, 200, "ports --color never"));
    assert_snapshot!("ports_screen_colour_80", visible(&on_terminal(&hosts::troubled(), 80, "ports")));
    assert_snapshot!("ports_screen_towards", proxy.print("ports --from 10.0.0.7 --to 10.0.9.13:8080"));
    assert_snapshot!("ports_screen_udp", hosts::busy_udp().print("ports -u"));
    assert_snapshot!("ports_screen_portless", hosts::portless().print("ports"));
    assert_snapshot!("ports_screen_idle", hosts::idle().print("ports"));
    assert_snapshot!("ports_json_idle", hosts::idle().print("ports --json"));
    assert_snapshot!("ports_json_troubled", hosts::troubled().print("ports -o json"));
    for columns in [40, 80, 100, 250] {
        for host in [&proxy, &hosts::whole_space()] {
            let screen = on_terminal(host, columns, "ports --color never");
            let cells = || screen.lines().skip(2).take_while(|line| !line.is_empty());
            assert!((1..=16).contains(&cells().count()), "{columns}:\n{screen}");
            assert!(cells().map(widest).max() <= Some(usize::from(columns)), "{columns}:\n{screen}");
            assert!(columns < 80 || widest(&screen) <= usize::from(columns), "{columns}:\n{screen}");
        }
    }
}

#[test]
fn ports_of_odd_ranges() {
    assert_snapshot!("ports_screen_80", on_terminal(&hosts::proxy(), 80, "ports --color never"));
    let (none, one, whole) = (Host::new((9, 3)), hosts::one_port(), hosts::whole_space());
    assert_snapshot!("ports_screen_none", none.print("ports"));
    assert_snapshot!("ports_json_none", none.print("ports --json"));
    assert_snapshot!("ports_screen_one", one.print("ports"));
    assert_snapshot!("ports_json_one", one.print("ports --json"));
    assert_snapshot!("ports_screen_whole_80", on_terminal(&whole, 80, "ports --color never"));
    assert_snapshot!("ports_screen_whole_200", on_terminal(&whole, 200, "ports --color never"));
    for contradiction in ["ports -tu", "ports -6 --from 10.0.0.7 --to 10.0.9.12:80", "ports 9-3", "ports 0"] {
        let refused = run(contradiction);
        assert_eq!((refused.code, refused.stdout.as_str()), (2, ""), "{contradiction}: {}", refused.stderr);
    }
}

#[test]
fn ports_say_what_they_could_not_read() {
    let host = hosts::unreadable();
    assert_snapshot!("ports_screen_unreadable", host.print("ports"));
    assert_snapshot!("ports_json_unreadable", host.print("ports --json"));
    assert_snapshot!("ports_listing_unreadable", host.print("ports 40000 -t"));
    let listed: serde_json::Value = serde_json::from_str(&host.print("ports 40000 --json")).unwrap();
    let ids: Vec<_> =
        listed["warnings"].as_array().unwrap().iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["setting_unknown", "setting_unknown", "unreadable"]);
}

#[test]
fn who_holds_a_port() {
    let zoo = hosts::zoo();
    assert_snapshot!("ports_listing", zoo.print("ports 1-65535"));
    assert_snapshot!("ports_listing_json", zoo.print("ports 443 --json"));
    assert_snapshot!("ports_listing_free", zoo.print("ports 40001 -t"));
    let reserved = hosts::portless();
    assert_snapshot!("ports_listing_reserved", reserved.print("ports 40000-40001 -t"));
    assert_snapshot!("help_ports", run("ports --help").stdout);
}

#[test]
fn socket_tables() {
    let zoo = hosts::zoo();
    assert_snapshot!("table_default", zoo.print("sockets"));
    for (name, options) in [
        ("all", "-a"),
        ("listening", "-l"),
        ("bound", "-B"),
        ("tcp", "-ta"),
        ("udp6", "-ua6"),
        ("timers", "-tano"),
        ("extended", "-tae"),
        ("info", "-ti"),
        ("memory", "-tm"),
        ("everything", "-taoeim"),
        ("oneline", "-taoeimO"),
        ("no_header", "-taH"),
        ("filtered", "-t state all dport = :443 and not src 192.0.2.0/24"),
        ("none", "-t state last-ack"),
    ] {
        assert_snapshot!(format!("table_{name}"), zoo.print(&format!("sockets {options}")));
    }
    assert_snapshot!("table_colour", visible(&on_terminal(&zoo, 120, "sockets -tao")));
}

#[test]
fn sockets_for_machines() {
    let zoo = hosts::zoo();
    assert_snapshot!("sockets_json", zoo.print("sockets -a --json"));
    assert_snapshot!("sockets_jsonl", zoo.print("sockets -a -o jsonl"));
    assert_snapshot!("sockets_csv", zoo.print("sockets -a -o csv"));
    assert_snapshot!("sockets_csv_no_header", zoo.print("sockets -lH -o csv"));
    assert_snapshot!("sockets_json_everything", zoo.print("sockets -toeim --json sport = :443"));
    assert_snapshot!("sockets_csv_everything", zoo.print("sockets -toeim --output csv sport = :443"));
    assert_eq!(zoo.print("sockets -t --json state last-ack"), "[]\n");
    assert_eq!(zoo.print("sockets -t -o jsonl state last-ack"), "");
    assert_eq!(zoo.print("sockets -tH -o csv state last-ack"), "");
}

#[test]
fn helps() {
    for (name, arguments) in [
        ("help", "--help"),
        ("help_short", "-h"),
        ("help_sockets", "sockets --help"),
        ("help_snapshot", "snapshot --help"),
    ] {
        let said = run(arguments);
        assert_eq!((said.code, said.stderr.as_str()), (0, ""));
        assert!(widest(&said.stdout) <= 100);
        // clap ends the paragraphs of options with lines of blanks.
        assert_snapshot!(name, said.stdout);
    }
    let version = run("--version");
    assert_eq!((version.code, version.stderr.as_str()), (0, ""));
    let (name, number) = version.stdout.trim_end().split_once(' ').unwrap();
    assert_eq!(name, "sockeye");
    assert_eq!(number, env!("CARGO_PKG_VERSION"));
}
