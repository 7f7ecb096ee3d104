//! The history of a host's sockets on disk: what a watch tells at every tick, and every connection that has ended.
//!
//! A [`Recorder`] appends [`Rows`] to a checksummed journal, one write for each tick, and rolls whole journals into Parquet,
//! which DuckDB, Polars and pandas read in place. A [`Recording`] reads both back, in order, each row once, while a recorder
//! is at work or after it was killed at any byte. Layout and tables are written down in `docs/recording.md`.
//!
//! Knows nothing of netlink, nor of what is recorded: rows are plain values, and what makes them is the caller's.

mod frame;
mod rows;
mod words;

// Frames and rows alone are little: what fuzzes them builds no Parquet.
#[cfg(feature = "files")]
mod browser;
#[cfg(feature = "files")]
mod column;
#[cfg(feature = "files")]
mod error;
#[cfg(feature = "files")]
mod journal;
#[cfg(feature = "files")]
mod layout;
#[cfg(feature = "files")]
mod recorder;
#[cfg(feature = "files")]
mod recording;
#[cfg(feature = "files")]
mod retention;
#[cfg(feature = "files")]
mod roll;
#[cfg(feature = "files")]
mod sums;
#[cfg(feature = "files")]
mod table;
#[cfg(test)]
#[cfg(feature = "files")]
mod tests;

#[cfg(feature = "files")]
pub use browser::{Browser, Stretch, Table};
#[cfg(feature = "files")]
pub use error::RecordingError;
pub use frame::{Framer, Frames, Torn, sealed};
#[cfg(feature = "files")]
pub use recorder::{Limits, Recorder, Resumed};
#[cfg(feature = "files")]
pub use recording::{Progress, Reading, Recording, Sink, Span, Unread};
pub use rows::{Connection, Destination, Rows, Setting, Sum, Tick, Time, Warning};
#[cfg(feature = "files")]
pub use table::expects_panic;
pub use words::{ClosedBy, Direction, Evidence, Protocol, SumKind};
