//! The report for people at a terminal: the period's numbers, its course as sparklines, and the worst of everything.

use std::fmt::Write as _;

use sockeye_core::{Bucket, Percentiles};

use super::lifetimes_table::{between, duration};
use super::paragraph::paragraph;
use super::report_view::{ReportView, destination_label, minute};
use super::snapshot_screen::{LEAST_WIDTH, MOST_WIDTH, bar, grouped, shortened, sparkline, three_digits};
use crate::terminal::{Harmless, Palette};

const LABEL_WIDTH: usize = 10;
/// Steps of the lines that show the course of the period.
const STEPS: usize = 60;

/// The whole screen.
pub(crate) fn render(view: &ReportView<'_>, width: usize, palette: Palette) -> String {
    let width = width.clamp(LEAST_WIDTH, MOST_WIDTH);
    let mut screen = Screen { text: String::new(), width, palette };
    screen.title(view);
    screen.destinations(view);
    screen.course(view);
    screen.lifetimes(view);
    screen.groups(view);
    screen.notes(view);
    screen.text
}

struct Screen {
    text: String,
    width: usize,
    palette: Palette,
}

impl Screen {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn labelled(&mut self, label: &str, text: &str) {
        let Palette { heading, reset, .. } = self.palette;
        let text = paragraph(text, LABEL_WIDTH, self.width);
        self.line(&format!("{heading}{label:<LABEL_WIDTH$}{reset}{text}"));
    }

    fn title(&mut self, view: &ReportView<'_>) {
        let Palette { heading, dim, reset, .. } = self.palette;
        let mut line = format!("{heading}{}{reset}  {}", view.title(), view.span());
        if view.recorded() < 0.995 {
            let _ = write!(line, "  {dim}{:.1}% of it recorded{reset}", view.recorded() * 100.0);
        }
        self.line(&line);
        self.line("");
        if let Some((pool, changed)) = view.period.pool() {
            let line = format!(
                "{heading}EPHEMERAL PORTS{reset} {}   {} in range · {} reserved · {} held · {} usable per destination{}",
                pool.range,
                grouped(pool.range.count()),
                grouped(pool.reserved),
                grouped(pool.held),
                grouped(pool.usable),
                if changed { " (at the end; settings changed)" } else { "" },
            );
            self.line(&line);
            self.line("");
        }
    }

    fn destinations(&mut self, view: &ReportView<'_>) {
        let Palette { heading, dim, reset, .. } = self.palette;
        let shown = &view.destinations[..view.top.min(view.destinations.len())];
        if view.destinations.is_empty() {
            self.line(&format!("  {dim}no outgoing connection used an ephemeral port{reset}"));
            self.line("");
            return;
        }
        let names: Vec<String> = shown.iter().map(|row| destination_label(&row.id)).collect();
        let longest =
            names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max("DESTINATION".len());
        let [first, last] = [view.period.begin(), view.period.end()].map(minute);
        // Of one day the time is enough.
        let (at, from) = if first.get(..10) == last.get(..10) { (7, 11) } else { (13, 5) };
        // Behind the name: the bar and its share, and five columns; without the closes, which are what opens are in the long
        // run, where names would be cut for them.
        let room = |closes: usize| self.width.saturating_sub(2 + 2 + 10 + 1 + 6 + at + 10 + 13 + closes + 10);
        let closes = if room(13) < longest { 0 } else { 13 };
        let room = longest.min(room(closes));
        let closed = |text: String| if closes > 0 { text } else { String::new() };
        self.line(&format!(
            "{heading}  {:<room$}  {:<17}{:>at$}{:>10}{:>13}{:>closes$}{:>10}{reset}",
            "DESTINATION",
            "FULLEST",
            "AT",
            "HEADROOM",
            "OPENED",
            closed("CLOSED".to_owned()),
            "p50"
        ));
        for (row, name) in shown.iter().zip(&names) {
            let full = row.occupancy_max;
            let lives = view.lifetimes_of(&row.id).map_or("—".to_owned(), |lives| duration(lives.p50.ms));
            let line = format!(
                "  {:<room$}  {}{} {:>5.1}%{reset}{:>at$}{:>10}{:>13}{:>closes$}{:>10}",
                shortened(name, room),
                self.palette.of_share(full),
                bar(full),
                full * 100.0,
                minute(row.in_use_max_at).get(from..).unwrap_or_default(),
                grouped(row.headroom_min),
                grouped(row.opens),
                closed(grouped(row.closes)),
                lives,
            );
            self.line(&line);
        }
        let more = (view.destinations.len() - shown.len()) as u64 + view.destination_rest.destinations;
        if more > 0 {
            self.line(&format!("  {dim}… {} more{reset}", grouped(more)));
        }
        self.line("");
    }

