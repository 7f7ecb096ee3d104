//! Charts of the HTML report: what is drawn (SVG) stretches with the page, what is written (HTML) does not.
//!
//! The x axis is a row of buckets; heights are shares of the chart, 0 at the bottom, 1 at the top.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};
use sockeye_core::{Moment, Period};

use super::report_view::{clock, minute};

/// One line over time, or the outline of an area.
pub(super) struct Line {
    /// Of each bucket; None leaves a gap.
    pub(super) heights: Vec<Option<f64>>,
    /// How it looks: `l1`, `l2`, `l3`, `area`, `up`, `down`.
    pub(super) class: &'static str,
    /// None for a line; the height of the other edge for an area.
    pub(super) down_to: Option<Vec<f64>>,
}

/// What a line is called.
pub(super) struct Key {
    pub(super) class: &'static str,
    pub(super) name: &'static str,
}

/// A height with a word.
pub(super) struct Mark {
    pub(super) height: f64,
    pub(super) text: String,
    /// A limit to look at, not a line of the scale.
    pub(super) is_limit: bool,
}

/// A chart over the time of a period.
pub(super) struct Chart<'a> {
    pub(super) period: &'a Period,
    /// Says in a sentence what the chart shows, to those who do not see it.
    pub(super) says: String,
    pub(super) marks: Vec<Mark>,
    pub(super) lines: Vec<Line>,
    pub(super) keys: Vec<Key>,
    /// What a pointer over a bucket is told.
    pub(super) tip: Box<dyn Fn(usize) -> String + 'a>,
}

impl Chart<'_> {
    pub(super) fn draw(&self) -> Markup {
        let buckets = self.period.buckets();
        let count = buckets.len();
        html! {
            @if self.keys.len() > 1 {
                ul class="keys" aria-hidden="true" {
                    @for key in &self.keys {
                        li { svg class="swatch" viewBox="0 0 28 10" { path class=(key.class) d="M1 5H27" {} } (key.name) }
                    }
                }
            }
            div class="chart" role="img" aria-label=(self.says) {
                div class="ys" aria-hidden="true" {
                    @for mark in self.marks.iter().filter(|mark| !mark.is_limit) {
                        span style=(place("bottom", mark.height)) { (mark.text) }
                    }
                }
                div class="plot" {
                    svg viewBox=(format!("0 0 {count} 100")) preserveAspectRatio="none" aria-hidden="true" focusable="false" {
                        @for mark in &self.marks {
                            @let class = if mark.is_limit { "limit" } else { "rule" };
                            path class=(class) d=(format!("M0 {0}H{count}", y(mark.height))) {}
                        }
                        path class="gap" d=(gaps(self.period)) {}
                        @for line in &self.lines {
                            path class=(line.class) d=(line.path()) {}
                        }
                        g class="tips" {
                            @for (place, bucket) in buckets.iter().enumerate() {
                                @if bucket.ticks > 0 || bucket.lifetimes().completed() > 0 {
                                    rect x=(place) y="0" width="1" height="100" {
                                        title { (minute(bucket.begin)) " UTC: " ((self.tip)(place)) }
                                    }
                                }
                            }
                        }
                    }
                    @for mark in self.marks.iter().filter(|mark| mark.is_limit) {
                        span class="limit-name" aria-hidden="true" style=(place("bottom", mark.height)) { (mark.text) }
                    }
                }
                (self.times())
            }
        }
    }

    fn times(&self) -> Markup {
        let (begin, end) = (self.period.begin(), self.period.end());
        let length = end.ms_since(begin).max(1);
        let step = step_of_time(length);
        let over_days = length > 86_400_000;
        // The drawn axis reaches from the begin of the first bucket to the end of the last.
        let begin = self.period.buckets().first().map_or(begin, |bucket| bucket.begin);
        let drawn = self.period.buckets().len() as u64 * self.period.bucket_ms();
        let first = begin.0.div_ceil(step).saturating_mul(step);
        let marks = (0..).map(|i| Moment(first).plus_ms(i * step)).take_while(|at| *at < end).take(12);
        html! {
            div class="xs" aria-hidden="true" {
                @for (place_of, at) in marks.enumerate() {
                    @let class = if place_of % 2 == 1 { "odd" } else { "even" };
                    span class=(class) style=(place("left", at.ms_since(begin) as f64 / drawn as f64)) {
                        (clock(at, step, over_days))
                    }
                }
            }
        }
    }
}

impl Line {
    /// Steps: a bucket's value is true of all of it.
    fn path(&self) -> String {
        let mut path = String::new();
        let mut runs: Vec<Vec<usize>> = Vec::new();
        for (place, height) in self.heights.iter().enumerate() {
            match (height, runs.last_mut()) {
                (None, _) => {}
                (Some(_), Some(run)) if run.last().is_some_and(|last| last + 1 == place) => run.push(place),
                (Some(_), _) => runs.push(vec![place]),
            }
        }
        let height = |place: usize| y(self.heights[place].unwrap_or_default());
        for run in &runs {
            let (first, last) = (run[0], run[run.len() - 1]);
            let _ = write!(path, "M{first} {}", height(first));
            let mut before = None;
            for place in run {
                let here = height(*place);
                if before.is_some_and(|before| before != here) {
                    let _ = write!(path, "V{here}");
                }
                let _ = write!(path, "H{}", place + 1);
                before = Some(here);
            }
            if let Some(floor) = &self.down_to {
                for place in (first..=last).rev() {
                    let _ = write!(path, "V{}H{place}", y(floor[place]));
                }
                path.push('Z');
            }
        }
        path
    }
}

