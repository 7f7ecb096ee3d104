//! The picture of ports of the HTML report: how often each part of the range was used.

use maud::{Markup, html};

use super::report_chart::cells;
use super::report_html::share;
use super::report_view::ReportView;
use super::snapshot_screen::grouped;

/// Columns of the picture of ports.
const COLUMNS: usize = 64;
/// The picture has no more cells: about 15 rows.
const MOST_CELLS: usize = COLUMNS * 15;
/// From no use to the most.
const SHADES: usize = 6;

/// The section.
pub(super) fn section(view: &ReportView<'_>) -> Markup {
    let Some((pool, _)) = view.period.pool() else {
        return html! {
            section id="ports" aria-labelledby="ports-title" {
                h2 id="ports-title" { "Ports" }
                p { "The recording does not tell the range of ephemeral ports." }
            }
        };
    };
    let (range, uses) = (pool.range, view.period.ports());
    let all: Vec<u16> = range.ports().collect();
    let mut each = 1;
    while all.len() > each * MOST_CELLS {
        each *= 2;
    }
    let counts: Vec<u64> =
        all.chunks(each).map(|cell| cell.iter().map(|port| u64::from(uses.of(*port))).sum()).collect();
    let most = counts.iter().copied().max().unwrap_or(0);
    // None, and five steps, each as many times more as the one before: a few busy cells must not make the others alike.
    let upto = |step: usize| (most as f64).powf(step as f64 / (SHADES - 1) as f64).round() as u64;
    let shade = |count: u64| match count {
        0 => 0,
        count => (1..SHADES).find(|step| count <= upto(*step)).unwrap_or(SHADES - 1),
    };
    let rows = counts.len().div_ceil(COLUMNS).max(1);
    let of_parity = |parity: u16| {
        all.iter().filter(|port| **port & 1 == parity).map(|port| u64::from(uses.of(*port))).sum::<u64>()
    };
    let preferred = range.first & 1;
    let (first, second) = (of_parity(preferred), of_parity(1 - preferred));
    let parity_name = |parity: u16| if parity == 0 { "even" } else { "odd" };
    let (told, used) = if all.is_empty() { (0, 0) } else { uses.within(range.ports()) };
    let slices = all.len().div_ceil(16).max(1);
    html! {
        section id="ports" aria-labelledby="ports-title" {
            h2 id="ports-title" { "Ports" }
            p class="lead" {
                "How often each part of " (range) " was used by outgoing connections that ended. "
                (grouped(used)) " of " (grouped(range.count())) " ports were used at all."
                @if told > 0 {
                    " connect() takes the " (parity_name(preferred)) " half first: it has " (share(first, told)) ", the other "
                    (share(second, told)) "."
                }
            }
            svg class="ports" role="img" viewBox=(format!("0 0 {COLUMNS} {rows}")) aria-label=(format!("Picture of the ports {range}, darker where they were used more often. The numbers are in the table below.")) {
                (cells(counts.iter().enumerate().map(|(place, count)| (place % COLUMNS, place / COLUMNS, shade(*count))), SHADES))
            }
            div class="ends" aria-hidden="true" { span { (range.first) } span { (range.last) } }
            ul class="shades" {
                @for step in 0..SHADES {
                    @let least = if step <= 1 { step as u64 } else { upto(step - 1) + 1 };
                    @let most = if step == 0 { 0 } else { upto(step).min(most) };
                    @if least <= most {
                        li {
                            svg viewBox="0 0 1 1" aria-hidden="true" { rect width="1" height="1" class=(format!("s{step}")) {} }
                            @if step == 0 { "unused" } @else if least == most { (grouped(most)) } @else { (grouped(least)) "–" (grouped(most)) }
                        }
                    }
                }
                li { "connections by cell of " (each) @if each == 1 { " port" } @else { " ports" } }
            }
            details {
                summary { "The numbers as a table" }
                div class="scroll" tabindex="0" role="region" aria-label="Use of ports" {
                    table {
                        caption { "Use of ports, in parts of the range" }
                        thead { tr { th scope="col" { "Ports" } th scope="col" { "Connections" } th scope="col" { "Ports used" } } }
                        tbody {
                            @for part in all.chunks(slices) {
                                @let (count, used) = uses.within(part[0]..=part[part.len() - 1]);
                                tr { th scope="row" { (part[0]) "–" (part[part.len() - 1]) } td { (grouped(count)) } td { (grouped(used)) } }
                            }
                        }
                    }
                }
            }
        }
    }
}
