//! `sockeye top`: one thread follows the sockets and leaves what it saw at each tick, another draws that and reads keys.
//!
//! `follower` makes a `Look` of a tick, `past` keeps the last of them for whoever draws, `wanted` says what is to be
//! gathered. `View` is what the user has chosen, `keys` what a key makes of it, and a frame is a function of past, view,
//! theme and area. The terminal is `tty`'s. Of a recording it is `player` that leaves looks, which `reel` makes of its rows. Neither thread ever waits for the other.

pub(crate) mod chapter;
pub(crate) mod ended;
pub(crate) mod filter;
pub(crate) mod fold;
pub(crate) mod follower;
pub(crate) mod frame;
pub(crate) mod gathering;
pub(crate) mod grid;
pub(crate) mod input;
pub(crate) mod keys;
pub(crate) mod look;
pub(crate) mod paint;
pub(crate) mod past;
pub(crate) mod pen;
pub(crate) mod player;
pub(crate) mod reel;
pub(crate) mod screens;
pub(crate) mod theme;
pub(crate) mod tty;
pub(crate) mod view;
pub(crate) mod wanted;

#[cfg(test)]
mod example;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;
