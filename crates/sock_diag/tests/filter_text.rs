//! Filter texts: every spelling, the canonical form, and where errors point.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use sock_diag::filter::{Filter, FilterError, Names, NoNames};
use sock_diag::{SocketState, StateSet};

/// A host with a few names.
struct Host;

impl Names for Host {
    fn service(&self, name: &str) -> Option<u16> {
        [("ssh", 22), ("http", 80), ("http-alt", 8080), ("9pfs", 564)]
            .iter()
            .find(|row| row.0 == name)
            .map(|row| row.1)
    }

    fn host(&self, name: &str) -> Vec<IpAddr> {
        match name {
            "localhost" => vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()],
            "web" => vec!["10.0.0.7".parse().unwrap()],
            "crowd" => (0..5000u32).map(|i| IpAddr::V4((0x0a00_0000 + i).into())).collect(),
            _ => vec![],
        }
    }

    fn interface(&self, name: &str) -> Option<NonZeroU32> {
        (name == "lo").then_some(NonZeroU32::MIN)
    }

    fn cgroup(&self, path: &str) -> Option<u64> {
        ["/system.slice/nginx.service", "/a b", "/"].contains(&path).then_some(77)
    }

    fn cgroups_below(&self, path: &str) -> Option<Vec<u64>> {
        match path {
            "/" => Some(vec![1, 77, 78]),
            "/a b" => Some(vec![77]),
            "/crowd" => Some((1..5_000).collect()),
            "/system.slice" => Some(vec![8, 77]),
            _ => None,
        }
    }

    fn user(&self, name: &str) -> Option<u32> {
        (name == "www-data").then_some(33)
    }

    fn sockets_of_pid(&self, pid: u32) -> Option<Vec<u32>> {
        (pid == 812).then(|| vec![9, 7, 9])
    }

    fn sockets_of_name(&self, name: &str) -> Option<Vec<u32>> {
        matches!(name, "nginx" | "a b" | "q\"" | "(x)").then(|| vec![7, 8])
    }

    fn port_range(&self) -> Option<(u16, u16)> {
        Some((32768, 60999))
    }
}

fn canonical(text: &str) -> String {
    match Filter::parse(text, &Host) {
        Ok(filter) => filter.to_string(),
        Err(error) => panic!("{}", error.render(text)),
    }
}

fn rendered(text: &str) -> String {
    match Filter::parse(text, &Host) {
        Ok(filter) => panic!("{text:?} was taken for {filter}"),
        Err(error) => error.render(text),
    }
}