/// Buckets without a tick.
fn gaps(period: &Period) -> String {
    let empty = period.buckets().iter().enumerate().filter(|(_, bucket)| bucket.ticks == 0);
    empty.map(|(place, _)| format!("M{place} 0h1v100h-1z")).collect()
}

/// Two decimals at the most: the plot is 100 high, and rarely more than 300 pixels.
fn y(height: f64) -> f64 {
    ((100.0 - height.clamp(0.0, 1.0) * 100.0) * 100.0).round() / 100.0
}

fn place(edge: &str, share: f64) -> String {
    format!("{edge}:{:.2}%", share.clamp(0.0, 1.0) * 100.0)
}

/// Lines of a scale from 0 to a round number that is at least `most`, and that number.
pub(super) fn linear(most: f64, text: impl Fn(f64) -> String) -> (f64, Vec<Mark>) {
    let most = if most > 0.0 && most.is_finite() { most } else { 1.0 };
    let power = 10f64.powf((most / 4.0).log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| step * 4.0 >= most);
    let step = step.unwrap_or(power * 10.0);
    let lines = (most / step).ceil().max(1.0);
    let mark =
        |i: u32| Mark { height: f64::from(i) / lines, text: text(f64::from(i) * step), is_limit: false };
    (step * lines, (0..=lines as u32).map(mark).collect())
}

/// A scale of powers of ten of milliseconds, and its ends.
pub(super) fn logarithmic(least: u64, most: u64, text: impl Fn(u64) -> String) -> ([f64; 2], Vec<Mark>) {
    let low = least.max(1).ilog10();
    let high = (most.max(1).ilog10() + 1).max(low + 1);
    let mark = |power: u32| Mark {
        height: f64::from(power - low) / f64::from(high - low),
        text: text(10u64.pow(power)),
        is_limit: false,
    };
    ([f64::from(low), f64::from(high)], (low..=high).map(mark).collect())
}

/// Between two marks of time: 4 to 12 of them on the axis.
fn step_of_time(length_ms: u64) -> u64 {
    const STEPS_S: [u64; 17] =
        [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 10_800, 21_600, 43_200, 86_400, 604_800];
    let fits = STEPS_S.into_iter().map(|seconds| seconds * 1000).find(|step| length_ms / step <= 8);
    fits.unwrap_or(length_ms / 8 + 1)
}

/// A line without axes, for a row of a table.
pub(super) fn sparkline(values: &[Option<u32>], most: u32) -> Markup {
    let heights: Vec<Option<f64>> =
        values.iter().map(|value| value.map(|value| f64::from(value) / f64::from(most.max(1)))).collect();
    let floor = vec![0.0; heights.len()];
    let line = Line { heights, class: "area", down_to: Some(floor) };
    html! {
        svg class="spark" viewBox=(format!("0 0 {} 100", values.len())) preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            path class="area" d=(line.path()) {}
        }
    }
}

/// Cells of the ports picture, by how dark they are.
pub(super) fn cells(cells: impl Iterator<Item = (usize, usize, usize)>, shades: usize) -> Markup {
    let mut paths = vec![String::new(); shades];
    for (column, row, shade) in cells {
        if let Some(path) = paths.get_mut(shade) {
            let _ = write!(path, "M{column} {row}h.92v.9h-.92z");
        }
    }
    html! {
        @for (shade, path) in paths.iter().enumerate() {
            @if !path.is_empty() { path class=(PreEscaped(format!("s{shade}"))) d=(path) {} }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_end_at_round_numbers() {
        for (most, top, lines) in
            [(0.0, 1.0, 5), (7.0, 8.0, 5), (100.0, 100.0, 5), (421.0, 600.0, 4), (1e6, 1e6, 5)]
        {
            let (end, marks) = linear(most, |value| value.to_string());
            assert_eq!((end, marks.len()), (top, lines), "{most}");
        }
        let (ends, marks) = logarithmic(8, 63_000, |ms| ms.to_string());
        assert_eq!((ends, marks.len()), ([0.0, 5.0], 6));
        assert_eq!((marks[0].text.as_str(), marks[5].height), ("1", 1.0));
    }

    #[test]
    fn a_line_stops_where_nothing_is_known() {
        let heights = vec![Some(0.5), Some(0.5), None, Some(1.0), Some(0.0)];
        let line = Line { heights: heights.clone(), class: "l1", down_to: None };
        assert_eq!(line.path(), "M0 50H1H2M3 0H4V100H5");
        let area = Line { heights, class: "area", down_to: Some(vec![0.0; 5]) };
        assert_eq!(area.path(), "M0 50H1H2V100H1V100H0ZM3 0H4V100H5V100H4V100H3Z");
    }

    #[test]
    fn any_length_of_time_has_a_few_marks() {
        for length in [1, 1_000, 60_000, 3_600_000, 86_400_000, 7 * 86_400_000, 366 * 86_400_000] {
            assert!(length / step_of_time(length) <= 8, "{length}");
        }
        assert_eq!(step_of_time(3_600_000), 600_000);
    }
}