    fn course(&mut self, view: &ReportView<'_>) {
        let totals = view.period.totals();
        let [opens, closes] = view.mean_rates();
        let buckets = view.period.buckets();
        let steps = |value: &dyn Fn(&Bucket) -> f64| course(buckets, value);
        let peak = |value: fn(&Bucket) -> Option<f64>| {
            three_digits(buckets.iter().filter_map(value).fold(0.0, f64::max))
        };
        let worst = totals.worst.map_or(0.0, |(_, occupancy, _)| occupancy);
        // Its ceiling is a full pool.
        let pool = sparkline_of(buckets, &|bucket| bucket.occupancy_max.unwrap_or(0.0), Some(1.0));
        self.labelled("POOL", &format!("{pool} {:.1}% at the most", worst * 100.0));
        self.labelled(
            "OPENS",
            &format!(
                "{} {}, mean {}/s, peak {}/s",
                steps(&|bucket| bucket.opens_per_second().unwrap_or(0.0)),
                grouped(totals.opens),
                three_digits(opens),
                peak(Bucket::opens_per_second)
            ),
        );
        self.labelled(
            "CLOSES",
            &format!(
                "{} {}, mean {}/s, peak {}/s",
                steps(&|bucket| bucket.closes_per_second().unwrap_or(0.0)),
                grouped(totals.closes),
                three_digits(closes),
                peak(Bucket::closes_per_second)
            ),
        );
        let live = steps(&|bucket| bucket.live_max.unwrap_or(0) as f64);
        self.labelled("LIVE", &format!("{live} {} at the most", grouped(totals.live_max)));
        let time_wait = steps(&|bucket| bucket.time_wait_max.unwrap_or(0) as f64);
        self.labelled("TIME-WAIT", &format!("{time_wait} {} at the most", grouped(totals.time_wait_max)));
    }

    fn lifetimes(&mut self, view: &ReportView<'_>) {
        let total = &view.lifetimes.total;
        let Some(percentiles) = total.completed_ms else {
            self.labelled("LIFETIMES", "no connection began and ended while it was recorded");
            return;
        };
        let parts =
            ["p50", "p90", "p99", "p99.9"].into_iter().zip(percentiles.each()).map(|(name, bounded)| {
                match bounded.uncertainty_ms() * 20 > bounded.ms.max(20) {
                    true => format!("{name} {} (between {})", duration(bounded.ms), between(bounded)),
                    false => format!("{name} {}", duration(bounded.ms)),
                }
            });
        let parts: Vec<String> = parts.collect();
        let older = match total.older {
            0 => String::new(),
            older => format!(", {} begun before", grouped(older)),
        };
        self.labelled(
            "LIFETIMES",
            &format!("{} of {} ended{older}", parts.join(" · "), grouped(total.completed + total.older)),
        );
    }

    fn groups(&mut self, view: &ReportView<'_>) {
        let owners = view.owners.iter().map(|row| (row.label.clone(), row.ended, row.percentiles));
        self.table("OWNER", owners.collect(), view.top, view.owner_rest.owners);
        let listeners = view.listeners();
        let listeners =
            listeners.map(|(port, row)| (format!("listener on {port}"), row.connections(), row.completed_ms));
        self.table("LISTENER", listeners.collect(), view.top, 0);
    }

