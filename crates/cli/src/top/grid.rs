//! A table with a cursor: which columns fit, which rows are shown in which order, and where all of it stands for a mouse.

use std::cmp::Ordering;

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;
use ratatui_core::style::Style;

use super::pen::{Pen, columns, cut};
use super::theme::Theme;
use super::view::Table;

/// Columns between two columns.
const GAP: u16 = 2;
/// A name is cut before columns of a higher rank than its own are left out, but no further than this.
const SHORTEST_NAME: u16 = 20;

/// A column.
#[derive(Debug)]
pub(crate) struct Column {
    pub(crate) title: &'static str,
    /// What `?` says of it.
    pub(crate) meaning: &'static str,
    /// Where there is no room, columns of the highest rank are left out first; of rank 0 never.
    pub(crate) rank: u8,
    pub(crate) is_left: bool,
    /// Text is cut to what is left, and the column takes what is left over.
    pub(crate) gives_way: bool,
}

impl Column {
    /// A column of numbers.
    pub(crate) const fn number(title: &'static str, rank: u8, meaning: &'static str) -> Column {
        Column { title, meaning, rank, is_left: false, gives_way: false }
    }

    /// A column of words.
    pub(crate) const fn text(title: &'static str, rank: u8, meaning: &'static str) -> Column {
        Column { title, meaning, rank, is_left: true, gives_way: false }
    }

    /// The column that says whom a row is about.
    pub(crate) const fn name(title: &'static str, meaning: &'static str) -> Column {
        Column { title, meaning, rank: 0, is_left: true, gives_way: true }
    }
}

/// What a column is sorted by.
#[derive(Clone, PartialEq, PartialOrd, Debug)]
pub(crate) enum Key {
    Number(f64),
    Text(String),
}

impl Key {
    fn compare(&self, other: &Key) -> Ordering {
        match (self, other) {
            (Key::Number(a), Key::Number(b)) => a.total_cmp(b),
            (a, b) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        }
    }
}

/// What stands in a cell.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Cell {
    pub(crate) text: String,
    pub(crate) style: Style,
}

impl Cell {
    pub(crate) fn new(text: impl Into<String>, style: Style) -> Cell {
        Cell { text: text.into(), style }
    }
}

/// The rows of a table, by their number in no particular order.
pub(crate) trait Rows {
    fn columns(&self) -> &'static [Column];
    fn count(&self) -> usize;
    /// Whether these rows have such a column at all.
    fn has(&self, _: usize) -> bool {
        true
    }
    /// Whether the rows come in an order of their own already.
    fn is_sorted(&self) -> bool {
        false
    }
    fn key(&self, row: usize, column: usize) -> Key;
    /// `room`: for a column that takes what is left over, how much that is.
    fn cell(&self, row: usize, column: usize, room: u16, theme: &Theme) -> Cell;
}

/// What was drawn, and where.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Drawn {
    /// Numbers of the rows in their order.
    pub(crate) order: Vec<usize>,
    /// The first row that is shown.
    pub(crate) offset: usize,
    /// How many rows there is room for.
    pub(crate) page: usize,
    /// Where columns' titles stand.
    pub(crate) titles: Vec<(Rect, usize)>,
    /// Where rows stand, by their place in the order.
    pub(crate) lines: Vec<(Rect, usize)>,
}

