//! Reads the Linux kernel's sockets through netlink `sock_diag`, without text and without copies.
mod error;
pub mod filter;
mod record;
mod state;
pub use error::{Errno, Error, Result};
pub use record::{Cookie, Family, Protocol, SocketId, SocketOptions, SocketRecord, Timer, TimerKind};
pub use state::{SocketState, StateSet};
