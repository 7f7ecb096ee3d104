//! Sums tell the same as the connections that they stand for.

use std::collections::BTreeMap;

use super::*;
use crate::rows::example;
use crate::table::Row as _;
use crate::{Direction, Span, Sum, SumKind};

/// Keeps sums, and counts what came besides.
#[derive(Default)]
struct Summed {
    sums: Vec<Sum>,
    connections: usize,
}

impl Sink for Summed {
    fn settings(&mut self, _: &[Setting]) {}
    fn ticks(&mut self, _: &[Tick]) {}
    fn destinations(&mut self, _: &[Destination]) {}
    fn warnings(&mut self, _: &[Warning]) {}
    fn connections(&mut self, rows: &[Connection]) {
        self.connections += rows.len();
    }
    fn sums(&mut self, rows: &[Sum]) {
        self.sums.extend_from_slice(rows);
    }
    fn takes_sums(&self) -> bool {
        true
    }
}

fn summed(root: &Path, period: [Time; 2]) -> Summed {
    let mut sink = Summed::default();
    let reading = Recording::open(root).unwrap().read(period, &mut sink, |_| {}).unwrap();
    assert_eq!(reading.unread, []);
    sink
}

/// Ends within half a minute, of a few kinds that repeat.
fn alike(number: u64) -> Connection {
    let lifetime = [3, 260, 1_000, 70_000, 4_000_000_000][number as usize % 5] + number % 2;
    Connection {
        closed_earliest: Time(time(number / 100).0 - 10),
        closed_latest: time(number / 100),
        direction: if number.is_multiple_of(4) { Direction::Incoming } else { Direction::Outgoing },
        local_port: Some(33_000 + (number % 3) as u16),
        lifetime_min_ms: lifetime,
        lifetime_max_ms: (!number.is_multiple_of(7)).then_some(lifetime + 1 - number % 2),
        owner_pid: Some((number % 2) as u32),
        ..example::connection(1, 1)
    }
}

fn recorded(root: &Path, connections: &[Connection]) {
    let mut recorder = open(root, Limits::default());
    for part in connections.chunks(100) {
        let at = part[part.len() - 1].closed_latest;
        recorder.append(at, &mut Rows { connections: part.to_vec(), ..Rows::default() }).unwrap();
    }
    recorder.finish().unwrap();
}

#[test]
fn each_connection_is_in_the_sums_of_its_kinds() {
    let dir = tempfile::tempdir().unwrap();
    let connections: Vec<_> = (0..4_000).map(alike).collect();
    recorded(dir.path(), &connections);
    let Summed { sums, connections: besides } = summed(dir.path(), ALL);
    assert_eq!(besides, 0);
    assert!(sums.len() * 4 <= connections.len(), "{}", sums.len());
    let count =
        |kind: SumKind| sums.iter().filter(|sum| sum.kind == kind).map(|sum| sum.connections).sum::<u64>();
    let all = connections.len() as u64;
    let outgoing = connections.iter().filter(|row| row.direction == Direction::Outgoing).count() as u64;
    assert_eq!(
        [SumKind::Time, SumKind::End, SumKind::Owner, SumKind::Port].map(count),
        [all, all, all, outgoing]
    );
    for row in &connections {
        let near = |least: u64, value: u64| least <= value && value - least <= value / 128;
        let lives = |sum: &&Sum| {
            let told = row.lifetime_max_ms.map(|ms| ms.min(u32::MAX.into()));
            near(sum.lifetime_min_ms, row.lifetime_min_ms.min(u32::MAX.into()))
                && match (sum.lifetime_max_ms, told) {
                    (Some(sum), Some(told)) => near(told, sum) || told >= u64::from(u32::MAX) - 1,
                    (sum, told) => {
                        sum.is_none() && (told.is_none() || row.lifetime_min_ms >= u32::MAX.into())
                    }
                }
        };
        let at = row.at();
        let in_time = |sum: &&Sum| sum.kind == SumKind::Time && sum.earliest <= at && at <= sum.latest;
        let is_outgoing = row.direction == Direction::Outgoing;
        let in_end = |sum: &&Sum| {
            sum.kind == SumKind::End
                && (sum.protocol, sum.direction) == (Some(row.protocol), Some(row.direction))
                && sum.local_address == row.local_address
                && sum.local_port == row.local_port.filter(|_| !is_outgoing)
                && sum.remote_address == row.remote_address.filter(|_| is_outgoing)
                && sum.remote_port == row.remote_port.filter(|_| is_outgoing)
        };
        let in_owner = |sum: &&Sum| {
            sum.kind == SumKind::Owner
                && sum.closed_by == Some(row.closed_by)
                && sum.owner_pid == row.owner_pid
        };
        assert_eq!(sums.iter().filter(lives).filter(in_time).count(), 1, "{row:?}");
        assert_eq!(sums.iter().filter(lives).filter(in_end).count(), 1, "{row:?}");
        assert_eq!(sums.iter().filter(lives).filter(in_owner).count(), 1, "{row:?}");
    }
    let bytes: u64 =
        connections.iter().filter_map(|row| row.sent_bytes.zip(row.received_bytes)).map(|both| both.0).sum();
    assert_eq!(sums.iter().filter_map(|sum| sum.sent_bytes).sum::<u64>(), bytes);
    let mut ports = BTreeMap::new();
    let outgoing = connections.iter().filter(|row| row.direction == Direction::Outgoing);
    outgoing.for_each(|row| *ports.entry(row.local_port).or_insert(0) += 1);
    let told: Vec<_> = sums.iter().filter(|sum| sum.kind == SumKind::Port).collect();
    assert_eq!(told.len(), ports.len());
    assert_eq!(
        told.into_iter().map(|sum| (sum.local_port, sum.connections)).collect::<BTreeMap<_, _>>(),
        ports
    );
}

