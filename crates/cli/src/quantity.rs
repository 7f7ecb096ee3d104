//! Quantities as they are typed: durations (`500ms`, `10s`, `5m`) and shares (`2%`).

use std::time::Duration;

/// Longer than any watch, and far from where arithmetic on milliseconds ends.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);
/// Shorter intervals would measure nothing but this program.
const SHORTEST: Duration = Duration::from_millis(10);

/// A duration: a number with `ms`, `s`, `m`, `h` or `d`; without a unit, seconds. More than zero, a year at most.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let ms =
        sockeye_gate::milliseconds(text).ok_or_else(|| "write it like 500ms, 10s, 5m or 2h".to_owned())?;
    match Duration::try_from_secs_f64(ms / 1e3) {
        Ok(duration) if duration >= Duration::from_millis(1) && duration <= LONGEST => Ok(duration),
        _ => Err("it must be between 1ms and a year".to_owned()),
    }
}

/// A duration between two looks: 10 ms at least.
pub(crate) fn interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        short if short < SHORTEST => Err("an interval has 10ms at least".to_owned()),
        interval => Ok(interval),
    }
}

/// A share of one processor, as a number between 0 and 1: `2%`, or `0.02`.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let share = match text.strip_suffix('%') {
        Some(percent) => percent.trim_end().parse::<f64>().map(|percent| percent / 100.0),
        None => text.parse(),
    };
    match share {
        Ok(share) if share > 0.0 && share <= 1.0 => Ok(share),
        _ => Err("write it like 2%: more than 0% and at most 100%".to_owned()),
    }
}

/// A size: a number with `K`, `M`, `G` or `T`, powers of 1024. 16 MiB at least.
pub(crate) fn bytes(text: &str) -> Result<u64, String> {
    const HOW: &str = "write it like 500M or 2G";
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let shift = match unit.to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(HOW.to_owned()),
    };
    let number: f64 = number.parse().map_err(|_| HOW.to_owned())?;
    let bytes = number * f64::from(1u32 << (shift % 30)) * f64::from(1u32 << (shift / 30 * 30));
    match bytes {
        16_777_216.0..=1e18 => Ok(bytes as u64),
        _ => Err("it must be 16M at least".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        for (text, size) in [
            ("16M", 16 << 20),
            ("2G", 2 << 30),
            ("1.5GiB", 3 << 29),
            ("1t", 1 << 40),
            ("20000000", 20_000_000),
        ] {
            assert_eq!(bytes(text), Ok(size), "{text}");
        }
        for text in ["", "G", "-2G", "1", "15M", "2X", "1e3G", "9999999999T", "2 G"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_have_units() {
        for (text, ms) in
            [("500ms", 500), ("1", 1000), ("0.5", 500), ("10s", 10_000), ("5m", 300_000), ("2h", 7_200_000)]
        {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for text in ["", "s", "-1", "1 s", "1w", "0", "0ms", "1e9", "1..5", "999999h", "٣s"] {
            assert!(duration(text).is_err(), "{text}");
        }
        assert!(interval("9ms").is_err() && interval("10ms").is_ok());
    }

    #[test]
    fn shares_are_of_one_processor() {
        assert_eq!((share("2%"), share("0.02"), share("100%")), (Ok(0.02), Ok(0.02), Ok(1.0)));
        for text in ["0%", "", "%", "101%", "2", "-1%", "nan", "inf%"] {
            assert!(share(text).is_err(), "{text}");
        }
    }
}
