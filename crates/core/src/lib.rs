//! Port pressure and churn of one network namespace, folded from socket records: pure state and arithmetic.
//!
//! Feed the records of one sweep to a [`Sweep`] and finish it into a [`Report`]: plain numbers sized by ports and
//! destinations. No clock, file, socket, thread or environment is touched here; settings and counters are
//! arguments, and nothing can fail.
//!
//! ```
//! use sockeye_core::{Counters, Settings, Sweep};
//!
//! let sweep = Sweep::new(&Settings::default());
//! // for each record of the dumps: sweep.observe(&record);
//! let report = sweep.finish(&Counters::default());
//! assert_eq!(report.tcp.usable, 28_232);
//! ```
mod address;
mod bindable;
mod churn;
mod closed;
mod compare;
mod counts;
mod curve;
mod destination;
mod fold;
mod forecast;
mod headroom;
mod judge;
mod lifetimes;
mod listener;
mod moment;
mod monitor;
mod owner_id;
mod period;
mod pool;
mod port_map;
mod port_origin;
mod port_set;
mod port_use;
mod recent;
mod report;
mod reuse;
mod settings;
mod stuck;
mod sweep;
mod udp;
mod warning;

pub use bindable::Bindable;
pub use churn::{AccountRow, Churn, Coverage, Flow, OriginRow, RATE_WINDOWS_S, Rates};
pub use closed::{Closed, ClosedBy, Direction, Evidence, TcpEnd};
pub use compare::{
    Change, LifetimeComparison, LifetimeSample, RateComparison, Ratio, Verdict, compare_lifetimes,
    compare_rates,
};
pub use counts::SocketCounts;
pub use curve::{Curve, TIME_WAIT_MS, WINDOW_SECONDS};
pub use destination::{Destination, DestinationId, SortKey};
pub use forecast::{Basis, Forecast, ForecastInput, Kept};
pub use headroom::{Doubt, Headroom};
pub use lifetimes::{
    Bar, Bounded, Group, GroupLifetimes, LifetimeReport, Lifetimes, LifetimesBy, Percentiles,
};
pub use listener::{Listener, Traffic};
pub use moment::{Lifetime, Moment, When};
pub use monitor::{Missing, Monitor};
pub use owner_id::OwnerId;
pub use period::{
    Bucket, ClosedSample, DestinationHistory, DestinationRest, DestinationSample, EndedBy, OwnerHistory,
    OwnerRest, Period, PoolSample, PortUses, RemarkHistory, TickSample, Totals,
};
pub use pool::{Pool, PortRange};
pub use port_map::{PortHolder, PortMap};
pub use port_origin::PortOrigin;
pub use port_set::PortSet;
pub use report::{HeldBy, Report, Rest, TcpPool};
pub use settings::{Counters, Settings, TwReuse};
pub use stuck::{
    Age, Found, Holder, Holders, MOST_SAMPLED, Stuck, StuckKind, StuckSample, StuckSamples, Towards,
};
pub use sweep::{Settled, Sweep};
pub use udp::{UdpAddress, UdpPool};
pub use warning::Warning;
