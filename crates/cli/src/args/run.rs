//! What can be typed behind `sockeye run`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sockeye_gate::{Limit, Place, PlaceError, Rule, Tolerance};

use super::ColorArgs;
use crate::quantity::duration;

#[derive(Args, Debug, Clone)]
pub(crate) struct RunArgs {
    /// Give the command a network namespace of its own, with loopback alone: every connection in it is the command's
    #[arg(long)]
    pub(crate) isolate: bool,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    /// The limits given here hold for connections to DEST, not for all; several are judged one by one
    #[arg(long, value_name = "DEST", help_heading = "Budget", value_parser = place)]
    pub(crate) to: Vec<Place>,
    /// More limits, and limits by destination, from a TOML file
    #[arg(long, value_name = "FILE", help_heading = "Budget")]
    pub(crate) budget: Option<PathBuf>,
    /// Fail when the run goes beyond an earlier one that was kept with --save
    #[arg(long, value_name = "FILE", help_heading = "Baseline")]
    pub(crate) baseline: Option<PathBuf>,
    /// How far beyond: 10%, 5, or opens=10%,leaked=0
    #[arg(long, value_name = "TOLERANCE", requires = "baseline", help_heading = "Baseline", value_parser = Tolerance::parse)]
    pub(crate) tolerance: Option<Tolerance>,
    /// Keep what this run came to, for --baseline
    #[arg(long, value_name = "FILE", help_heading = "Baseline")]
    pub(crate) save: Option<PathBuf>,
    /// End the command and all that it has started after so long, with SIGTERM
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// From that SIGTERM to SIGKILL
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    pub(crate) kill_after: Duration,
    /// End whatever the command has left running, with SIGKILL
    #[arg(long)]
    pub(crate) kill_left: bool,
    /// Also write what came out to FILE, as one JSON object
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) export_json: Option<PathBuf>,
    /// … as JUnit XML: a test case for each rule
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) export_junit: Option<PathBuf>,
    /// … as Markdown, for the summary page of a CI server
    #[arg(long, value_name = "FILE", help_heading = "Output")]
    pub(crate) export_markdown: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
    /// The command and its arguments, best after --
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true)]
    pub(crate) command: Vec<OsString>,
}

/// What a run may come to.
#[derive(Args, Debug, Clone, Default)]
#[command(next_help_heading = "Budget")]
pub(crate) struct LimitArgs {
    /// Connections that it opens
    #[arg(long, value_name = "N", value_parser = limit(Limit::MaxOpens))]
    max_opens: Option<f64>,
    /// The same per second
    #[arg(long, value_name = "R", value_parser = limit(Limit::MaxOpenRate))]
    max_open_rate: Option<f64>,
    /// Ports in use at once towards one destination, TIME_WAIT included
    #[arg(long, value_name = "N", value_parser = limit(Limit::MaxPorts))]
    max_ports: Option<f64>,
    /// Share of the ports in use towards one destination: 50%
    #[arg(long, value_name = "P", value_parser = limit(Limit::MaxOccupancy))]
    max_occupancy: Option<f64>,
    /// Sockets left in TIME_WAIT
    #[arg(long, value_name = "N", value_parser = limit(Limit::MaxTimeWait))]
    max_time_wait: Option<f64>,
    /// Requests with their answers that a connection carries in the mean, by the segments with data each way
    #[arg(long, value_name = "R", value_parser = limit(Limit::MinReuse))]
    min_reuse: Option<f64>,
    /// The median of how long connections live: 5s
    #[arg(long, value_name = "D", value_parser = limit(Limit::LifetimeP50Min))]
    lifetime_p50_min: Option<f64>,
    /// Sockets that are not closed
    #[arg(long, value_name = "N", value_parser = limit(Limit::MaxLeaked))]
    max_leaked: Option<f64>,
}

impl LimitArgs {
    /// The rules they make, for each place or for all.
    pub(crate) fn rules(&self, to: &[Place]) -> Vec<Rule> {
        let given = [
            (Limit::MaxOpens, self.max_opens),
            (Limit::MaxOpenRate, self.max_open_rate),
            (Limit::MaxPorts, self.max_ports),
            (Limit::MaxOccupancy, self.max_occupancy),
            (Limit::MaxTimeWait, self.max_time_wait),
            (Limit::MinReuse, self.min_reuse),
            (Limit::LifetimeP50Min, self.lifetime_p50_min),
            (Limit::MaxLeaked, self.max_leaked),
        ];
        let places: Vec<Option<Place>> =
            if to.is_empty() { vec![None] } else { to.iter().copied().map(Some).collect() };
        let given = given.into_iter().filter_map(|(limit, allowed)| Some((limit, allowed?)));
        given
            .flat_map(|(limit, allowed)| {
                places.iter().map(move |place| Rule { limit, allowed, place: *place })
            })
            .collect()
    }
}

fn limit(limit: Limit) -> impl Fn(&str) -> Result<f64, String> + Clone {
    move |text| limit.parse(text)
}

fn place(text: &str) -> Result<Place, String> {
    text.parse().map_err(|error: PlaceError| error.to_string())
}
