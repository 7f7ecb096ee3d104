//! The warnings of a period: when each was first and last told, how often, and what it said last.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::moment::Moment;

/// Names of warnings that are told apart: far more than there are.
const MOST: usize = 128;

/// One kind of warning over a period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RemarkHistory {
    /// Its name, as in JSON.
    pub id: String,
    /// What it said last.
    pub message: String,
    /// When it was first told.
    pub first: Moment,
    /// When it was last told.
    pub last: Moment,
    /// How many times.
    pub count: u64,
}

#[derive(Default)]
pub(super) struct Remarks {
    known: BTreeMap<String, RemarkHistory>,
}

impl Remarks {
    pub(super) fn new() -> Remarks {
        Remarks::default()
    }

    pub(super) fn add(&mut self, at: Moment, id: &str, message: &str) {
        if let Some(known) = self.known.get_mut(id) {
            known.first = known.first.min(at);
            known.count += 1;
            if at >= known.last {
                known.last = at;
                known.message.clear();
                known.message.push_str(message);
            }
        } else if self.known.len() < MOST {
            let remark = RemarkHistory {
                id: id.to_owned(),
                message: message.to_owned(),
                first: at,
                last: at,
                count: 1,
            };
            self.known.insert(id.to_owned(), remark);
        }
    }

    pub(super) fn told(&self) -> Vec<&RemarkHistory> {
        let mut told: Vec<&RemarkHistory> = self.known.values().collect();
        // Stable: equals stay in the order of their names.
        told.sort_by_key(|remark| Reverse(remark.count));
        told
    }
}
