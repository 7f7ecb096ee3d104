//! Notes on stderr, each once: beside lines that come again and again they would be told with every one.

use std::io::{self, Write};

use crate::sweep::Note;
use crate::terminal::Harmless;

/// What has been told already.
#[derive(Default)]
pub(crate) struct Told {
    ids: Vec<&'static str>,
}

impl Told {
    /// Tells those that are of a new kind.
    pub(crate) fn tell(&mut self, notes: &[Note]) {
        for note in notes {
            if !self.ids.contains(&note.id) {
                self.ids.push(note.id);
                let _ = writeln!(io::stderr(), "sockeye: {}", Harmless(&note.message));
            }
        }
    }
}
