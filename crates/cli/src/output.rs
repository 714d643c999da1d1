//! How answers are shown: one set of columns, seven formats.
//!
//! Always holds: data goes to standard output and nothing else does; machine formats hold the values as they came
//! (numbers in MiB and GiB, seconds), the table holds what people read. What others have sent is never let through to
//! a terminal with control characters in it.

mod columns;
mod render;
mod table;

use std::io::{self, IsTerminal, Write};

use clap::{Args, ValueEnum};

pub use columns::{Column, Listing, SortArg, natural, state_tone};
pub use render::{object, rows};
pub use table::{Cell, Tone, plain, printable};

/// Width that tables are made for where no terminal says otherwise: wide enough that nothing wraps in a pipe.
const PIPE_WIDTH: u16 = u16::MAX;

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// The table with more columns
    Wide,
    /// One JSON document
    Json,
    /// One JSON object per line
    Jsonl,
    /// YAML
    Yaml,
    /// Comma-separated values with a header
    Csv,
    /// Bare values separated by spaces, for shells
    Value,
}

impl Format {
    /// For people.
    pub fn is_table(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
}

/// The options of every command that shows something.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub struct OutputArgs {
    /// How to write the answer
    #[arg(
        short = 'f',
        long = "format",
        short_alias = 'o',
        alias = "output",
        value_name = "FORMAT",
        value_enum,
        default_value_t
    )]
    pub format: Format,

    /// Show only this column; repeat it, or separate several by commas
    #[arg(short = 'c', long = "column", value_name = "COL", value_delimiter = ',')]
    pub columns: Vec<String>,
}

/// What the reader's side can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Style {
    /// Standard output is a terminal that can be redrawn.
    pub terminal: bool,
    /// Colours are wanted.
    pub color: bool,
    /// Columns of the terminal, if it is one.
    pub width: Option<u16>,
}

impl Style {
    /// What standard output is. `NO_COLOR` and `TERM=dumb` are kept.
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

    fn table_width(self) -> u16 {
        self.width.unwrap_or(PIPE_WIDTH)
    }
}

/// Where answers and talk go.
pub struct Console<'a> {
    /// Data.
    pub out: &'a mut (dyn Write + Send),
    /// Talk.
    pub err: &'a mut (dyn Write + Send),
    /// What `out` can do.
    pub style: Style,
}

impl Console<'_> {
    /// Says something beside the data. Nobody listening is no failure: the answer is on `out`.
    pub fn note(&mut self, text: &str) {
        drop(writeln!(self.err, "{}", printable(text)));
    }
}
