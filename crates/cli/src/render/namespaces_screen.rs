//! A snapshot of all namespaces for people: a line each, worst first, under their sum.

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::fleet::row::{Counts, NamespaceRow};
use crate::fleet::snapshot::Survey;
use crate::render::exhaustion::exhausted;
use crate::render::group_table;
use crate::render::paragraph::paragraph;
use crate::render::snapshot_screen::{LEAST_WIDTH, MOST_WIDTH, grouped, shortened, three_digits};
use crate::terminal::{Harmless, Palette};

/// Namespaces shown unless asked otherwise.
pub(crate) const DEFAULT_TOP: usize = 20;
/// Of warnings of single namespaces, so many are shown.
const MOST_WARNINGS: usize = 5;
/// Columns before the text of a note.
const LABEL_WIDTH: usize = 8;

const TITLES: [&str; COLUMNS] =
    ["NAMESPACE", "SOCKETS", "LIVE", "TIME-WAIT", "CLOSES/s", "IN USE", "HEADROOM", "EXHAUSTED", "WORST"];
const COLUMNS: usize = 9;
const NAME: usize = 0;
const IN_USE: usize = 5;
const WORST: usize = 8;
/// Columns that give way where lines would be too long, the first first: they are in the snapshot of the one namespace.
const GIVE_WAY: [usize; 3] = [1, 4, 7];
/// Names are cut to so much before any column gives way.
const LONGEST_NAME: usize = 32;
/// And to so much, first the one and then the other, after all have.
const CUT: [(usize, usize); 3] = [(NAME, 22), (WORST, 14), (NAME, 12)];

type Cells = [String; COLUMNS];

/// The whole screen.
pub(crate) fn render(survey: &Survey, width: usize, palette: Palette) -> String {
    let width = width.clamp(LEAST_WIDTH, MOST_WIDTH);
    let Palette { heading, reset, .. } = palette;
    let mut text = String::new();
    let all = Counts::sum(survey.looks.iter().map(|look| look.row.counts));
    let plural = if survey.looks.len() == 1 { "" } else { "s" };
    // Infallible, here and below: a String takes everything.
    let _ = write!(
        text,
        "{heading}{}{reset}  {} network namespace{plural}  Linux {}  {} sockets in {} ms\n\n",
        Harmless(&survey.host.host_name),
        grouped(survey.looks.len() as u64),
        Harmless(&survey.host.kernel_release),
        grouped(all.sockets),
        three_digits(survey.duration_ms),
    );
    match &survey.groups {
        Some((by, rows)) => {
            let table = group_table::table(rows, *by, survey.top, false, Some(width - 2), palette);
            table.lines().for_each(|line| text += &format!("  {line}\n"));
        }
        None => namespaces(&mut text, survey, all, width, palette),
    }
    let notes = notes(survey);
    if !notes.is_empty() {
        text.push('\n');
    }
    for (i, note) in notes.iter().enumerate() {
        let label = if i == 0 { "NOTES" } else { "" };
        let note = paragraph(&Harmless(note).to_string(), LABEL_WIDTH, width);
        let _ = writeln!(text, "{heading}{label:<LABEL_WIDTH$}{reset}{note}");
    }
    text
}

/// A line for each, under their sum.
fn namespaces(text: &mut String, survey: &Survey, all: Counts, width: usize, palette: Palette) {
    let (shown, rest) = survey.looks.split_at(survey.top.min(survey.looks.len()));
    let Palette { heading, dim, reset, .. } = palette;
    let rows: Vec<Cells> = shown.iter().map(|look| cells(&look.row)).collect();
    let sum = sum_cells(format!("all {}", grouped(survey.looks.len() as u64)), all);
    let widths = widths(rows.iter().chain([&sum, &TITLES.map(str::to_owned)]), width);
    line(text, &TITLES.map(str::to_owned), &widths, (heading, reset), ("", ""));
    line(text, &sum, &widths, ("", ""), ("", ""));
    for (cells, look) in rows.iter().zip(shown) {
        let style = look.row.worst.map_or("", |worst| palette.of_share(worst.occupancy()));
        line(text, cells, &widths, ("", ""), (style, if style.is_empty() { "" } else { reset }));
    }
    if !rest.is_empty() {
        let rest_of = Counts::sum(rest.iter().map(|look| look.row.counts));
        let _ = writeln!(
            text,
            "  {dim}… {} more, with {} live and {} in TIME-WAIT{reset}",
            grouped(rest.len() as u64),
            grouped(rest_of.live),
            grouped(rest_of.time_wait)
        );
    }
}

