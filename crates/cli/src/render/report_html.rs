//! The report as one HTML page that needs nothing else: no network, no script. Everything that comes from outside is
//! escaped by maud; every chart has its numbers in a table as well.

use crate::terminal::Harmless;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use sockeye_core::{Bounded, Bucket, Moment, Percentiles};

use super::lifetimes_table::duration;
use super::report_chart::{Chart, Key, Line, Mark, linear, sparkline};
use super::report_view::{ReportView, clock, destination_label, length, minute};
use super::snapshot_screen::{grouped, three_digits};
use super::{report_lifetimes_html, report_ports_html};

/// Rows of the tables beside charts: buckets are put together until no more are left.
const MOST_ROWS: usize = 40;
/// The whole page.
pub(crate) fn render(view: &ReportView<'_>) -> String {
    let title = view.title();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                // Nothing is fetched, whatever a name looks like.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:";
                link rel="icon" href="data:,";
                title { "sockeye report: " (title) ", " (view.span()) }
                style { (PreEscaped(include_str!("report_style.css"))) }
            }
            body {
                header {
                    h1 { (title) }
                    p class="when" {
                        (view.span())
                        @if let Some(release) = &view.origin.kernel_release { " · Linux " (release) }
                        @if view.recorded() < 0.995 { " · " (percent(view.recorded())) " of it recorded" }
                    }
                    nav aria-label="Sections" {
                        a href="#pool" { "Pool" } a href="#destinations" { "Destinations" } a href="#churn" { "Churn" }
                        a href="#lifetimes" { "Lifetimes" } a href="#owners" { "Owners" } a href="#ports" { "Ports" }
                        a href="#notes" { "Notes" }
                    }
                    (tiles(view))
                }
                main {
                    (pool(view))
                    (destinations(view))
                    (churn(view))
                    (report_lifetimes_html::section(view))
                    (owners(view))
                    (report_ports_html::section(view))
                    (notes(view))
                }
                footer {
                    p {
                        "Made by sockeye " (env!("CARGO_PKG_VERSION")) ". Times are UTC. A chart's steps are "
                        (length(view.period.bucket_ms())) " each; grey means that nothing was recorded."
                    }
                }
            }
        }
    };
    page.into_string()
}

fn tiles(view: &ReportView<'_>) -> Markup {
    let totals = view.period.totals();
    let [opens, closes] = view.mean_rates();
    let peak =
        |rate: fn(&Bucket) -> Option<f64>| view.period.buckets().iter().filter_map(rate).fold(0.0, f64::max);
    html! {
        ul class="tiles" {
            li {
                @match totals.worst {
                    Some((id, occupancy, at)) => {
                        b class=(severity(occupancy)) { (percent(occupancy)) }
                        span { (verdict(occupancy)) ": " (destination_label(&id)) " at " (at_text(view, at)) }
                    }
                    None => { b { "—" } span { "no destination used an ephemeral port" } }
                }
            }
            @if let Some(headroom) = totals.headroom_min {
                li { b { (grouped(headroom)) } span { "least headroom: more connections that would have succeeded" } }
            }
            li { b { (three_digits(opens)) "/s" } span { (grouped(totals.opens)) " opened, peak " (three_digits(peak(Bucket::opens_per_second))) "/s" } }
            li { b { (three_digits(closes)) "/s" } span { (grouped(totals.closes)) " closed, peak " (three_digits(peak(Bucket::closes_per_second))) "/s" } }
            li { b { (grouped(totals.live_max)) } span { "most live at once, " (grouped(totals.time_wait_max)) " in TIME-WAIT" } }
            @if let Some(percentiles) = view.lifetimes.total.completed_ms {
                li { b { (duration(percentiles.p50.ms)) } span { "median lifetime; 99% end within " (duration(percentiles.p99.ms)) } }
            }
        }
    }
}