#[test]
fn every_spelling_has_one_canonical_text() {
    for (canon, spellings) in [
        ("", &["", "  \t\n"][..]),
        (
            "sport = 22",
            &[
                "sport = 22",
                "sport=22",
                "sport 22",
                "sport :22",
                "sport = :22",
                "sport=:22",
                "sport == 22",
                "sport eq 22",
                "sport eq :22",
                "sport ssh",
                "sport = :ssh",
                "sport = 22-22",
                "sport = 0x16",
                "src :22",
                "src *:22",
                "src=:ssh",
                "src = any:22",
                "SPORT EQ 22",
                "(sport = 22)",
                "((sport=22))",
                "not not sport = 22",
                "!!sport=22",
                "!(!sport=22)",
                "not (not sport = 22)",
                "sport = \"22\"",
                "sport = '22'",
            ],
        ),
        ("dport = 80", &["dport = http", "dst :http", "dst=*:80"]),
        (
            "not sport = 22",
            &[
                "sport != 22",
                "sport!=22",
                "sport ne 22",
                "sport neq :ssh",
                "! sport = 22",
                "not src :22",
                "src != :22",
            ],
        ),
        (
            "sport >= 23",
            &[
                "sport > 22",
                "sport>22",
                "sport gt 22",
                "sport gt :ssh",
                "sport >= 23",
                "sport ge 23",
                "sport geq 23",
                "sport>=:23",
                "sport = 23-65535",
            ],
        ),
        (
            "sport <= 21",
            &[
                "sport < 22",
                "sport lt 22",
                "sport<22",
                "sport <= 21",
                "sport le 21",
                "sport leq 21",
                "sport = 0-21",
            ],
        ),
        (
            "sport = 1000-2000",
            &["sport = 1000-2000", "sport 1000-2000", "src :1000-2000", "sport=:1000-2000"],
        ),
        ("not dport = 80-90", &["dport != 80-90", "not dport = 80-90", "!dport=80-90"]),
        ("sport = 8080", &["sport = http-alt", "sport http-alt"]),
        ("sport = 564", &["sport = 9pfs", "src :9pfs"]),
        ("not sport = *", &["sport > 65535", "sport < 0", "sport != *"]),
        (
            "sport = *",
            &[
                "sport = *",
                "sport *",
                "src *",
                "src :",
                "src = *:*",
                "sport >= 0",
                "sport <= 65535",
                "src any",
                "src all",
                "src default",
            ],
        ),
        (
            "src = 10.0.0.7",
            &[
                "src 10.0.0.7",
                "src=10.0.0.7",
                "src == 10.0.0.7",
                "src eq 10.0.0.7",
                "src 10.0.0.7/32",
                "src 10.0.0.7:",
                "src 10.0.0.7:*",
                "src web",
            ],
        ),
        ("src = 10.0.0.0/8", &["src 10.0.0.0/8", "src 10.9.8.7/8", "src 10/8", "src 10.0/8"]),
        ("dst = 193.233.7.0/24", &["dst 193.233.7/24"]),
        ("dst = 10.0.0.0/8:80", &["dst 10.0.0.0/8:80", "dst 10/8:http", "dst = 10/8:80-80"]),
        ("dst = 10.0.0.7:1-9", &["dst 10.0.0.7:1-9", "dst web:1-9"]),
        ("src = 0.0.0.0/0", &["src 0/0", "src 0.0.0.0/0"]),
        ("src = [::]/0", &["src ::/0", "src [::]/0", "src [::/0]"]),
        ("src = [::1]", &["src ::1", "src [::1]", "src = [::1]/128", "src inet6:[::1]", "src [::1]:*"]),
        (
            "src = [fe80::]/10:80",
            &["src [fe80::]/10:80", "src [fe80::/10]:80", "src fe80::/10:80", "src [fe80::1]/10:http"],
        ),
        ("src = [::ffff:127.0.0.1]", &["src [::ffff:127.0.0.1]", "src ::ffff:127.0.0.1"]),
        ("src = 127.0.0.1:22 or src = [::1]:22", &["src localhost:22", "src localhost:ssh"]),
        ("not (src = 127.0.0.1 or src = [::1])", &["src != localhost", "not src localhost"]),
        ("src = inet:* and src = 127.0.0.1", &["src inet:localhost", "src inet:127.0.0.1"]),
        ("src = inet6:*", &["src inet6:", "src inet6:*", "dst inet6:"]),
        (
            "src = inet:* and sport = 80",
            &["src inet:*:80", "src inet::80", "sport inet::80", "sport = inet:80"],
        ),
        ("src = inet:*", &["src inet:", "dst = inet:*", "src INET:"]),
        ("dev = id:1", &["dev lo", "dev = lo", "dev=lo", "dev 1", "dev id:1"]),
        ("not dev = id:1", &["dev != lo", "not dev lo", "dev ne lo"]),
        ("dev = id:0", &["dev 0", "dev = id:0"]),
        ("fwmark = 0x10", &["fwmark 16", "fwmark = 0x10", "fwmark=0x10", "fwmark = 0x10/0xffffffff"]),
        ("fwmark = 0x1/0x3", &["fwmark = 0x1/0x3", "fwmark 1/3", "fwmark == 0X1/3"]),
        ("not fwmark = 0x0", &["fwmark != 0", "fwmark neq 0x0"]),
        (
            "cgroup = id:77",
            &[
                "cgroup /system.slice/nginx.service",
                "cgroup = \"/a b\"",
                "cgroup '/a b'",
                "cgroup id:77",
                "cgroup=/",
                "cgroup = 77",
                "cgroup = '/a b/*'",
            ],
        ),
        ("cgroup = id:8 or cgroup = id:77", &["cgroup = /system.slice/*", "cgroup '/system.slice/*'"]),
        ("not (cgroup = id:8 or cgroup = id:77)", &["cgroup != /system.slice/*"]),
        (
            "dport = 80 and (cgroup = id:1 or cgroup = id:77 or cgroup = id:78)",
            &["dport = 80 cgroup /*", "dport 80 and cgroup=/*"],
        ),
        ("user = 33", &["user www-data", "user = 33", "user=www-data", "USER == 33"]),
        ("not user = 0", &["user != 0", "not user 0"]),
        ("pid = 812", &["pid 812", "pid=812"]),
        ("not pid = 812", &["pid != 812"]),
        ("comm = \"nginx\"", &["comm nginx", "comm = 'nginx'"]),
        ("comm = \"a b\" or comm = \"(x)\"", &["comm 'a b' or comm=\"(x)\""]),
        ("comm = 'q\"'", &["comm 'q\"'"]),
        ("autobound", &["autobound", "(autobound)", "AUTOBOUND"]),
        ("not autobound", &["!autobound", "not autobound", "! autobound"]),
        (
            "sport = 1 and dport = 2",
            &[
                "sport = 1 and dport = 2",
                "sport=1 & dport=2",
                "sport=1&&dport=2",
                "sport 1 dport 2",
                "(sport=1)(dport=2)",
                "(sport=1)and(dport=2)",
                "sport 1 AND dport 2",
            ],
        ),
        (
            "sport = 1 or dport = 2",
            &[
                "sport = 1 or dport = 2",
                "sport=1|dport=2",
                "sport=1||dport=2",
                "(sport=1)or(dport=2)",
                "sport 1 Or dport 2",
            ],
        ),
        (
            "sport = 1 or sport = 2 and sport = 3",
            &[
                "sport 1 or sport 2 and sport 3",
                "sport 1 or sport 2 sport 3",
                "sport 1 or (sport 2 and sport 3)",
            ],
        ),
        (
            "sport = 1 and sport = 2 or sport = 3",
            &["sport 1 sport 2 or sport 3", "(sport 1 sport 2) or sport 3"],
        ),
        ("sport = 1 and (sport = 2 or sport = 3)", &["sport 1 (sport 2 or sport 3)"]),
        ("not sport = 1 and sport = 2", &["not sport 1 and sport 2", "(not sport 1) sport 2"]),
        ("not (sport = 1 and sport = 2)", &["not (sport 1 sport 2)"]),
        (
            "sport = 1 and sport = 2 and sport = 3",
            &["sport 1 (sport 2 sport 3)", "(sport 1 sport 2) sport 3"],
        ),
    ] {
        for spelling in spellings {
            assert_eq!(canonical(spelling), canon, "{spelling:?}");
        }
        assert_eq!(canonical(canon), canon);
    }
}

