//! What can be typed: the command line as clap sees it, and the one spelling clap cannot (`-o`).
//!
//! What the words mean together is decided by each command.

mod recording;
mod run;

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use self::recording::{RecordArgs, ReportArgs};
pub(crate) use self::run::RunArgs;
use crate::by::By;
use crate::command::diff::FailOn;
use crate::config::ConfigArgs;
use crate::follow::Pace;
use crate::help::{
    CHECK_HELP, CLOSES_HELP, DIFF_HELP, HEADROOM_HELP, LIFETIMES_HELP, PORTS_HELP, RECORD_HELP, REPORT_HELP,
    RUN_HELP, SNAPSHOT_HELP, SOCKETS_HELP, TOP_HELP, WATCH_HELP,
};
use crate::instant::Instant;
use crate::quantity::{duration, interval, share};

/// The command line.
#[derive(Parser, Debug)]
#[command(
    name = "sockeye",
    version,
    about = "Ephemeral ports, connection churn and sockets of a Linux host, read from the kernel",
    long_about = "Ephemeral ports, connection churn and sockets of a Linux host, read from the kernel.\n\n\
        Without a command sockeye takes one look (`sockeye snapshot`): how many ephemeral ports are left, towards which \
        destinations they are used up, in which states the sockets are, how many connections were closed in the last minute. \
        It needs no privilege and changes nothing.",
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    disable_help_subcommand = false,
    max_term_width = 100
)]
pub(crate) struct CommandLine {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) snapshot: SnapshotArgs,
    #[command(flatten)]
    pub(crate) config: ConfigArgs,
}

// Help that clap takes as it is: lines of at most 80 columns, for it breaks longer ones without indenting them.
const EXAMPLES: &str = "\
Examples:
  sockeye                                  one look at this host
  sockeye --sort closes --top 20           the 20 destinations with the most closes
  sockeye --json | jq '.destinations[0]'   the worst destination, for a script
  sockeye -N web                           another network namespace
  sockeye headroom 10.0.9.12:8080          how many more connections to it succeed
  sockeye ports 41234                      who holds a port
  sockeye top                              the whole picture, live
  sockeye watch 5                          a line every 5 s
  sockeye check -c occupancy=80%           for a monitoring system
  sockeye closes                           each connection as it ends
  sockeye lifetimes --for 1m               how long connections live
  sockeye diff before.json after.json      what has changed
  sockeye run --isolate --max-opens 100 -- make test
                                           fail when a test opens more
  sockeye record                           keep the history …
  sockeye report --begin -2h               … and look at the last two hours
  sockeye sockets -tan state time-wait     sockets, with the filters of ss
  sockeye --capture now.sockeye            keep what the kernel said …
  sockeye --replay now.sockeye             … and look at it again, here or elsewhere