fn pool(view: &ReportView<'_>) -> Markup {
    let buckets = view.period.buckets();
    let full: Vec<Option<f64>> = buckets.iter().map(|bucket| bucket.occupancy_max).collect();
    let most = full.iter().flatten().copied().fold(0.0, f64::max);
    let mut marks: Vec<Mark> = [0.0, 0.25, 0.5, 0.75, 1.0]
        .map(|height| Mark { height, text: format!("{:.0}%", height * 100.0), is_limit: false })
        .into();
    marks.push(Mark { height: 0.5, text: "half: connect() slows down".to_owned(), is_limit: true });
    let occupancy = Chart {
        period: view.period,
        says: format!(
            "Occupancy of the fullest destination over time. It came to {} of the ports. The numbers are in the table below.",
            percent(most)
        ),
        marks,
        lines: vec![Line { heights: full.clone(), class: "area", down_to: Some(vec![0.0; full.len()]) }],
        keys: Vec::new(),
        tip: Box::new(|place| match buckets[place].occupancy_max {
            Some(occupancy) => format!(
                "{} full, headroom {}",
                percent(occupancy),
                buckets[place].headroom_min.map_or("not known".to_owned(), grouped)
            ),
            None => "nothing recorded".to_owned(),
        }),
    };
    html! {
        section id="pool" aria-labelledby="pool-title" {
            h2 id="pool-title" { "Ephemeral ports over time" }
            p class="lead" {
                "How full the fullest destination was: at 100% no connect() to it succeeds. "
                @if let Some((pool, changed)) = view.period.pool() {
                    (pool.range) ": " (grouped(pool.range.count())) " in range, " (grouped(pool.reserved)) " reserved, "
                    (grouped(pool.held)) " held, " (grouped(pool.usable)) " usable per destination"
                    @if changed { " (as of the end; settings changed within the period)" } "."
                }
            }
            (occupancy.draw())
            (sockets(view))
            (numbers(view, "Occupancy, headroom and sockets over time", &["Fullest", "Least headroom", "Live", "TIME-WAIT"], |part| {
                let max = |value: &dyn Fn(&Bucket) -> Option<u64>| part.iter().filter_map(value).max().map_or("—".to_owned(), grouped);
                let full = part.iter().filter_map(|bucket| bucket.occupancy_max).fold(None, |most: Option<f64>, here| {
                    Some(most.map_or(here, |most| most.max(here)))
                });
                vec![
                    full.map_or("—".to_owned(), percent),
                    part.iter().filter_map(|bucket| bucket.headroom_min).min().map_or("—".to_owned(), grouped),
                    max(&|bucket| bucket.live_max),
                    max(&|bucket| bucket.time_wait_max),
                ]
            }))
        }
    }
}

fn sockets(view: &ReportView<'_>) -> Markup {
    let buckets = view.period.buckets();
    let most = view.period.totals().live_max.max(view.period.totals().time_wait_max);
    let (top, marks) = linear(most as f64, short);
    let heights = |value: fn(&Bucket) -> Option<u64>| -> Vec<Option<f64>> {
        buckets.iter().map(|bucket| value(bucket).map(|value| value as f64 / top)).collect()
    };
    let chart = Chart {
        period: view.period,
        says: format!(
            "Sockets over time: live ones, {} at the most, and those in TIME-WAIT, {} at the most. The numbers are in the table below.",
            grouped(view.period.totals().live_max),
            grouped(view.period.totals().time_wait_max)
        ),
        marks,
        lines: vec![
            Line { heights: heights(|bucket| bucket.time_wait_max), class: "l2", down_to: None },
            Line { heights: heights(|bucket| bucket.live_max), class: "l1", down_to: None },
        ],
        keys: vec![Key { class: "l1", name: "live" }, Key { class: "l2", name: "TIME-WAIT" }],
        tip: Box::new(|place| {
            let bucket = &buckets[place];
            let told = |count: Option<u64>| count.map_or("—".to_owned(), grouped);
            format!("{} live, {} in TIME-WAIT", told(bucket.live_max), told(bucket.time_wait_max))
        }),
    };
    html! { h3 { "Sockets" } (chart.draw()) }
}

