//! A command that is run and accounted for: its process, who descends from it, and the tally of its sockets.

pub(crate) mod child;
pub(crate) mod descent;
pub(crate) mod scope;
pub(crate) mod tally;
