//! Every network namespace of the host at once: `--all-netns`.
//!
//! Found by `sockeye_host`, entered by a few threads (`crew`), read as a single one is: by `sweep` for one look (`snapshot`,
//! `sockets`), by a Monitor each where they are followed (`watch`).

mod crew;
pub(crate) mod driver;
mod member;
mod muster;
pub(crate) mod row;
pub(crate) mod shared;
pub(crate) mod snapshot;
pub(crate) mod sockets;
pub(crate) mod watch;
mod way;
