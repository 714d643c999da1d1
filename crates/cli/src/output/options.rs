//! The options of commands that show something: format, columns, sorting.

use clap::{Args, ValueEnum};

use super::columns::SortOrder;

/// How data is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    #[default]
    Table,
    /// For people, with more columns
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
    /// Whether people read it, and not programs.
    pub fn is_table(self) -> bool {
        matches!(self, Format::Table | Format::Wide)
    }
}

/// The options of every command that shows something.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub struct OutputArgs {
    /// Output format
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

impl OutputArgs {
    /// Whether the data are the whole document, which has the notes in it.
    pub fn holds_notes(&self) -> bool {
        matches!(self.format, Format::Json | Format::Jsonl | Format::Yaml) && self.columns.is_empty()
    }
}

/// The option of commands that list rows.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Output options")]
pub struct SortArgs {
    /// Sort by this column: COL or COL:desc
    #[arg(long, alias = "sort-column", value_name = "COL[:desc]")]
    pub sort: Option<SortOrder>,
}
