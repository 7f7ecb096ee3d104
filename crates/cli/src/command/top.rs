//! `sockeye top`: the screen's thread. It waits for keys, signals and looks, and draws; following is another thread's work.

use std::io::{self, IsTerminal as _, Read as _};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui_core::buffer::Buffer;
use signal_hook::consts::{SIGCONT, SIGHUP, SIGINT, SIGTERM, SIGTSTP, SIGWINCH};
use signal_hook::{flag, low_level};
use sockeye_host::Namespaces;

use crate::args::{ColorChoice, TopArgs};
use crate::terminal::Palette;
use crate::top::follower;
use crate::top::frame::{self, Scene};
use crate::top::input::{Decoder, Input};
use crate::top::keys::{self, Effect, Shown};
use crate::top::look::Look;
use crate::top::past::{Past, State};
use crate::top::player;
use crate::top::theme::Theme;
use crate::top::tty::{self, Tty};
use crate::top::view::{Choice, Overlay, View};
use crate::top::wanted::{Wanted, Wants};

/// What follows an escape of a sequence comes at once; a key Escape has nothing behind it.
const ESCAPE_MS: u16 = 25;
/// A key has to be answered: what is not found until then is not offered.
const A_MOMENT: Duration = Duration::from_millis(30);
/// A capture is completed when it ends; a sweep may have to end first.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs the command.
pub(crate) fn run(args: &TopArgs) -> anyhow::Result<()> {
    ensure!(
        io::stdout().is_terminal(),
        "top needs a terminal: for a file or a pipe take `sockeye watch` (a line per interval) or `sockeye --json` (one look)"
    );
    // A capture is a file.
    let recording = args.feed.replay.clone().filter(|path| path.is_dir());
    ensure!(
        recording.is_some() || args.begin.is_none(),
        "--begin is for a recording: --replay DIR, which `sockeye record` has written"
    );
    let wanted = Arc::new(Wanted::new(args.interval));
    let (past, woken) = Past::new().context("opening a pipe")?;
    let past = Arc::new(past);
    let signals = Signals::listen().context("listening to signals")?;
    let follower = {
        let (args, wanted, past) = (args.clone(), Arc::clone(&wanted), Arc::clone(&past));
        let recording = recording.clone();
        let follow = move || {
            let _told = TellsOfPanic(&past);
            match recording {
                Some(directory) => player::play(&directory, args.begin, &wanted, &past),
                None => follower::follow(&args, &wanted, &past),
            }
        };
        Builder::new().name("follower".to_owned()).spawn(follow).context("starting a thread")?
    };
    tty::give_back_on_panic();
    let theme = match args.color.when {
        ColorChoice::Auto if Palette::choose(ColorChoice::Auto).good.is_empty() => Theme::PLAIN,
        ColorChoice::Never => Theme::PLAIN,
        _ => Theme::COLOUR,
    };
    let mut view = View::new(args.interval);
    view.begin_by(args.by);
    if args.fleet.all_netns {
        view.begin_with_all();
    }
    if recording.is_some() {
        view.begin_with_recording();
    }
    let wants = view.wants();
    wanted.set(wants.clone(), false);
    let mut screen = ScreenThread {
        tty: Tty::enter().context("cannot take the terminal over")?,
        decoder: Decoder::default(),
        view,
        shown: Shown::default(),
        wants,
        wanted,
        past,
        woken,
        signals,
        theme,
        is_bound: args.feed.capture.is_some() || args.feed.replay.is_some(),
        follower: Some(follower),
    };
    let ended = screen.go_on();
    screen.end(args.feed.capture.is_some(), ended)
}

/// A follower that panics has nobody else to say so.
struct TellsOfPanic<'a>(&'a Past);

impl Drop for TellsOfPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.set_state(State::Failed(
                "a defect of sockeye ended it: please report what is told above".to_owned(),
            ));
        }
    }
}

/// Why the screen's thread ends.
enum Ended {
    /// Someone wishes it.
    Wished,
    /// A signal did: the follower knows it, too.
    Signalled,
    /// The follower did, of itself.
    Over,
    /// The terminal is gone.
    Closed,
}

struct ScreenThread {
    tty: Tty,
    decoder: Decoder,
    view: View,
    shown: Shown,
    wants: Wants,
    wanted: Arc<Wanted>,
    past: Arc<Past>,
    woken: UnixStream,
    signals: Signals,
    theme: Theme,
    /// To the namespace that the command began with.
    is_bound: bool,
    follower: Option<JoinHandle<()>>,
}

