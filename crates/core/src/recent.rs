//! The cookies of the last few records: how a raced dump's repeats are found.
//!
//! A dump resumes by (bucket, index), so a socket that is inserted in between makes it tell earlier sockets *of the
//! same bucket* again. Repeats are therefore near each other, and a short window finds them without a table of all.

use sock_diag::Cookie;

/// Longer than any chain of a hash that is not badly overfull, short enough to compare in a few nanoseconds.
const WINDOW: usize = 32;

pub(crate) struct RecentCookies {
    ring: [u64; WINDOW],
    next: usize,
}

impl RecentCookies {
    pub(crate) const fn new() -> RecentCookies {
        RecentCookies { ring: [0; WINDOW], next: 0 }
    }

    /// Whether this cookie was among the last ones; remembers it. Cookie 0 names nobody and never repeats.
    #[inline]
    pub(crate) fn is_repeat(&mut self, cookie: Cookie) -> bool {
        // No early exit: the whole window is compared in vector registers.
        let seen = self.ring.iter().fold(false, |seen, past| seen | (*past == cookie.0));
        if seen {
            return cookie.0 != 0;
        }
        self.ring[self.next] = cookie.0;
        self.next = (self.next + 1) % WINDOW;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_repeats_within_the_window() {
        let mut recent = RecentCookies::new();
        assert!(!recent.is_repeat(Cookie(7)));
        for other in 100..100 + WINDOW as u64 - 1 {
            assert!(!recent.is_repeat(Cookie(other)));
        }
        assert!(recent.is_repeat(Cookie(7)), "still in the window");
        assert!(!recent.is_repeat(Cookie(99)));
        assert!(!recent.is_repeat(Cookie(7)), "pushed out: the window is bounded");
        assert!(!recent.is_repeat(Cookie(0)) && !recent.is_repeat(Cookie(0)), "0 is no name");
    }
}
