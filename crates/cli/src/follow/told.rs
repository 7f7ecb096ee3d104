//! Notes on stderr, each once: beside lines that come again and again they would be told with every one.

use std::io::{self, Write};

use sockeye_core::Warning;
use sockeye_host::FoundNamespace;

use crate::sweep::Note;
use crate::terminal::Harmless;

/// Of so many namespaces a kind of note is told; of all of them JSON tells.
const MOST_NAMESPACES: usize = 16;

/// What has been told already.
#[derive(Default)]
pub(crate) struct Told {
    ids: Vec<&'static str>,
    /// Of one namespace among many, by its inode.
    of_netns: Vec<(&'static str, u64)>,
}

impl Told {
    /// Tells those that are of a new kind.
    pub(crate) fn tell(&mut self, notes: &[Note]) {
        for note in notes {
            self.tell_once(note.id, || note.message.clone());
        }
    }

    /// Tells those of one namespace among many.
    pub(crate) fn tell_of(&mut self, found: &FoundNamespace, notes: &[Note]) {
        for note in notes {
            let of_kind = self.of_netns.iter().filter(|(id, _)| *id == note.id).count();
            match self.of_netns.contains(&(note.id, found.inode)) {
                true => {}
                false if of_kind < MOST_NAMESPACES => {
                    self.of_netns.push((note.id, found.inode));
                    write(&format!("{}: {}", found.name, note.message));
                }
                false => self.tell_once(note.id, || format!("{} of more namespaces", note.id)),
            }
        }
    }

    /// Tells of sockets that are stuck, which no column shows.
    pub(crate) fn tell_stuck(&mut self, warnings: &[Warning]) {
        for warning in warnings.iter().filter(|warning| matches!(warning, Warning::Stuck(_))) {
            self.tell_once(warning.id(), || warning.to_string());
        }
    }

    fn tell_once(&mut self, id: &'static str, message: impl FnOnce() -> String) {
        if !self.ids.contains(&id) {
            self.ids.push(id);
            write(&message());
        }
    }
}

fn write(message: &str) {
    let _ = writeln!(io::stderr(), "sockeye: {}", Harmless(message));
}
