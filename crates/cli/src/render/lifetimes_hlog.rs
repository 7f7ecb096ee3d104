//! Lifetimes as an interval log (`.hlog`, format 1.3), which the HdrHistogram tools read: for each interval a line for all
//! connections that ended in it, and one for each group of them under its tag.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use jiff::Timestamp;
use sock_diag::Protocol;
use sockeye_core::{Closed, Group};

/// A lifetime is told from 1 ms to 24 h, with two significant digits.
const LONGEST_MS: u64 = 86_400_000;
const DIGITS: u8 = 2;

/// Groups with a line of their own in one interval; the rest share one.
const MOST_GROUPS: usize = 256;

/// Writes the text of one log. Times in it are seconds since its base.
pub(crate) struct IntervalLog {
    base: Timestamp,
    upto: Timestamp,
    serializer: V2DeflateSerializer,
}

impl IntervalLog {
    /// A log whose first interval begins at `base`.
    pub(crate) fn new(base: Timestamp) -> IntervalLog {
        IntervalLog { base, upto: base, serializer: V2DeflateSerializer::new() }
    }

    /// The lines before the first interval.
    pub(crate) fn header(&self) -> String {
        let seconds = self.base.as_millisecond() as f64 / 1_000.0;
        format!(
            "#[Histogram log format version 1.3]\n\
             #[Lifetimes of TCP connections in milliseconds, written by sockeye; for HistogramLogProcessor: -outputValueUnitRatio 1]\n\
             #[StartTime: {seconds:.3} (seconds since epoch), {:.0}]\n\
             #[BaseTime: {seconds:.3} (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n",
            self.base
        )
    }

    /// The lines of the interval from the last one's end (or the base) until `to`: best estimates of what ended in it.
    /// Connections without an upper bound (older than the watch) are in none.
    ///
    /// # Errors
    /// None that can happen: those of writing to memory.
    pub(crate) fn interval(&mut self, closed: &[Closed], to: Timestamp) -> anyhow::Result<Vec<u8>> {
        let empty = || Histogram::<u64>::new_with_bounds(1, LONGEST_MS, DIGITS);
        let mut all = empty()?;
        let mut groups: BTreeMap<Group, Histogram<u64>> = BTreeMap::new();
        for closed in closed.iter().filter(|closed| closed.protocol == Protocol::Tcp) {
            let Some(ms) = closed.lifetime.middle_ms() else { continue };
            all.saturating_record(ms);
            let group = match closed.group() {
                group if groups.contains_key(&group) || groups.len() < MOST_GROUPS => group,
                _ => Group::Other,
            };
            let histogram = match groups.remove(&group) {
                Some(histogram) => histogram,
                None => empty()?,
            };
            groups.entry(group).or_insert(histogram).saturating_record(ms);
        }
        let (from, to) = (self.upto, to.max(self.upto));
        self.upto = to;
        let span = |from: Timestamp, to: Timestamp| {
            Duration::from_millis(u64::try_from(to.duration_since(from).as_millis()).unwrap_or(0))
        };
        let (start, length) = (span(self.base, from), span(from, to));
        let mut lines = Vec::new();
        let mut writer = IntervalLogWriterBuilder::new().begin_log_with(&mut lines, &mut self.serializer)?;
        writer.write_histogram(&all, start, length, None)?;
        for (group, histogram) in &groups {
            let tag = tag(*group);
            writer.write_histogram(histogram, start, length, Tag::new(&tag))?;
        }
        Ok(lines)
    }
}

