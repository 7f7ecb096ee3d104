//! `sockeye check`: exit codes, the line a monitoring system reads, and wrong usage told in its way; of recorded hosts and of
//! private namespaces.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod recorded;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use recorded::hosts::{self, connected};
use recorded::{Host, Said, replay, run, socket};
use sock_diag::{SocketRecord, SocketState};
use sockeye_tests::{Churn, Namespace, Phase};
use tempfile::TempDir;

/// What it says of this host.
fn check(host: &Host, arguments: &str) -> Said {
    let directory = TempDir::new().unwrap();
    let said = replay(&host.capture(directory.path()), &format!("check {arguments}"));
    assert_eq!(said.stderr, "", "check {arguments}");
    assert_is_plugin_output(&said);
    said
}

/// A state's word that fits the code, one `|`, and performance data of the form that is agreed on.
#[track_caller]
fn assert_is_plugin_output(said: &Said) {
    let line = said.stdout.lines().next().unwrap();
    let word = ["OK", "WARNING", "CRITICAL", "UNKNOWN"][usize::try_from(said.code).unwrap()];
    assert!(line.starts_with(&format!("SOCKEYE {word} - ")), "{said:?}");
    let parts: Vec<&str> = line.split(" | ").collect();
    if said.code == 3 {
        assert_eq!((parts.len(), said.stdout.lines().count()), (1, 1), "{said:?}");
        return;
    }
    assert_eq!((parts.len(), said.stdout.matches('|').count()), (2, 1), "{said:?}");
    for datum in parts[1].split(' ') {
        let (label, rest) = datum.strip_prefix('\'').unwrap().split_once("'=").unwrap();
        assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{datum}");
        let fields: Vec<&str> = rest.split(';').collect();
        assert_eq!(fields.len(), 5, "{datum}");
        assert!(fields[0].trim_end_matches('%').parse::<f64>().is_ok(), "{datum}");
        assert_eq!(fields[3], "0", "{datum}");
    }
}

/// The value of a performance datum.
fn datum(said: &Said, label: &str) -> f64 {
    let (_, rest) = said.stdout.split_once(&format!("'{label}'=")).unwrap();
    rest.split([';', '%']).next().unwrap().parse().unwrap()
}

/// 78 of 100 ports towards one destination, three sockets in CLOSE_WAIT.
fn filling() -> Host {
    let mut host = Host::new((40_000, 40_099));
    for port in 0..75 {
        host.add(connected(&format!("10.0.0.7:{}", 40_000 + port), "10.0.9.12:80"));
    }
    for port in 75..78 {
        let record = socket(&format!("10.0.0.7:{}", 40_000 + port), "10.0.9.12:80");
        host.add(SocketRecord { state: SocketState::CloseWait, ..record });
    }
    host
}

#[test]
fn thresholds_decide_the_code() {
    let host = filling();
    for (arguments, code) in [
        ("", 1),
        ("-w occupancy=78", 0),
        ("-w occupancy=77.9%", 1),
        ("-w occupancy=50% -c occupancy=77%", 2),
        ("-c occupancy=80% -w headroom=20:", 0),
        ("-c headroom=23:", 2),
        ("-w ports=@70:80", 1),
        ("-w close_wait=2,ports=99", 1),
        ("-w close-wait=3", 0),
        ("-w close-wait=3,", 0),
        ("-w time_wait=~:0", 0),
        ("-w closes=10 -c closes=20", 0),
        // Of several the last counts.
        ("-c ports=1 -c ports=99", 0),
    ] {
        let said = check(&host, arguments);
        assert_eq!(said.code, code, "{arguments}: {said:?}");
    }
    assert_eq!(check(&hosts::idle(), "").code, 0);
}

