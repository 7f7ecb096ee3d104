//! Styles by meaning, from the 16 named colours alone: they follow the terminal's own theme, light or dark. Nothing is told
//! by colour alone.

use ratatui_core::style::{Color, Modifier, Style};

/// How things look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Theme {
    pub(crate) text: Style,
    pub(crate) heading: Style,
    pub(crate) dim: Style,
    pub(crate) good: Style,
    pub(crate) warn: Style,
    pub(crate) bad: Style,
    /// The row of the cursor, the tab of the screen.
    pub(crate) chosen: Style,
    /// A key that can be pressed.
    pub(crate) key: Style,
}

impl Theme {
    pub(crate) const COLOUR: Theme = Theme {
        text: Style::new(),
        heading: Style::new().add_modifier(Modifier::BOLD),
        dim: Style::new().add_modifier(Modifier::DIM),
        good: Style::new().fg(Color::Green),
        warn: Style::new().fg(Color::Yellow),
        bad: Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
        chosen: Style::new().add_modifier(Modifier::REVERSED),
        key: Style::new().fg(Color::Cyan),
    };

    /// Without colour: bold, dim and reverse still tell what they did.
    pub(crate) const PLAIN: Theme = Theme {
        good: Style::new(),
        warn: Style::new(),
        bad: Style::new().add_modifier(Modifier::BOLD),
        key: Style::new().add_modifier(Modifier::BOLD),
        ..Theme::COLOUR
    };

    /// Of a share that is bad when it is high: the thresholds of every other output.
    pub(crate) fn of_share(&self, share: f64) -> Style {
        match share {
            full if full >= 0.9 => self.bad,
            full if full > 0.5 => self.warn,
            _ => self.good,
        }
    }
}

/// The same in a character, for those who see no colour.
pub(crate) fn mark_of_share(share: f64) -> &'static str {
    match share {
        full if full >= 0.9 => "‼",
        full if full > 0.5 => "!",
        _ => " ",
    }
}
