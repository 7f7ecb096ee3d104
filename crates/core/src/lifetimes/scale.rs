//! A logarithmic scale of bins over 0 ms – 24 h, as HdrHistogram has them: exact for small values, then bins of equal
//! relative width.

use crate::moment::Lifetime;

/// The longest lifetime told apart from longer ones: 24 h.
pub(crate) const LONGEST_MS: u64 = 86_400_000;

/// Bins of which `1 << bits` share an octave: no bin is wider than 1 / `1 << bits` of its values.
///
/// Scales nest: a bin of a coarser one is made of whole bins of a finer one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Scale {
    bits: u32,
}

impl Scale {
    /// For estimates, 32 bins an octave: within 3.2 %, single milliseconds below 64.
    pub(crate) const FINEST: Scale = Scale { bits: 5 };
    /// 128 bins an octave: within 0.8 %, as HdrHistogram has them for two significant digits.
    pub(crate) const BOUNDS: Scale = Scale { bits: 7 };
    const COARSEST_BITS: u32 = 2;

    /// The scale with bins twice as wide; None when there is none.
    pub(crate) fn coarser(self) -> Option<Scale> {
        (self.bits > Scale::COARSEST_BITS).then_some(Scale { bits: self.bits - 1 })
    }

    /// The bin of a value; longer ones than 24 h are in the last.
    pub(crate) fn bin(self, ms: u64) -> u16 {
        let ms = ms.min(LONGEST_MS);
        let octave = ms.checked_ilog2().unwrap_or(0).saturating_sub(self.bits);
        ((octave << self.bits) + (ms >> octave) as u32) as u16
    }

    /// The smallest value of a bin.
    pub(crate) fn start(self, bin: u16) -> u64 {
        let bin = u64::from(bin);
        let octave = (bin >> self.bits).saturating_sub(1);
        (bin - (octave << self.bits)) << octave
    }

    /// The same lifetime with bounds at the ends of their bins: what follows from it does not depend on whether it was told
    /// by itself or in the sum of its bin. Bounds the wrong way round are put right.
    pub(crate) fn around(self, lifetime: Lifetime) -> Lifetime {
        let end = |ms: u64| self.start(self.bin(ms) + 1) - 1;
        Lifetime {
            min_ms: self.start(self.bin(lifetime.min_ms)),
            max_ms: lifetime.max_ms.map(|max_ms| end(max_ms.max(lifetime.min_ms))),
        }
    }

    /// The number of bins.
    pub(crate) fn len(self) -> usize {
        usize::from(self.bin(LONGEST_MS)) + 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bin_holds_its_values(ms in 0..=LONGEST_MS, steps in 0..3) {
            let scale = (0..steps).fold(Scale::FINEST, |scale, _| scale.coarser().unwrap());
            let bin = scale.bin(ms);
            let (start, end) = (scale.start(bin), scale.start(bin + 1));
            prop_assert!(start <= ms && ms < end, "{ms} in {start}..{end}");
            prop_assert!(end - start == 1 || (end - start) << scale.bits <= ms, "narrow");
            prop_assert!(usize::from(bin) < scale.len());
            if let Some(coarser) = scale.coarser() {
                prop_assert_eq!(coarser.bin(start), coarser.bin(ms), "scales nest");
            }
        }
    }

    proptest! {
        #[test]
        fn bounds_around_are_in_the_same_bins(min_ms in 0..=2 * LONGEST_MS, doubt in 0..=LONGEST_MS) {
            let lifetime = Lifetime { min_ms, max_ms: Some(min_ms + doubt) };
            let around = Scale::BOUNDS.around(lifetime);
            prop_assert_eq!(Scale::BOUNDS.around(around), around);
            let bins = |lifetime: Lifetime| [lifetime.min_ms, lifetime.max_ms.unwrap()].map(|ms| Scale::BOUNDS.bin(ms));
            prop_assert_eq!(bins(lifetime), bins(around));
        }
    }

    #[test]
    fn the_ends_of_the_scale() {
        assert_eq!((Scale::FINEST.bin(0), Scale::FINEST.start(0)), (0, 0));
        assert_eq!(Scale::FINEST.bin(u64::MAX), Scale::FINEST.bin(LONGEST_MS));
        assert!(Scale::FINEST.len() < 750, "{}", Scale::FINEST.len());
        let coarsest = (0..3).fold(Scale::FINEST, |scale, _| scale.coarser().unwrap());
        assert_eq!(coarsest.coarser(), None);
    }
}