Exit codes: 0 done, 1 no more connect() succeeds (headroom), a rule is broken
(run) or something got worse (diff), 2 wrong usage or an error. check has those
of monitoring plugins: 0, 1, 2 and 3.";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Thresholds as a monitoring plugin: one line with performance data, and exit code 0, 1, 2 or 3
    #[command(after_help = CHECK_HELP)]
    Check(CheckArgs),
    /// A line per closed connection, as it happens: how long it lived, bytes both ways, who closed it
    #[command(after_help = CLOSES_HELP)]
    Closes(ClosesArgs),
    /// What is different between two saved outputs: connections, ports, lifetimes; fails when that is too much
    #[command(after_help = DIFF_HELP)]
    Diff(DiffArgs),
    /// How many more connections to one destination succeed now, why not more, and when none will
    #[command(after_help = HEADROOM_HELP)]
    Headroom(HeadroomArgs),
    /// How long connections live: a histogram, percentiles and how sure they are, by destination and listener
    #[command(after_help = LIFETIMES_HELP)]
    Lifetimes(LifetimesArgs),
    /// The range of ephemeral ports as a picture of what holds them; with a port, who holds that one
    #[command(after_help = PORTS_HELP)]
    Ports(PortsArgs),
    /// Keep the history of the sockets on disk: ticks, and every connection that ends, as Parquet files
    #[command(after_help = RECORD_HELP)]
    Record(RecordArgs),
    /// A period of what was recorded: ports, destinations, churn, lifetimes, owners; also as JSON or a page
    #[command(after_help = REPORT_HELP)]
    Report(ReportArgs),
    /// Run a command, account for its connections, and fail when it breaks a budget or goes beyond a baseline
    #[command(after_help = RUN_HELP)]
    Run(Box<RunArgs>),
    /// One look at the host: pool, worst destinations, states, closes of the last minute, notes
    #[command(after_help = SNAPSHOT_HELP)]
    Snapshot(SnapshotArgs),
    /// The sockets themselves, with the options and filters of ss
    #[command(after_help = SOCKETS_HELP, args_override_self = true)]
    Sockets(SocketsArgs),
    /// The whole picture, live, on the full screen: destinations, owners, ports, lifetimes, listeners, sockets
    #[command(after_help = TOP_HELP)]
    Top(TopArgs),
    /// A line per interval: opens, closes, live connections, TIME_WAIT, the destination closest to running out of ports
    #[command(after_help = WATCH_HELP)]
    Watch(WatchArgs),
}

/// Where sockets are read from; the same for every command.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct FeedArgs {
    /// Look at another network namespace: a name of `ip netns`, a path, or a process id
    #[arg(short = 'N', long = "netns", alias = "net", value_name = "NETNS")]
    pub(crate) netns: Option<String>,
    /// Also write the kernel's answers to FILE, to be read back with --replay
    #[arg(long, value_name = "FILE", conflicts_with = "replay")]
    pub(crate) capture: Option<PathBuf>,
    /// Read a capture instead of the kernel
    #[arg(long, value_name = "FILE", conflicts_with = "netns")]
    pub(crate) replay: Option<PathBuf>,
}

/// Whether one namespace is looked at or all are; the same for every command that can.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct FleetArgs {
    /// Look at every network namespace of the host: of its processes, of `ip netns`, of containers
    #[arg(long, conflicts_with_all = ["netns", "replay", "capture"])]
    pub(crate) all_netns: bool,
}

/// How a report is shown that is written all at once.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ReportOutput {
    /// One JSON object (the same as --output json)
    #[arg(long)]
    json: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, conflicts_with = "json")]
    output: Option<ReportFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum ReportFormat {
    Table,
    Json,
}

impl ReportOutput {
    /// What `--json` and `--output` ask for together.
    pub(crate) fn format(&self) -> ReportFormat {
        if self.json { ReportFormat::Json } else { self.output.unwrap_or(ReportFormat::Table) }
    }
}