fn destinations(view: &ReportView<'_>) -> Markup {
    let shown = &view.destinations[..view.top.min(view.destinations.len())];
    let most = shown.iter().map(|row| row.in_use_max).max().unwrap_or(0);
    let more = (view.destinations.len() - shown.len()) as u64 + view.destination_rest.destinations;
    html! {
        section id="destinations" aria-labelledby="destinations-title" {
            h2 id="destinations-title" { "Worst destinations" }
            p class="lead" { "Those that came closest to running out of ports." }
            @if shown.is_empty() { p { "No outgoing connection used an ephemeral port." } }
            @else {
                div class="scroll" tabindex="0" role="region" aria-labelledby="destinations-title" {
                    table {
                        caption { "By most ports in use; the little charts share one scale" }
                        thead { tr {
                            th scope="col" { "Destination" } th scope="col" class="text" { "Fullest" } th scope="col" class="text" { "Ports in use" }
                            th scope="col" { "Most in use" } th scope="col" { "At" } th scope="col" { "Headroom" }
                            th scope="col" { "Opened" } th scope="col" { "Closed" } th scope="col" { "p50 lifetime" } th scope="col" { "p99" }
                        } }
                        tbody {
                            @for row in shown {
                                @let lives = view.lifetimes_of(&row.id);
                                tr {
                                    th scope="row" { (destination_label(&row.id)) }
                                    td class="text" {
                                        span class=(format!("meter {}", severity(row.occupancy_max))) aria-hidden="true" {
                                            i style=(format!("width:{:.1}%", row.occupancy_max.clamp(0.0, 1.0) * 100.0)) {}
                                        }
                                        span class=(severity(row.occupancy_max)) { (percent(row.occupancy_max)) }
                                    }
                                    td { (sparkline(&recorded(view, &row.in_use), most)) }
                                    td { (grouped(row.in_use_max)) }
                                    td { (at_text(view, row.in_use_max_at)) }
                                    td { (grouped(row.headroom_min)) }
                                    td { (grouped(row.opens)) }
                                    td { (grouped(row.closes)) }
                                    td { (lives.map_or("—".to_owned(), |lives| duration(lives.p50.ms))) }
                                    td { (lives.map_or("—".to_owned(), |lives| duration(lives.p99.ms))) }
                                }
                            }
                        }
                    }
                }
            }
            @if more > 0 { p class="lead" { "… and " (grouped(more)) " more." } }
        }
    }
}

fn churn(view: &ReportView<'_>) -> Markup {
    let buckets = view.period.buckets();
    let rates = |rate: fn(&Bucket) -> Option<f64>| -> Vec<Option<f64>> { buckets.iter().map(rate).collect() };
    let (opens, closes) = (rates(Bucket::opens_per_second), rates(Bucket::closes_per_second));
    let most = opens.iter().chain(&closes).flatten().copied().fold(0.0, f64::max);
    let (top, scale) = linear(most, |rate| format!("{}/s", short(rate)));
    // Opens above the middle, closes below it.
    let marks = scale.iter().flat_map(|mark| {
        let at = |height: f64| Mark { height, text: mark.text.clone(), is_limit: false };
        let half = mark.height / 2.0;
        [Some(at(0.5 + half)), (half > 0.0).then(|| at(0.5 - half))].into_iter().flatten()
    });
    let heights = |rates: &[Option<f64>], sign: f64| -> Vec<Option<f64>> {
        rates.iter().map(|rate| rate.map(|rate| 0.5 + sign * rate / top / 2.0)).collect()
    };
    let middle = || Some(vec![0.5; buckets.len()]);
    let chart = Chart {
        period: view.period,
        says: format!(
            "Connections opened and closed per second over time, at the most {} a second. The numbers are in the table below.",
            three_digits(most)
        ),
        // Every other line is enough on half of the height.
        marks: marks
            .enumerate()
            .filter(|(i, mark)| mark.height == 0.5 || i.div_ceil(2) % 2 == 0)
            .map(|(_, mark)| mark)
            .collect(),
        lines: vec![
            Line { heights: heights(&opens, 1.0), class: "up", down_to: middle() },
            Line { heights: heights(&closes, -1.0), class: "down", down_to: middle() },
        ],
        keys: vec![
            Key { class: "up", name: "opened, upwards" },
            Key { class: "down", name: "closed, downwards" },
        ],
        tip: Box::new(|place| {
            let told = |rate: Option<f64>| rate.map_or("—".to_owned(), three_digits);
            format!("{} opened and {} closed a second", told(opens[place]), told(closes[place]))
        }),
    };
    let by = view.period.totals().ended_by;
    let ended = view.period.totals().ended;
    html! {
        section id="churn" aria-labelledby="churn-title" {
            h2 id="churn-title" { "Churn" }
            p class="lead" {
                "Connections opened and closed, a second. "
                @if ended > 0 {
                    "Of " (grouped(ended)) " told one by one, this host closed " (share(by.local, ended)) " first, the other side "
                    (share(by.remote, ended)) ", " (share(by.reset, ended)) " were reset"
                    @if by.unknown > 0 { ", of " (share(by.unknown, ended)) " nobody saw" } "."
                }
            }
            (chart.draw())
            (numbers(view, "Opens and closes over time", &["Opened", "Closed", "Opened/s", "Closed/s"], |part| {
                let covered: u64 = part.iter().map(|bucket| bucket.covered_ms).sum();
                let (opens, closes): (u64, u64) = (part.iter().map(|b| b.opens).sum(), part.iter().map(|b| b.closes).sum());
                let rate = |count: u64| match covered {
                    0 => "—".to_owned(),
                    ms => three_digits(count as f64 * 1000.0 / ms as f64),
                };
                vec![grouped(opens), grouped(closes), rate(opens), rate(closes)]
            }))
        }
    }
}

