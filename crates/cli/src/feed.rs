//! Where this run's sockets come from: the live kernel, perhaps captured on the way, or a capture.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Seek};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::Context as _;
use sock_diag::filter::{Filter, PortRangeOnly};
use sock_diag::{
    CaptureWriter, Cookie, DestroyEvents, DiagMsg, DumpRequest, DumpSummary, Event, EventGroups, Extensions,
    Family, Kernel, Namespace, Protocol, Recording, RecvBuffer, Replay, SocketId, SocketRecord, SocketState,
    StateSet, TimerKind, dump, inspect, lookup,
};
use sockeye_core::{Age, DestinationId, Moment, PortRange, PortSet, StuckKind, StuckSamples, When};
use tempfile::NamedTempFile;

use crate::args::FeedArgs;
use crate::explain;
use crate::surroundings::{Step, Surroundings};
use crate::terminal::Harmless;

/// An open source of sockets, and what is known of the host beside them.
pub(crate) struct Feed {
    input: Input,
    surroundings: Surroundings,
    buffer: RecvBuffer,
    started: Instant,
    /// Some of those who bound by number, when they were last read.
    binders: Vec<SocketRecord>,
}

enum Input {
    Live {
        kernel: Kernel,
        /// The one it is in, unless that is the process's own.
        namespace: Option<Namespace>,
        capture: Option<Capture>,
    },
    Replay(Replay<File>),
}

/// A capture being written: a file without a name, which is gone with the process, until it is whole.
struct Capture {
    writer: CaptureWriter<BufWriter<File>>,
    path: PathBuf,
}

impl Feed {
    /// Opens what the options name.
    pub(crate) fn open(args: &FeedArgs) -> anyhow::Result<Feed> {
        let started = Instant::now();
        let buffer = RecvBuffer::new();
        if let Some(path) = &args.replay {
            let (replay, surroundings) =
                open_replay(path).with_context(|| format!("cannot replay {}", named(path)))?;
            return Ok(Feed {
                input: Input::Replay(replay),
                surroundings,
                buffer,
                started,
                binders: Vec::new(),
            });
        }
        let (kernel, surroundings, namespace) = match &args.netns {
            None => {
                let current = Namespace::current().ok();
                (Kernel::open().map_err(explain::open)?, Surroundings::read(current.as_ref()), None)
            }
            Some(text) => {
                let namespace = Namespace::find(text).map_err(explain::namespace)?;
                let opened = namespace.run(|| (Kernel::open(), Surroundings::read(Some(&namespace))));
                let (kernel, surroundings) = opened.map_err(explain::enter)?;
                (kernel.map_err(explain::open)?, surroundings, Some(namespace))
            }
        };
        let capture = match &args.capture {
            None => None,
            Some(path) => {
                Some(Capture::create(path).with_context(|| format!("cannot write {}", named(path)))?)
            }
        };
        let input = Input::Live { kernel, namespace, capture };
        Ok(Feed { input, surroundings, buffer, started, binders: Vec::new() })
    }

    /// A feed of the namespace that the calling thread is in, put together from what is there already:
    /// [`take_apart`](Self::take_apart) gives it back.
    pub(crate) fn of_thread(kernel: Kernel, surroundings: Surroundings, buffer: RecvBuffer) -> Feed {
        let input = Input::Live { kernel, namespace: None, capture: None };
        Feed { input, surroundings, buffer, started: Instant::now(), binders: Vec::new() }
    }

    /// What it was put together from, but for the kernel's socket.
    pub(crate) fn take_apart(self) -> (Surroundings, RecvBuffer) {
        (self.surroundings, self.buffer)
    }

    /// What is known of the host beside its sockets.
    pub(crate) fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// Whether the sockets are read from a capture: of another time, perhaps of another host.
    pub(crate) fn is_replay(&self) -> bool {
        matches!(self.input, Input::Replay(_))
    }

