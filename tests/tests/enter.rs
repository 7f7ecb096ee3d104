//! A whole program in a namespace, with a load: what benches do at the start of main.
#![allow(clippy::unwrap_used, reason = "a failed step of a test is a failed test")]

use std::fs;

use sockeye_tests::{Load, Namespace, proc_net};

fn main() {
    let outside = fs::read_link("/proc/self/ns/net").unwrap();
    if let Err(error) = Namespace::new().enter() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "no namespace: {error}");
        eprintln!("SKIPPED: {error}");
        return;
    }
    assert_ne!(fs::read_link("/proc/self/ns/net").unwrap(), outside);
    assert_eq!(proc_net().unwrap(), []);
    let load = Load::established(100, 1).unwrap();
    assert_eq!(proc_net().unwrap().len(), load.sockets());
    assert_eq!(load.sockets(), 201);
    drop(load);
    assert_eq!(proc_net().unwrap(), []);
    eprintln!("a program entered its namespace, and a load of 201 sockets came and went");
}