fn cells(row: &NamespaceRow) -> Cells {
    let mut cells = sum_cells(Harmless(&row.found.name.to_string()).to_string(), row.counts);
    let Some(worst) = &row.worst else { return cells };
    let headroom = match worst.headroom.is_exact() {
        true => grouped(worst.headroom.max),
        false => format!("{}–{}", grouped(worst.headroom.min), grouped(worst.headroom.max)),
    };
    cells[IN_USE] = format!("{:.1}%", worst.occupancy() * 100.0);
    cells[6] = headroom;
    cells[7] = exhausted(worst);
    cells[WORST] = SocketAddr::new(worst.id.remote_address, worst.id.remote_port).to_string();
    cells
}

fn sum_cells(name: String, counts: Counts) -> Cells {
    let nothing = || "—".to_owned();
    [
        shortened(&name, LONGEST_NAME),
        grouped(counts.sockets),
        grouped(counts.live),
        grouped(counts.time_wait),
        format!("{:.1}", counts.closes_per_second),
        nothing(),
        nothing(),
        nothing(),
        String::new(),
    ]
}

/// How wide the columns are, 0 for one that is left out.
fn widths<'a>(rows: impl Iterator<Item = &'a Cells>, width: usize) -> [usize; COLUMNS] {
    let mut widths = [0; COLUMNS];
    for row in rows {
        for (widest, cell) in widths.iter_mut().zip(row) {
            *widest = (*widest).max(cell.chars().count());
        }
    }
    let total = |widths: &[usize; COLUMNS]| widths.iter().filter(|w| **w > 0).map(|w| w + 2).sum::<usize>();
    for column in GIVE_WAY {
        if total(&widths) > width {
            widths[column] = 0;
        }
    }
    for (column, least) in CUT {
        let over = total(&widths).saturating_sub(width);
        widths[column] = widths[column].saturating_sub(over).max(least.min(widths[column]));
    }
    widths
}

fn line(
    text: &mut String,
    cells: &Cells,
    widths: &[usize; COLUMNS],
    (on, off): (&str, &str),
    (style, reset): (&str, &str),
) {
    let mut line = String::new();
    for (column, (cell, width)) in cells.iter().zip(*widths).enumerate().filter(|(_, (_, width))| *width > 0)
    {
        let _ = match column {
            NAME | WORST => write!(line, "  {:<width$}", shortened(cell, width)),
            IN_USE => write!(line, "  {style}{cell:>width$}{reset}"),
            _ => write!(line, "  {cell:>width$}"),
        };
    }
    let _ = writeln!(text, "{on}{}{off}", line.trim_end());
}

/// Of the worst namespaces first, under their names; then what is about none of them.
fn notes(survey: &Survey) -> Vec<String> {
    let warnings = survey.looks.iter().flat_map(|look| {
        look.warnings.iter().map(move |warning| format!("{}: {warning}", look.row.found.name))
    });
    let mut notes: Vec<String> = warnings.clone().take(MOST_WARNINGS).collect();
    let more = warnings.count() - notes.len();
    if more > 0 {
        notes.push(format!(
            "… {more} more notes on single namespaces: see `sockeye snapshot -N NAME`, or --json"
        ));
    }
    notes.extend(survey.notes.iter().map(|note| note.message.clone()));
    notes
}

