//! Owners by number: small numbers that stay the same while somebody refers to them.

use std::num::NonZeroU32;

use super::owner::Owner;

/// Owners, the living and those that have ended and are still referred to.
#[derive(Default, Debug)]
pub(super) struct Roster {
    places: Vec<Option<Owner>>,
    ended: Vec<NonZeroU32>,
    free: Vec<NonZeroU32>,
}

impl Roster {
    /// None only after four thousand million owners at a time.
    pub(super) fn add(&mut self, owner: Owner) -> Option<NonZeroU32> {
        let id = match self.free.pop() {
            Some(id) => id,
            None => {
                self.places.push(None);
                NonZeroU32::new(u32::try_from(self.places.len()).ok()?)?
            }
        };
        self.places[id.get() as usize - 1] = Some(owner);
        Some(id)
    }

    pub(super) fn of(&self, id: NonZeroU32) -> Option<&Owner> {
        self.places.get(id.get() as usize - 1)?.as_ref()
    }

    pub(super) fn of_mut(&mut self, id: NonZeroU32) -> Option<&mut Owner> {
        self.places.get_mut(id.get() as usize - 1)?.as_mut()
    }

    /// The process has ended. Its owner stays until [`forget`](Roster::forget).
    pub(super) fn end(&mut self, id: NonZeroU32) {
        self.ended.push(id);
    }

    /// Gives back the numbers of owners that have ended and are not to be kept.
    pub(super) fn forget(&mut self, keep: impl Fn(NonZeroU32) -> bool) {
        let (kept, forgotten) = std::mem::take(&mut self.ended).into_iter().partition(|id| keep(*id));
        self.ended = kept;
        let forgotten: Vec<NonZeroU32> = forgotten;
        for id in &forgotten {
            self.places[id.get() as usize - 1] = None;
        }
        self.free.extend(forgotten);
    }
}
