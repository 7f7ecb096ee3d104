//! Closes as CSV: the names of the JSON form as columns, empty where nothing is known.

use std::fmt::Display;

use sockeye_core::Closed;

use crate::by::FormerOwner;
use crate::terminal::Harmless;

const COLUMNS: &str = "at,at_uncertainty_ms,protocol,cookie,local_address,local_port,remote_address,remote_port,\
                       direction,is_local,closed_by,evidence,lifetime_ms,lifetime_uncertainty_ms,lifetime_min_ms,lifetime_max_ms,\
                       sent_bytes,received_bytes,retransmits";

/// Columns of who had it.
const OF_OWNER: &str = "owner_pid,owner_name,owner_uid,owner_user,owner_cgroup,owner_inferred";

/// The names of the columns.
pub(crate) fn header(with_owner: bool) -> String {
    if with_owner { format!("{COLUMNS},{OF_OWNER}\n") } else { format!("{COLUMNS}\n") }
}

/// The row of a close that happened at `at`; `owner`: with the columns of its owner, known or not.
pub(crate) fn line(
    closed: &Closed,
    owner: Option<Option<&FormerOwner>>,
    at: jiff::Timestamp,
) -> anyhow::Result<String> {
    let told = closed.end.unwrap_or_default();
    let mut fields = vec![
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
    if let Some(owner) = owner {
        let name = owner.map(|owner| owner.name.clone()).unwrap_or_default();
        fields.extend([
            known(name.pid),
            harmless(name.name),
            known(name.uid),
            harmless(name.user),
            harmless(name.cgroup),
            known(owner.map(|owner| owner.is_inferred)),
        ]);
    }
    // A name with a comma is quoted.
    let mut row = csv::Writer::from_writer(Vec::new());
    row.write_record(&fields)?;
    Ok(String::from_utf8(row.into_inner()?)?)
}

/// A name from outside. A line break would tear the row for simple readers.
fn harmless(name: Option<String>) -> String {
    known(name.as_deref().map(Harmless))
}

fn known(value: Option<impl Display>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}
