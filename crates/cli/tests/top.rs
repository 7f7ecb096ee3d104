//! top on a real terminal: taken over, given back whatever happens, and never waited for.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{SetArg, Termios, tcgetattr, tcsetattr};
use nix::unistd::Pid;
use sockeye_tests::{Load, Namespace, wait_for, wait_until, within};

const LIMIT: Duration = Duration::from_secs(30);
static STARTS: Mutex<()> = Mutex::new(());
const TAKES_OVER: &str = "\x1b[?1049h";
const GIVES_BACK: &str = "\x1b[?1049l";

fn sockeye(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sockeye"));
    command.args(args).env("TERM", "xterm").env_remove("NO_COLOR");
    command
}

/// A terminal with a program on it, and all that was written to it.
struct Terminal {
    /// None once it is closed.
    master: Option<File>,
    slave: OwnedFd,
    before: Termios,
    written: Arc<Mutex<Written>>,
    child: Child,
}

/// What a program wrote.
#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    /// So much of it is not looked at any more.
    forgotten: usize,
    /// When it came: until which byte, and when.
    reads: Vec<(usize, Instant)>,
}

impl Terminal {
    /// `is_read`: somebody takes what the program writes.
    fn start(args: &[&str], columns: u16, is_read: bool) -> Terminal {
        Terminal::sized(args, (columns, columns / 3), is_read)
    }