    fn table(&mut self, title: &str, rows: Vec<(String, u64, Option<Percentiles>)>, top: usize, rest: u64) {
        let Palette { heading, dim, reset, .. } = self.palette;
        if rows.is_empty() {
            return;
        }
        let told = |percentiles: Option<Percentiles>, pick: fn(Percentiles) -> u64| {
            percentiles.map_or("—".to_owned(), |percentiles| duration(pick(percentiles)))
        };
        let shown = &rows[..top.min(rows.len())];
        let longest = shown.iter().map(|row| row.0.chars().count()).max().unwrap_or(0).max(title.len());
        let room = longest.min(self.width.saturating_sub(2 + 12 + 12 + 12));
        self.line("");
        self.line(&format!("{heading}  {title:<room$}{:>12}{:>12}{:>12}{reset}", "ENDED", "p50", "p99"));
        for (name, ended, percentiles) in shown {
            let (p50, p99) = (told(*percentiles, |p| p.p50.ms), told(*percentiles, |p| p.p99.ms));
            self.line(&format!(
                "  {:<room$}{:>12}{p50:>12}{p99:>12}",
                shortened(name, room),
                grouped(*ended)
            ));
        }
        let more = (rows.len() - shown.len()) as u64 + rest;
        if more > 0 {
            self.line(&format!("  {dim}… {} more{reset}", grouped(more)));
        }
    }

    fn notes(&mut self, view: &ReportView<'_>) {
        let remarks = view.remarks.iter().map(|remark| {
            let times = match remark.count {
                1 => minute(remark.first),
                count => {
                    format!("{} times, {} – {}", grouped(count), minute(remark.first), minute(remark.last))
                }
            };
            format!("{} ({times})", remark.message)
        });
        let mut notes: Vec<String> =
            remarks.chain(view.notes.iter().map(|note| note.message.clone())).collect();
        match view.period.totals().events_lost {
            0 => {}
            lost => notes.push(format!(
                "{} destroy events were lost: some brief connections may not be told",
                grouped(lost)
            )),
        }
        if !notes.is_empty() {
            self.line("");
        }
        for (i, note) in notes.iter().enumerate() {
            self.labelled(if i == 0 { "NOTES" } else { "" }, &Harmless(note).to_string());
        }
    }
}

/// The greatest value is a full cell.
fn course(buckets: &[Bucket], value: &dyn Fn(&Bucket) -> f64) -> String {
    sparkline_of(buckets, value, None)
}

/// The greatest of each step; a step without any tick is blank.
fn sparkline_of(buckets: &[Bucket], value: &dyn Fn(&Bucket) -> f64, ceiling: Option<f64>) -> String {
    let greatest = buckets.iter().map(value).fold(0.0, f64::max);
    let ceiling = ceiling.unwrap_or(greatest);
    // Of thousandths: a sparkline is of whole numbers, and has the greatest among them as its ceiling.
    let thousandths =
        |part: &[Bucket]| (part.iter().map(value).fold(0.0, f64::max) / ceiling.max(1e-9) * 1e3) as u32;
    let parts = buckets.chunks(buckets.len().div_ceil(STEPS).max(1));
    let mut values: Vec<u32> = parts.clone().map(thousandths).collect();
    values.push(1_000);
    let cells = sparkline(&values);
    let is_empty = |part: &[Bucket]| part.iter().all(|bucket| bucket.ticks == 0);
    cells.chars().zip(parts).map(|(cell, part)| if is_empty(part) { ' ' } else { cell }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::report_view::{ReportView, example};
    use super::*;
    use sockeye_core::{Moment, Period};

    #[test]
    fn the_screen_is_as_it_was_looked_at() {
        let (period, origin, notes) = (example::period(), example::origin(), example::notes());
        let view = ReportView::new(&period, &origin, &notes, 5, example::owner);
        insta::assert_snapshot!("report_screen", render(&view, 120, Palette::PLAIN));
        let narrow = render(&view, 80, Palette::PLAIN);
        let wide = narrow.lines().skip(4).filter(|line| line.chars().count() > 96).collect::<Vec<_>>();
        assert!(wide.is_empty(), "{wide:?}");
    }

    #[test]
    fn an_empty_period_is_a_screen_too() {
        let period = Period::new(Moment(0), Moment(0));
        let origin = super::super::report_view::Origin::default();
        let text = render(&ReportView::new(&period, &origin, &[], 5, example::owner), 80, Palette::PLAIN);
        assert!(text.contains("no outgoing connection") && !text.contains("NaN"), "{text}");
    }
}