#[test]
fn states_are_read_as_ss_reads_them() {
    use SocketState::*;
    let syn_recv = StateSet::of(&[SynRecv, NewSynRecv]);
    let of = StateSet::of;
    let all = StateSet::ALL;
    for (text, states) in [
        ("", None),
        ("sport = 22", None),
        ("state established", Some(of(&[Established]))),
        ("state ESTAB", Some(of(&[Established]))),
        ("state established state listening", Some(of(&[Established, Listen]))),
        ("state established,time-wait", Some(of(&[Established, TimeWait]))),
        ("state syn-recv", Some(syn_recv)),
        ("state syn-rcv", Some(syn_recv)),
        ("state close", Some(of(&[Close]))),
        ("state unconnected", Some(of(&[Close]))),
        ("state bound-inactive", Some(of(&[BoundInactive]))),
        ("state all", Some(all)),
        ("exclude listening", Some(all.minus(of(&[Listen])))),
        ("excl listening", Some(all.minus(of(&[Listen])))),
        ("state listening exclude established", Some(of(&[Listen]))),
        ("exclude established state established", Some(all)),
        ("state established exclude established", Some(StateSet::EMPTY)),
        ("state connected", Some(all.minus(of(&[Listen, Close, BoundInactive])))),
        ("state synchronized", Some(all.minus(of(&[Listen, Close, BoundInactive, SynSent])))),
        ("state bucket", Some(syn_recv.union(of(&[TimeWait])))),
        ("state big", Some(all.minus(syn_recv.union(of(&[TimeWait]))))),
        // Clauses at the beginning hold for everything after them.
        ("state listening sport = 1 or sport = 2", Some(of(&[Listen]))),
        ("state listening and sport = 1", Some(of(&[Listen]))),
        ("sport = 1 state listening", Some(of(&[Listen]))),
        ("sport = 1 not state listening", Some(all.minus(of(&[Listen])))),
        ("state listening or state established", Some(of(&[Listen, Established]))),
        ("state listening and state established", Some(StateSet::EMPTY)),
        ("not (state listening or state established)", Some(all.minus(of(&[Listen, Established])))),
        ("(state listening state established) sport = 1", Some(of(&[Listen, Established]))),
        // What can match at all, where other predicates decide as well.
        ("state listening or (state established and sport = 1)", Some(of(&[Listen, Established]))),
        ("state listening or sport = 1", Some(all)),
        ("state listening and sport = 1 or sport = 2", Some(all)),
        ("not (state listening or sport = 1)", Some(all.minus(of(&[Listen])))),
    ] {
        let filter = Filter::parse(text, &Host).unwrap_or_else(|error| panic!("{}", error.render(text)));
        assert_eq!(filter.states(), states, "{text:?}");
        assert_eq!(Filter::parse(&filter.to_string(), &Host).as_ref(), Ok(&filter), "{text:?}");
    }
}

