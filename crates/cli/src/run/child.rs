//! The command's process: started with our own input and outputs, in a cgroup of its own where there is one, signals passed on to it, ended when its time is up.

use std::ffi::OsString;
use std::io::{self, Write as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::prctl::set_child_subreaper;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use signal_hook::consts::SIGCHLD;
use signal_hook::flag;

use sockeye_host::OwnCgroup;

use super::descent::signal_all;

/// What is passed on. SIGINT and SIGQUIT from a terminal reach the command by themselves.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGQUIT,
    Signal::SIGTERM,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGALRM,
];
/// `si_code` of what the kernel sends, as a terminal's keys.
const SI_KERNEL: i32 = 0x80;
/// Between two rounds of killing: who forks may be missed once.
const ROUND: Duration = Duration::from_millis(50);

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    Code(i32),
    Signal(i32),
    /// It was ended because its time was up.
    TimedOut,
}

impl Exit {
    /// As a shell tells it.
    pub(crate) fn code(self) -> u8 {
        match self {
            Exit::Code(code) => code as u8,
            Exit::Signal(signal) => 128 + signal as u8,
            Exit::TimedOut => 124,
        }
    }
}

/// How long a command may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// None: as long as it likes.
    pub(crate) timeout: Option<Duration>,
    /// From SIGTERM to SIGKILL.
    pub(crate) kill_after: Duration,
}

/// Why a command could not be started.
#[derive(Debug)]
pub(crate) enum NotStarted {
    /// There is none of this name: 127.
    NotFound(io::Error),
    /// It is there and cannot be executed: 126.
    NotExecutable(io::Error),
}

/// Signals are held back from here on, for [`start`] to pass them on. To be called before any thread is started.
pub(crate) struct Signals {
    told: SignalFd,
    /// What was held back before: the command inherits that, not ours, or no SIGTERM would end it.
    before: SigSet,
}

impl Signals {
    /// # Errors
    /// What the kernel answers.
    pub(crate) fn hold() -> anyhow::Result<Signals> {
        let mut set: SigSet = PASSED_ON.into_iter().collect();
        set.add(Signal::SIGCHLD);
        let before = set.thread_swap_mask(SigmaskHow::SIG_BLOCK).context("holding signals back")?;
        // Whoever started us may ignore the ends of children, which then are told to nobody. Any handler undoes that; this
        // one never runs, as the signal is held back.
        flag::register(SIGCHLD, Arc::default()).context("hearing of the command's end")?;
        set_child_subreaper(true).context("becoming the reaper of the command's children")?;
        let told = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC).context("reading signals")?;
        Ok(Signals { told, before })
    }
}

/// A command that runs.
pub(crate) struct Child {
    pid: u32,
    herald: JoinHandle<(Exit, Instant)>,
    /// Said before the caller is called.
    has_ended: Arc<AtomicBool>,
}

impl Child {
    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, and when that was noticed.
    pub(crate) fn end(self) -> (Exit, Instant) {
        // The herald does not panic; whoever takes it away takes us with it.
        self.herald.join().unwrap_or((Exit::Signal(0), Instant::now()))
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended.load(Ordering::SeqCst)
    }
}

/// Starts a command. `caller` is written to when it has ended.
///
/// # Errors
/// Why it cannot be executed.
pub(crate) fn start(
    words: &[OsString],
    patience: Patience,
    signals: Signals,
    mut caller: UnixStream,
    cgroup: Option<&OwnCgroup>,
) -> Result<Child, NotStarted> {
    let (name, arguments) =
        words.split_first().ok_or(NotStarted::NotFound(io::ErrorKind::NotFound.into()))?;
    let Signals { told, before } = signals;
    let mut command = Command::new(name);
    command.args(arguments);
    let release = move || before.thread_set_mask().map_err(io::Error::from);
    // SAFETY: between fork and exec it makes one system call, over a value of its own.
    unsafe { command.pre_exec(release) };
    if let Some(cgroup) = cgroup {
        let door = cgroup.door().try_clone_to_owned().map_err(NotStarted::NotExecutable)?;
        let enter = move || match nix::unistd::write(&door, b"0") {
            Ok(_) => Ok(()),
            Err(errno) => Err(io::Error::from(errno)),
        };
        // SAFETY: between fork and exec it makes one system call, and touches nothing but the descriptor that it owns.
        unsafe { command.pre_exec(enter) };
    }
    let child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => NotStarted::NotFound(error),
        _ => NotStarted::NotExecutable(error),
    })?;
    let pid = Pid::from_raw(child.id() as i32);
    let has_ended = Arc::new(AtomicBool::new(false));
    let says_so = Arc::clone(&has_ended);
    let herald = thread::Builder::new().name("herald".to_owned()).spawn(move || {
        let exit = attend(pid, patience, &told);
        let ended = Instant::now();
        says_so.store(true, Ordering::SeqCst);
        // Nobody listens any more when the watch has failed.
        let _ = caller.write_all(b"!");
        (exit, ended)
    });
    let herald = herald.map_err(|error| {
        // Nobody would ever wait for it.
        let _ = kill(pid, Signal::SIGKILL);
        NotStarted::NotExecutable(error)
    })?;
    Ok(Child { pid: pid.as_raw() as u32, herald, has_ended })
}

/// Passes signals on and waits, until the command has ended.
fn attend(pid: Pid, patience: Patience, signals: &SignalFd) -> Exit {
    let mut deadline = patience.timeout.map(|timeout| Instant::now() + timeout);
    let mut is_late = false;
    let mut kills = false;
    loop {
        if let Some(exit) = reap(pid) {
            return if is_late { Exit::TimedOut } else { exit };
        }
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let timeout = left.map_or(PollTimeout::NONE, |left| {
            // Rounded up: a poll that ends too early is another round for nothing.
            PollTimeout::try_from(left + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX)
        });
        let mut watched = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if poll(&mut watched, timeout).is_ok_and(|ready| ready > 0) {
            pass_on(pid, signals);
        }
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            signal_all(if kills { Signal::SIGKILL } else { Signal::SIGTERM });
            deadline = Some(Instant::now() + if kills { ROUND } else { patience.kill_after });
            (is_late, kills) = (true, true);
        }
    }
}

fn pass_on(pid: Pid, signals: &SignalFd) {
    let Ok(Some(told)) = signals.read_signal() else { return };
    let Some(signal) = Signal::try_from(told.ssi_signo as i32).ok().filter(|s| PASSED_ON.contains(s)) else {
        return;
    };
    let has_it =
        matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP) && told.ssi_code == SI_KERNEL;
    if !has_it {
        let _ = kill(pid, signal);
    }
}

/// Takes in whatever children have ended, orphans of the command among them. How the command did, once it has.
fn reap(pid: Pid) -> Option<Exit> {
    let mut exit = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(ended, code)) if ended == pid => exit = Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(ended, signal, _)) if ended == pid => {
                exit = Some(Exit::Signal(signal as i32))
            }
            Ok(WaitStatus::StillAlive) => return exit,
            Ok(_) | Err(Errno::EINTR) => {}
            // Nobody is left; that we have not met the command's end is not possible.
            Err(_) => return exit.or(Some(Exit::Signal(0))),
        }
    }
}

/// Ends whatever the command has left running. Returns whether somebody is left all the same.
pub(crate) fn end_the_rest(within: Duration) -> bool {
    let deadline = Instant::now() + within;
    while signal_all(Signal::SIGKILL) > 0 {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        if Instant::now() > deadline {
            return true;
        }
        thread::sleep(Duration::from_millis(1));
    }
    false
}
