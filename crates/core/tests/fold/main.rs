//! The fold as a user of the crate sees it: laws over random worlds, small hosts with known answers, allocations.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

mod laws;
mod model;
mod no_allocation;
mod port_map;
mod scenarios;
mod world;
