//! The lifetimes of the HTML report: histogram, percentiles, and their course.

use maud::{Markup, html};
use sockeye_core::{Bounded, Percentiles};

use super::lifetimes_table::{between, duration, label};
use super::report_chart::{Chart, Key, Line, logarithmic};
use super::report_html::{chunk, percent, time_of};
use super::report_view::ReportView;
use super::snapshot_screen::grouped;

/// The section.
pub(super) fn section(view: &ReportView<'_>) -> Markup {
    let total = &view.lifetimes.total;
    let most = total.bars.iter().map(|bar| bar.count).max().unwrap_or(0);
    let mut upto = 0;
    html! {
        section id="lifetimes" aria-labelledby="lifetimes-title" {
            h2 id="lifetimes-title" { "Lifetimes" }
            p class="lead" {
                "How long the connections lived that ended: " (grouped(total.completed)) " with both ends seen"
                @if total.older > 0 { ", and " (grouped(total.older)) " that had begun before the recording" } "."
            }
            @if total.completed == 0 { p { "No connection began and ended while it was recorded." } }
            @else {
                div class="two" {
                    div class="scroll" {
                        table class="bars" {
                            caption { "Histogram of lifetimes" }
                            thead { tr { th scope="col" { "Lived" } th scope="col" class="text" aria-hidden="true" {} th scope="col" { "Connections" } th scope="col" { "Up to here" } } }
                            tbody {
                                @for bar in &total.bars {
                                    tr {
                                        th scope="row" { (label(bar)) }
                                        td class="bar" aria-hidden="true" { @if bar.count > 0 { div style=(format!("width:{:.1}%", bar.count as f64 * 100.0 / most as f64)) {} } }
                                        td { (grouped(bar.count)) }
                                        td { (percent({ upto += bar.count; upto as f64 / total.completed as f64 })) }
                                    }
                                }
                            }
                        }
                    }
                    div class="scroll" {
                        table {
                            caption { "Percentiles, and between which bounds the truth lies" }
                            thead { tr { th scope="col" { "Share" } th scope="col" { "Lived at most" } th scope="col" { "Between" } } }
                            tbody {
                                @if let Some(percentiles) = total.completed_ms {
                                    @for (name, bounded) in ["50%", "90%", "99%", "99.9%"].into_iter().zip(percentiles.each()) {
                                        tr { th scope="row" { (name) } td { (duration(bounded.ms)) } td { (between(bounded)) } }
                                    }
                                }
                            }
                        }
                    }
                }
                (percentiles_over_time(view))
            }
        }
    }
}

fn percentiles_over_time(view: &ReportView<'_>) -> Markup {
    let told = || view.percentiles.iter().flatten();
    let least = told().map(|p| p.p50.ms).min().unwrap_or(1);
    let most = told().map(|p| p.p99.ms).max().unwrap_or(1);
    let ([low, high], marks) = logarithmic(least, most, round_duration);
    let height = |ms: u64| ((ms.max(1) as f64).log10() - low) / (high - low);
    let line = |class, pick: fn(&Percentiles) -> Bounded| Line {
        heights: view.percentiles.iter().map(|p| p.as_ref().map(|p| height(pick(p).ms))).collect(),
        class,
        down_to: None,
    };
    let doubt = Line {
        heights: view.percentiles.iter().map(|p| p.as_ref().map(|p| height(p.p50.max_ms))).collect(),
        class: "band",
        down_to: Some(
            view.percentiles.iter().map(|p| p.as_ref().map_or(0.0, |p| height(p.p50.min_ms))).collect(),
        ),
    };
    let chart = Chart {
        period: view.period,
        says: format!(
            "Percentiles of lifetimes over time, by when connections ended. Medians from {} upwards, 99th percentiles up to {}. The numbers are in the table below.",
            duration(least),
            duration(most)
        ),
        marks,
        lines: vec![doubt, line("l3", |p| p.p99), line("l2", |p| p.p90), line("l1", |p| p.p50)],
        keys: vec![
            Key { class: "l1", name: "half of them (p50)" },
            Key { class: "band", name: "doubt about p50" },
            Key { class: "l2", name: "90%" },
            Key { class: "l3", name: "99%" },
        ],
        tip: Box::new(|place| match &view.percentiles[place] {
            Some(p) => {
                format!("p50 {}, p90 {}, p99 {}", duration(p.p50.ms), duration(p.p90.ms), duration(p.p99.ms))
            }
            None => "no connection ended".to_owned(),
        }),
    };
    let places = chunk(view.percentiles.len());
    html! {
        h3 { "Percentiles over time" }
        (chart.draw())
        details {
            summary { "The numbers as a table" }
            div class="scroll" tabindex="0" role="region" aria-label="Percentiles over time" {
                table {
                    caption { "Percentiles of lifetimes over time: of the part of each row with the longest median" }
                    thead { tr { th scope="col" { "From (UTC)" } th scope="col" { "Ended" } th scope="col" { "p50" } th scope="col" { "p90" } th scope="col" { "p99" } } }
                    tbody {
                        @for (part, percentiles) in view.period.buckets().chunks(places).zip(view.percentiles.chunks(places)) {
                            @let told = percentiles.iter().flatten().max_by_key(|p| p.p50.ms);
                            @let text = |pick: fn(&Percentiles) -> Bounded| told.map_or("—".to_owned(), |p| duration(pick(p).ms));
                            tr {
                                th scope="row" { (time_of(view, &part[0])) }
                                td { (grouped(part.iter().map(|bucket| bucket.lifetimes().completed()).sum::<u64>())) }
                                td { (text(|p| p.p50)) } td { (text(|p| p.p90)) } td { (text(|p| p.p99)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Powers of ten of milliseconds.
fn round_duration(ms: u64) -> String {
    match ms {
        0..1_000 => format!("{ms} ms"),
        _ => format!("{} s", grouped(ms / 1_000)),
    }
}
