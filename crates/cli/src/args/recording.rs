//! What can be typed behind `sockeye record` and `sockeye report`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::{ColorArgs, FeedArgs, PaceArgs, ReportFormat};
use crate::by::By;
use crate::instant::Instant;
use crate::quantity::{bytes, duration, interval};

#[derive(Args, Debug, Clone)]
pub(crate) struct RecordArgs {
    /// Record in DIR; in one that was recorded in before, go on there. Without it: /var/lib/sockeye as root, else
    /// ~/.local/state/sockeye
    #[arg(short, long, value_name = "DIR")]
    pub(crate) output: Option<PathBuf>,
    /// From tick to tick; between them destroy events tell of connections that end
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Delete what is older
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = duration)]
    pub(crate) keep: Duration,
    /// Delete the oldest beyond this size: 500M, 2G
    #[arg(long, value_name = "SIZE", default_value = "2G", value_parser = bytes)]
    pub(crate) max_size: u64,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ReportArgs {
    /// What `sockeye record` has written; without it, where that writes
    #[arg(value_name = "DIR")]
    pub(crate) recording: Option<PathBuf>,
    /// From this time on (UTC): 2026-11-23 16:05, 16:05, -2h, '30m ago'
    #[arg(long, value_name = "TIME", value_parser = Instant::parse, allow_hyphen_values = true)]
    pub(crate) begin: Option<Instant>,
    /// Up to this time
    #[arg(long, value_name = "TIME", value_parser = Instant::parse, allow_hyphen_values = true)]
    pub(crate) end: Option<Instant>,
    /// Tell owners apart by this
    #[arg(long, value_name = "WHAT", value_enum, default_value_t = ReportBy::Owner)]
    pub(crate) by: ReportBy,
    /// Show at most N destinations, owners and listeners; JSON and HTML have all
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    /// Also write one self-contained HTML page to FILE
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// One JSON object (the same as --output json)
    #[arg(long)]
    json: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, conflicts_with = "json")]
    output: Option<ReportFormat>,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

impl ReportArgs {
    /// What `--json` and `--output` ask for together.
    pub(crate) fn format(&self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.output.unwrap_or(ReportFormat::Table) }
    }
}

/// By what owners of connections are told apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReportBy {
    /// The process that had them
    Owner,
    /// The control group they were made in
    Cgroup,
    /// The user they belonged to
    User,
}

impl ReportBy {
    pub(crate) fn by(self) -> By {
        match self {
            ReportBy::Owner => By::Owner,
            ReportBy::Cgroup => By::Cgroup,
            ReportBy::User => By::User,
        }
    }
}