    fn sized(args: &[&str], (ws_col, ws_row): (u16, u16), is_read: bool) -> Terminal {
        let size = Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        // One after another: no other program inherits this one's terminal.
        let alone = STARTS.lock().unwrap_or_else(PoisonError::into_inner);
        let pty = openpty(Some(&size), None).unwrap();
        for descriptor in [&pty.master, &pty.slave] {
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).unwrap();
        }
        let before = tcgetattr(&pty.slave).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        let child = sockeye(args).stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        drop(alone);
        let master = File::from(pty.master);
        let written = Arc::<Mutex<Written>>::default();
        if is_read {
            let (mut from, into) = (master.try_clone().unwrap(), Arc::clone(&written));
            thread::spawn(move || {
                let mut bytes = [0; 4096];
                while let Ok(read @ 1..) = from.read(&mut bytes) {
                    let mut written = into.lock().unwrap();
                    written.bytes.extend_from_slice(&bytes[..read]);
                    let end = written.bytes.len();
                    written.reads.push((end, Instant::now()));
                }
            });
        }
        Terminal { master: Some(master), slave: pty.slave, before, written, child }
    }

    fn typed(&mut self, keys: &[u8]) {
        self.master.as_mut().unwrap().write_all(keys).unwrap();
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).unwrap();
    }

    fn text(&self) -> String {
        let written = self.written.lock().unwrap();
        String::from_utf8_lossy(&written.bytes[written.forgotten..]).into_owned()
    }

    /// Waits until this is on the screen, which is drawn whole each time: else only what differs is written.
    fn comes_to_show(&mut self, what: &str) {
        wait_until(what, LIMIT, || {
            self.forget();
            self.typed(b"\x0c");
            let is_drawn = || self.text().contains(what).then_some(());
            within(Duration::from_millis(200), is_drawn).is_some()
        });
    }

    /// Waits until this was written since the last call of `forget`.
    fn shows(&self, what: &str) {
        if within(LIMIT, || self.text().contains(what).then_some(())).is_none() {
            panic!("waited for {what:?} in vain, in state {}, among {:?}", self.state(), self.text());
        }
    }

    fn forget(&self) {
        let mut written = self.written.lock().unwrap();
        written.forgotten = written.bytes.len();
    }

    fn is_given_back(&self) -> bool {
        tcgetattr(&self.slave).unwrap() == self.before
    }

    /// One letter: R, S, T for stopped.
    fn state(&self) -> String {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        stat.rsplit(')').next().unwrap().split_whitespace().next().unwrap().to_owned()
    }

    fn ends(&mut self) -> Option<i32> {
        wait_for("the end of the program", LIMIT, || self.child.try_wait().unwrap()).code()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn whatever_ends_it_the_terminal_is_given_back() {
    type End = fn(&mut Terminal);
    let ends: [(&str, End); 5] = [
        ("q", |terminal| terminal.typed(b"q")),
        ("^C", |terminal| terminal.typed(b"\x03")),
        ("SIGTERM", |terminal| terminal.signal(Signal::SIGTERM)),
        ("SIGINT", |terminal| terminal.signal(Signal::SIGINT)),
        ("SIGHUP", |terminal| terminal.signal(Signal::SIGHUP)),
    ];
    for (name, end) in ends {
        let mut terminal = Terminal::start(&["top", "200ms"], 80, true);
        terminal.shows("live");
        assert!(!terminal.is_given_back(), "{name}: it was not taken over");
        assert!(terminal.text().contains(TAKES_OVER) && !terminal.text().contains(GIVES_BACK));
        end(&mut terminal);
        assert_eq!(terminal.ends(), Some(0), "{name}");
        terminal.shows(GIVES_BACK);
        assert!(terminal.is_given_back(), "{name}");
    }
}

#[test]
fn it_can_be_suspended_and_comes_back() {
    let mut terminal = Terminal::start(&["top", "200ms"], 80, true);
    terminal.shows("live");
    for suspends in [(|terminal| terminal.typed(b"\x1a")) as fn(&mut Terminal), |terminal| {
        terminal.signal(Signal::SIGTSTP)
    }] {
        suspends(&mut terminal);
        wait_until("the stop", LIMIT, || terminal.state() == "T");
        terminal.shows(GIVES_BACK);
        assert!(terminal.is_given_back());
        terminal.forget();
        terminal.signal(Signal::SIGCONT);
        terminal.shows(TAKES_OVER);
        terminal.shows("Destinations");
        assert!(!terminal.is_given_back());
    }
    // A stop without warning: the shell takes the terminal as it finds it, and may leave it otherwise.
    let raw = tcgetattr(&terminal.slave).unwrap();
    terminal.signal(Signal::SIGSTOP);
    wait_until("the stop", LIMIT, || terminal.state() == "T");
    tcsetattr(&terminal.slave, SetArg::TCSANOW, &terminal.before).unwrap();
    terminal.forget();
    terminal.signal(Signal::SIGCONT);
    wait_until("the terminal's being raw again", LIMIT, || tcgetattr(&terminal.slave).unwrap() == raw);
    terminal.shows("Destinations");
    terminal.typed(b"q");
    assert_eq!(terminal.ends(), Some(0));
    assert!(terminal.is_given_back());
}

#[test]
fn a_terminal_that_takes_nothing_holds_up_neither_keys_nor_signals() {
    for quits in
        [(|terminal| terminal.typed(b"q")) as fn(&mut Terminal), |terminal| terminal.signal(Signal::SIGTERM)]
    {
        let mut terminal = Terminal::start(&["top", "100ms"], 480, false);
        wait_until("the terminal's being taken over", LIMIT, || !terminal.is_given_back());
        // Whole frames of 480 columns are more than it holds: from here on nothing can be written.
        for _ in 0..20 {
            terminal.typed(b"\x0c3\x0c4");
            thread::sleep(Duration::from_millis(10));
        }
        quits(&mut terminal);
        assert_eq!(terminal.ends(), Some(0));
        assert!(terminal.is_given_back());
    }
}

#[test]
fn a_terminal_that_is_closed_ends_it() {
    let mut terminal = Terminal::start(&["top", "200ms"], 80, false);
    wait_until("the terminal's being taken over", LIMIT, || !terminal.is_given_back());
    terminal.master = None;
    assert_eq!(terminal.ends(), Some(0));
}

#[test]
fn keys_are_answered_and_screens_follow() {
    let mut terminal = Terminal::start(&["top", "60"], 120, true);
    terminal.shows("live");
    for (key, shown) in
        [("5", "BACKLOG"), ("6", "RECV-Q"), ("3", "bind(0)"), ("4", "COMPLETED"), ("?", "suspend;")]
    {
        terminal.typed(key.as_bytes());
        terminal.comes_to_show(shown);
    }
    terminal.typed(b"?6/state listening");
    terminal.comes_to_show("filter: state listening");
    terminal.typed(b"\rq");
    assert_eq!(terminal.ends(), Some(0));
}

/// A process that holds one end of a connection, and nothing but it. Gone on drop.
struct Holder {
    child: Child,
    door: TcpListener,
    _other_end: TcpStream,
}

impl Holder {
    fn start(mut command: Command) -> Holder {
        let door = TcpListener::bind("127.0.0.1:0").unwrap();
        let connected = TcpStream::connect(door.local_addr().unwrap()).unwrap();
        let child = command.stdin(OwnedFd::from(connected)).spawn().unwrap();
        let (_other_end, _) = door.accept().unwrap();
        Holder { child, door, _other_end }
    }

    /// Where its connection goes.
    fn port(&self) -> u16 {
        self.door.local_addr().unwrap().port()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What top itself says to a terminal: places, styles that begin at none, modes, erasing, CAN. Else only text.
fn is_harmless(written: &[u8]) -> Result<(), String> {
    let text = std::str::from_utf8(written).map_err(|error| error.to_string())?;
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c)) {
        let told = format!("{:?}", rest[at..].chars().take(20).collect::<String>());
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix('\x18') {
            rest = after;
            continue;
        }
        let Some(sequence) = rest.strip_prefix("\x1b[") else { return Err(told) };
        let end = sequence.find(|c: char| !c.is_ascii_digit() && !matches!(c, ';' | '?')).ok_or(&*told)?;
        let (parameters, last) = sequence.split_at(end);
        let is_own = match last.as_bytes()[0] {
            b'H' => parameters.split(';').count() == 2,
            b'm' => parameters.split(';').next() == Some("0"),
            b'J' => parameters == "2",
            b'h' | b'l' => parameters.starts_with('?'),
            _ => false,
        };
        if !is_own {
            return Err(told);
        }
        rest = &last[1..];
    }
    Ok(())
}

#[test]
fn hostile_names_are_harmless_on_every_screen() {
    assert!(is_harmless(b"\x1b[2;3H\x1b[0;1;31mab\x18").is_ok());
    for harmful in
        [&b"\x1b[31m"[..], b"\x1b]0;x\x07", b"\xff", b"a\nb", "\u{9b}1A".as_bytes(), "\u{202e}".as_bytes()]
    {
        assert!(is_harmless(harmful).is_err(), "{harmful:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join(OsStr::from_bytes(b"\x1b]0;o\x07\xff\"'\n\xe2\x80\xae"));
    std::fs::copy("/bin/cat", &program).unwrap();
    let mut of_a_file = Command::new(&program);
    of_a_file.arg0(OsStr::from_bytes(b"\x1b[2J\n\xff")).arg("-").arg("/dev/null\n\x1b[31m");
    let mut renamed = Command::new("sh");
    renamed.args(["-c", "printf '\\033[31m\"x\\n\\377;' >/proc/$$/comm; read line"]);
    for (command, shown) in [(of_a_file, "\\u{1b}]0;o\\u{7}"), (renamed, "\\u{1b}[31m")] {
        let holder = Holder::start(command);
        let (pid, port) = (holder.child.id(), holder.port());
        let mut terminal = Terminal::start(&["top", "200ms"], 240, true);
        terminal.shows("live");
        // Owners, sockets and one destination alone tell its name; the others may.
        for (keys, shown) in [
            (format!("2/pid = {pid}\r"), shown),
            (format!("6/dport = {port} and pid = {pid}\r"), shown),
            (format!("1/dport = {port}\r\r"), shown),
            ("\x1b3".to_owned(), "bind(0)"),
            ("4".to_owned(), "COMPLETED"),
            ("5".to_owned(), "BACKLOG"),
            ("w".to_owned(), "quit"),
            ("w?".to_owned(), "suspend;"),
        ] {
            terminal.typed(keys.as_bytes());
            terminal.comes_to_show(shown);
        }
        terminal.typed(b"?q");
        assert_eq!(terminal.ends(), Some(0));
        terminal.shows(GIVES_BACK);
        assert_eq!(is_harmless(&terminal.written.lock().unwrap().bytes), Ok(()));
    }
}

