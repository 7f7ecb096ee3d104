//! Of the sockets that may be stuck, how many a sweep met, and which of them are looked at: all where they are few, else
//! a fair sample.
//!
//! Drawn by the hash of the cookie: the same sockets are in it whatever the order of the records, in parts that are
//! read by several threads, and sweep after sweep, so that somebody who follows them follows the same.

use std::collections::BinaryHeap;

use sock_diag::SocketRecord;

use super::StuckKind;

/// Most sockets of a kind that are looked at: beyond, shares and the longest time are those of a sample.
pub const MOST_SAMPLED: usize = 512;

/// Sockets of one kind.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StuckSample {
    /// How many a sweep met.
    pub sockets: u32,
    /// The ones to look at: all, or [`MOST_SAMPLED`] of them that chance has chosen.
    pub sampled: Vec<SocketRecord>,
}

impl StuckSample {
    /// Whether no socket was left out.
    pub fn is_whole(&self) -> bool {
        self.sampled.len() == self.sockets as usize
    }
}

/// Sockets of every kind, as one sweep met them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StuckSamples([StuckSample; StuckKind::ALL.len()]);

impl StuckSamples {
    /// Those of this kind.
    pub fn of(&self, kind: StuckKind) -> &StuckSample {
        &self.0[kind.index()]
    }
}

/// Gathers while records come. Memory: none without such sockets, 100 KiB a kind at most.
#[derive(Default)]
pub(crate) struct Draw([Lot; StuckKind::ALL.len()]);

#[derive(Default)]
struct Lot {
    sockets: u32,
    /// The worst lot of those that are kept is on top.
    kept: BinaryHeap<Drawn>,
}

impl Draw {
    #[inline]
    pub(crate) fn take(&mut self, record: &SocketRecord) {
        if let Some(kind) = StuckKind::of(record) {
            self.0[kind.index()].take(record);
        }
    }

    /// Adds what was drawn from other sockets.
    pub(crate) fn absorb(&mut self, other: Draw) {
        for (lot, more) in self.0.iter_mut().zip(other.0) {
            lot.sockets += more.sockets;
            more.kept.into_iter().for_each(|drawn| lot.keep(drawn));
        }
    }

    pub(crate) fn finish(self) -> StuckSamples {
        StuckSamples(self.0.map(|lot| {
            let sorted = lot.kept.into_sorted_vec();
            let mut sampled: Vec<SocketRecord> = sorted.into_iter().map(|drawn| drawn.record).collect();
            // A repeat of a raced dump.
            sampled.dedup_by_key(|record| record.id.cookie);
            sampled.shrink_to_fit();
            StuckSample { sockets: lot.sockets, sampled }
        }))
    }
}

impl Lot {
    fn take(&mut self, record: &SocketRecord) {
        self.sockets += 1;
        if self.kept.capacity() == 0 {
            // At once, so that nothing is allocated per record.
            self.kept.reserve_exact(MOST_SAMPLED);
        }
        // Without a cookie it could not be looked at again.
        if record.id.cookie.0 != 0 {
            self.keep(Drawn { lot: mixed(record.id.cookie.0), record: *record });
        }
    }

    fn keep(&mut self, drawn: Drawn) {
        if self.kept.len() < MOST_SAMPLED {
            self.kept.push(drawn);
        } else if let Some(mut worst) = self.kept.peek_mut()
            && drawn < *worst
        {
            *worst = drawn;
        }
    }
}

struct Drawn {
    lot: u64,
    record: SocketRecord,
}

impl Ord for Drawn {
    fn cmp(&self, other: &Drawn) -> std::cmp::Ordering {
        self.lot.cmp(&other.lot)
    }
}

impl PartialOrd for Drawn {
    fn partial_cmp(&self, other: &Drawn) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Drawn {
    fn eq(&self, other: &Drawn) -> bool {
        self.lot == other.lot
    }
}

impl Eq for Drawn {}

/// Cookies count up: their order says how old a socket is, and must not say whether it is chosen. A bijection (the end of
/// MurmurHash3), so that no two cookies have the same lot.
fn mixed(cookie: u64) -> u64 {
    let mut bits = cookie;
    bits = (bits ^ bits >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    bits = (bits ^ bits >> 33).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    bits ^ bits >> 33
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;
    use sock_diag::{Cookie, Protocol, SocketState};

    use super::*;

    fn record(cookie: u64, state: SocketState) -> SocketRecord {
        let end = |port| (Ipv4Addr::LOCALHOST, port).into();
        let mut record = SocketRecord::bare(Protocol::Tcp, state, end(40_000), end(80));
        record.id.cookie = Cookie(cookie);
        record
    }

    fn drawn(cookies: &[u64]) -> Draw {
        let mut draw = Draw::default();
        cookies.iter().for_each(|cookie| draw.take(&record(*cookie, SocketState::CloseWait)));
        draw
    }

    proptest! {
        #[test]
        fn the_sample_knows_no_order_and_no_parts(
            cookies in proptest::collection::hash_set(1_u64..1 << 40, 0..1_500),
            cut in 0.0..1.0,
        ) {
            let cookies: Vec<u64> = cookies.into_iter().collect();
            let whole = drawn(&cookies).finish();
            let sample = whole.of(StuckKind::CloseWait);
            prop_assert_eq!(sample.sockets as usize, cookies.len());
            prop_assert_eq!(sample.sampled.len(), cookies.len().min(MOST_SAMPLED));
            prop_assert_eq!(sample.is_whole(), cookies.len() <= MOST_SAMPLED);
            let mut others = cookies.clone();
            others.reverse();
            prop_assert_eq!(&drawn(&others).finish(), &whole);
            let (one, other) = others.split_at((others.len() as f64 * cut) as usize);
            let mut parts = drawn(one);
            parts.absorb(drawn(other));
            prop_assert_eq!(parts.finish(), whole);
        }
    }

    #[test]
    fn old_and_new_are_as_likely_to_be_chosen() {
        let cookies: Vec<u64> = (1..=100_000).collect();
        let samples = drawn(&cookies).finish();
        let old = samples.of(StuckKind::CloseWait).sampled.iter().filter(|r| r.id.cookie.0 <= 50_000).count();
        // Five standard deviations on either side.
        assert!((200..=312).contains(&old), "{old} of {MOST_SAMPLED}");
    }
}
