//! Notes on stderr, each once: beside lines that come again and again they would be told with every one.

use std::io::{self, Write};

use sockeye_core::Warning;

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
            self.tell_once(note.id, || note.message.clone());
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
            let _ = writeln!(io::stderr(), "sockeye: {}", Harmless(&message()));
        }
    }
}