/// A group's tag: no spaces, no commas.
fn tag(group: Group) -> String {
    match group {
        Group::Destination(id) => {
            let remote = std::net::SocketAddr::new(id.remote_address, id.remote_port);
            format!("{}->{remote}", id.local_address)
        }
        Group::Listener(port) => format!("listener:{port}"),
        Group::Owner(_) | Group::PortOrigin(_) | Group::Other => "other".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    use sock_diag::Cookie;
    use sockeye_core::{ClosedBy, Direction, Evidence, Lifetime, Moment, OwnerId, When};

    use super::*;

    fn closed(direction: Direction, remote: &str, lifetime: Lifetime) -> Closed {
        Closed {
            protocol: Protocol::Tcp,
            cookie: Cookie(1),
            local: Some("10.0.0.7:443".parse().unwrap()),
            remote: Some(remote.parse().unwrap()),
            owner: OwnerId::UNKNOWN,
            direction,
            closed_by: ClosedBy::Local,
            at: When::at(Moment(5)),
            lifetime,
            evidence: Evidence::Event,
            end: None,
        }
    }

    fn exactly(ms: u64) -> Lifetime {
        Lifetime { min_ms: ms, max_ms: Some(ms) }
    }

    /// Read back by the reader that others use.
    fn read(text: &[u8]) -> Vec<(Option<String>, Duration, Duration, Histogram<u64>)> {
        let mut deserializer = Deserializer::new();
        IntervalLogIterator::new(text)
            .filter_map(|entry| match entry.unwrap() {
                LogEntry::Interval(interval) => {
                    use base64_of_tests::decode;
                    let bytes = decode(interval.encoded_histogram());
                    let histogram = deserializer.deserialize(&mut bytes.as_slice()).unwrap();
                    let tag = interval.tag().map(|tag| tag.as_str().to_owned());
                    Some((tag, interval.start_timestamp(), interval.duration(), histogram))
                }
                LogEntry::StartTime(at) | LogEntry::BaseTime(at) => {
                    assert_eq!(at, Duration::from_millis(1_795_375_864_512));
                    None
                }
            })
            .collect()
    }

    /// RFC 4648, the standard alphabet: by the book, so that nothing of the writer is trusted.
    mod base64_of_tests {
        pub(super) fn decode(text: &str) -> Vec<u8> {
            let value = |byte: u8| match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                other => panic!("{other} is not of the alphabet"),
            };
            assert_eq!(text.len() % 4, 0, "padded");
            let digits: Vec<u8> = text.trim_end_matches('=').bytes().map(value).collect();
            let bytes = digits.chunks(4).flat_map(|chunk| {
                let word = (0..4).fold(0_u32, |word, at| word << 6 | u32::from(*chunk.get(at).unwrap_or(&0)));
                word.to_be_bytes()[1..chunk.len()].to_vec()
            });
            bytes.collect()
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let base: Timestamp = "2026-11-22T19:31:04.512Z".parse().unwrap();
        let after = |ms| base + jiff::SignedDuration::from_millis(ms);
        let mut log = IntervalLog::new(base);
        let mut text = log.header().into_bytes();
        let first = [
            closed(Direction::Outgoing, "10.0.9.12:8080", exactly(100)),
            closed(Direction::Outgoing, "10.0.9.12:8080", Lifetime { min_ms: 1_000, max_ms: Some(3_000) }),
            closed(Direction::Incoming, "[2001:db8::1]:5000", exactly(7)),
            closed(Direction::Incoming, "192.0.2.1:5000", Lifetime { min_ms: 10, max_ms: None }),
            Closed { protocol: Protocol::Udp, ..closed(Direction::Unknown, "192.0.2.1:53", exactly(9)) },
        ];
        text.extend(log.interval(&first, after(1_001)).unwrap());
        text.extend(log.interval(&[], after(2_002)).unwrap());
        let last = [closed(Direction::Unknown, "192.0.2.1:53", exactly(500_000_000))];
        text.extend(log.interval(&last, after(2_002)).unwrap());
        let shown = String::from_utf8(text.clone()).unwrap();
        assert!(shown.starts_with(
            "#[Histogram log format version 1.3]\n#[Lifetimes of TCP connections in milliseconds, written by sockeye; \
             for HistogramLogProcessor: -outputValueUnitRatio 1]\n\
             #[StartTime: 1795375864.512 (seconds since epoch), 2026-11-22T19:31:04Z]\n\
             #[BaseTime: 1795375864.512 (seconds since epoch)]\n\
             \"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"\n0.000,1.001,"
        ), "{shown}");
        // The cookie of a compressed V2 histogram is 0x1c849304: HISTF in base64.
        assert!(shown.lines().skip(5).all(|line| line.contains(",HISTF")), "{shown}");
        let told: Vec<_> = read(&text)
            .into_iter()
            .map(|(tag, start, length, histogram)| {
                let values: Vec<u64> =
                    histogram.iter_recorded().map(|value| value.value_iterated_to()).collect();
                (tag, start.as_millis(), length.as_millis(), histogram.len(), values)
            })
            .collect();
        let tag = |text: &str| Some(text.to_owned());
        let longest =
            Histogram::<u64>::new_with_bounds(1, LONGEST_MS, DIGITS).unwrap().highest_equivalent(LONGEST_MS);
        assert_eq!(
            told[..5],
            [
                (None, 0, 1_001, 3, vec![7, 100, 2_007]),
                (tag("10.0.0.7->10.0.9.12:8080"), 0, 1_001, 2, vec![100, 2_007]),
                (tag("listener:443"), 0, 1_001, 1, vec![7]),
                (None, 1_001, 1_001, 0, vec![]),
                (None, 2_002, 0, 1, told[5].4.clone()),
            ]
        );
        assert_eq!(told[5].0, tag("other"));
        assert!(told[5].4[0] >= longest, "more than 24 h is told as 24 h or more: {:?}", told[5].4);
    }
}
