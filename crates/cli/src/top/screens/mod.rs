//! The screens, a file each: a function of what was seen and what was chosen.

pub(crate) mod destinations;
pub(crate) mod detail;
pub(crate) mod fleet;
pub(crate) mod help;
pub(crate) mod lifetimes;
pub(crate) mod listeners;
mod listing;
pub(crate) mod namespaces;
pub(crate) mod owners;
pub(crate) mod ports;
pub(crate) mod sockets;