/// How something is shown that is written line by line.
#[derive(Args, Debug, Clone)]
pub(crate) struct StreamOutput {
    /// No header line
    #[arg(short = 'H', long)]
    pub(crate) no_header: bool,
    /// One JSON object per line (the same as --output jsonl)
    #[arg(long)]
    json: bool,
    /// Output format
    #[arg(short, long, value_name = "FORMAT", value_enum, conflicts_with = "json")]
    output: Option<StreamFormat>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum StreamFormat {
    Table,
    #[value(alias = "json")]
    Jsonl,
    Csv,
}

impl StreamOutput {
    /// What `--json` and `--output` ask for together.
    pub(crate) fn format(&self) -> StreamFormat {
        if self.json { StreamFormat::Jsonl } else { self.output.unwrap_or(StreamFormat::Table) }
    }
}

/// Whether text is coloured; the same for every command.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct ColorArgs {
    /// When to use colour
    #[arg(long = "color", value_name = "WHEN", value_enum, default_value_t = ColorChoice::Auto)]
    pub(crate) when: ColorChoice,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum ColorChoice {
    /// Colour on a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    Always,
    Never,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct CheckArgs {
    /// WARNING when the metric is beyond this: occupancy=50%, headroom=5000:, stuck=0; several, or with commas between them
    #[arg(short, long, value_name = "METRIC=RANGE")]
    pub(crate) warning: Vec<String>,
    /// CRITICAL when the metric is beyond this
    #[arg(short, long, value_name = "METRIC=RANGE")]
    pub(crate) critical: Vec<String>,
    /// Count opens and closes for so long: 5s, 1m; without it closes are those of the last minute that left a TIME_WAIT
    #[arg(long = "for", value_name = "DURATION", value_parser = interval)]
    pub(crate) for_: Option<Duration>,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct PortsArgs {
    /// Who holds this port, or these: 41234, 40000-40100
    #[arg(value_name = "PORT", value_parser = ports, conflicts_with_all = ["from", "to"])]
    pub(crate) ports: Option<RangeInclusive<u16>>,
    /// Count only the connections of one destination, as a connect() to it does; with --to
    #[arg(long, value_name = "ADDRESS", requires = "to", conflicts_with_all = ["ipv4", "ipv6"])]
    pub(crate) from: Option<IpAddr>,
    /// Where that connect() goes: 10.0.9.12:8080; with --from
    #[arg(long, value_name = "DEST", value_parser = destination, requires = "from")]
    pub(crate) to: Option<SocketAddr>,
    /// TCP (the default of the picture)
    #[arg(short, long)]
    pub(crate) tcp: bool,
    /// UDP
    #[arg(short, long)]
    pub(crate) udp: bool,
    /// IPv4 sockets only
    #[arg(short = '4', long)]
    pub(crate) ipv4: bool,
    /// IPv6 sockets only
    #[arg(short = '6', long, conflicts_with = "ipv4")]
    pub(crate) ipv6: bool,
    #[command(flatten)]
    pub(crate) output: ReportOutput,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

/// A port, or the first and the last of some.
fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || "it must be a port, like 41234, or two of them, like 40000-40100".to_owned();
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let first: u16 = first.parse().map_err(|_| wrong())?;
    let last: u16 = last.parse().map_err(|_| wrong())?;
    match (first, last) {
        (0, _) => Err("no socket has port 0".to_owned()),
        (first, last) if last < first => Err("the last port is below the first".to_owned()),
        (first, last) => Ok(first..=last),
    }
}

/// How long to look and at what cost; the same for every command that looks for longer than a moment.
#[derive(Args, Debug, Clone, Default)]
pub(crate) struct PaceArgs {
    /// Stop after so long: 30s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration)]
    pub(crate) for_: Option<Duration>,
    /// Use at most this share of one processor: sweeps are left out, destroy events still tell of closes
    #[arg(long, value_name = "SHARE", value_parser = share)]
    pub(crate) cpu_budget: Option<f64>,
}

/// An address and a port, as connect() takes them.
fn destination(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => format!("the port is missing: {text}:443, for example"),
        Ok(IpAddr::V6(_)) => format!("the port is missing: [{text}]:443, for example"),
        Err(_) => "it must be an address and a port, like 10.0.9.12:8080 or [2001:db8::9]:443; of a name, \
                   `getent ahosts NAME` tells the addresses"
            .to_owned(),
    })?;
    let is_one_host = match address.ip().to_canonical() {
        IpAddr::V4(v4) => !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast()),
        IpAddr::V6(v6) => !(v6.is_unspecified() || v6.is_multicast()),
    };
    match (address.port(), is_one_host) {
        (0, _) => Err("nothing can be connected to port 0".to_owned()),
        (_, false) => Err("it must be the address of one host".to_owned()),
        _ => Ok(SocketAddr::new(address.ip().to_canonical(), address.port())),
    }
}

impl PaceArgs {
    /// With ticks so far apart, and so many of them at most.
    pub(crate) fn pace(&self, interval: Duration, count: Option<u64>) -> Pace {
        Pace { interval, count, for_: self.for_, cpu_budget: self.cpu_budget }
    }
}

