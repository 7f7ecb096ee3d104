//! libFuzzer's entry: one binary for all targets; the environment variable SOCKEYE_FUZZ_TARGET chooses.

#![no_main]

#[path = "../targets/mod.rs"]
mod targets;

use std::sync::OnceLock;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();
    TARGET.get_or_init(|| {
        let name = std::env::var("SOCKEYE_FUZZ_TARGET").expect("SOCKEYE_FUZZ_TARGET names a target");
        targets::TARGETS.iter().find(|t| t.0 == name).unwrap_or_else(|| panic!("no target {name:?}")).1
    })(bytes);
});
