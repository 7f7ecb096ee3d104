//! A watch as CSV: the table's numbers, unrounded, in columns that stay.

use std::fmt::Write as _;

use sockeye_core::Churn;
use sockeye_host::FoundNamespace;

use crate::follow::Tick;
use crate::render::watch_table::time_wait;
use crate::terminal::Harmless;

const COLUMNS: &str = "at,interval_ms,opens,closes,outgoing_opens,outgoing_closes,incoming_opens,incoming_closes,live,\
                       time_wait,udp_live,coverage_ratio,events_lost,swept_ms,worst_local_address,worst_remote_address,\
                       worst_remote_port,worst_in_use,worst_occupancy_ratio,worst_headroom_min,worst_headroom_max,\
                       worst_exhausted_in_seconds";

/// The row of a tick, below the names of the columns with `header`. What is not known is empty.
pub(crate) fn line(tick: &Tick<'_>, header: bool) -> String {
    let mut text = String::new();
    if header {
        let _ = writeln!(text, "{COLUMNS}");
    }
    row(&mut text, tick);
    text
}

/// The same of one namespace among several, which two columns before the others tell.
pub(crate) fn line_in(found: &FoundNamespace, tick: &Tick<'_>, header: bool) -> String {
    let mut text = String::new();
    if header {
        let _ = writeln!(text, "netns_inode,netns_label,{COLUMNS}");
    }
    let label = Harmless(&found.name.to_string()).to_string().replace('"', "\"\"");
    let _ = write!(text, "{},\"{label}\",", found.inode);
    row(&mut text, tick);
    text
}

fn row(text: &mut String, tick: &Tick<'_>) {
    let none = Churn::default();
    let churn = tick.report.churn.as_ref().unwrap_or(&none);
    let ratio = |ratio: f64| format!("{ratio:.4}");
    // Numbers and addresses only: nothing needs quotes.
    let _ = write!(
        text,
        "{:.3},{},{},{},{},{},{},{},{},{},{},{},{},{},",
        tick.at,
        churn.interval_ms,
        churn.tcp.opened_last,
        churn.tcp.closed_last,
        churn.outgoing.opened_last,
        churn.outgoing.closed_last,
        churn.incoming.opened_last,
        churn.incoming.closed_last,
        churn.tcp.live(),
        time_wait(tick),
        churn.udp.live(),
        churn.coverage.ratio().map(ratio).unwrap_or_default(),
        churn.events_lost,
        tick.sweep.map(|sweep| format!("{:.3}", sweep.duration_ms)).unwrap_or_default(),
    );
    let _ = match tick.report.destinations.first() {
        None => writeln!(text, ",,,,,,,"),
        Some(worst) => writeln!(
            text,
            "{},{},{},{},{},{},{},{}",
            worst.id.local_address,
            worst.id.remote_address,
            worst.id.remote_port,
            worst.in_use,
            ratio(worst.occupancy()),
            worst.headroom.min,
            worst.headroom.max,
            worst
                .forecast
                .and_then(|forecast| forecast.exhausted_in_s)
                .map(|seconds| format!("{seconds:.1}"))
                .unwrap_or_default(),
        ),
    };
}
