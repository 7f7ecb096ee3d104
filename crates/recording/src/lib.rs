//! The history of a host's sockets on disk: what a watch tells at every tick, and every connection that has ended.
//!
//! A [`Recorder`] appends [`Rows`] to a checksummed journal, one write for each tick, and rolls whole journals into Parquet,
//! which DuckDB, Polars and pandas read in place. A [`Recording`] reads both back, in order, each row once, while a recorder
//! is at work or after it was killed at any byte. Layout and tables are written down in `docs/recording.md`.
//!
//! Knows nothing of netlink, nor of what is recorded: rows are plain values, and what makes them is the caller's.

mod column;
mod error;
mod frame;
mod journal;
mod layout;
mod recorder;
mod recording;
mod retention;
mod roll;
mod rows;
mod table;
mod words;

pub use error::RecordingError;
pub use frame::{Frames, Torn};
pub use recorder::{Limits, Recorder, Resumed};
pub use recording::{Progress, Reading, Recording, Sink, Unread};
pub use rows::{Connection, Destination, Rows, Setting, Tick, Time, Warning};
pub use words::{ClosedBy, Direction, Evidence, Protocol};

#[cfg(test)]
mod tests;
