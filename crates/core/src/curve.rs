//! Closes of the last minute, second by second, as TIME_WAIT timers tell them.
//!
//! Only active closes leave a TIME_WAIT: what the peer closed first or a reset ended is not in the curve.

use std::fmt;

/// Length of TIME_WAIT, milliseconds: `TCP_TIMEWAIT_LEN` of `include/net/tcp.h`, fixed in the kernel.
pub const TIME_WAIT_MS: u32 = 60_000;

/// How far back a curve reaches, and its number of bins: seconds.
pub const WINDOW_SECONDS: usize = 60;

/// Closes per second over the last 60 s.
///
/// Bin n counts closes that happened n to n+1 seconds before the dump told the socket. A timer that is due (0 ms
/// left) belongs to a close older than the window and is in no bin.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Curve {
    bins: [u32; WINDOW_SECONDS],
}

impl Curve {
    /// No closes.
    pub const EMPTY: Curve = Curve { bins: [0; WINDOW_SECONDS] };

    /// Counts one close `seconds` ago; left out from 60 on.
    #[inline]
    pub(crate) fn add(&mut self, seconds: u8) {
        if let Some(bin) = self.bins.get_mut(usize::from(seconds)) {
            *bin += 1;
        }
    }

    pub(crate) fn add_all(&mut self, other: &Curve) {
        self.bins.iter_mut().zip(&other.bins).for_each(|(bin, more)| *bin += more);
    }

    /// Closes `seconds` to `seconds + 1` ago; 0 from 60 on.
    pub fn ago(&self, seconds: usize) -> u32 {
        self.bins.get(seconds).copied().unwrap_or(0)
    }

    /// The 60 bins, oldest first: the way they are drawn and written.
    pub fn oldest_first(&self) -> impl ExactSizeIterator<Item = u32> + '_ {
        self.bins.iter().rev().copied()
    }

    /// Closes in the window.
    pub fn total(&self) -> u32 {
        self.bins.iter().sum()
    }

    /// Mean rate over the whole window: [`total`](Self::total) / 60.
    pub fn per_second(&self) -> f64 {
        rate(self.total())
    }

    /// Rate now: the mean of the last 5 s, where one second alone would jitter.
    pub fn now_per_second(&self) -> f64 {
        const NOW: usize = 5;
        f64::from(self.bins[..NOW].iter().sum::<u32>()) / NOW as f64
    }

    /// The busiest second of the window.
    pub fn peak_per_second(&self) -> u32 {
        self.bins.iter().copied().max().unwrap_or(0)
    }
}

impl fmt::Debug for Curve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let closes = self.bins.iter().enumerate().filter(|(_, count)| **count > 0);
        f.debug_map().entries(closes).finish()
    }
}

/// Closes in the window as a rate, per second.
pub(crate) fn rate(closes: u32) -> f64 {
    f64::from(closes) / WINDOW_SECONDS as f64
}

/// Time since the close of a TIME_WAIT socket with this long to go, milliseconds, 0–60,000.
#[inline]
pub(crate) fn age_ms(expires_ms: u32) -> u32 {
    TIME_WAIT_MS.saturating_sub(expires_ms)
}

/// The bin of a close, 0–60: whole seconds since it, and 60 when it is older than the window.
#[inline]
pub(crate) fn age_seconds(expires_ms: u32) -> u8 {
    (age_ms(expires_ms) / 1_000) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_seconds_since_the_close() {
        let mut curve = Curve::EMPTY;
        for expires_ms in [60_000, 59_001, 59_000, 1, 0, 60_004] {
            curve.add(age_seconds(expires_ms));
        }
        assert_eq!((curve.ago(0), curve.ago(1), curve.ago(59), curve.ago(60)), (3, 1, 1, 0));
        assert_eq!(curve.total(), 5, "the one that is due is older than the window");
        assert_eq!(curve.oldest_first().next(), Some(1));
        assert_eq!(curve.oldest_first().last(), Some(3));
        assert_eq!(curve.peak_per_second(), 3);
        assert_eq!(curve.now_per_second(), 4.0 / 5.0);
    }

    #[test]
    fn a_minute_of_time_wait_is_its_rate() {
        assert!((rate(20_801) - 346.7).abs() < 0.05);
    }
}