/// Draws a title line and as many rows as there is room for.
pub(crate) fn draw(rows: &dyn Rows, table: &Table, area: Rect, theme: &Theme, buffer: &mut Buffer) -> Drawn {
    let mut drawn = Drawn { order: order(rows, table), ..Drawn::default() };
    drawn.page = usize::from(area.height.saturating_sub(1));
    let cursor = table.cursor.min(drawn.order.len().saturating_sub(1));
    drawn.offset = offset(table.offset, cursor, drawn.page, drawn.order.len());
    let shown: Vec<usize> = drawn.order.iter().skip(drawn.offset).take(drawn.page).copied().collect();
    let layout = layout(rows, table, &shown, area.width, theme);
    let mut x = area.x;
    for (column, width) in &layout {
        let place = Rect::new(x, area.y, *width, 1).intersection(area);
        put(buffer, place, &title(rows, table, *column), rows.columns()[*column].is_left, theme.heading);
        drawn.titles.push((place, *column));
        x = x.saturating_add(width + GAP);
    }
    for (line, row) in shown.iter().enumerate() {
        let y = area.y + 1 + line as u16;
        let mut x = area.x;
        for (column, width) in &layout {
            let cell = rows.cell(*row, *column, *width, theme);
            let place = Rect::new(x, y, *width, 1).intersection(area);
            put(buffer, place, &cell.text, rows.columns()[*column].is_left, cell.style);
            x = x.saturating_add(width + GAP);
        }
        let whole = Rect::new(area.x, y, area.width, 1).intersection(area);
        if drawn.offset + line == cursor {
            buffer.set_style(whole, theme.chosen);
        }
        drawn.lines.push((whole, drawn.offset + line));
    }
    drawn
}

/// The rows as they are sorted; equals stay in their own order.
pub(crate) fn order(rows: &dyn Rows, table: &Table) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows.count()).collect();
    if rows.is_sorted() {
        return order;
    }
    let column = table.sort.min(rows.columns().len().saturating_sub(1));
    let keys: Vec<Key> = order.iter().map(|row| rows.key(*row, column)).collect();
    order.sort_by(|a, b| {
        let by_key = keys[*a].compare(&keys[*b]);
        if table.descending { by_key.reverse() } else { by_key }
    });
    order
}

/// The least move that brings the cursor into sight.
fn offset(offset: usize, cursor: usize, page: usize, rows: usize) -> usize {
    let offset = offset.min(rows.saturating_sub(page)).min(cursor);
    offset.max((cursor + 1).saturating_sub(page))
}

fn title(rows: &dyn Rows, table: &Table, column: usize) -> String {
    let title = rows.columns()[column].title;
    match (table.sort == column, table.descending) {
        (false, _) => title.to_owned(),
        (true, true) => format!("{title}▼"),
        (true, false) => format!("{title}▲"),
    }
}

/// The columns that are shown and how wide they are.
fn layout(rows: &dyn Rows, table: &Table, shown: &[usize], room: u16, theme: &Theme) -> Vec<(usize, u16)> {
    let all = rows.columns();
    let natural = |column: usize| {
        let cells = shown.iter().map(|row| columns(&rows.cell(*row, column, 0, theme).text));
        // Room for the mark of sorting always: columns do not move when the order changes.
        cells.max().unwrap_or(0).max(columns(&title(rows, table, column))).max(columns(all[column].title) + 1)
    };
    let mut layout: Vec<(usize, u16)> =
        (0..all.len()).filter(|column| rows.has(*column)).map(|column| (column, natural(column))).collect();
    let needed = |layout: &[(usize, u16)], least: bool| {
        let widths = layout.iter().map(|(column, width)| match all[*column].gives_way && least {
            true => (*width).min(SHORTEST_NAME),
            false => *width,
        });
        widths.sum::<u16>() + GAP * (layout.len() as u16).saturating_sub(1)
    };
    loop {
        // What one has sorted by stays in sight.
        let out = layout.iter().filter(|(column, _)| all[*column].rank > 0 && *column != table.sort);
        let Some(out) = out.max_by_key(|(column, _)| all[*column].rank).map(|(column, _)| *column) else {
            break;
        };
        // Columns of rank 1 and 2 are worth a shorter name.
        if needed(&layout, all[out].rank <= 2) <= room {
            break;
        }
        layout.retain(|(column, _)| *column != out);
    }
    let over = needed(&layout, false).saturating_sub(room);
    let left = room.saturating_sub(needed(&layout, false));
    if let Some((_, width)) = layout.iter_mut().find(|(column, _)| all[*column].gives_way) {
        *width = width.saturating_sub(over).max(1);
    }
    if let Some((column, width)) = layout.last_mut()
        && all[*column].is_left
    {
        *width += left;
    }
    layout
}