#[test]
fn a_terminal_that_errs_about_its_size_has_a_screen() {
    // Where there is no room for a word, a first cell that is painted.
    let cell = ";1H";
    for (size, shown) in
        [((0, 0), "help"), ((u16::MAX, u16::MAX), "help"), ((1, u16::MAX), cell), ((u16::MAX, 1), cell)]
    {
        let mut terminal = Terminal::sized(&["top", "200ms"], size, true);
        wait_until("the terminal's being taken over", LIMIT, || !terminal.is_given_back());
        terminal.shows(shown);
        terminal.typed(b"q");
        assert_eq!(terminal.ends(), Some(0), "{size:?}");
        assert!(terminal.is_given_back());
    }
}

#[test]
fn a_filter_without_end_is_no_filter() {
    let mut terminal = Terminal::start(&["top", "200ms"], 120, true);
    wait_until("the terminal's being taken over", LIMIT, || !terminal.is_given_back());
    terminal.typed(b"/");
    for _ in 0..40 {
        terminal.typed(&[b'('; 1_000]);
    }
    // Behind all of them.
    terminal.typed(b"\x03");
    assert_eq!(terminal.ends(), Some(0));
    assert!(terminal.is_given_back());
}

#[test]
fn a_namespace_is_looked_into_among_all_of_them() {
    let mut terminal = Terminal::start(&["top", "200ms", "--all-netns"], 120, true);
    terminal.comes_to_show("namespaces:");
    for _ in 0..2 {
        // A namespace may be gone when it is to be looked into: then all of them are back, and it is tried again.
        wait_until("one namespace's screens", LIMIT, || {
            terminal.forget();
            terminal.typed(b"\r\x0c");
            let is_drawn = || terminal.text().contains("Listeners").then_some(());
            within(Duration::from_millis(200), is_drawn).is_some()
        });
        terminal.comes_to_show("live");
        terminal.typed(b"7");
        terminal.comes_to_show("namespaces:");
    }
    terminal.typed(b"q");
    assert_eq!(terminal.ends(), Some(0));
    assert!(terminal.is_given_back());
}