impl ScreenThread {
    fn go_on(&mut self) -> Ended {
        loop {
            let (looks, state) = self.past.looks();
            if let Some(ended) = over(&state, &looks) {
                return ended;
            }
            if self.shown.number == 0 && !looks.is_empty() {
                // Opening may have had something to say on standard error.
                self.tty.forget();
            }
            if self.tty.is_ready() {
                if let Some(answer) = self.past.take_answer() {
                    if !self.view.is_recording {
                        self.view.follow(self.wanted.now().namespace);
                    }
                    self.view.message = Some(answer);
                    self.wants.namespace.clone_from(&self.view.namespace);
                }
                let frame = self.frame(&looks, &state);
                if self.tty.draw(frame).is_err() {
                    return Ended::Closed;
                }
            }
            drop((looks, state));
            match self.wait() {
                Ok(Some(ended)) => return ended,
                Ok(None) => {}
                Err(_) => return Ended::Closed,
            }
        }
    }

    fn frame(&mut self, looks: &[Arc<Look>], state: &State) -> Buffer {
        let scene = Scene { looks, state, view: &self.view, theme: &self.theme };
        let mut buffer = Buffer::empty(Tty::area());
        self.shown = frame::draw(&scene, &mut buffer);
        self.view.pinned = self.view.pinned.or(self.shown.chosen);
        buffer
    }

