//! Network namespaces to choose from.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::help::text;
use crate::terminal::Harmless;
use crate::top::theme::Theme;

/// Draws the list; its first is the one that the command began with.
pub(crate) fn draw(names: &[String], chosen: usize, theme: &Theme, body: Rect, buffer: &mut Buffer) {
    let mut lines =
        vec![("Follow another network namespace: Enter; Esc stays here".to_owned(), theme.heading)];
    lines.extend(names.iter().enumerate().map(|(index, name)| {
        let style = if index == chosen { theme.chosen } else { theme.text };
        (format!("  {}  ", Harmless(name)), style)
    }));
    if names.len() < 2 {
        lines.push(("  no other has a name here; -N takes a process id as well".to_owned(), theme.dim));
    }
    // The chosen one stays in sight.
    let page = usize::from(body.height.saturating_sub(2));
    text(&lines, (chosen + 2).saturating_sub(page), body, buffer);
}
