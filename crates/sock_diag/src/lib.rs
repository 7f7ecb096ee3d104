//! Reads the Linux kernel's sockets through netlink `sock_diag`: no text, no policy, no clock, one copy per socket.
//!
//! A [`dump`] walks the kernel's tables and hands every socket to a callback as a [`DiagMsg`], a view over the receive
//! buffer; [`DiagMsg::to_record`] is the small `Copy` value that outlives it. [`lookup`] asks for one socket,
//! [`DestroyEvents`] tells of the ends of sockets as they happen, [`Namespace`] opens all of these elsewhere.
//! Answers come from a [`Source`]: the live [`Kernel`], a [`Replay`] of a capture, or a [`fake`].
//!
//! ```
//! use std::ops::ControlFlow;
//! use sock_diag::{DumpRequest, Kernel, Protocol, RecvBuffer, StateSet, dump};
//!
//! let mut kernel = Kernel::open()?;
//! let mut buffer = RecvBuffer::new();
//! let listeners = DumpRequest::all(Protocol::Tcp).states(StateSet::LISTEN);
//! let summary = dump(&mut kernel, &listeners, &mut buffer, |socket| {
//!     let record = socket.to_record();
//!     println!("{} {}", record.state, record.id.local_port);
//!     ControlFlow::Continue(())
//! })?;
//! assert_eq!(summary.walks, 1);
//! # Ok::<(), sock_diag::Error>(())
//! ```

mod capture;
mod dump;
mod error;
mod events;
pub mod fake;
pub mod filter;
mod lookup;
mod namespace;
mod probe;
mod record;
mod request;
mod source;
mod state;
mod tcp_info;
mod wire;

pub use capture::{CaptureError, CaptureWriter, Recording, Replay};
pub use dump::{DumpRequest, DumpSummary, dump};
pub use error::{Errno, Error, Result};
pub use events::{DestroyEvents, Event, EventGroups};
pub use lookup::{destroy, inspect, lookup};
pub use namespace::{Namespace, NamespaceError};
pub use probe::{FEATURES, Feature, Support};
pub use record::{Cookie, Family, Protocol, SocketId, SocketOptions, SocketRecord, Timer, TimerKind};
pub use request::Extensions;
pub use source::{Exchange, Kernel, RecvBuffer, Source};
pub use state::{SocketState, StateSet};
pub use tcp_info::{TcpInfo, TcpInfoField};
pub use wire::{Attribute, Attributes, DiagMsg, NlMsg, NlMsgs, SocketMemory, SocketMemoryField, attribute};
