//! When a destination runs out of ports, and what rate it could sustain for ever.

/// What becomes of a destination's ports if it goes on as it does now.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Forecast {
    /// Seconds until connect() first fails; 0 when it does now; None when it never happens at this rate.
    pub exhausted_in_s: Option<f64>,
    /// Opens per second that the forecast counts with.
    pub open_rate: f64,
    /// Ports in use once opens and releases are in balance; None when they never are.
    pub steady_use: Option<f64>,
    /// The most opens per second that can go on for ever: ports / (time a port is kept). None when connections release
    /// their ports too seldom to tell.
    pub max_rate: Option<f64>,
}