/// `sockeye record`, killed on drop.
struct Recorder(Child);

impl Drop for Recorder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A recording that is being written is gone through, and every screen of it is there.
#[test]
fn a_recording_is_stepped_through_while_it_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history");
    let directory = path.to_str().unwrap();
    let mut recorder = sockeye(&["record", "-o", directory, "--interval", "100ms"]);
    let mut recorder = Recorder(recorder.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
    let args = ["top", "--replay", directory];
    wait_until("a tick", LIMIT, || {
        let report = sockeye(&["report", directory, "--json"]).stderr(Stdio::null()).output().unwrap();
        report.status.success()
    });
    let mut terminal = Terminal::start(&args, 120, true);
    terminal.comes_to_show("tick 1 of");
    // On from the last, new ones are looked for: there may be none yet.
    wait_until("the second tick", LIMIT, || {
        terminal.forget();
        terminal.typed(b"^t\x0c");
        within(Duration::from_millis(200), || terminal.text().contains("tick 2 of").then_some(())).is_some()
    });
    for (key, shown) in [
        ("2", "connection"),
        ("3", "how many ports"),
        ("4", "COMPLETED"),
        ("5", "does not hold listeners"),
        ("6", "does not hold single sockets"),
        ("1", "tick 2 of"),
        ("?", "closest"),
    ] {
        terminal.typed(key.as_bytes());
        terminal.comes_to_show(shown);
    }
    // It plays as it is written.
    terminal.typed(b"?$ ");
    terminal.comes_to_show("\u{25b6}");
    let last = |terminal: &Terminal| {
        let text = terminal.text();
        let number = text.rsplit_once("tick ")?.1.split_once(" of")?.0.replace(',', "");
        number.parse::<u64>().ok()
    };
    let seen = wait_for("the last tick", LIMIT, || last(&terminal));
    wait_until("later ticks", LIMIT, || {
        terminal.forget();
        terminal.typed(b"\x0c");
        within(Duration::from_millis(500), || last(&terminal).filter(|now| *now > seen + 5)).is_some()
    });
    kill(Pid::from_raw(recorder.0.id() as i32), Signal::SIGTERM).unwrap();
    assert!(recorder.0.wait().unwrap().success());
    // And is there when it was rolled.
    terminal.typed(b" ^");
    terminal.comes_to_show("tick 1 of");
    terminal.typed(b"bnow\r");
    terminal.comes_to_show("stands");
    terminal.typed(b"q");
    assert_eq!(terminal.ends(), Some(0));
    assert!(terminal.is_given_back());
    assert_eq!(is_harmless(&terminal.written.lock().unwrap().bytes), Ok(()));
}

