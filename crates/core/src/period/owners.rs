//! Whose connections ended within a period.

use std::cmp::Reverse;

use hashbrown::HashMap;

use crate::Percentiles;
use crate::compare::LifetimeSample;
use crate::moment::Lifetime;
use crate::owner_id::OwnerId;

/// Owners that are told apart in the end; twice as many while rows come.
const MOST: usize = 512;
/// Different bounds of lifetimes told apart for each.
const MOST_PAIRS: usize = 256;

/// One owner's connections that ended.
#[derive(Clone, Copy, Debug)]
pub struct OwnerHistory<'a> {
    /// Whose.
    pub owner: OwnerId,
    /// How many.
    pub ended: u64,
    /// Bytes sent and received by those whose end told them.
    pub bytes: [u64; 2],
    lifetimes: &'a LifetimeSample,
}

impl OwnerHistory<'_> {
    /// Percentiles of their lifetimes. Cost: an estimate.
    pub fn percentiles(&self) -> Option<Percentiles> {
        self.lifetimes.percentiles()
    }
}

/// What was not told apart. An owner that was left out and came again counts here as well.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct OwnerRest {
    /// Owners left out, at most.
    pub owners: u64,
    /// Their connections.
    pub ended: u64,
}

#[derive(Default)]
pub(super) struct Owners {
    known: HashMap<OwnerId, Known>,
    rest: OwnerRest,
}

struct Known {
    ended: u64,
    bytes: [u64; 2],
    lifetimes: LifetimeSample,
}

impl Owners {
    pub(super) fn new() -> Owners {
        Owners::default()
    }

    pub(super) fn add(&mut self, owner: OwnerId, lifetime: Lifetime, connections: u64, bytes: [u64; 2]) {
        let known = self.known.entry(owner).or_insert_with(|| Known {
            ended: 0,
            bytes: [0; 2],
            lifetimes: LifetimeSample::of_pairs(MOST_PAIRS),
        });
        known.ended += connections;
        known.lifetimes.record_many(lifetime, connections);
        (0..2).for_each(|way| known.bytes[way] = known.bytes[way].saturating_add(bytes[way]));
        if self.known.len() > 2 * MOST {
            let mut order: Vec<_> =
                self.known.iter().map(|(owner, known)| (Reverse(known.ended), *owner)).collect();
            order.sort_unstable();
            for (_, owner) in order.drain(MOST..) {
                if let Some(known) = self.known.remove(&owner) {
                    self.rest.owners += 1;
                    self.rest.ended += known.ended;
                }
            }
        }
    }

    pub(super) fn told(&self) -> (Vec<OwnerHistory<'_>>, OwnerRest) {
        let mut rest = self.rest;
        let mut told: Vec<OwnerHistory<'_>> = self
            .known
            .iter()
            .map(|(owner, known)| OwnerHistory {
                owner: *owner,
                ended: known.ended,
                bytes: known.bytes,
                lifetimes: &known.lifetimes,
            })
            .collect();
        told.sort_unstable_by_key(|row| (Reverse(row.ended), row.owner));
        for row in told.drain(MOST.min(told.len())..) {
            rest.owners += 1;
            rest.ended += row.ended;
        }
        (told, rest)
    }
}
