//! When a destination runs out of ports, in a few words.

use sockeye_core::Destination;

/// `now`, `in 17 s`, or `—` where it never happens or nothing is known of it.
pub(crate) fn exhausted(destination: &Destination) -> String {
    match destination.forecast.and_then(|forecast| forecast.exhausted_in_s) {
        _ if destination.is_exhausted() => "now".to_owned(),
        None => "—".to_owned(),
        Some(seconds) => format!("in {}", span(seconds)),
    }
}

/// Seconds for people.
pub(crate) fn span(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1} s"),
        s if s < 600.0 => format!("{s:.0} s"),
        s if s < 36_000.0 => format!("{:.0} min", s / 60.0),
        s if s < 864_000.0 => format!("{:.0} h", s / 3600.0),
        s => format!("{:.0} d", (s / 86_400.0).min(9_999.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_have_the_unit_that_fits() {
        for (seconds, text) in [
            (0.0, "0.0 s"),
            (9.96, "10 s"),
            (17.2, "17 s"),
            (599.0, "599 s"),
            (600.0, "10 min"),
            (36_000.0, "10 h"),
            (864_000.0, "10 d"),
            (1e300, "9999 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