    /// Waits for whatever comes first, and does what it asks for. Some: the end.
    fn wait(&mut self) -> io::Result<Option<Ended>> {
        let mut interest = PollFlags::POLLIN;
        interest.set(PollFlags::POLLOUT, self.tty.has_pending());
        let timeout = if self.decoder.waits() { PollTimeout::from(ESCAPE_MS) } else { PollTimeout::NONE };
        let (typed, can_write, looks, signals) = {
            let mut fds = [
                PollFd::new(self.tty.as_fd(), interest),
                PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.signals.woken.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, timeout) {
                Ok(_) | Err(nix::errno::Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let came = |fd: &PollFd<'_>| fd.revents().unwrap_or(PollFlags::empty());
            let gone = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLIN;
            (
                came(&fds[0]).intersects(gone),
                came(&fds[0]).contains(PollFlags::POLLOUT),
                came(&fds[1]).intersects(gone),
                came(&fds[2]).intersects(gone),
            )
        };
        if signals && let Some(ended) = self.take_signals()? {
            return Ok(Some(ended));
        }
        if looks {
            while matches!(self.woken.read(&mut [0; 64]), Ok(1..)) {}
        }
        if can_write {
            self.tty.write()?;
        }
        let mut inputs = Vec::new();
        if typed {
            let mut bytes = [0; 1024];
            let read = self.tty.read(&mut bytes)?;
            self.decoder.take(&bytes[..read], |input| inputs.push(input));
        } else if self.decoder.waits() && !signals && !looks {
            self.decoder.give_up(|input| inputs.push(input));
        }
        for (index, input) in inputs.into_iter().enumerate() {
            if index > 0 {
                // The second key is about what the first has made, though nobody has seen it.
                let (looks, state) = self.past.looks();
                self.frame(&looks, &state);
            }
            if let Some(ended) = self.take_input(&input)? {
                return Ok(Some(ended));
            }
        }
        Ok(None)
    }

    fn take_input(&mut self, input: &Input) -> io::Result<Option<Ended>> {
        let (view, effect) = keys::apply(&self.view, input, &self.shown);
        self.view = view;
        let wants = self.view.wants();
        let mut at_once = effect == Some(Effect::Tick);
        if wants != self.wants || at_once {
            // What nobody looked at until now is not waited for.
            at_once |= wants.ports && !self.wants.ports
                || wants.sockets.is_some() && wants.sockets != self.wants.sockets
                || wants.interval < self.wants.interval
                || wants.namespace != self.wants.namespace;
            self.wanted.set(wants.clone(), at_once);
            self.wants = wants;
        }
        match effect {
            Some(Effect::Quit) => return Ok(Some(Ended::Wished)),
            Some(Effect::Suspend) => self.suspend()?,
            Some(Effect::Repaint) => self.tty.forget(),
            Some(Effect::ListNamespaces) if self.view.is_recording => {
                let told = "a recording is gone through tick by tick, whatever namespace each is of";
                self.view.message = Some(told.to_owned());
            }
            Some(Effect::ListNamespaces) if self.is_bound => {
                self.view.message = Some("a capture is of one namespace".to_owned());
            }
            Some(Effect::ListNamespaces) => {
                self.view.overlay = Some(Overlay::Namespaces {
                    choices: namespaces(self.shown.inode, self.view.is_fleet),
                    chosen: 0,
                });
            }
            Some(Effect::Go(to)) => self.wanted.go(to),
            Some(Effect::Tick) | None => {}
        }
        Ok(None)
    }

    fn take_signals(&mut self) -> io::Result<Option<Ended>> {
        for signal in self.signals.take() {
            match signal {
                SIGTERM | SIGINT => return Ok(Some(Ended::Signalled)),
                SIGHUP => return Ok(Some(Ended::Closed)),
                SIGTSTP => self.suspend()?,
                // After a SIGSTOP, which nobody is told of; after a stop of our own it comes as well.
                SIGCONT => self.tty.make_sure()?,
                _ => {}
            }
        }
        Ok(None)
    }

    /// Gives the terminal back and stops; whoever continues us finds the screen again.
    fn suspend(&mut self) -> io::Result<()> {
        self.tty.leave();
        low_level::emulate_default_handler(SIGTSTP)?;
        self.tty.take_over()
    }

    /// Gives the terminal back, then lets the follower complete what it writes.
    fn end(mut self, captures: bool, ended: Ended) -> anyhow::Result<()> {
        self.tty.leave();
        let (_, state) = self.past.looks();
        if let State::Failed(why) = state {
            anyhow::bail!(why);
        }
        self.wanted.set(Wants { ends: true, ..self.wants.clone() }, false);
        if captures {
            if !matches!(ended, Ended::Signalled | Ended::Over) {
                // As if someone had sent it: the follower ends at once, without a last tick.
                low_level::raise(SIGTERM).context("ending the follower")?;
            }
            let began = Instant::now();
            while let Some(follower) = self.follower.take_if(|follower| !follower.is_finished()) {
                ensure!(
                    began.elapsed() < PATIENCE,
                    "the capture could not be completed in time, and is not kept"
                );
                std::thread::sleep(Duration::from_millis(10));
                self.follower = Some(follower);
            }
            if let (_, State::Failed(why)) = self.past.looks() {
                anyhow::bail!(why);
            }
        }
        Ok(())
    }
}

/// Whether there is nothing more to draw: a watch that is over ends, the end of a capture stays on the screen.
fn over(state: &State, looks: &[Arc<Look>]) -> Option<Ended> {
    match state {
        State::Failed(_) => Some(Ended::Over),
        State::Over => looks.last().is_none_or(|look| !look.place.is_replay).then_some(Ended::Over),
        State::Opening | State::Following | State::Recorded { .. } => None,
    }
}

/// The namespaces of this host that can be found in a moment, behind the one that the command began with.
fn namespaces(followed: Option<u64>, is_fleet: bool) -> Vec<Choice> {
    let first = if is_fleet { "all of them" } else { "where it began" };
    let mut known = Namespaces::new();
    known.look(A_MOMENT);
    let mut choices: Vec<Choice> = known
        .iter()
        .filter_map(|found| {
            let way = found.ways.first()?.to_str()?.to_owned();
            let namespace = found.name.named().unwrap_or(way);
            let here = if Some(found.inode) == followed { "  ← followed now" } else { "" };
            Some(Choice {
                label: format!("{}  (inode {}){here}", found.name, found.inode),
                namespace: Some(namespace),
            })
        })
        .collect();
    choices.sort_by(|a, b| a.label.cmp(&b.label));
    choices.insert(0, Choice { label: first.to_owned(), namespace: None });
    choices
}

/// Signals that are waited for among other things.
struct Signals {
    woken: UnixStream,
    came: Vec<(i32, Arc<AtomicBool>)>,
}

impl Signals {
    fn listen() -> io::Result<Signals> {
        let (woken, waker) = UnixStream::pair()?;
        woken.set_nonblocking(true)?;
        let mut came = Vec::new();
        for signal in [SIGTERM, SIGINT, SIGHUP, SIGTSTP, SIGCONT, SIGWINCH] {
            let flag = Arc::new(AtomicBool::new(false));
            // In this order: who is woken finds the flag.
            flag::register(signal, Arc::clone(&flag))?;
            low_level::pipe::register(signal, waker.try_clone()?)?;
            came.push((signal, flag));
        }
        Ok(Signals { woken, came })
    }

    /// Those that have come since the last call.
    fn take(&mut self) -> Vec<i32> {
        while matches!(self.woken.read(&mut [0; 64]), Ok(1..)) {}
        let came = self.came.iter().filter(|(_, flag)| flag.swap(false, Ordering::SeqCst));
        came.map(|(signal, _)| *signal).collect()
    }
}