fn owners(view: &ReportView<'_>) -> Markup {
    let cell = |percentiles: Option<Percentiles>, pick: fn(&Percentiles) -> Bounded| {
        percentiles.as_ref().map_or("—".to_owned(), |percentiles| duration(pick(percentiles).ms))
    };
    html! {
        section id="owners" aria-labelledby="owners-title" {
            h2 id="owners-title" { "Owners and listeners" }
            p class="lead" { "Whose connections ended, and where those came in that were accepted here." }
            div class="two" {
                div class="scroll" {
                    table {
                        caption { "Owners, and how long their connections lived" }
                        thead { tr { th scope="col" { "Owner" } th scope="col" { "Ended" } th scope="col" { "p50" } th scope="col" { "p99" } } }
                        tbody {
                            @for row in view.owners.iter().take(view.top) {
                                tr {
                                    th scope="row" class="wrap" { (row.label) }
                                    td { (grouped(row.ended)) } td { (cell(row.percentiles, |p| p.p50)) } td { (cell(row.percentiles, |p| p.p99)) }
                                }
                            }
                            @if view.owners.is_empty() { tr { td colspan="4" class="text" { "none" } } }
                        }
                    }
                }
                div class="scroll" {
                    table {
                        caption { "Listeners, and how long their connections lived" }
                        thead { tr { th scope="col" { "Port" } th scope="col" { "Ended" } th scope="col" { "p50" } th scope="col" { "p99" } } }
                        tbody {
                            @for (port, row) in view.listeners().take(view.top) {
                                tr {
                                    th scope="row" { (port) }
                                    td { (grouped(row.connections())) } td { (cell(row.completed_ms, |p| p.p50)) } td { (cell(row.completed_ms, |p| p.p99)) }
                                }
                            }
                            @if view.listeners().next().is_none() { tr { td colspan="4" class="text" { "none" } } }
                        }
                    }
                }
            }
        }
    }
}

fn notes(view: &ReportView<'_>) -> Markup {
    let totals = view.period.totals();
    let doubts = totals.events_lost > 0 || totals.coverage_min.is_some_and(|ratio| ratio < 0.99);
    html! {
        section id="notes" aria-labelledby="notes-title" {
            h2 id="notes-title" { "Notes" }
            @if view.remarks.is_empty() && view.notes.is_empty() && !doubts { p { "Nothing to remark." } }
            ul class="notes" {
                @for remark in &view.remarks {
                    li {
                        (Harmless(&remark.message))
                        small {
                            @if remark.count == 1 { "once, " (minute(remark.first)) " UTC" }
                            @else { (grouped(remark.count)) " times, from " (minute(remark.first)) " to " (minute(remark.last)) " UTC" }
                        }
                    }
                }
                @for note in view.notes { li { (Harmless(&note.message)) } }
                @if totals.events_lost > 0 {
                    li { (grouped(totals.events_lost)) " destroy events were lost: some brief connections may not be told." }
                }
                @if let Some(coverage) = totals.coverage_min.filter(|ratio| *ratio < 0.99) {
                    li { "At the worst tick " (percent(coverage)) " of the connections that the kernel counted were seen." }
                }
            }
        }
    }
}

/// A table beside a chart over time; buckets put together as `cells` does.
fn numbers(
    view: &ReportView<'_>,
    caption: &str,
    columns: &[&str],
    cells: impl Fn(&[Bucket]) -> Vec<String>,
) -> Markup {
    let buckets = view.period.buckets();
    html! {
        details {
            summary { "The numbers as a table" }
            div class="scroll" tabindex="0" role="region" aria-label=(caption) {
                table {
                    caption { (caption) }
                    thead { tr { th scope="col" { "From (UTC)" } @for column in columns { th scope="col" { (column) } } } }
                    tbody {
                        @for part in buckets.chunks(chunk(buckets.len())) {
                            tr { th scope="row" { (time_of(view, &part[0])) } @for cell in cells(part) { td { (cell) } } }
                        }
                    }
                }
            }
        }
    }
}

/// Without the buckets in which nothing was recorded.
fn recorded(view: &ReportView<'_>, values: &[Option<u32>]) -> Vec<Option<u32>> {
    let buckets = view.period.buckets().iter().zip(values);
    buckets.map(|(bucket, value)| value.filter(|_| bucket.ticks > 0)).collect()
}