#[test]
fn canonical_states_are_readable() {
    for (text, canon) in [
        ("state estab state TIME-WAIT", "state established,time-wait"),
        ("state syn-recv", "state syn-recv"),
        ("state all", "state all"),
        ("exclude all", "exclude all"),
        ("state fin-wait-1 sport 1 or sport 2", "state fin-wait-1 and (sport = 1 or sport = 2)"),
        ("state listening or sport = 1", "state listening or sport = 1"),
        ("sport = 1 or not state closing", "sport = 1 or not state closing"),
        ("sport = 1 or state established exclude all", "sport = 1 or exclude all"),
        ("sport = 1 state close", "state unconnected and sport = 1"),
    ] {
        assert_eq!(canonical(text), canon, "{text:?}");
        assert_eq!(canonical(canon), canon);
    }
}

#[test]
fn errors_point_at_the_place() {
    for expected in [
        "`99999` is not a port: they go from 0 to 65535\n    sport = 99999 and dport = 80\n            ^^^^^",
        "`-1` is not a port: they go from 0 to 65535\n    sport = -1\n            ^^",
        "`022` may be octal or decimal\n    sport = 022\n            ^^^\nhelp: leave the zeros in front out",
        "no service is known as `shh`\n    sport = :shh\n             ^^^\nhelp: write the port as a number",
        "the range `9-1` ends before it begins\n    sport = 9-1\n            ^^^\nhelp: write `1-9`",
        "a range can only be compared with `=` and `!=`\n    sport > 1-9\n            ^^^",
        "`70000` is not a port: they go from 0 to 65535\n    sport = 1-70000\n              ^^^^^",
        "expected a port after `sport`\n    sport =\n           ^",
        "expected a port after `sport`, found `or`\n    sport or dport = 1\n          ^^",
        "expected a predicate\n    sport = 1 and\n                 ^",
        "expected a predicate, found `and`\n    and sport = 1\n    ^^^",
        "expected a predicate, found `or`\n    sport = 1 or or sport = 2\n                 ^^",
        "expected a predicate, found `)`\n    ()\n     ^",
        "this `(` is never closed\n    sport = 1 and (sport = 2\n                  ^",
        "this `)` closes nothing\n    sport = 1)\n             ^",
        "this quote is never closed\n    cgroup = \"/a\n             ^",
        "`10.0.0.0/8` is not a predicate\n    10.0.0.0/8\n    ^^^^^^^^^^\nhelp: say what it is compared with: `src`, `dst`, `sport` or `dport`",
        "`sprot` is not a predicate\n    sprot = 1\n    ^^^^^\nhelp: did you mean `sport`?",
        "`listening` is not a predicate\n    listening\n    ^^^^^^^^^\nhelp: write `state listening`",
        "`estableshed` is not a socket state\n    state estableshed\n          ^^^^^^^^^^^\nhelp: did you mean `established`?",
        "`tme-wait` is not a socket state\n    state established,tme-wait\n                      ^^^^^^^^\nhelp: did you mean `time-wait`?",
        "expected a state beside the comma\n    state established, time-wait\n                      ^\nhelp: no space after commas",
        "expected a state after `state`\n    state\n         ^",
        "`33` is not a prefix length from 0 to 32\n    src 10.0.0.1/33\n                 ^^",
        "`129` is not a prefix length from 0 to 128\n    src [::1]/129\n              ^^^",
        "`+8` is not a prefix length from 0 to 32\n    src 10.0.0.1/+8\n                 ^^",
        "a prefix length needs an address before it\n    src localhost/8\n                  ^",
        "`10.0.0` is not an IPv4 address\n    src 10.0.0\n        ^^^^^^\nhelp: write all four numbers",
        "`10.0.0.256` is not an IPv4 address\n    src 10.0.0.256\n        ^^^^^^^^^^\nhelp: write all four numbers",
        "`::g` is not an IPv6 address\n    src [::g]:1\n         ^^^",
        "`fe80::1%lo` is not an IPv6 address\n    src [fe80::1%lo]\n         ^^^^^^^^^^\nhelp: leave the zone out, and add `dev INTERFACE` for sockets bound to one",
        "this `[` is never closed\n    src [::1\n        ^^^^",
        "expected `:PORT` or `/BITS` after `]`\n    src [::1]80\n             ^^",
        "`fe80::1:80` may end in a port or not\n    src fe80::1:80\n        ^^^^^^^^^^\nhelp: write `[fe80::1]:80` or `[fe80::1:80]`",
        "`::1` is not an address\n    src ::1:http\n        ^^^\nhelp: an IPv6 address with a port goes in brackets: `[::1]:80`",
        "no host is known as `nowhere`\n    dst nowhere:80\n        ^^^^^^^",
        "`::1` is no inet address\n    src inet:[::1]:80\n              ^^^",
        "`10.0.0.1` is no inet6 address\n    src inet6:10.0.0.1\n              ^^^^^^^^",
        "unix sockets are not watched here\n    src unix:/tmp/x\n        ^^^^\nhelp: the families are `inet` and `inet6`",
        "`src` can only be compared with `=` and `!=`\n    src > 10.0.0.1\n        ^\nhelp: for ports write `sport > 1024`",
        "`dev` can only be compared with `=` and `!=`\n    dev >= lo\n        ^^",
        "no interface is known as `eth9`\n    dev eth9\n        ^^^^",
        "`0xg` is not a 32-bit number\n    fwmark = 0xg/1\n             ^^^",
        "`4294967296` is not a 32-bit number\n    fwmark 1/4294967296\n             ^^^^^^^^^^",
        "`010` may be octal or decimal\n    fwmark 010\n           ^^^\nhelp: leave the zeros in front out, or write 0x for hexadecimal",
        "no cgroup is known as `/nope/*`\n    cgroup = /nope/*\n             ^^^^^^^\nhelp: write a path below the cgroup2 mount, such as `/system.slice/nginx.service`",
        "no cgroup is known as `+8`\n    cgroup +8\n           ^^\nhelp: write a path below the cgroup2 mount, such as `/system.slice/nginx.service`",
        "no cgroup is known as `id:`\n    cgroup id:\n           ^^^\nhelp: write a path below the cgroup2 mount, such as `/system.slice/nginx.service`",
        "no cgroup is known as `18446744073709551616`\n    cgroup 18446744073709551616\n           ^^^^^^^^^^^^^^^^^^^^\nhelp: write a path below the cgroup2 mount, such as `/system.slice/nginx.service`",
        "more than 4096 predicates\n    cgroup /crowd/*\n           ^^^^^^^^",
        "no cgroup is known as `/nope`\n    cgroup /nope\n           ^^^^^\nhelp: write a path below the cgroup2 mount, such as `/system.slice/nginx.service`",
        "no user is known as `nobody`\n    user nobody\n         ^^^^^^",
        "`nginx` is not the number of a process\n    pid = nginx\n          ^^^^^\nhelp: to find one by name write `comm = NAME`",
        "no process 813 is known here, or it may not be looked into\n    pid 813\n        ^^^",
        "no process is known as `apache` here, or it may not be looked into\n    comm = apache\n           ^^^^^^",
        "`comm` can only be compared with `=` and `!=`\n    comm > a\n         ^",
    ] {
        // The second line of what is expected is the text to parse.
        let text = expected.lines().nth(1).and_then(|line| line.strip_prefix("    ")).unwrap();
        assert_eq!(rendered(text), expected);
    }
    assert_eq!(rendered("= 5"), "expected a predicate, found a comparison\n    = 5\n    ^");
    assert!(rendered("state new-syn-recv").contains("is not a socket state"));
    assert!(rendered("gibberish 5").contains("help: there are src, dst"));
    assert_eq!(
        Filter::parse("autobound", &NoNames).unwrap_err().message,
        "the ephemeral port range is not known here"
    );
}

