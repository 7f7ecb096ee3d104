//! What holds at a tick of a recording: the last row of each destination of its segment, and what came and went of late.

use std::collections::{HashMap, VecDeque};

use sockeye_core::{Destination, DestinationId, RATE_WINDOWS_S, Rates, Traffic};
use sockeye_recording::{Connection, Destination as Row, Setting, Sink, Tick, Warning};

use super::look::{Look, MOST_DESTINATIONS, Remark};
use crate::history::reading::{MOST, destination_id, protocol};

/// Destinations that are followed; what a damaged file claims beyond them is left out, and told.
const MOST_TOWARDS: usize = 1 << 16;
/// Rows that are read at once, at the most.
const MOST_ROWS: usize = 1 << 20;
/// More sockets of one destination no host has.
const MOST_SOCKETS: u32 = 1 << 24;

/// What holds behind a tick: the last row of each destination.
#[derive(Default)]
pub(super) struct Fold {
    towards: HashMap<DestinationId, Towards>,
    /// There are more than are followed.
    is_cut: bool,
}

struct Towards {
    row: Row,
    /// Opens and closes of the last minute, with their ticks' times.
    recent: VecDeque<(u64, [f32; 2])>,
}

impl Fold {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.towards.len()
    }

    /// The next row.
    pub(super) fn take(&mut self, row: &Row) {
        let id =
            destination_id(protocol(row.protocol), row.local_address, row.remote_address, row.remote_port);
        if row.in_use == 0 && row.live == 0 && row.time_wait == 0 {
            self.towards.remove(&id);
            return;
        }
        if self.towards.len() >= MOST_TOWARDS && !self.towards.contains_key(&id) {
            self.is_cut = true;
            return;
        }
        let towards =
            self.towards.entry(id).or_insert_with(|| Towards { row: row.clone(), recent: VecDeque::new() });
        towards.row.clone_from(row);
        let longest_ms = u64::from(RATE_WINDOWS_S[2]) * 1_000;
        while towards.recent.front().is_some_and(|(at, _)| at + 2 * longest_ms < row.time.0) {
            towards.recent.pop_front();
        }
        towards.recent.push_back((row.time.0, [row.opens.min(MOST) as f32, row.closes.min(MOST) as f32]));
    }

    /// Fills in the destinations of the last of these ticks, which are those of the segment up to it.
    pub(super) fn tell(&self, ticks: &[Tick], look: &mut Look) {
        let Some(tick) = ticks.last() else { return };
        let windows = windows(ticks);
        let its = self.towards.iter().filter(|(_, towards)| towards.row.netns == tick.netns);
        let mut destinations: Vec<Destination> =
            its.map(|(id, towards)| towards.destination(*id, tick, &windows)).collect();
        let sum = |sum: Traffic, one: &Destination| Traffic {
            live: sum.live.saturating_add(one.traffic.live).min(u32::MAX / 2),
            time_wait: sum.time_wait.saturating_add(one.traffic.time_wait).min(u32::MAX / 2),
            closes: 0,
        };
        look.outgoing = destinations.iter().fold(Traffic::default(), sum);
        if destinations.len() > MOST_DESTINATIONS {
            destinations
                .select_nth_unstable_by_key(MOST_DESTINATIONS, |it| (std::cmp::Reverse(it.in_use), it.id));
            let rest = destinations[MOST_DESTINATIONS..].iter().fold(Traffic::default(), sum);
            look.left_out = (destinations.len() - MOST_DESTINATIONS, rest);
            destinations.truncate(MOST_DESTINATIONS);
        }
        destinations.sort_unstable_by_key(|it| it.id);
        look.destinations = destinations;
        if self.is_cut {
            let text = format!("only {MOST_TOWARDS} destinations are followed: there are more");
            look.remarks.push(Remark { id: "recording_destinations".into(), text });
        }
    }
}

impl Sink for Fold {
    fn settings(&mut self, _: &[Setting]) {}

    fn ticks(&mut self, _: &[Tick]) {}

    fn destinations(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.take(row));
    }

    fn warnings(&mut self, _: &[Warning]) {}

    fn connections(&mut self, _: &[Connection]) {}
}

impl Towards {
    fn destination(&self, id: DestinationId, tick: &Tick, windows: &[(u64, f32); 3]) -> Destination {
        let row = &self.row;
        let mut rates = Rates::default();
        for (window, (after, seconds)) in windows.iter().enumerate() {
            let counted = self.recent.iter().rev().take_while(|(at, _)| at > after);
            let [opens, closes] =
                counted.fold([0.0; 2], |[opens, closes], (_, [more, less])| [opens + more, closes + less]);
            (rates.opens[window], rates.closes[window]) = (opens / seconds, closes / seconds);
        }
        let traffic = Traffic {
            live: row.live.min(MOST_SOCKETS),
            time_wait: row.time_wait.min(MOST_SOCKETS),
            closes: 0,
        };
        let headroom = [row.headroom_min, row.headroom_max];
        Destination::recorded(id, traffic, row.in_use, headroom, tick.pool_usable, rates)
    }
}

/// The fewest whole ticks that are as long as each window: after what time they are, and their seconds. Where the segment is
/// younger than a window, it is all there is.
fn windows(ticks: &[Tick]) -> [(u64, f32); 3] {
    RATE_WINDOWS_S.map(|window_s| {
        let (mut after, mut ms) = (0, 0_u64);
        for tick in ticks.iter().rev() {
            ms = ms.saturating_add(tick.interval_ms.clamp(1, MOST));
            after = tick.time.0.saturating_sub(tick.interval_ms.clamp(1, MOST));
            if ms >= u64::from(window_s) * 1_000 {
                break;
            }
        }
        // A tick is a little late, now and then.
        (after + 1, ms.max(1) as f32 / 1e3)
    })
}

/// Rows of destinations as they come.
#[derive(Default)]
pub(super) struct Collected(pub(super) Vec<Row>);

impl Sink for Collected {
    fn settings(&mut self, _: &[Setting]) {}

    fn ticks(&mut self, _: &[Tick]) {}

    fn destinations(&mut self, rows: &[Row]) {
        let room = MOST_ROWS.saturating_sub(self.0.len());
        self.0.extend(rows.iter().take(room).cloned());
    }

    fn warnings(&mut self, _: &[Warning]) {}

    fn connections(&mut self, _: &[Connection]) {}
}
