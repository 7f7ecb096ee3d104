//! A set of ports: one bit for each of the 65,536. What a port in it means is its owner's business.

use std::fmt;
use std::ops::RangeInclusive;

const WORDS: usize = 1 << 10;

/// A set of ports, 8 KiB on the heap whatever it holds.
///
/// Cost: insert and contains one word; everything over the whole set 1,024 words (well under a microsecond).
#[derive(Clone, PartialEq, Eq)]
pub struct PortSet {
    words: Box<[u64; WORDS]>,
}

impl PortSet {
    /// No port.
    pub fn new() -> PortSet {
        PortSet { words: Box::new([0; WORDS]) }
    }

    /// All ports of the ranges; they may overlap, and one that ends before it starts is empty.
    pub fn from_ranges(ranges: impl IntoIterator<Item = RangeInclusive<u16>>) -> PortSet {
        let mut set = PortSet::new();
        for range in ranges {
            set.insert_range(range);
        }
        set
    }

    /// Adds one port.
    #[inline]
    pub fn insert(&mut self, port: u16) {
        self.words[usize::from(port >> 6)] |= 1 << (port & 63);
    }

    /// Adds every port of the range.
    pub fn insert_range(&mut self, range: RangeInclusive<u16>) {
        for (word, mask) in words_of(range) {
            self.words[word] |= mask;
        }
    }

    /// Takes one port out.
    #[inline]
    pub fn remove(&mut self, port: u16) {
        self.words[usize::from(port >> 6)] &= !(1 << (port & 63));
    }

    /// Whether the port is in the set.
    #[inline]
    pub fn contains(&self, port: u16) -> bool {
        self.words[usize::from(port >> 6)] & (1 << (port & 63)) != 0
    }

    /// Whether no port is in the set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// How many ports are in the set, 0–65,536.
    pub fn count(&self) -> u32 {
        self.words.iter().map(|word| word.count_ones()).sum()
    }

    /// How many ports of the range are in the set.
    pub fn count_in(&self, range: RangeInclusive<u16>) -> u32 {
        words_of(range).map(|(word, mask)| (self.words[word] & mask).count_ones()).sum()
    }

    /// How many ports of this parity are in the set: 0 the even ones, 1 the odd ones.
    pub fn count_parity(&self, parity: u16) -> u32 {
        let mask = 0x5555_5555_5555_5555 << (parity & 1);
        self.words.iter().map(|word| (word & mask).count_ones()).sum()
    }

    /// The ports that are in either.
    pub fn union(&self, other: &PortSet) -> PortSet {
        self.combine(other, |a, b| a | b)
    }

    /// The ports that are in both.
    pub fn intersection(&self, other: &PortSet) -> PortSet {
        self.combine(other, |a, b| a & b)
    }

    /// The ports of this set that are not in `other`.
    pub fn minus(&self, other: &PortSet) -> PortSet {
        self.combine(other, |a, b| a & !b)
    }

    /// The ports, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.words.iter().enumerate().flat_map(|(index, word)| {
            let mut left = *word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let bit = left.trailing_zeros();
                    left &= left - 1;
                    (index as u32 * 64 + bit) as u16
                })
            })
        })
    }

    /// The set as runs of neighbouring ports, lowest first: how sysctls spell sets.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<u16>> + '_ {
        let mut ports = self.iter().peekable();
        std::iter::from_fn(move || {
            let first = ports.next()?;
            let mut last = first;
            while let Some(next) = ports.next_if(|next| last.checked_add(1) == Some(*next)) {
                last = next;
            }
            Some(first..=last)
        })
    }

    fn combine(&self, other: &PortSet, op: impl Fn(u64, u64) -> u64) -> PortSet {
        let mut words = self.words.clone();
        for (word, other) in words.iter_mut().zip(other.words.iter()) {
            *word = op(*word, *other);
        }
        PortSet { words }
    }
}

/// The words a range touches, each with the bits of it that belong to the range.
fn words_of(range: RangeInclusive<u16>) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (usize::from(*range.start()), usize::from(*range.end()));
    let words = if first <= last { first / 64..last / 64 + 1 } else { 0..0 };
    words.map(move |word| {
        let from = if word == first / 64 { u64::MAX << (first % 64) } else { u64::MAX };
        let to = if word == last / 64 { u64::MAX >> (63 - last % 64) } else { u64::MAX };
        (word, from & to)
    })
}

impl Default for PortSet {
    fn default() -> PortSet {
        PortSet::new()
    }
}

impl Extend<u16> for PortSet {
    fn extend<I: IntoIterator<Item = u16>>(&mut self, ports: I) {
        ports.into_iter().for_each(|port| self.insert(port));
    }
}

impl FromIterator<u16> for PortSet {
    fn from_iter<I: IntoIterator<Item = u16>>(ports: I) -> PortSet {
        let mut set = PortSet::new();
        set.extend(ports);
        set
    }
}

impl fmt::Debug for PortSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.ranges()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn whole_space_and_nothing() {
        let all = PortSet::from_ranges([0..=u16::MAX]);
        assert_eq!(all.count(), 65_536);
        assert_eq!(all.ranges().collect::<Vec<_>>(), [0..=u16::MAX]);
        assert_eq!((all.count_parity(0), all.count_parity(1)), (32_768, 32_768));
        let reversed = RangeInclusive::new(9, 3);
        assert!(PortSet::from_ranges([reversed.clone()]).is_empty());
        assert_eq!(all.count_in(reversed), 0);
        assert!(all.minus(&all).is_empty());
    }

    fn ranges() -> impl Strategy<Value = Vec<(u16, u16)>> {
        prop::collection::vec((any::<u16>(), 0u16..300), 0..8)
            .prop_map(|v| v.into_iter().map(|(first, n)| (first, first.saturating_add(n))).collect())
    }

    fn both(ranges: &[(u16, u16)]) -> (PortSet, BTreeSet<u16>) {
        let spans = || ranges.iter().map(|(a, b)| *a..=*b);
        (PortSet::from_ranges(spans()), spans().flatten().collect())
    }

    proptest! {
        #[test]
        fn agrees_with_a_tree_set(a in ranges(), b in ranges(), probe in any::<u16>(), window in any::<(u16, u16)>()) {
            let ((a, tree_a), (b, tree_b)) = (both(&a), both(&b));
            prop_assert_eq!(a.iter().collect::<BTreeSet<_>>(), tree_a.clone());
            prop_assert_eq!(a.count() as usize, tree_a.len());
            prop_assert_eq!(a.contains(probe), tree_a.contains(&probe));
            prop_assert_eq!(a.count_parity(1) as usize, tree_a.iter().filter(|p| **p % 2 == 1).count());
            let (low, high) = (window.0.min(window.1), window.0.max(window.1));
            prop_assert_eq!(a.count_in(low..=high) as usize, tree_a.range(low..=high).count());
            prop_assert_eq!(a.union(&b), tree_a.union(&tree_b).copied().collect());
            prop_assert_eq!(a.intersection(&b), tree_a.intersection(&tree_b).copied().collect());
            prop_assert_eq!(a.minus(&b), tree_a.difference(&tree_b).copied().collect());
            prop_assert_eq!(PortSet::from_ranges(a.ranges()), a.clone());
            let mut without = a.clone();
            without.remove(probe);
            prop_assert!(!without.contains(probe));
            prop_assert_eq!(without.count(), a.count() - u32::from(a.contains(probe)));
        }
    }
}