#[derive(Args, Debug, Clone)]
pub(crate) struct DiffArgs {
    /// The earlier one: JSON of snapshot, report, lifetimes or run, or the directory of a recording
    #[arg(value_name = "A")]
    pub(crate) before: PathBuf,
    /// The later one, of the same kind
    #[arg(value_name = "B")]
    pub(crate) after: PathBuf,
    /// Exit with 1 when this got worse, by more than a share if one is given: opens=10%, lifetimes; may be given again
    #[arg(long, value_name = "WHAT[=SHARE]", value_parser = FailOn::parse)]
    pub(crate) fail_on: Vec<FailOn>,
    /// Show at most N destinations; without it the table shows 10, JSON all
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    #[command(flatten)]
    pub(crate) output: ReportOutput,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct HeadroomArgs {
    /// Where to connect to: `10.0.9.12:8080` or `[2001:db8::9]:443`
    #[arg(value_name = "DEST", value_parser = destination)]
    pub(crate) destination: SocketAddr,
    /// The local address to connect from; without it, the one the kernel would choose and those that are in use
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Option<IpAddr>,
    /// Count opens and closes for so long, for a forecast from these: 5s, 1m
    #[arg(long = "for", value_name = "DURATION", value_parser = interval)]
    pub(crate) for_: Option<Duration>,
    /// Try the ports in doubt: a connect() from each to a loopback address where nobody listens, about 15 µs
    #[arg(long, conflicts_with_all = ["replay", "for_"])]
    pub(crate) probe: bool,
    #[command(flatten)]
    pub(crate) output: ReportOutput,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct SnapshotArgs {
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Instead of destinations and their ports, tell who has the connections
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) by: Option<By>,
    /// Show at most N destinations, groups of --by, or namespaces of --all-netns; without it the screen shows 10 or 20, JSON
    /// all
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Which destinations come first
    #[arg(long, value_name = "KEY", value_enum, default_value_t = SortBy::Occupancy)]
    pub(crate) sort: SortBy,
    #[command(flatten)]
    pub(crate) output: ReportOutput,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, ValueEnum)]
pub(crate) enum SortBy {
    /// Closest to running out of ports
    #[default]
    Occupancy,
    /// Most ports in use
    InUse,
    /// Most live sockets
    Live,
    /// Most sockets in TIME_WAIT
    TimeWait,
    /// Most closes per second
    Closes,
    /// Least headroom, counting what is in doubt as taken
    Headroom,
}

