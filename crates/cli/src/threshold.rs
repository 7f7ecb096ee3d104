//! Thresholds as monitoring plugins write them: `80`, `10:`, `~:5`, `10:20`, `@10:20`.

use std::fmt;

/// A range of values; what lies outside of it (with `@`, inside) raises an alert.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Range {
    /// None: no lower bound.
    start: Option<f64>,
    /// None: no upper bound.
    end: Option<f64>,
    inside: bool,
}

impl Range {
    /// Reads one; `percent`: its numbers may have a per cent sign.
    pub(crate) fn parse(text: &str, percent: bool) -> Result<Range, String> {
        let wrong = || {
            let sign = if percent { "80% or 80" } else { "80" };
            format!(
                "write {sign} for more than that, 10: for less, 10:20 for outside, @10:20 for inside, ~:5 for more"
            )
        };
        let number = |text: &str| {
            let text = if percent { text.strip_suffix('%').unwrap_or(text) } else { text };
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'-'));
            text.parse::<f64>().ok().filter(|number| is_plain && number.is_finite()).ok_or_else(wrong)
        };
        let (inside, bounds) = match text.strip_prefix('@') {
            Some(bounds) => (true, bounds),
            None => (false, text),
        };
        let (start, end) = match bounds.split_once(':') {
            None => (Some(0.0), Some(number(bounds)?)),
            Some((start, end)) => {
                let start = match start {
                    "~" => None,
                    "" => Some(0.0),
                    start => Some(number(start)?),
                };
                (start, if end.is_empty() { None } else { Some(number(end)?) })
            }
        };
        match (start, end) {
            (Some(start), Some(end)) if start > end => Err(match bounds.contains(':') {
                true => "the range ends before it starts".to_owned(),
                false => format!("no value is below 0: write ~:{end} for more than that"),
            }),
            _ => Ok(Range { start, end, inside }),
        }
    }

    /// Whether this value raises an alert.
    pub(crate) fn alerts(&self, value: f64) -> bool {
        let within = self.start.is_none_or(|start| value >= start) && self.end.is_none_or(|end| value <= end);
        within == self.inside
    }
}

impl fmt::Display for Range {
    /// As it is written, in the shortest way: `10`, `10:`, `~:5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.inside {
            f.write_str("@")?;
        }
        match (self.start, self.end) {
            (Some(0.0), Some(_)) => {}
            (Some(start), _) => write!(f, "{start}:")?,
            (None, _) => f.write_str("~:")?,
        }
        self.end.map_or(Ok(()), |end| write!(f, "{end}"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The table of the plugins' guidelines.
    #[test]
    fn ranges_are_those_of_the_guidelines() {
        for (text, alerts, quiet) in [
            ("10", &[-1.0, 10.1][..], &[0.0, 10.0][..]),
            ("10:", &[9.9, -1.0], &[10.0, 1e9]),
            ("~:10", &[10.1], &[-1e9, 10.0]),
            ("10:20", &[9.9, 20.1], &[10.0, 20.0]),
            ("@10:20", &[10.0, 20.0], &[9.9, 20.1]),
            (":5", &[-1.0, 6.0], &[0.0, 5.0]),
            ("@~:0", &[0.0, -1.0], &[0.1]),
            ("0", &[1.0], &[0.0]),
        ] {
            let range = Range::parse(text, false).unwrap();
            assert!(alerts.iter().all(|value| range.alerts(*value)), "{text}");
            assert!(!quiet.iter().any(|value| range.alerts(*value)), "{text}");
        }
        assert_eq!(Range::parse("50%", true), Range::parse("50", false));
        for text in ["", "x", "20:10", "1:2:3", "50%", "@", "inf", "1e3", "nan", "10%:20"] {
            assert!(Range::parse(text, false).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_means_the_same(start in proptest::option::of(0_u32..100), length in proptest::option::of(0_u32..100), inside: bool, value in -10_i32..250) {
            let range = Range {
                start: start.map(f64::from),
                end: length.map(|length| f64::from(start.unwrap_or(0) + length)),
                inside,
            };
            let read = Range::parse(&range.to_string(), false).unwrap();
            prop_assert_eq!(read.alerts(value.into()), range.alerts(value.into()), "{}", range);
        }
    }
}
