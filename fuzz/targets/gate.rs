//! Budgets, baselines, tolerances and places: text that people write and other versions wrote.

use sockeye_gate::{Baseline, Budget, Place, Tolerance};

pub(super) fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = Budget::parse(text).map_err(|error| error.to_string());
    let _ = Tolerance::parse(text);
    if let Ok(place) = text.parse::<Place>() {
        assert_eq!(place.to_string().parse(), Ok(place));
    }
    if let Ok(baseline) = Baseline::parse(text) {
        assert_eq!(Baseline::parse(&baseline.text()).ok().as_ref(), Some(&baseline));
    }
}
