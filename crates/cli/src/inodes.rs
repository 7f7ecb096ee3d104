//! Inodes of followed sockets, by cookie: eight bytes each.
//!
//! Leaves to others: what becomes of a socket.

use std::hash::BuildHasher;

use foldhash::quality::RandomState;
use hashbrown::HashTable;
use sock_diag::Cookie;

/// Where a cookie's inode is. The kernel counts cookies up, and their low half is kept: two sockets with the same are four
/// thousand million apart, and when both live the later one's inode is known.
#[derive(Default)]
pub(crate) struct Inodes {
    rows: HashTable<Row>,
    hasher: RandomState,
}

#[derive(Clone, Copy)]
struct Row {
    cookie: u32,
    inode: u32,
}

/// Room for so many is not worth giving back.
const FEW: usize = 4_096;

impl Inodes {
    pub(crate) fn insert(&mut self, cookie: Cookie, inode: u32) {
        let row = Row { cookie: low(cookie), inode };
        let hasher = &self.hasher;
        let hash = hasher.hash_one(row.cookie);
        match self.rows.find_mut(hash, |known| known.cookie == row.cookie) {
            Some(known) => *known = row,
            None => drop(self.rows.insert_unique(hash, row, |row| hasher.hash_one(row.cookie))),
        }
    }

    pub(crate) fn of(&self, cookie: Cookie) -> Option<u32> {
        let row = self.rows.find(self.hasher.hash_one(low(cookie)), |row| row.cookie == low(cookie));
        row.map(|row| row.inode)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The socket is gone. The inode that it had.
    pub(crate) fn remove(&mut self, cookie: Cookie) -> Option<u32> {
        let hasher = &self.hasher;
        let found = self.rows.find_entry(hasher.hash_one(low(cookie)), |row| row.cookie == low(cookie));
        let (row, _) = found.ok()?.remove();
        if self.rows.capacity() > FEW && self.rows.len() * 4 < self.rows.capacity() {
            self.rows.shrink_to(self.rows.len() * 2, |row| hasher.hash_one(row.cookie));
        }
        Some(row.inode)
    }
}

fn low(cookie: Cookie) -> u32 {
    cookie.0 as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    #[test]
    fn an_inode_is_known_as_long_as_its_socket_lives() {
        let mut inodes = Inodes::default();
        let mut living = VecDeque::new();
        let mut most = 0;
        for cookie in 0..300_000_u64 {
            // Beyond the low half.
            let cookie = Cookie(cookie + u64::from(u32::MAX) - 1_000);
            let inode = cookie.0 as u32 ^ 5;
            inodes.insert(cookie, inode);
            living.push_back((cookie, inode));
            if living.len() > 100_000
                && let Some((gone, inode)) = living.pop_front()
            {
                assert_eq!((inodes.of(gone), inodes.remove(gone)), (Some(inode), Some(inode)));
                assert_eq!((inodes.of(gone), inodes.remove(gone)), (None, None));
            }
            most = most.max(inodes.rows.allocation_size());
        }
        assert!(most <= 100_000 * 24, "{most} bytes for 100,000");
        for (gone, inode) in living.drain(..) {
            assert_eq!(inodes.remove(gone), Some(inode));
        }
        let left = inodes.rows.allocation_size();
        assert!(left <= 80 << 10, "{left} bytes for nothing");
    }

    #[test]
    fn of_two_with_the_same_low_half_the_later_one_is_known() {
        let mut inodes = Inodes::default();
        let (one, other) = (Cookie(7), Cookie(7 + (1 << 32)));
        inodes.insert(one, 1);
        inodes.insert(other, 2);
        assert_eq!((inodes.remove(one), inodes.remove(other)), (Some(2), None));
    }
}