#[test]
fn carets_stand_under_any_text() {
    // Two columns for each wide character, one for é, six for an escape character, a window on long texts.
    assert_eq!(rendered("src 日本 nope"), "no host is known as `日本`\n    src 日本 nope\n        ^^^^");
    assert_eq!(
        rendered("src web and é = 1"),
        format!(
            "`é` is not a predicate\n    src web and é = 1\n                ^\nhelp: {}",
            help_predicates()
        )
    );
    assert_eq!(
        rendered("src web\t\u{1b}[2J 1"),
        format!(
            "`\\u{{1b}}[2J` is not a predicate\n    src web\\t\\u{{1b}}[2J 1\n             ^^^^^^^^^\nhelp: {}",
            help_predicates()
        )
    );
    assert!(!rendered("src web \u{202e}kcab").contains('\u{202e}'));
    let long = format!("{}dport = x{}", "sport = 1 or ".repeat(20), " or sport = 1".repeat(20));
    assert_eq!(
        rendered(&long),
        "no service is known as `x`\n    \
         …sport = 1 or sport = 1 or sport = 1 or sport = 1 or dport = x or sport = 1 or sport = 1 or sport = 1 or sport = 1 or spor…\n    \
         \u{20}                                                            ^\n\
         help: write the port as a number"
    );
}