#[derive(Args, Debug, Clone, Default)]
pub(crate) struct SocketsArgs {
    /// All states; the default is what has a peer, without TIME_WAIT. Of -a, -l and -B the last one counts
    #[arg(short, long)]
    pub(crate) all: bool,
    /// Listening sockets, and UDP sockets that are not connected
    #[arg(short, long, overrides_with = "all")]
    pub(crate) listening: bool,
    /// TCP sockets that are bound but neither listen nor are connected
    #[arg(short = 'B', long, overrides_with_all = ["all", "listening"])]
    pub(crate) bound_inactive: bool,
    /// TCP sockets; without -t, -u, -U and -M: TCP and UDP
    #[arg(short, long)]
    pub(crate) tcp: bool,
    /// UDP sockets
    #[arg(short, long)]
    pub(crate) udp: bool,
    /// UDP-Lite sockets
    #[arg(short = 'U', long)]
    pub(crate) udplite: bool,
    /// MPTCP sockets
    #[arg(short = 'M', long)]
    pub(crate) mptcp: bool,
    /// IPv4 sockets only; of -4 and -6 the last one counts
    #[arg(short = '4', long, overrides_with = "ipv6")]
    pub(crate) ipv4: bool,
    /// IPv6 sockets only
    #[arg(short = '6', long)]
    pub(crate) ipv6: bool,
    /// Numbers, no names; always so, accepted for the habit
    #[arg(short, long)]
    pub(crate) numeric: bool,
    /// No header line
    #[arg(short = 'H', long)]
    pub(crate) no_header: bool,
    /// Everything of a socket on one line
    #[arg(short = 'O', long)]
    pub(crate) oneline: bool,
    /// Timers: what each socket waits for and for how long
    #[arg(short = 'o', long = "options", alias = "timers")]
    pub(crate) timers: bool,
    /// Timers, owner's user id, inode, cookie, cgroup, mark, shutdown directions
    #[arg(short, long)]
    pub(crate) extended: bool,
    /// What TCP knows of the connection: round-trip time, window, retransmits, bytes
    #[arg(short, long)]
    pub(crate) info: bool,
    /// Socket memory
    #[arg(short, long)]
    pub(crate) memory: bool,
    /// The processes that hold each socket; without root those of your own
    #[arg(short, long)]
    pub(crate) processes: bool,
    /// A JSON array (the same as --output json)
    #[arg(long)]
    pub(crate) json: bool,
    /// Output format (also: -o FORMAT)
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with = "json")]
    pub(crate) output: Option<SocketsFormat>,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
    /// Only sockets that match. The words are joined by spaces; quote what the shell would take: ( ) ! < >
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum SocketsFormat {
    Table,
    Json,
    Jsonl,
    Csv,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct ClosesArgs {
    /// Stop after so many lines
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    /// From sweep to sweep: how well the opens are known
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// The process that had each; without root those of your own
    #[arg(short = 'p', long)]
    pub(crate) processes: bool,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    #[command(flatten)]
    pub(crate) output: StreamOutput,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
    /// Only connections that match. The words are joined by spaces; quote what the shell would take: ( ) ! < >
    #[arg(value_name = "FILTER")]
    pub(crate) filter: Vec<String>,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct LifetimesArgs {
    /// From sweep to sweep: how well the beginnings of connections are known
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    /// Only groups of this kind; without it destinations and listeners, and what is neither
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) by: Option<By>,
    /// Show at most N groups; without it the table shows 10, JSON all
    #[arg(long, value_name = "N")]
    pub(crate) top: Option<usize>,
    /// Also write an HdrHistogram log to FILE, interval by interval
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) output: ReportOutput,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

#[derive(Args, Debug, Clone)]
#[command(mut_arg("replay", |arg| arg.value_name("FILE|DIR").help(
    "Read a capture instead of the kernel, or step through a recording, the directory that `sockeye record` has written"
)))]
pub(crate) struct TopArgs {
    /// From tick to tick: seconds, or with a unit (500ms, 10s, 5m); + and - change it while it runs
    #[arg(value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    /// Of a recording, begin at this time (UTC): 2026-11-23 16:05, 16:05, -2h; else it begins with the first tick
    #[arg(long, value_name = "TIME", value_parser = Instant::parse, allow_hyphen_values = true, requires = "replay")]
    pub(crate) begin: Option<Instant>,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// What it shows first; every screen has a key
    #[arg(long, value_name = "KIND", value_enum, default_value_t = By::Destination)]
    pub(crate) by: By,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

#[derive(Args, Debug, Clone)]
pub(crate) struct WatchArgs {
    /// From line to line: seconds, or with a unit (500ms, 10s, 5m)
    #[arg(value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Stop after so many lines
    #[arg(value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) count: Option<u64>,
    #[command(flatten)]
    pub(crate) pace: PaceArgs,
    #[command(flatten)]
    pub(crate) feed: FeedArgs,
    #[command(flatten)]
    pub(crate) fleet: FleetArgs,
    /// Instead of the worst destination, tell at each interval who has the connections
    #[arg(long, value_name = "WHAT", value_enum)]
    pub(crate) by: Option<By>,
    /// Show at most N groups of --by, or namespaces of --all-netns; in JSON, also list the N worst destinations with their
    /// rates; 0 lists none
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) top: usize,
    #[command(flatten)]
    pub(crate) output: StreamOutput,
    #[command(flatten)]
    pub(crate) color: ColorArgs,
}

/// Parses the process' arguments; clap prints help, version and usage errors itself.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<CommandLine, clap::Error> {
    CommandLine::try_parse_from(output_spelled_out(arguments))
}

