//! A vector in pages: growing allocates one page more and moves nothing but, at the start, the first; so it never needs twice
//! its room, nor leaves holes where it was.

use std::ops::{Index, IndexMut};

/// Values by number.
pub(crate) struct Paged<T> {
    pages: Vec<Vec<T>>,
}

/// Values of a page.
const PAGE: usize = 1 << 12;

impl<T> Paged<T> {
    pub(crate) const fn new() -> Paged<T> {
        Paged { pages: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.pages.last().map_or(0, |last| (self.pages.len() - 1) * PAGE + last.len())
    }

    /// Adds a value and returns its number.
    pub(crate) fn push(&mut self, value: T) -> u32 {
        let number = self.len() as u32;
        match self.pages.last_mut().filter(|last| last.len() < PAGE) {
            Some(last) => last.push(value),
            None => {
                // The first one grows: most namespaces of a host have few sockets.
                let mut page = Vec::with_capacity(if self.pages.is_empty() { 0 } else { PAGE });
                page.push(value);
                self.pages.push(page);
            }
        }
        number
    }

    /// All values, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.pages.iter().flatten()
    }
}

impl<T> Default for Paged<T> {
    fn default() -> Paged<T> {
        Paged::new()
    }
}

impl<T> Index<u32> for Paged<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u32) -> &T {
        &self.pages[number as usize / PAGE][number as usize % PAGE]
    }
}

impl<T> IndexMut<u32> for Paged<T> {
    #[inline]
    fn index_mut(&mut self, number: u32) -> &mut T {
        &mut self.pages[number as usize / PAGE][number as usize % PAGE]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_go_on_over_pages() {
        let mut paged = Paged::new();
        assert_eq!(paged.len(), 0);
        for value in 0..3 * PAGE as u32 + 7 {
            assert_eq!(paged.push(value), value);
        }
        assert_eq!(paged.len(), 3 * PAGE + 7);
        paged[PAGE as u32] = 1;
        assert_eq!((paged[PAGE as u32], paged[PAGE as u32 - 1]), (1, PAGE as u32 - 1));
        assert_eq!(paged.iter().count(), paged.len());
        let (page, room) = (paged.pages[1].as_ptr(), paged.pages[1].capacity());
        (0..PAGE as u32).for_each(|value| assert!(paged.push(value) > 0));
        assert_eq!((paged.pages[1].as_ptr(), paged.pages[1].capacity()), (page, room), "nothing moves");
    }
}
