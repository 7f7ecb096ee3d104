//! One file per command: settings in, exit code out.

pub(crate) mod check;
pub(crate) mod closes;
pub(crate) mod diff;
pub(crate) mod headroom;
pub(crate) mod lifetimes;
pub(crate) mod ports;
pub(crate) mod record;
pub(crate) mod report;
pub(crate) mod run;
pub(crate) mod snapshot;
pub(crate) mod sockets;
pub(crate) mod top;
pub(crate) mod watch;