fn put(buffer: &mut Buffer, place: Rect, text: &str, is_left: bool, style: Style) {
    let text = cut(text, usize::from(place.width));
    let before = if is_left { 0 } else { place.width.saturating_sub(columns(&text)) };
    Pen::at(buffer, place, 0).skip(before).put(&text, style);
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Numbers(Vec<i64>);

    const COLUMNS: [Column; 3] =
        [Column::name("NAME", ""), Column::number("N", 1, ""), Column::number("SQUARE", 3, "")];

    impl Rows for Numbers {
        fn columns(&self) -> &'static [Column] {
            &COLUMNS
        }

        fn count(&self) -> usize {
            self.0.len()
        }

        fn key(&self, row: usize, column: usize) -> Key {
            match column {
                0 => Key::Text(format!("row {}", self.0[row])),
                1 => Key::Number(self.0[row] as f64),
                _ => Key::Number((self.0[row] * self.0[row]) as f64),
            }
        }

        fn cell(&self, row: usize, column: usize, _: u16, theme: &Theme) -> Cell {
            let value = self.0[row];
            Cell::new(
                [format!("row {value}"), value.to_string(), (value * value).to_string()][column].clone(),
                theme.text,
            )
        }
    }

    fn lines(rows: &Numbers, table: &Table, width: u16, height: u16) -> (Vec<String>, Drawn) {
        let area = Rect::new(0, 0, width, height);
        let mut buffer = Buffer::empty(area);
        let drawn = draw(rows, table, area, &Theme::PLAIN, &mut buffer);
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        ((0..height).map(line).collect(), drawn)
    }

    #[test]
    fn rows_are_sorted_by_any_column_and_stay_stable() {
        let rows = Numbers(vec![2, -3, 3, 1]);
        let table = Table { sort: 2, descending: true, ..Table::default() };
        let (text, drawn) = lines(&rows, &table, 40, 4);
        assert_eq!(
            text,
            ["NAME     N  SQUARE▼", "row -3  -3        9", "row 3    3        9", "row 2    2        4"]
        );
        assert_eq!(drawn.order, [1, 2, 0, 3]);
        let (text, _) = lines(&rows, &Table { sort: 0, ..Table::default() }, 40, 2);
        assert_eq!(text[1], "row -3  -3        9");
    }

    #[test]
    fn columns_of_high_rank_give_way_but_not_the_sorted_one() {
        let rows = Numbers(vec![2]);
        assert_eq!(lines(&rows, &Table::default(), 13, 2).0[0], "NAME▲   N");
        let by_square = Table { sort: 2, ..Table::default() };
        assert_eq!(lines(&rows, &by_square, 16, 2).0[0], "NAME   SQUARE▲");
    }

    #[test]
    fn the_cursor_is_always_in_sight() {
        let rows = Numbers((0..100).collect());
        for cursor in [0, 1, 50, 99, 1_000] {
            for start in [0, 49, 99, 5_000] {
                let table = Table { cursor, offset: start, ..Table::default() };
                let (_, drawn) = lines(&rows, &table, 40, 6);
                let cursor = cursor.min(99);
                assert!((drawn.offset..drawn.offset + 5).contains(&cursor), "{cursor} from {start}");
                assert!(drawn.offset <= 95);
            }
        }
    }

    #[test]
    fn there_is_no_area_too_small() {
        let rows = Numbers((0..9).collect());
        for (width, height) in (0..12).flat_map(|width| (0..4).map(move |height| (width, height))) {
            lines(&rows, &Table::default(), width, height);
        }
    }
}
