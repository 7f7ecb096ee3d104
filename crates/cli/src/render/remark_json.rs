//! Warnings and notes in JSON: an id, a sentence, and for those about sockets the facts behind the sentence.

use std::net::IpAddr;

use serde::Serialize;
use sockeye_core::{Age, Holder, Holders, Stuck, Warning};

use crate::by::OwnerName;
use crate::sweep::Note;

#[derive(Serialize)]
pub(super) struct RemarkRow {
    id: &'static str,
    message: String,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    stuck: Option<StuckRow>,
    /// Who has the sockets it is about, with most first; absent where nobody was looked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<Vec<OwnerRow>>,
    /// For so many the owner was looked for …
    #[serde(skip_serializing_if = "Option::is_none")]
    owners_asked: Option<u32>,
    /// … and so many of these have none any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    unowned: Option<u32>,
}

#[derive(Serialize)]
struct StuckRow {
    state: &'static str,
    /// In that state, for however long.
    count: u32,
    /// Of these, the ones whose age is known.
    examined: u32,
    /// Of the examined, longer than this.
    long: u32,
    long_ms: u64,
    longest_ms: u64,
    /// Absent where there is no upper bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    longest_at_most_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    towards: Option<TowardsRow>,
}

/// Where half of the long ones or more go.
#[derive(Serialize)]
struct TowardsRow {
    remote_address: IpAddr,
    remote_port: u16,
    count: u32,
}

#[derive(Serialize)]
struct OwnerRow {
    owner: OwnerName,
    count: u32,
}

/// A report's warnings, then the notes beside it.
pub(super) fn remarks(warnings: &[Warning], notes: &[Note]) -> Vec<RemarkRow> {
    warnings.iter().map(RemarkRow::of).chain(notes.iter().map(RemarkRow::of_note)).collect()
}

impl RemarkRow {
    fn of(warning: &Warning) -> RemarkRow {
        let stuck = match warning {
            Warning::Stuck(stuck) => Some(StuckRow::of(stuck)),
            _ => None,
        };
        let holders = warning.holders().filter(|holders| holders.asked > 0);
        RemarkRow {
            id: warning.id(),
            message: warning.to_string(),
            stuck,
            owners: holders.map(|Holders { found, .. }| found.iter().map(OwnerRow::of).collect()),
            owners_asked: holders.map(|holders| holders.asked),
            unowned: holders.map(|holders| holders.nobodys),
        }
    }

    fn of_note(note: &Note) -> RemarkRow {
        let message = note.message.clone();
        RemarkRow { id: note.id, message, stuck: None, owners: None, owners_asked: None, unowned: None }
    }
}

impl StuckRow {
    fn of(stuck: &Stuck) -> StuckRow {
        let Age { min_ms, max_ms } = stuck.longest;
        StuckRow {
            state: stuck.kind.state_name(),
            count: stuck.sockets,
            examined: stuck.examined,
            long: stuck.long,
            long_ms: stuck.kind.long_ms(),
            longest_ms: min_ms,
            longest_at_most_ms: max_ms,
            towards: stuck.towards.map(|towards| TowardsRow {
                remote_address: towards.remote.ip(),
                remote_port: towards.remote.port(),
                count: towards.sockets,
            }),
        }
    }
}

impl OwnerRow {
    fn of(holder: &Holder) -> OwnerRow {
        let owner = OwnerName {
            pid: holder.pid,
            name: holder.name.clone(),
            uid: holder.uid,
            user: holder.user.clone(),
            ..OwnerName::default()
        };
        OwnerRow { owner, count: holder.sockets }
    }
}
