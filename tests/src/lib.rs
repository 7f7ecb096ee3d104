//! Holds sockeye to the real kernel: private namespaces, sockets in every state, loads with exact counts.
//!
//! Nothing here reads sockets through sock_diag: the kit is the independent side of every comparison, and takes only
//! value types from that crate. What it checks with is `/proc/net` and `getsockopt`.
//!
//! ```no_run
//! use sockeye_tests::{Namespace, Zoo, ZooSpec};
//!
//! // In a #[test]: the closure runs in a process of its own, alone in its network namespace.
//! Namespace::new().sysctl("net.ipv4.ip_local_port_range", "40000 40099").run(|| {
//!     let zoo = Zoo::open(&ZooSpec::default()).unwrap();
//!     assert!(zoo.specimens.len() > 50);
//! });
//! ```

mod body;
mod burst;
mod churn;
mod counting;
mod deadline;
mod dice;
mod fork;
mod load;
mod namespace;
mod proc_net;
mod socket;
mod zoo;

pub use body::in_namespace;
pub use burst::{Burst, BurstCount, Destroyed};
pub use churn::{Churn, ChurnPlan, Close, Connection, End, How, Lives, Phase, Span};
pub use counting::{Counting, allocations_of, held_bytes, peak_bytes_of};
pub use deadline::{wait_for, wait_until, within};
pub use dice::Dice;
pub use load::Load;
pub use namespace::{Namespace, drop_privilege};
pub use proc_net::{ProcLine, proc_net};
pub use zoo::{Specimen, Zoo, ZooSpec};