/// The time of day; with its date where the period is longer than a day.
fn at_text(view: &ReportView<'_>, at: Moment) -> String {
    let length = view.period.end().ms_since(view.period.begin());
    clock(at, 60_000, length > 86_400_000)
}

pub(super) fn chunk(buckets: usize) -> usize {
    buckets.div_ceil(MOST_ROWS).max(1)
}

pub(super) fn time_of(view: &ReportView<'_>, bucket: &Bucket) -> String {
    let length = view.period.end().ms_since(view.period.begin());
    let step = if view.period.bucket_ms().is_multiple_of(60_000) { 60_000 } else { 1_000 };
    match length > 86_400_000 {
        true => minute(bucket.begin),
        false => clock(bucket.begin, if step == 1_000 { 1_000 } else { 60_000 }, false),
    }
}

fn severity(occupancy: f64) -> &'static str {
    match occupancy {
        full if full >= 0.9 => "bad",
        full if full > 0.5 => "warn",
        _ => "good",
    }
}

/// The colour in words.
fn verdict(occupancy: f64) -> &'static str {
    match occupancy {
        full if full >= 1.0 => "a destination was full",
        full if full >= 0.9 => "a destination was nearly full",
        full if full > 0.5 => "a destination was past half",
        _ => "no destination was fuller",
    }
}

pub(super) fn percent(ratio: f64) -> String {
    format!("{:.1}%", ratio * 100.0)
}

pub(super) fn share(part: u64, whole: u64) -> String {
    percent(part as f64 / whole.max(1) as f64)
}

/// `12`, `3.4k`, `1.2M`: for the marks of a scale.
fn short(value: f64) -> String {
    let (scale, unit) = match value {
        v if v >= 1e9 => (1e9, "G"),
        v if v >= 1e6 => (1e6, "M"),
        v if v >= 1e4 => (1e3, "k"),
        _ => (1.0, ""),
    };
    let scaled = value / scale;
    let text = format!("{scaled:.2}");
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{trimmed}{unit}")
}

#[cfg(test)]
mod tests {
    use super::super::report_view::{ReportView, example};
    use super::*;
    use sockeye_core::Period;

    fn page(period: &Period) -> String {
        let (origin, notes) = (example::origin(), example::notes());
        render(&ReportView::new(period, &origin, &notes, 10, example::owner))
    }

    #[test]
    fn the_page_is_as_it_was_looked_at() {
        // To be looked at in a browser.
        if let Some(path) = std::env::var_os("SOCKEYE_REPORT_PAGE") {
            std::fs::write(path, page(&example::period())).unwrap();
        }
        let page = page(&example::period_of(12));
        // Without the style sheet, and with elements on lines of their own: a difference can be read.
        let page = page.replace(include_str!("report_style.css"), "");
        insta::assert_snapshot!("report_html", page.replace("><", ">\n<"));
    }

    #[test]
    fn nothing_from_outside_becomes_markup_and_nothing_is_fetched() {
        let page = page(&example::period());
        assert!(!page.contains("<script") && page.contains("&lt;script&gt;"));
        for reference in ["http://", "https://", "url(", "@import", "src=\""] {
            assert!(!page.contains(reference), "{reference}");
        }
        let href = page.match_indices("href=\"").map(|(at, _)| &page[at + 6..at + 12]);
        assert!(
            href.clone().all(|to| to.starts_with('#') || to.starts_with("data:,")),
            "{:?}",
            href.collect::<Vec<_>>()
        );
    }

    #[test]
    fn every_chart_says_what_it_shows_and_every_table_has_its_caption() {
        let page = page(&example::period());
        let count = |text: &str| page.matches(text).count();
        assert_eq!(
            count("role=\"img\""),
            count("role=\"img\" aria-label=\"") + count("role=\"img\" viewBox")
        );
        assert_eq!(count("<table"), count("<caption>"));
        assert_eq!(count("<section"), count("<h2"));
        assert_eq!(count("<th"), count("<th scope=") + count("<thead"));
    }

    #[test]
    fn an_empty_period_is_a_page_too() {
        for (begin, end) in [(0, 0), (0, 1), (u64::MAX - 5, u64::MAX)] {
            let page = page(&Period::new(Moment(begin), Moment(end)));
            assert!(
                page.contains("No outgoing connection") && !page.contains("NaN") && !page.contains("inf")
            );
        }
    }

    #[test]
    fn scales_have_short_words() {
        for (value, text) in [(0.0, "0"), (2.5, "2.5"), (9_000.0, "9000"), (25_000.0, "25k"), (1.5e6, "1.5M")]
        {
            assert_eq!(short(value), text);
        }
    }
}
