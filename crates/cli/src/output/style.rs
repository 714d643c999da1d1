//! What standard output supports: colours, redrawing, and a width.

use std::io::{self, IsTerminal};

/// What standard output supports. The default is a pipe or a file: no colours, no redrawing, any width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputStyle {
    /// Standard output is a terminal that can be redrawn.
    pub terminal: bool,
    /// Text may have colours.
    pub color: bool,
    /// The width of the terminal in columns, if it is known.
    pub width: Option<u16>,
}

impl OutputStyle {
    /// Looks at standard output. `NO_COLOR` turns colours off, and `TERM=dumb` makes a terminal count as a pipe.
    pub fn of_stdout() -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb" || term.is_empty());
        if !io::stdout().is_terminal() || dumb {
            return Self::default();
        }
        let width =
            crossterm::terminal::size().ok().map(|(columns, _)| columns).filter(|columns| *columns > 0);
        Self { terminal: true, color: !set("NO_COLOR"), width }
    }
}