fn help_predicates() -> &'static str {
    "there are src, dst, sport, dport, dev, fwmark, cgroup, user, pid, comm, autobound, state, exclude"
}

#[test]
fn terms_are_told_by_kind() {
    let terms = |text| Filter::parse(text, &Host).unwrap().terms();
    assert_eq!(terms("dst 10.0.0.1:80 and sport > 1024"), ["sport", "dst", "dport"]);
    assert_eq!(terms("state established or pid = 812 and not comm = nginx"), ["state", "pid", "comm"]);
    assert_eq!(terms("state established"), ["state"]);
    assert_eq!(terms("src inet6:* and user 0"), ["user", "family"]);
    assert!(terms("").is_empty());
    assert_eq!(Filter::parse("dport = 80 or user 0", &Host).unwrap().beyond_endpoints(), Some("user"));
}

#[test]
fn holders_of_now_answer_instead_of_those_of_then() {
    use sock_diag::filter::Holder;
    let filter = Filter::parse("pid = 812 and not comm = apache2", &Anybody).unwrap();
    let ends = ([10, 0, 0, 7], 40_000).into();
    let record = sock_diag::fake::tcp_record(SocketState::TimeWait, ends, ends);
    assert_eq!(filter.matches(&record), Ok(false), "then, it was nobody's");
    let by = |pid, name: &'static str| {
        filter.matches_held(&record, &|holder| match holder {
            Holder::Pid(own) => *own == pid,
            Holder::Named(own) => &**own == name,
        })
    };
    assert_eq!((by(812, "nginx"), by(812, "apache2"), by(813, "nginx")), (Ok(true), Ok(false), Ok(false)));
}