#[test]
fn the_line_names_the_destination_and_its_limit() {
    let said = check(&filling(), "-w occupancy=50% -c occupancy=77%");
    let line = said.stdout.lines().next().unwrap();
    assert_eq!(
        line,
        "SOCKEYE CRITICAL - occupancy of the fullest destination 78%, tcp 10.0.0.7 to 10.0.9.12:80 (critical at 77) | \
         'worst_occupancy'=78%;50;77;0;100 'least_headroom'=22;;;0;100 'ports_in_use'=78;;;0;100 'time_wait'=0;;;0; \
         'close_wait'=3;;;0; 'closes_per_second'=0;;;0; 'stuck'=0;;;0;"
    );
    let calm = check(&hosts::idle(), "");
    assert!(
        calm.stdout.starts_with(
            "SOCKEYE OK - occupancy of the fullest destination 0%, sockets stuck for long 0 | 'worst_occupancy'=0%;50;80;0;100"
        ),
        "{calm:?}"
    );
}

#[test]
fn whatever_goes_wrong_is_unknown_and_says_why() {
    for (arguments, why) in [
        ("check -w occupancy", "write METRIC=RANGE"),
        ("check -w ,", "write METRIC=RANGE"),
        ("check -w speed=5", "no metric is called speed; there are occupancy, headroom, ports"),
        ("check -c occupancy=much", "write 80% or 80 for more than that"),
        ("check -c ports=50%", "write 80 for more than that"),
        ("check -w time_wait=-5", "no value is below 0: write ~:-5 for more than that"),
        ("check -w time_wait=5:1", "the range ends before it starts"),
        ("check -w opens=5", "one look cannot count opens: add --for 5s"),
        ("check --nonsense", "unexpected argument '--nonsense'"),
        ("check -w", "a value is required for '--warning"),
        ("check --replay /nowhere/capture", "No such file"),
        ("check -N no-such-namespace", "no-such-namespace"),
        ("--no-config check --nonsense", "unexpected argument '--nonsense'"),
        ("check --config /nowhere/config", "cannot read the config file"),
    ] {
        let said = run(arguments);
        assert_eq!((said.code, said.stderr.as_str()), (3, ""), "{arguments}: {said:?}");
        assert!(said.stdout.contains(why), "{arguments}: {said:?}");
        assert_is_plugin_output(&said);
    }
    assert_eq!(run("check --help").code, 0);
}

#[test]
fn of_a_pool_that_cannot_be_read_nothing_is_ok() {
    let unreadable = hosts::unreadable();
    for arguments in ["", "-w occupancy=99%", "-c headroom=1:", "-c ports=9,time_wait=5"] {
        let said = check(&unreadable, arguments);
        assert_eq!(said.code, 3, "{arguments}: {said:?}");
        assert!(said.stdout.contains("not known (cannot read net.ipv4.ip_local_port_range)"), "{said:?}");
    }
    let said = check(&unreadable, "-c time_wait=5");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(!said.stdout.contains("worst_occupancy"), "{said:?}");
}

#[test]
fn a_namespace_that_runs_out_of_ports_is_critical() {
    Namespace::new().port_range("40000 40019").run(|| {
        assert_eq!(run("check").code, 0);
        let listener = TcpListener::bind("127.0.0.1:80").unwrap();
        let to = listener.local_addr().unwrap();
        let mut held = Vec::new();
        for (connections, code) in [(10, 0), (12, 1), (17, 2), (20, 2)] {
            held.extend((held.len()..connections).map(|_| TcpStream::connect(to).unwrap()));
            let said = run("check -w occupancy=50% -c occupancy=80%");
            assert_eq!(said.code, code, "{connections}: {said:?}");
            assert_is_plugin_output(&said);
            assert_eq!(datum(&said, "ports_in_use"), connections as f64, "{said:?}");
            assert_eq!(datum(&said, "worst_occupancy"), connections as f64 * 5.0, "{said:?}");
            assert_eq!(datum(&said, "least_headroom"), 20.0 - connections as f64, "{said:?}");
        }
    });
}

#[test]
fn a_short_watch_tells_rates() {
    Namespace::new().run(|| {
        let phases = [Phase { per_second: 100, lasts: Duration::from_secs(8) }];
        let churn = Churn::start(&phases, 1).unwrap();
        let said = run("check --for 3s -w opens=1 -c closes=100000");
        assert_eq!(said.code, 1, "{said:?}");
        assert_is_plugin_output(&said);
        // Each connection has two ends here.
        for label in ["opens_per_second", "closes_per_second"] {
            assert!(datum(&said, label) > 20.0, "{said:?}");
        }
        churn.finish().unwrap();
    });
}