#[test]
fn a_period_that_cuts_a_segment_gets_its_connections() {
    let dir = tempfile::tempdir().unwrap();
    let connections: Vec<_> = (0..4_000).map(alike).collect();
    recorded(dir.path(), &connections);
    let Span { first, last, .. } = Recording::open(dir.path()).unwrap().span().unwrap().unwrap();
    let besides = |from: u64, to: u64| summed(dir.path(), [Time(from), Time(to)]).connections;
    assert_eq!(besides(first.0, last.0 + 1), 0);
    assert_eq!(besides(first.0 + 1, last.0 + 1), 4_000, "the middles of the first are later");
    assert_eq!(besides(first.0, last.0), 4_000, "those of the last are earlier");
    assert_eq!(besides(first.0 + 1_000, last.0), 3_900);
}

#[test]
fn what_is_not_alike_has_no_sums() {
    let dir = tempfile::tempdir().unwrap();
    let connections: Vec<_> =
        (0..1_000).map(|number| Connection { lifetime_min_ms: number, ..alike(number) }).collect();
    recorded(dir.path(), &connections);
    let Summed { sums, connections: besides } = summed(dir.path(), ALL);
    assert_eq!((sums.len(), besides), (0, 1_000));
}

#[test]
fn a_recording_without_sums_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let connections: Vec<_> = (0..4_000).map(alike).collect();
    recorded(dir.path(), &connections);
    let path = dir.path().join("sums/0000000000.parquet");
    let bytes = std::fs::read(&path).unwrap();
    // A footer that is cut off is seen before anything is told.
    std::fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    assert_eq!(summed(dir.path(), ALL).connections, 4_000);
    std::fs::remove_dir_all(dir.path().join("sums")).unwrap();
    assert_eq!(summed(dir.path(), ALL).connections, 4_000);
    // Nor do sums stand for connections of another time, or for such as were deleted.
    let later = tempfile::tempdir().unwrap();
    let delayed = |row: &Connection| {
        let at = row.closed_latest.0 + 100_000;
        Connection { closed_earliest: Time(at - 10), closed_latest: Time(at), ..row.clone() }
    };
    recorded(later.path(), &connections.iter().map(delayed).collect::<Vec<_>>());
    assert_eq!(summed(later.path(), ALL).connections, 0);
    std::fs::write(later.path().join("sums/0000000000.parquet"), &bytes).unwrap();
    assert_eq!(summed(later.path(), ALL).connections, 4_000);
    std::fs::create_dir(dir.path().join("sums")).unwrap();
    std::fs::write(&path, &bytes).unwrap();
    std::fs::remove_file(dir.path().join("connections/0000000000.parquet")).unwrap();
    let Summed { sums, connections } = summed(dir.path(), ALL);
    assert_eq!((sums.len(), connections), (0, 0));
}