/// Any process is known, and has no socket open.
struct Anybody;

impl Names for Anybody {
    fn sockets_of_pid(&self, _: u32) -> Option<Vec<u32>> {
        Some(Vec::new())
    }

    fn sockets_of_name(&self, _: &str) -> Option<Vec<u32>> {
        Some(Vec::new())
    }
}

#[test]
fn nesting_and_length_are_bounded() {
    let nested = |depth: usize| format!("{}sport = 1{}", "(".repeat(depth), ")".repeat(depth));
    assert_eq!(canonical(&nested(200)), "sport = 1");
    assert!(rendered(&nested(201)).starts_with("more than 200 parentheses inside each other"));
    let deep = format!("{}sport = 1{}", "not (sport = 2 and ".repeat(200), ")".repeat(200));
    assert_eq!(canonical(&canonical(&deep)), canonical(&deep));
    assert_eq!(canonical(&"sport = 1 ".repeat(4096)).matches("sport").count(), 4096);
    assert!(rendered(&"sport = 1 ".repeat(4097)).starts_with("more than 4096 predicates"));
    assert!(rendered("dst crowd").starts_with("more than 4096 predicates"));
    assert!(
        rendered(&format!("src {}", "a".repeat(5000))).starts_with("this word is longer than 4096 bytes")
    );
}

#[test]
fn a_megabyte_of_anything_is_soon_done() {
    let pieces = [
        " ",
        "(",
        ")",
        "!",
        "sport=1 ",
        "sport = 1 or ",
        "a",
        "=",
        "\"",
        "state all ",
        "state established,",
        "not ",
        "(sport=1)",
        "é",
        "\u{1b}",
        "src [",
        "日 ",
        "sport=1 or (",
    ];
    for piece in pieces {
        for lead in ["", "src ", "sport = 1 or "] {
            let text = lead.to_owned() + &piece.repeat((1 << 20) / piece.len());
            let start = Instant::now();
            match Filter::parse(&text, &Host) {
                Ok(filter) => _ = filter.compile(),
                Err(error) => assert!(error.render(&text).len() < 4000),
            }
            // Milliseconds in truth; anything worse than linear would take minutes.
            assert!(start.elapsed() < Duration::from_secs(5), "{piece:?} took {:?}", start.elapsed());
        }
    }
}

/// What a fuzzer does with any text.
fn fuzz(text: &str) {
    match Filter::parse(text, &Host) {
        Ok(filter) => {
            let canon = filter.to_string();
            assert_eq!(Filter::parse(&canon, &Host).as_ref(), Ok(&filter), "{text:?} became {canon:?}");
            assert_eq!(Filter::parse(&canon, &Host).map(|filter| filter.to_string()), Ok(canon));
            _ = filter.compile();
        }
        Err(error) => {
            let FilterError { span, message, .. } = &error;
            assert!(text.get(span.clone()).is_some(), "{span:?} of {text:?}");
            assert!(!message.contains(char::is_control));
            let shown = error.render(text);
            assert!(
                shown.lines().nth(2).is_some_and(|carets| carets.trim_start().starts_with('^')),
                "{shown}"
            );
        }
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        fuzz(&text);
    }

    #[test]
    fn no_heap_of_words_panics(words in prop::collection::vec(prop::sample::select(vec![
        "state ", "exclude ", "established", "listening", ",", "all ", "src ", "dst ", "sport", "dport ", "dev ",
        "fwmark ", "cgroup ", "autobound ", "=", "==", "!=", ">", "<", " ge ", " and ", " or ", " not ", "!", "(",
        ")", "&", "||", "10.0.0.1", "10/8", "[::1]", "::1", ":", "22", "-", "0x1f", "/", "3", "*", "inet:",
        "inet6:", "lo ", "localhost", "id:", "\"", "'", " ", "\n", "é", "日",
    ]), 0..30)) {
        fuzz(&words.concat());
    }
}
