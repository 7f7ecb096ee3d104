//! Network namespaces to choose from.

use ratatui_core::buffer::Buffer;
use ratatui_core::layout::Rect;

use super::help::text;
use crate::terminal::Harmless;
use crate::top::theme::Theme;
use crate::top::view::Choice;

/// Draws the list; its first is the one that the command began with.
pub(crate) fn draw(choices: &[Choice], chosen: usize, theme: &Theme, body: Rect, buffer: &mut Buffer) {
    let mut lines =
        vec![("Follow another network namespace: Enter; Esc stays here".to_owned(), theme.heading)];
    lines.extend(choices.iter().enumerate().map(|(index, choice)| {
        let style = if index == chosen { theme.chosen } else { theme.text };
        (format!("  {}  ", Harmless(&choice.label)), style)
    }));
    if choices.len() < 2 {
        lines.push(("  no other was found".to_owned(), theme.dim));
    }
    // The chosen one stays in sight.
    let page = usize::from(body.height.saturating_sub(2));
    text(&lines, (chosen + 2).saturating_sub(page), body, buffer);
}
