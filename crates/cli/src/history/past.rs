//! A period of a recording, read and folded: one thread decodes while this one folds.

use std::io::{self, IsTerminal as _};
use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;

use anyhow::{anyhow, bail};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use sockeye_core::Moment;
use sockeye_recording::{
    Connection, Destination, Progress, Recording, Setting, Sink, Sum, Tick, Time, Warning,
};

use super::reading::{COLUMNS, Folding};
use crate::by::By;
use crate::instant::Instant;
use crate::render::report_view::{ReportView, minute};
use crate::sweep::Note;

/// Batches that wait to be folded: some thousand rows each.
const MOST_WAITING: usize = 4;

/// What is asked for.
#[derive(Clone, Copy)]
pub(crate) struct Asked {
    /// None: from the first row on.
    pub(crate) begin: Option<Instant>,
    /// None: to the last.
    pub(crate) end: Option<Instant>,
    /// By what owners are told apart.
    pub(crate) by: By,
}

impl Asked {
    /// Everything.
    pub(crate) const ALL: Asked = Asked { begin: None, end: None, by: By::Owner };
}

/// What was asked for, folded.
pub(crate) struct Past {
    folding: Folding,
    notes: Vec<Note>,
}

impl Past {
    /// Reads it, with a bar on a terminal.
    ///
    /// # Errors
    /// No recording, one of a later version, or nothing in it of that time.
    pub(crate) fn read(directory: &Path, asked: &Asked) -> anyhow::Result<Past> {
        let recording = Recording::open(directory)?;
        let Some(span) = recording.span()? else {
            bail!("there is no tick in {} that can be read", directory.display());
        };
        let period @ [begin, end] = period(asked, span.first, span.last)?;
        let mut folding = Folding::new([begin, end], span.interval_ms, asked.by);
        let bar = bar();
        let reading = thread::scope(|scope| {
            let (batches, folded) = sync_channel(MOST_WAITING);
            let tell = |Progress { done, all }| {
                bar.set_length(all);
                bar.set_position(done);
            };
            let mut forward = Forward { batches, takes_sums: folding.takes_sums() };
            let reader = scope.spawn(move || recording.read(period, &mut forward, tell));
            folded.iter().for_each(|batch: Batch| batch.pour_into(&mut folding));
            reader.join()
        });
        bar.finish_and_clear();
        let reading = reading.map_err(|_| anyhow!("a defect of sockeye ended the thread that reads"))??;
        let notes = folding.notes(&reading);
        Ok(Past { folding, notes })
    }

    /// As formats show it.
    pub(crate) fn view(&self, top: usize) -> ReportView<'_> {
        let folding = &self.folding;
        ReportView::new(folding.period(), folding.origin(), &self.notes, top, |owner| folding.owner(owner))
    }
}

fn period(asked: &Asked, first: Time, last: Time) -> anyhow::Result<[Time; 2]> {
    let now = Timestamp::now();
    let typed = |instant: Instant| Time(u64::try_from(instant.resolve(now).as_millisecond()).unwrap_or(0));
    let begin = asked.begin.map_or(first, typed);
    let end = asked.end.map_or(Time(last.0.saturating_add(1)), typed);
    let [from, to] = [first, last].map(|at| minute(Moment(at.0)));
    match () {
        () if begin > last || end <= first => {
            bail!("nothing was recorded then: what is recorded is from {from} to {to} UTC")
        }
        () if begin >= end => {
            bail!("the period ends before it begins; what is recorded is from {from} to {to} UTC")
        }
        // A period is cut into equal parts: the time before the first row and after the last is none of a recording.
        () => Ok([begin.max(first), end.min(Time(last.0.saturating_add(1)))]),
    }
}

/// Rows on their way to the thread that folds.
enum Batch {
    Settings(Vec<Setting>),
    Ticks(Vec<Tick>),
    Destinations(Vec<Destination>),
    Warnings(Vec<Warning>),
    Connections(Vec<Connection>),
    Sums(Vec<Sum>),
}

impl Batch {
    fn pour_into(self, sink: &mut impl Sink) {
        match self {
            Batch::Settings(rows) => sink.settings(&rows),
            Batch::Ticks(rows) => sink.ticks(&rows),
            Batch::Destinations(rows) => sink.destinations(&rows),
            Batch::Warnings(rows) => sink.warnings(&rows),
            Batch::Connections(rows) => sink.connections(&rows),
            Batch::Sums(rows) => sink.sums(&rows),
        }
    }
}

struct Forward {
    batches: SyncSender<Batch>,
    takes_sums: bool,
}

impl Forward {
    fn send(&self, batch: Batch) {
        // Nobody folds any more when that thread panicked: it says so itself.
        let _ = self.batches.send(batch);
    }
}

impl Sink for Forward {
    fn settings(&mut self, rows: &[Setting]) {
        self.send(Batch::Settings(rows.to_vec()));
    }

    fn ticks(&mut self, rows: &[Tick]) {
        self.send(Batch::Ticks(rows.to_vec()));
    }

    fn destinations(&mut self, rows: &[Destination]) {
        self.send(Batch::Destinations(rows.to_vec()));
    }

    fn warnings(&mut self, rows: &[Warning]) {
        self.send(Batch::Warnings(rows.to_vec()));
    }

    fn connections(&mut self, rows: &[Connection]) {
        self.send(Batch::Connections(rows.to_vec()));
    }

    fn sums(&mut self, rows: &[Sum]) {
        self.send(Batch::Sums(rows.to_vec()));
    }

    fn takes_sums(&self) -> bool {
        self.takes_sums
    }

    fn connection_columns(&self) -> Option<&[&'static str]> {
        Some(&COLUMNS)
    }
}

fn bar() -> ProgressBar {
    let target = match io::stderr().is_terminal() {
        true => ProgressDrawTarget::stderr(),
        false => ProgressDrawTarget::hidden(),
    };
    let bar = ProgressBar::with_draw_target(None, target);
    match ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes} {eta}") {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
