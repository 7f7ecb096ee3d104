//! Closes as CSV: the names of the JSON form as columns, empty where nothing is known.

use std::fmt::Display;

use sockeye_core::Closed;

const COLUMNS: &str = "at,at_uncertainty_ms,protocol,cookie,local_address,local_port,remote_address,remote_port,\
                       direction,is_local,closed_by,evidence,lifetime_ms,lifetime_uncertainty_ms,lifetime_min_ms,lifetime_max_ms,\
                       sent_bytes,received_bytes,retransmits";

/// The names of the columns.
pub(crate) fn header() -> String {
    format!("{COLUMNS}\n")
}

/// The row of a close that happened at `at`.
pub(crate) fn line(closed: &Closed, at: jiff::Timestamp) -> String {
    let told = closed.end.unwrap_or_default();
    // Numbers, addresses and our own words: nothing needs quotes.
    let fields = [
        format!("{at:.3}"),
        closed.at.doubt_ms().to_string(),
        closed.protocol.name().to_owned(),
        closed.cookie.to_string(),
        known(closed.local.map(|end| end.ip())),
        known(closed.local.map(|end| end.port())),
        known(closed.remote.map(|end| end.ip())),
        known(closed.remote.map(|end| end.port())),
        closed.direction.name().to_owned(),
        known(closed.is_local()),
        closed.closed_by.name().to_owned(),
        closed.evidence.name().to_owned(),
        known(closed.lifetime.middle_ms()),
        known(closed.lifetime.uncertainty_ms()),
        closed.lifetime.min_ms.to_string(),
        known(closed.lifetime.max_ms),
        known(told.sent_bytes),
        known(closed.received_bytes()),
        known(told.retransmits),
    ];
    fields.join(",") + "\n"
}

fn known(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
