//! Names of programs whose processes are gone, by small numbers that stay the same while somebody refers to them.

use std::collections::{HashMap, HashSet};

use sockeye_host::owners::Name;

/// So many names at a time: whoever is called otherwise is not known.
const MOST: usize = 4_096;

#[derive(Default)]
pub(crate) struct Programs {
    names: Vec<Name>,
    places: HashMap<Name, u32>,
    free: Vec<u32>,
}

impl Programs {
    /// The number of this name; None when there are too many.
    pub(crate) fn number(&mut self, name: Name) -> Option<u32> {
        if let Some(place) = self.places.get(&name) {
            return Some(*place);
        }
        let place = match self.free.pop() {
            Some(place) => place,
            None if self.names.len() < MOST => {
                self.names.push(name.clone());
                self.names.len() as u32 - 1
            }
            None => return None,
        };
        self.names[place as usize] = name.clone();
        self.places.insert(name, place);
        Some(place)
    }

    pub(crate) fn name(&self, number: u32) -> Option<&Name> {
        self.names.get(number as usize)
    }

    /// Gives back the numbers of all others.
    pub(crate) fn keep(&mut self, used: &HashSet<u32>) {
        let free = &mut self.free;
        self.places.retain(|_, place| {
            let keeps = used.contains(place);
            free.extend((!keeps).then_some(*place));
            keeps
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::from(format!("program {number}").into_bytes())
    }

    #[test]
    fn numbers_are_bounded_and_come_back() {
        let mut programs = Programs::default();
        let numbers: Vec<u32> = (0..MOST).map(|one| programs.number(name(one)).unwrap()).collect();
        assert_eq!((programs.number(name(7)), programs.number(name(MOST))), (Some(numbers[7]), None));
        programs.keep(&HashSet::from([numbers[7]]));
        assert_eq!(programs.number(name(7)), Some(numbers[7]));
        let again = programs.number(name(MOST)).unwrap();
        assert!(again != numbers[7] && programs.name(again) == Some(&name(MOST)));
        assert_eq!(programs.name(numbers[7]), Some(&name(7)));
    }
}
