//! The body of a test, in a process of its own inside a namespace: started, watched, killed when it hangs, and its
//! failure made the test's.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::panic::Location;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{env, mem, thread};

use crate::deadline::within;
use crate::namespace::Namespace;

/// Tells a re-executed test binary which call of [`Namespace::run`] it is there for.
const MARKER: &str = "SOCKEYE_TESTS_BODY";
/// Exit code of a child whose body ran to its end: the test harness itself never exits with it, so a child that did
/// not reach the body cannot pass for one that did.
const COMPLETED: i32 = 77;
/// Whether this process has begun the body it was made for.
static INSIDE_BODY: AtomicBool = AtomicBool::new(false);

/// Runs `body` as the rest of the calling test, in a fresh process with its own user and network namespace.
/// Short for [`Namespace::new`]`().`[`run`](Namespace::run)`(body)`.
#[track_caller]
pub fn in_namespace<F: FnOnce()>(body: F) {
    Namespace::new().run(body);
}

impl Namespace {
    /// Runs `body` in a fresh process inside the namespace. To be called from a `#[test]`.
    ///
    /// The test binary is executed again inside the namespace, for this one test; there, everything before this call
    /// runs once more, then `body`, then the process ends. In the calling process nothing of `body` happens. A test
    /// may call this several times, also in a loop, but not inside a body.
    ///
    /// # Panics
    /// With the child's output when it fails, hangs past the [`deadline`](Self::deadline), or never reaches `body`;
    /// when namespaces cannot be made and `CI` is `true` (otherwise that prints `SKIPPED` and returns).
    #[track_caller]
    pub fn run<F: FnOnce()>(self, body: F) {
        let call = this_call(Location::caller());
        if let Ok(wanted) = env::var(MARKER) {
            assert!(
                !INSIDE_BODY.load(Ordering::SeqCst),
                "Namespace::run inside its own body would do nothing"
            );
            if wanted == call {
                INSIDE_BODY.store(true, Ordering::SeqCst);
                body();
                std::process::exit(COMPLETED);
            }
            return;
        }
        let test = test_name::<F>();
        let mut command = Command::new(own_executable());
        command
            .args([&*test, "--exact", "--nocapture", "--include-ignored", "--test-threads", "1"])
            .env(MARKER, &call)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0);
        let child = match self.spawn_reporting(&mut command) {
            Ok(child) => child,
            Err(failure) if failure.step.is_permission() && env::var("CI").as_deref() != Ok("true") => {
                // Past the harness's capture, which hides what passing tests print.
                let _ = writeln!(io::stderr(), "SKIPPED: {test}: {}", failure.into_io());
                return;
            }
            Err(failure) => panic!("{test}: no namespace: {}", failure.into_io()),
        };
        let (ending, output) = finish(child, self.limit);
        if ending == Ending::Exited(COMPLETED) {
            eprint!("{output}");
            return;
        }
        let why = match ending {
            Ending::Exited(0) => "never reached its body".to_string(),
            Ending::Exited(code) => format!("failed (exit code {code})"),
            Ending::Killed(signal) => format!("was killed by signal {signal}"),
            Ending::Hung => format!("was still running after {:?} and was killed", self.limit),
        };
        panic!("{test} in its namespace {why}; it printed:\n{output}");
    }
}

/// How a child ended.
#[derive(PartialEq, Debug)]
enum Ending {
    Exited(i32),
    Killed(i32),
    Hung,
}

/// Waits for the child, kills its process group at the deadline, and takes all it printed.
fn finish(mut child: Child, limit: Duration) -> (Ending, String) {
    fn collect(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            if let Some(mut stream) = stream {
                // What was read before an error is still worth showing.
                let _ = stream.read_to_end(&mut bytes);
            }
            bytes
        })
    }
    let streams = [collect(child.stdout.take()), collect(child.stderr.take())];
    let group = child.id() as libc::pid_t;
    let ended = within(limit, || has_ended(group).then_some(())).is_some();
    // SAFETY: kill takes integers. The child is not reaped yet, so its group id cannot belong to anyone else.
    // Whatever the child left behind would keep its output open.
    unsafe { libc::kill(-group, libc::SIGKILL) };
    let ending = match child.wait() {
        _ if !ended => Ending::Hung,
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => Ending::Exited(code),
            (None, signal) => Ending::Killed(signal.unwrap_or(0)),
        },
        Err(_) => Ending::Hung,
    };
    let mut output = String::new();
    for stream in streams {
        output.push_str(&String::from_utf8_lossy(&stream.join().unwrap_or_default()));
    }
    (ending, output)
}

/// Whether this child of ours has ended; it stays unreaped.
fn has_ended(child: libc::pid_t) -> bool {
    // SAFETY: waitid fills the siginfo given, which is plain data.
    unsafe {
        let mut about: libc::siginfo_t = mem::zeroed();
        let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
        let result = libc::waitid(libc::P_PID, child as libc::id_t, &mut about, flags);
        result != 0 || about.si_pid() != 0
    }
}

/// A name for this call that the child computes as well: where it stands, and how often this thread came by.
fn this_call(place: &Location<'_>) -> String {
    thread_local!(static CALLS: RefCell<HashMap<String, u32>> = RefCell::default());
    let place = place.to_string();
    CALLS.with_borrow_mut(|calls| {
        let count = calls.entry(place.clone()).or_default();
        *count += 1;
        format!("{place}#{count}")
    })
}

/// The calling test's name as the harness knows it: the thread's name, or (with --test-threads 1, where tests run on the
/// main thread) the path of the closure that stands in it.
fn test_name<F>() -> String {
    match thread::current().name() {
        Some(name) if name != "main" => name.to_string(),
        _ => {
            let path = std::any::type_name::<F>();
            let path = path.split("::{{closure}}").next().unwrap_or(path);
            path.split_once("::").map_or(path, |(_crate, path)| path).to_string()
        }
    }
}

fn own_executable() -> std::path::PathBuf {
    match env::current_exe() {
        Ok(path) => path,
        Err(error) => panic!("the path of this test binary: {error}"),
    }
}
