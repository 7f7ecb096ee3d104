//! When a destination runs out of ports, in a few words.

use sockeye_core::Destination;

/// `now`, `in 17 s`, `≥ 17 s` where that is the earliest time of an uncertain one (`now?` if it may be over already), or `—`
/// where it never happens or nothing is known of it.
pub(crate) fn exhausted(destination: &Destination) -> String {
    let forecast = destination.forecast.unwrap_or_default();
    match forecast.earliest_in_s {
        _ if destination.is_exhausted() => "now".to_owned(),
        None => "—".to_owned(),
        Some(0.0) => "now?".to_owned(),
        Some(earliest) if forecast.exhausted_in_s.map(span) != Some(span(earliest)) => {
            format!("≥ {}", span(earliest))
        }
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
    use sock_diag::Protocol;
    use sockeye_core::{DestinationId, Forecast, Headroom};

    use super::*;

    #[test]
    fn an_uncertain_end_is_no_dash() {
        let told = |min, max, earliest_in_s, exhausted_in_s| {
            let mut destination = sockeye_core::Sweep::new(&Default::default())
                .finish(&Default::default())
                .towards(&DestinationId {
                    protocol: Protocol::Tcp,
                    local_address: [10, 0, 0, 7].into(),
                    remote_address: [10, 0, 9, 12].into(),
                    remote_port: 80,
                });
            destination.headroom = Headroom { min, max, ..Headroom::default() };
            destination.forecast = Some(Forecast { earliest_in_s, exhausted_in_s, ..Forecast::default() });
            exhausted(&destination)
        };
        assert_eq!(told(5, 5, None, None), "—");
        assert_eq!(told(5, 5, Some(17.2), Some(17.2)), "in 17 s");
        assert_eq!(told(2, 9, Some(17.2), Some(40.0)), "≥ 17 s");
        assert_eq!(told(2, 9, Some(17.2), None), "≥ 17 s");
        assert_eq!(told(0, 9, Some(0.0), None), "now?");
        assert_eq!(told(0, 0, Some(0.0), Some(0.0)), "now");
    }

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