    /// One more socket to the same kernel and namespace, for another thread. None for a capture or a replay, which are
    /// one stream, and when there is none to be had.
    pub(crate) fn another_kernel(&self) -> Option<Kernel> {
        match &self.input {
            Input::Live { namespace: None, capture: None, .. } => Kernel::open().ok(),
            Input::Live { namespace: Some(namespace), capture: None, .. } => Kernel::open_in(namespace).ok(),
            Input::Live { .. } | Input::Replay(_) => None,
        }
    }

    /// Adds what only the sweep could tell to what a capture keeps.
    pub(crate) fn keep_cgroups(&mut self, cgroups: BTreeMap<u64, String>) {
        self.surroundings.cgroups = cgroups;
    }

    /// One dump from wherever the sockets come from.
    pub(crate) fn dump(
        &mut self,
        request: &DumpRequest<'_>,
        each: impl FnMut(&DiagMsg<'_>) -> ControlFlow<()>,
    ) -> sock_diag::Result<DumpSummary> {
        match &mut self.input {
            Input::Live { kernel, capture: None, .. } => dump(kernel, request, &mut self.buffer, each),
            Input::Live { kernel, capture: Some(capture), .. } => {
                let mut recording = Recording::new(kernel, &mut capture.writer);
                dump(&mut recording, request, &mut self.buffer, each)
            }
            Input::Replay(replay) => dump(replay, request, &mut self.buffer, each),
        }
    }

    /// Whether this very socket is still there. Of a capture: what the kernel said then.
    pub(crate) fn lookup(
        &mut self,
        protocol: Protocol,
        family: Family,
        id: &SocketId,
    ) -> sock_diag::Result<Option<SocketRecord>> {
        match &mut self.input {
            Input::Live { kernel, capture: None, .. } => {
                lookup(kernel, protocol, family, id, &mut self.buffer)
            }
            Input::Live { kernel, capture: Some(capture), .. } => {
                let mut recording = Recording::new(kernel, &mut capture.writer);
                lookup(&mut recording, protocol, family, id, &mut self.buffer)
            }
            Input::Replay(replay) => lookup(replay, protocol, family, id, &mut self.buffer),
        }
    }

    /// Whether a connection that has ended (`closed`, by its cookie) has left a TIME_WAIT with these ends. None when that cannot
    /// be told: of a replay, when it was not asked then.
    pub(crate) fn left_time_wait(
        &mut self,
        closed: Cookie,
        family: Family,
        id: &SocketId,
    ) -> sock_diag::Result<Option<bool>> {
        let Input::Live { kernel, .. } = &mut self.input else {
            let kept = &self.surroundings.left_time_wait;
            return Ok(kept.iter().find(|(cookie, _)| *cookie == closed.0).map(|(_, left)| *left));
        };
        // Kept beside the dumps, whose order among the events must stay.
        let found = lookup(kernel, Protocol::Tcp, family, id, &mut self.buffer)?;
        let left = match found {
            None => false,
            Some(record) if record.timer.kind == TimerKind::TimeWait => true,
            // Somebody else has these ends already.
            Some(_) => return Ok(None),
        };
        self.surroundings.left_time_wait.push((closed.0, left));
        Ok(Some(left))
    }

    /// Asks how long sampled sockets have been in their states, as far as their `tcp_info` tells, for the surroundings to keep.
    /// A replay has what was asked then. Cost: 5 µs for each of 1,500 at most, and none where nothing may be stuck.
    pub(crate) fn ask_stuck_ages(&mut self, samples: &StuckSamples) {
        let Input::Live { kernel, .. } = &mut self.input else { return };
        let kinds = StuckKind::ALL.into_iter().filter(|kind| kind.is_told_by_info());
        let sampled = kinds.flat_map(|kind| samples.of(kind).sampled.iter().map(move |one| (kind, one)));
        let mut ages = Vec::new();
        for (kind, record) in sampled {
            let asked =
                inspect(kernel, record.family, &record.id, Extensions::INFO, &mut self.buffer, |diag| {
                    let now = diag.to_record();
                    // It may have gone on meanwhile.
                    let same = StuckKind::of(&now) == Some(kind);
                    let info = diag.tcp_info().filter(|_| same)?;
                    Age::of(kind, &now, Some(&info), None)
                });
            // What is not known is not told.
            let Ok(age) = asked else { break };
            ages.extend(age.flatten().map(|age| (record.id.cookie.0, age.min_ms, age.max_ms)));
        }
        self.surroundings.stuck_ages = ages;
    }

    /// Some sockets of a destination that are on these ports, by a lookup for each. Empty for a replay.
    pub(crate) fn on_ports(&mut self, to: &DestinationId, ports: &PortSet, most: usize) -> Vec<SocketRecord> {
        let Input::Live { kernel, .. } = &mut self.input else { return Vec::new() };
        // Evenly spread: programs differ in when they began, and so in where they are.
        let every = (ports.count() as usize).div_ceil(most).max(1);
        let family = if to.local_address.is_ipv4() { Family::Inet } else { Family::Inet6 };
        let lookups = ports.iter().step_by(every).map_while(|local_port| {
            let id = SocketId {
                local_address: to.local_address,
                local_port,
                remote_address: to.remote_address,
                remote_port: to.remote_port,
                interface: None,
                cookie: Cookie::ANY,
            };
            lookup(kernel, Protocol::Tcp, family, &id, &mut self.buffer).ok()
        });
        lookups.flatten().collect()
    }

    /// Some of the sockets that [bound their port by number](Self::bound_by_number), as they were last read; none of a replay.
    pub(crate) fn some_bound_by_number(&self) -> &[SocketRecord] {
        &self.binders
    }

    /// Somebody else has read who bound by number, and hands on some of them.
    pub(crate) fn keep_binders(&mut self, some: Vec<SocketRecord>) {
        self.binders = some;
    }

    /// A subscription to destroy events of the same namespace; None for a replay, which holds its own.
    pub(crate) fn destroy_events(&self, buffer_bytes: usize) -> Option<sock_diag::Result<DestroyEvents>> {
        match &self.input {
            Input::Live { namespace: None, .. } => Some(DestroyEvents::open(EventGroups::ALL, buffer_bytes)),
            Input::Live { namespace: Some(namespace), .. } => {
                Some(DestroyEvents::open_in(namespace, EventGroups::ALL, buffer_bytes))
            }
            Input::Replay(_) => None,
        }
    }

    /// Keeps a destroy event, where a capture is written.
    pub(crate) fn keep_event(&mut self, at: When, event: &Event<'_>) -> anyhow::Result<()> {
        match &mut self.input {
            Input::Live { capture: Some(capture), .. } => {
                capture.writer.event(packed(at), event).context("writing the capture")
            }
            _ => Ok(()),
        }
    }

    /// The destroy events that a replay's current sweep holds: before its dumps, or after them.
    pub(crate) fn kept_events(
        &mut self,
        after_dumps: bool,
        mut each: impl FnMut(When, Event<'_>),
    ) -> anyhow::Result<()> {
        let each = |at, event: Event<'_>| each(unpacked(at), event);
        let Input::Replay(replay) = &mut self.input else { return Ok(()) };
        let read = match after_dumps {
            true => replay.events_after_dumps(each),
            false => replay.events_before_dumps(each),
        };
        Ok(read?)
    }

    /// Reads the counters again, and with `all` the settings too. A replay's are those of its current sweep.
    pub(crate) fn reread(&mut self, all: bool) -> anyhow::Result<()> {
        let surroundings = &mut self.surroundings;
        match &self.input {
            Input::Live { namespace: None, .. } => {
                surroundings.reread(all);
            }
            Input::Live { namespace: Some(namespace), .. } => {
                namespace.run(|| surroundings.reread(all)).map_err(explain::enter)?;
            }
            Input::Replay(_) => {}
        }
        Ok(())
    }

    /// Goes on to a replay's next sweep; false when there is none, and without a replay.
    pub(crate) fn next_sweep(&mut self) -> anyhow::Result<bool> {
        let Input::Replay(replay) = &mut self.input else { return Ok(false) };
        if !replay.next_sweep() {
            return Ok(false);
        }
        self.surroundings = Surroundings::from_json(&replay.context()?)?;
        Ok(true)
    }

    /// How many sweeps a replay holds; None without one.
    pub(crate) fn sweeps(&self) -> Option<usize> {
        match &self.input {
            Input::Replay(replay) => Some(replay.sweeps()),
            Input::Live { .. } => None,
        }
    }

    /// Says that a sweep begins, where there are several.
    pub(crate) fn begin_sweep(&mut self) {
        self.started = Instant::now();
    }

    /// Says that a step of a watch is over, and what it was. Of a replay, all of it is known already.
    pub(crate) fn end_step(&mut self, step: Step) -> anyhow::Result<()> {
        if !self.is_replay() {
            self.surroundings.step = Some(step);
            self.surroundings.taken_at = jiff::Timestamp::now();
        }
        self.end_sweep()?;
        if !self.is_replay() {
            self.surroundings.left_time_wait.clear();
            self.surroundings.stuck_ages.clear();
        }
        Ok(())
    }

    /// Asks the kernel which connected sockets bound their port by number, and tells their cookie and port: after the other
    /// dumps of a sweep, so that whoever was in these and still lives is told. A replay tells what was asked then.
    pub(crate) fn bound_by_number(&mut self) -> sock_diag::Result<&[(u64, u16)]> {
        if let Input::Live { kernel, .. } = &mut self.input {
            let mut bound = Vec::new();
            self.binders.clear();
            let binders = &mut self.binders;
            // A range that no filter can say holds no port to ask about.
            let Some(filter) = bound_by_number(self.surroundings.core_settings().range()) else {
                return Ok(&[]);
            };
            let request = DumpRequest { filter: Some(&filter), ..DumpRequest::all(Protocol::Tcp) };
            // Not part of a capture's answers, which are replayed without filters.
            dump(kernel, &request.states(WITH_PORT_LOCK), &mut self.buffer, |diag| {
                let record = diag.to_record();
                bound.push((record.id.cookie.0, record.id.local_port));
                keep_some(binders, &record);
                ControlFlow::Continue(())
            })?;
            self.surroundings.bound_by_number = Some(bound);
        }
        Ok(self.surroundings.bound_by_number.as_deref().unwrap_or_default())
    }

    /// This sweep does not ask who bound by number.
    pub(crate) fn forget_bound_by_number(&mut self) {
        if !self.is_replay() {
            self.surroundings.bound_by_number = None;
        }
    }

    /// Says that the sweep is over: from here on its duration is known. Of a replay, it is the captured sweep's.
    pub(crate) fn end_sweep(&mut self) -> anyhow::Result<()> {
        if !self.is_replay() {
            self.surroundings.sweep_duration_ms = self.started.elapsed().as_secs_f64() * 1000.0;
        }
        if let Input::Live { capture: Some(capture), .. } = &mut self.input {
            capture.writer.end_sweep(&self.surroundings.to_json()?).context("writing the capture")?;
        }
        Ok(())
    }

    /// Completes a capture and gives it its name; without this call nothing is left of it.
    pub(crate) fn finish(self) -> anyhow::Result<()> {
        let Input::Live { capture: Some(capture), .. } = self.input else { return Ok(()) };
        let failed = || format!("cannot write {}", named(&capture.path));
        let mut whole = capture.writer.finish().with_context(failed)?.into_inner().with_context(failed)?;
        whole.rewind().with_context(failed)?;
        let mut file = NamedTempFile::new_in(folder_of(&capture.path)).with_context(failed)?;
        io::copy(&mut whole, file.as_file_mut()).with_context(failed)?;
        file.as_file().sync_all().with_context(failed)?;
        file.persist(&capture.path).map_err(|kept| kept.error).with_context(failed)?;
        Ok(())
    }
}

/// Of sockets that come in the order of the kernel's hash, which is none of theirs, the first few are as good as any.
pub(crate) fn keep_some(kept: &mut Vec<SocketRecord>, record: &SocketRecord) {
    if kept.len() < MOST_BINDERS {
        kept.push(*record);
    }
}

/// So many sockets that bound by number are kept, to ask for their owners.
const MOST_BINDERS: usize = 256;

/// States in which the kernel still knows how a socket came by its port, once it is connected.
pub(crate) const WITH_PORT_LOCK: StateSet = StateSet::ALL.minus(StateSet::of(&[
    SocketState::Listen,
    SocketState::BoundInactive,
    SocketState::TimeWait,
    SocketState::SynRecv,
    SocketState::NewSynRecv,
    SocketState::Close,
]));

/// The sockets on ports of the range that bound them by number: SOCK_BINDPORT_LOCK, which the kernel's filters alone can
/// see. None for a range that no filter can say.
pub(crate) fn bound_by_number(range: PortRange) -> Option<Filter> {
    let text = format!("sport = {}-{} and not autobound", range.first, range.last);
    Filter::parse(&text, &PortRangeOnly { first: range.first, last: range.last }).ok()
}

/// When an event came, as a capture keeps it: when it was read in the low 40 bits (34 years of milliseconds), how long it may
/// have waited for that above.
const WAITED_SHIFT: u32 = 40;

fn packed(at: When) -> u64 {
    let read = at.latest.0 & ((1 << WAITED_SHIFT) - 1);
    at.doubt_ms().min((1 << (64 - WAITED_SHIFT)) - 1) << WAITED_SHIFT | read
}

fn unpacked(kept: u64) -> When {
    let read = Moment(kept & ((1 << WAITED_SHIFT) - 1));
    When::between(read.minus_ms(kept >> WAITED_SHIFT), read)
}

impl Capture {
    fn create(path: &Path) -> anyhow::Result<Capture> {
        let path = replaceable(path)?;
        // Where the capture will be: a folder that takes no files is told before the sweep.
        let file = tempfile::tempfile_in(folder_of(&path))?;
        let writer = CaptureWriter::new(BufWriter::with_capacity(1 << 16, file))?;
        Ok(Capture { writer, path })
    }
}

/// Where to put the capture: behind links, so that these stay. Renaming would also put it in the place of a device,
/// /dev/null for one.
fn replaceable(path: &Path) -> anyhow::Result<PathBuf> {
    match fs::canonicalize(path) {
        Ok(path) => {
            anyhow::ensure!(fs::metadata(&path)?.is_file(), "what is there is no regular file, and stays");
            Ok(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => Ok(path.to_owned()),
        Err(error) => Err(error.into()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn open_replay(path: &Path) -> anyhow::Result<(Replay<File>, Surroundings)> {
    anyhow::ensure!(
        !path.join("sockeye-recording.json").exists(),
        "it is no capture but a recording: `sockeye report` reads it, `sockeye top --replay` steps through it"
    );
    // Asked before it is opened: opening a FIFO waits for someone who writes to it.
    anyhow::ensure!(fs::metadata(path)?.is_file(), "a capture must be a regular file: it is read twice");
    let file = File::open(path)?;
    let mut replay = Replay::open(file)?;
    anyhow::ensure!(replay.sweeps() > 0, "the capture holds no sweep");
    let surroundings = Surroundings::from_json(&replay.context()?)?;
    Ok((replay, surroundings))
}

/// A path for an error: file names may hold anything.
fn named(path: &Path) -> String {
    Harmless(&path.to_string_lossy()).to_string()
}
