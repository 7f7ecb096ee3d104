//! The Monitor against a small model of the kernel: connections that come and go, dumps that race, events that are late.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

mod conservation;
mod no_allocation;
mod scenarios;
mod stuck;
mod world;
