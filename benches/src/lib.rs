//! What the benchmarks are made of: the raw recv loop, programs with their costs, interleaved rounds, synthetic sockets.
//!
//! `against_kernel` puts sockeye beside the raw loop and `ss` on real sockets; `scenario` repeats one pure part for
//! instruction counts; `resident` tells the memory of a Monitor; `benches/` times the same parts with criterion. `cargo xtask bench` runs the first two.

mod contest;
mod program;
mod raw_walk;
mod scenario;
mod stopwatch;
mod synthetic;

pub use contest::{Comparison, Contender, Contest, Row, Sample, Scale};
pub use program::{Cost, Program, own_peak_bytes, own_resident_bytes};
pub use raw_walk::RawWalk;
pub use scenario::{SCENARIOS, Scenario};
pub use stopwatch::timed;
pub use synthetic::{FILTERS, answer, decode, record, records};
