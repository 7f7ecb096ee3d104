//! Cookies of sockets that were closed and forgotten while a destroy event may still come: a program that keeps a closed
//! socket's file causes its event when it closes that.

use std::collections::VecDeque;

use hashbrown::HashSet;
use sock_diag::Cookie;

/// The most that are remembered: the oldest goes first.
const MOST: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Departed {
    cookies: HashSet<u64>,
    order: VecDeque<u64>,
}

impl Departed {
    pub(super) fn add(&mut self, cookie: Cookie) {
        if !self.cookies.insert(cookie.0) {
            return;
        }
        if self.order.len() == MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.cookies.remove(&oldest);
        }
        self.order.push_back(cookie.0);
    }

    /// Whether it is one of them. It stays until it is the oldest.
    pub(super) fn knows(&self, cookie: Cookie) -> bool {
        self.cookies.contains(&cookie.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_first() {
        let mut departed = Departed::default();
        for cookie in 0..=MOST as u64 {
            departed.add(Cookie(cookie));
            departed.add(Cookie(cookie));
        }
        assert!(!departed.knows(Cookie(0)) && departed.knows(Cookie(MOST as u64)));
        assert!(departed.knows(Cookie(2)));
    }
}