#[cfg(test)]
mod tests {
    use sock_diag::Protocol;
    use sockeye_core::{DestinationId, Sweep};
    use sockeye_host::{FoundNamespace, Identity, NamespaceName};

    use super::*;
    use crate::fleet::snapshot::Look;
    use crate::sweep::Note;

    fn look(name: NamespaceName, counts: Counts, used: Option<u32>, warnings: &[&str]) -> Look {
        let worst = used.map(|used| {
            let report = Sweep::new(&Default::default()).finish(&Default::default());
            let mut worst = report.towards(&DestinationId {
                protocol: Protocol::Tcp,
                local_address: [10, 0, 0, 7].into(),
                remote_address: "2001:db8:9::12".parse().unwrap(),
                remote_port: 8080,
            });
            worst.in_use = used;
            worst.headroom.max = worst.usable - used;
            worst.headroom.min = worst.headroom.max;
            worst
        });
        let found = FoundNamespace { inode: 4_026_531_840, name, ways: Vec::new() };
        let warnings = warnings.iter().map(|text| (*text).to_owned()).collect();
        Look { row: NamespaceRow { found, counts, worst }, warnings, json: None, monitor: None }
    }

    fn survey() -> Survey {
        let process = NamespaceName::Process { pid: 1_048_576, comm: "kube-\x1b[31mproxy".into() };
        let mount = NamespaceName::Mounted("/run/docker/netns/4f1c0d2e9a7b4f1c0d2e9a7b".into());
        let counts = |sockets, live, time_wait, closes_per_second| Counts {
            sockets,
            live,
            time_wait,
            closes_per_second,
        };
        Survey {
            host: Identity {
                host_name: "web-7".into(),
                kernel_release: "6.18.0".into(),
                ..Identity::default()
            },
            taken_at: jiff::Timestamp::UNIX_EPOCH,
            duration_ms: 38.1,
            looks: vec![
                look(
                    process,
                    counts(22_012, 1_204, 20_801, 346.7),
                    Some(28_000),
                    &["ports run out\x07", "b", "c"],
                ),
                look(mount, counts(1_013, 1_012, 0, 0.0), Some(16_001), &["d", "e", "f", "g"]),
                look(NamespaceName::Named("web".into()), counts(3, 0, 0, 0.0), None, &[]),
                look(NamespaceName::Nameless, counts(0, 0, 0, 0.0), None, &[]),
            ],
            notes: vec![Note { id: "netns_forbidden", message: "2 of 6 may not be entered".to_owned() }],
            groups: None,
            top: 9,
        }
    }

    #[test]
    fn a_line_for_each_under_the_sum() {
        insta::assert_snapshot!("namespaces", render(&Survey { top: 3, ..survey() }, 140, Palette::PLAIN));
    }

    #[test]
    fn narrow_terminals_lose_columns_and_the_middle_of_names() {
        let text = render(&survey(), 80, Palette::PLAIN);
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        insta::assert_snapshot!("namespaces_80", text);
    }

    #[test]
    fn colour_takes_no_columns() {
        let styled = render(&survey(), 100, Palette::COLOUR);
        let mut plain = String::new();
        let mut in_style = false;
        for c in styled.chars() {
            in_style |= c == '\x1b';
            if !in_style {
                plain.push(c);
            }
            in_style &= c != 'm';
        }
        assert_eq!(plain, render(&survey(), 100, Palette::PLAIN));
        assert!(styled.contains("\x1b[1;31m 99.2%"), "{styled:?}");
    }

    #[test]
    fn nothing_to_show_is_shown() {
        let text = render(&Survey { looks: Vec::new(), notes: Vec::new(), ..survey() }, 80, Palette::PLAIN);
        assert!(text.contains("0 network namespaces") && text.contains("all 0"), "{text}");
    }
}
