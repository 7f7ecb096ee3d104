//! Ports: the range as a picture of what holds it, and how full its two halves are.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;
use sock_diag::Protocol;
use sockeye_core::{PortHolder, PortMap};

use crate::render::ports_screen::{meaning, sample, shown};
use crate::render::snapshot_screen::grouped;
use crate::top::frame::Scene;
use crate::top::look::Look;
use crate::top::pen::{Pen, bar, columns};
use crate::top::theme::{Theme, mark_of_share};

/// `32768 `, before each line of the picture, and a column at its end.
const BESIDE: u16 = 8;
/// Lines for the halves, the legend's title and a gap.
const BELOW: u16 = 4;
const BAR_CELLS: usize = 20;

/// Draws picture, halves and legend.
pub(crate) fn draw(scene: &Scene<'_>, look: &Look, area: Rect, buffer: &mut Buffer) {
    let theme = scene.theme;
    let Some(map) = &look.ports else {
        let told = match scene.view.stands_at {
            _ if look.recorded.is_some() => "a recording holds how many ports were in use (1), not which",
            Some(_) => "the ports were not looked at at that tick",
            None => "ports are looked at from the next sweep on …",
        };
        Pen::at(buffer, area, 1).skip(2).put_cut(told, theme.dim);
        return;
    };
    let ports: Vec<u16> = map.pool().range().ports().collect();
    if ports.is_empty() {
        let told = "no port is in net.ipv4.ip_local_port_range";
        Pen::at(buffer, area, 1).skip(2).put_cut(told, theme.bad);
        return;
    }
    let held: Vec<PortHolder> = PortHolder::ALL.into_iter().filter(|holder| map.count(*holder) > 0).collect();
    let cells = usize::from(area.width.saturating_sub(BESIDE)).max(1);
    let legend = legend_lines(map, &held, area.width);
    let lines = usize::from(area.height.saturating_sub(BELOW + legend.len() as u16)).max(1);
    let per_cell = ports.len().div_ceil(cells * lines).max(1);
    let mut down = 0;
    for line in ports.chunks(per_cell * cells) {
        let mut pen = Pen::at(buffer, area, down);
        pen.put(&format!(" {:>5} ", line[0]), theme.dim);
        for cell in line.chunks(per_cell) {
            let (holder, glyph) = shown(map, cell);
            pen.put(glyph.encode_utf8(&mut [0; 4]), style(holder, theme));
        }
        down += 1;
    }
    let each = match per_cell {
        1 => "a cell is a port".to_owned(),
        ports => format!("a cell is {ports} ports; the taller or denser, the more of them"),
    };
    Pen::at(buffer, area, down).skip(1).put_cut(&each, theme.dim);
    down += 1;
    for line in legend {
        let mut pen = Pen::at(buffer, area, down);
        for holder in line {
            pen.put(" ", theme.text).put(sample(holder).encode_utf8(&mut [0; 4]), style(holder, theme));
            pen.put(&entry(map, holder), theme.text);
        }
        down += 1;
    }
    halves(map, theme, area, down, buffer);
}

fn entry(map: &PortMap, holder: PortHolder) -> String {
    let meaning = meaning(holder, Protocol::Tcp).split(':').next().unwrap_or_default();
    format!(" {} {meaning} ", grouped(map.count(holder)))
}

/// Which entries of the legend stand on which line.
fn legend_lines(map: &PortMap, held: &[PortHolder], width: u16) -> Vec<Vec<PortHolder>> {
    let mut lines: Vec<Vec<PortHolder>> = Vec::new();
    let mut taken = u16::MAX;
    for holder in held {
        let width_of = columns(&entry(map, *holder)) + 2;
        match lines.last_mut().filter(|_| taken.saturating_add(width_of) < width) {
            Some(line) => {
                line.push(*holder);
                taken += width_of;
            }
            None => {
                lines.push(vec![*holder]);
                taken = width_of;
            }
        }
    }
    lines
}

/// connect() takes the one half first and slows down when it is full; bind() with port 0 does the opposite.
fn halves(map: &PortMap, theme: &Theme, area: Rect, mut down: u16, buffer: &mut Buffer) {
    for preferred in [true, false] {
        let (usable, free) = map.half(preferred);
        if usable == 0 {
            continue;
        }
        let taken = usable - free;
        let share = f64::from(taken) / f64::from(usable);
        let parity = if (map.pool().range().first & 1 == 0) == preferred { "even" } else { "odd " };
        let who = if preferred { "connect() takes these first" } else { "bind(0) takes these first" };
        Pen::at(buffer, area, down)
            .skip(1)
            .put(parity, theme.heading)
            .put(" ", theme.text)
            .put(&bar(share, BAR_CELLS), theme.of_share(share))
            .put(&format!(" {:>5.1}%{} ", share * 100.0, mark_of_share(share)), theme.of_share(share))
            .put_cut(&format!(" {} of {} taken: {who}", grouped(taken), grouped(usable)), theme.text);
        down += 1;
    }
}

const fn style(holder: PortHolder, theme: &Theme) -> Style {
    match holder {
        PortHolder::Free | PortHolder::Reserved => theme.dim,
        PortHolder::TimeWait => theme.warn,
        PortHolder::Live => theme.good,
        PortHolder::Explicit | PortHolder::Bound => theme.bad,
        PortHolder::Listener => theme.heading,
    }
}