/// `-o jsonl` is a format, a bare `-o` shows timers as in ss: the word behind it decides, which clap cannot say.
pub(crate) fn output_spelled_out(arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    /// Short options of `sockets` that take no value: a cluster of these may end in `o`.
    const FLAGS: &str = "alBtuUM46nHOoeimp";
    let is_format = |word: &str| SocketsFormat::from_str(word, false).is_ok();
    let mut spelled = Vec::new();
    let mut arguments = arguments.into_iter().peekable();
    while let Some(argument) = arguments.next() {
        if argument == "--" {
            spelled.push(argument);
            spelled.extend(arguments);
            break;
        }
        let cluster = argument.to_str().and_then(|a| a.strip_prefix('-')).filter(|a| !a.starts_with('-'));
        let Some(cluster) = cluster else {
            spelled.push(argument);
            continue;
        };
        if let Some(format) = cluster.strip_prefix('o').filter(|rest| is_format(rest)) {
            spelled.push(format!("--output={format}").into());
            continue;
        }
        let flags = cluster.strip_suffix('o').filter(|flags| flags.chars().all(|c| FLAGS.contains(c)));
        let format = arguments.peek().and_then(|next| next.to_str()).filter(|next| is_format(next));
        match (flags, format) {
            (Some(flags), Some(format)) => {
                if !flags.is_empty() {
                    spelled.push(format!("-{flags}").into());
                }
                spelled.push(format!("--output={format}").into());
                arguments.next();
            }
            _ => spelled.push(argument),
        }
    }
    spelled
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn sockets(line: &str) -> SocketsArgs {
        let words = ["sockeye", "sockets"].into_iter().chain(line.split_whitespace()).map(OsString::from);
        match parse(words).map(|line| line.command) {
            Ok(Some(Command::Sockets(args))) => args,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn o_is_timers_or_a_format() {
        assert!(sockets("-o").timers);
        assert!(sockets("-tano").timers);
        assert!(sockets("-o state established").timers);
        assert_eq!(sockets("-o state established").filter, ["state", "established"]);
        let csv = sockets("-o csv");
        assert_eq!((csv.output, csv.timers), (Some(SocketsFormat::Csv), false));
        let cluster = sockets("-tao jsonl state listening");
        assert_eq!((cluster.output, cluster.tcp, cluster.all), (Some(SocketsFormat::Jsonl), true, true));
        assert_eq!(sockets("-ojson").output, Some(SocketsFormat::Json));
        assert_eq!(sockets("--output csv -o").output, Some(SocketsFormat::Csv));
        assert!(sockets("--output csv -o").timers);
        assert_eq!(sockets("-- -o csv").filter, ["-o", "csv"]);
        // -N takes a value: "o" is a namespace here.
        assert_eq!(sockets("-No json").feed.netns.as_deref(), Some("o"));
    }

    /// `-plant` and its like are typed from habit: ss takes them, whatever their order.
    #[test]
    fn of_contradicting_options_the_last_counts() {
        let states = |line| {
            let args = sockets(line);
            (args.all, args.listening, args.bound_inactive)
        };
        for line in ["-tlna", "-B -la", "-aa"] {
            assert_eq!(states(line), (true, false, false), "{line}");
        }
        for line in ["-tna -l", "-Bl"] {
            assert_eq!(states(line), (false, true, false), "{line}");
        }
        assert_eq!(states("-alB"), (false, false, true));
        let family = |line| (sockets(line).ipv4, sockets(line).ipv6);
        assert_eq!(family("-46"), (false, true));
        assert_eq!(family("-64t"), (true, false));
        assert!(sockets("-tt -n -tn").tcp);
    }

    #[test]
    fn a_bare_call_is_a_snapshot() {
        let bare = parse(["sockeye", "--top", "3", "-o", "json"].map(OsString::from)).unwrap();
        assert!(bare.command.is_none());
        assert_eq!((bare.snapshot.top, bare.snapshot.output.format()), (Some(3), ReportFormat::Json));
    }
}
