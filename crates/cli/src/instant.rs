//! Points in time as they are typed: `2026-11-23 16:05`, `16:05`, `-2h`, `2h ago`, `now`; all of them UTC, as every output is.

use jiff::civil::{Date, DateTime, Time};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::quantity::duration;

/// What was typed; a time of day or an age becomes a point in time once it is known when "now" is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Instant {
    /// A date and time, or one with an offset.
    At(Timestamp),
    /// The latest such time of day.
    TimeOfDay(Time),
    /// So long ago.
    Ago(SignedDuration),
}

const HOW: &str = "write it like 2026-11-23T16:05Z, '2026-11-23 16:05' (UTC), 16:05, -2h, '30m ago' or now";

impl Instant {
    /// As clap reads it.
    pub(crate) fn parse(text: &str) -> Result<Instant, String> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("now") {
            return Ok(Instant::Ago(SignedDuration::ZERO));
        }
        if let Some(age) = text.strip_prefix('-').or_else(|| text.strip_suffix("ago").map(str::trim_end)) {
            let age = duration(age).map_err(|_| HOW.to_owned())?;
            return Ok(Instant::Ago(SignedDuration::try_from(age).map_err(|_| HOW.to_owned())?));
        }
        let utc = |at: DateTime| TimeZone::UTC.to_timestamp(at).map(Instant::At);
        // A date first: "2026-11-23" would also be read as a time of day.
        text.parse::<Timestamp>()
            .map(Instant::At)
            .or_else(|_| text.parse::<DateTime>().and_then(utc))
            .or_else(|_| text.parse::<Date>().and_then(|date| utc(date.to_datetime(Time::midnight()))))
            .or_else(|_| text.parse::<Time>().map(Instant::TimeOfDay))
            .map_err(|_| HOW.to_owned())
    }

    /// The point in time that was meant. One before the calendar begins is its beginning.
    pub(crate) fn resolve(self, now: Timestamp) -> Timestamp {
        match self {
            Instant::At(at) => at,
            Instant::Ago(age) => now.checked_sub(age).unwrap_or(Timestamp::MIN),
            Instant::TimeOfDay(time) => {
                let today = TimeZone::UTC.to_datetime(now).date();
                let on = |date: Date| TimeZone::UTC.to_timestamp(date.to_datetime(time));
                let latest = on(today).ok().filter(|at| *at <= now);
                latest.or_else(|| today.yesterday().and_then(on).ok()).unwrap_or(now)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: &str = "2026-11-23T16:05:30Z";

    fn resolved(text: &str) -> Result<String, String> {
        Instant::parse(text).map(|instant| instant.resolve(NOW.parse().unwrap()).to_string())
    }

    #[test]
    fn times_are_typed_in_many_ways() {
        for (text, at) in [
            ("now", "2026-11-23T16:05:30Z"),
            ("-2h", "2026-11-23T14:05:30Z"),
            // Without a unit seconds, as everywhere.
            ("-2", "2026-11-23T16:05:28Z"),
            ("30m ago", "2026-11-23T15:35:30Z"),
            ("90s ago", "2026-11-23T16:04:00Z"),
            ("2026-11-23T15:00:00Z", "2026-11-23T15:00:00Z"),
            ("2026-11-23T15:00Z", "2026-11-23T15:00:00Z"),
            ("2026-11-23T15:00:00+01:00", "2026-11-23T14:00:00Z"),
            ("2026-11-23 15:00", "2026-11-23T15:00:00Z"),
            ("2026-11-23 15:00:07.5", "2026-11-23T15:00:07.5Z"),
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("16:05", "2026-11-23T16:05:00Z"),
            ("16:06", "2026-11-22T16:06:00Z"),
            ("00:00", "2026-11-23T00:00:00Z"),
        ] {
            assert_eq!(resolved(text).as_deref(), Ok(at), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_a_way_to_write_it() {
        for text in ["", "-", "ago", "yesterday", "25:00", "2026-13-01", "2026-02-30", "--2h", "1e9", "2h"] {
            let error = resolved(text).unwrap_err();
            assert!(error.contains("write it like"), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn a_time_of_day_is_the_latest_one(hour in 0i8..24, minute in 0i8..60) {
            let now: Timestamp = NOW.parse().unwrap();
            let text = format!("{hour:02}:{minute:02}");
            let at = Instant::parse(&text).unwrap().resolve(now);
            prop_assert!(at <= now && now.duration_since(at).as_hours() < 24);
            prop_assert!(at.to_string().contains(&text));
        }

        #[test]
        fn junk_is_refused_or_a_time(text in ".{0,40}") {
            if let Ok(instant) = Instant::parse(&text) {
                instant.resolve(NOW.parse().unwrap());
            }
        }
    }
}