/// From a key to the first of the whole frame that it asks for, of every screen in turn, while sweeps go on all the time.
#[test]
fn keys_are_answered_while_a_sweep_runs() {
    let is_full = std::env::var_os("SOCKEYE_TESTS_FULL").is_some();
    let (connections, keys): (usize, u16) = if is_full { (250_000, 600) } else { (1_500, 60) };
    Namespace::new().deadline(Duration::from_secs(300)).run(|| {
        let load = Load::established(connections, 40).unwrap();
        let mut terminal = Terminal::start(&["top", "100ms"], 240, true);
        wait_until("the first look", Duration::from_secs(120), || terminal.text().contains("live"));
        let mut took: Vec<(Duration, u8)> = (0..keys)
            .map(|number| {
                let screen = b'1' + (number % 6) as u8;
                // Ticks are drawn too: what only ^L writes is waited for.
                terminal.forget();
                let typed = Instant::now();
                terminal.typed(&[screen, 0x0c]);
                let answered = wait_for("the answer to a key", LIMIT, || {
                    let written = terminal.written.lock().unwrap();
                    let new = &written.bytes[written.forgotten..];
                    let end = written.forgotten + new.windows(4).position(|four| four == b"\x1b[2J")? + 4;
                    written.reads.iter().find(|(until, _)| *until >= end).map(|(_, at)| *at)
                });
                (answered.duration_since(typed), screen)
            })
            .collect();
        took.sort_unstable();
        let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize].0;
        eprintln!(
            "{} sockets, {} keys: answered within p50 {:.1?}, p90 {:.1?}, p99 {:.1?}, max {:.1?}, slowest on screen {}",
            load.sockets(),
            took.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0),
            char::from(took[took.len() - 1].1)
        );
        if is_full {
            let cost = terminal.text();
            eprintln!(
                "{}",
                cost.rsplit("sockets in").next().unwrap_or_default().chars().take(60).collect::<String>()
            );
            assert!(at(0.99) <= Duration::from_millis(50), "p99 {:?}", at(0.99));
        }
        terminal.typed(b"q");
        assert_eq!(terminal.ends(), Some(0));
    });
}

#[test]
fn no_colour_is_written_where_none_is_wanted() {
    let coloured = |args: &[&str]| {
        let mut terminal = Terminal::start(args, 120, true);
        terminal.shows("live");
        terminal.typed(b"q");
        assert_eq!(terminal.ends(), Some(0));
        terminal.text().contains(";32m")
    };
    assert!(
        coloured(&["top", "200ms", "--color", "always"]) && !coloured(&["top", "200ms", "--color", "never"])
    );
}

#[test]
fn a_capture_is_completed_and_shows_the_same_again() {
    let folder = tempfile::tempdir().unwrap();
    let capture = folder.path().join("top.sockeye");
    let path = capture.to_str().unwrap();
    let mut terminal = Terminal::start(&["top", "100ms", "--capture", path], 120, true);
    terminal.comes_to_show("3 ticks kept");
    terminal.typed(b"q");
    assert_eq!(terminal.ends(), Some(0));
    assert!(Path::new(path).exists());
    let mut terminal = Terminal::start(&["top", "--replay", path], 120, true);
    terminal.shows("replay ×1");
    terminal.shows("the end");
    terminal.typed(b"q");
    assert_eq!(terminal.ends(), Some(0));
    assert!(terminal.is_given_back());
}

#[test]
fn what_fails_is_told_after_the_terminal_is_given_back() {
    let mut terminal = Terminal::start(&["top", "-N", "no-such-namespace"], 80, true);
    assert_eq!(terminal.ends(), Some(2));
    terminal.shows("no-such-namespace");
    assert!(terminal.is_given_back());
    let text = terminal.text();
    assert!(text.rfind(GIVES_BACK) < text.rfind("no-such-namespace"), "{text:?}");
}

#[test]
fn without_a_terminal_it_says_what_to_take_instead() {
    let output = sockeye(&["top"]).stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("sockeye watch") && told.contains("sockeye --json"), "{told}");
}
