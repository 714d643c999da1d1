//! Writes answers: one set of columns, seven formats.
//!
//! What always holds: standard output gets data and nothing else. Machine formats hold values as they were received (numbers
//! in MiB, GiB and seconds); tables hold what people read. Control characters in text from others never reach a
//! terminal.
//!
//! Layout, in reading order:
//! - `style`: what standard output can show
//! - `table`: cells, tones and tables for people
//! - `columns`: columns of rows by name, and sorting by them
//! - `options`: the options of every command that shows something
//! - `console`: the streams for data and for messages
//! - `render`: rows and objects in every format

mod columns;
mod console;
mod options;
mod render;
mod style;
mod table;

pub use columns::{Column, Listing, natural, pairs, state_tone, value_cell};
pub use console::Console;
pub use options::{Format, OutputArgs, SortArgs};
pub use render::{write_answer, write_object, write_rows, write_sorted};
pub use style::OutputStyle;
pub use table::{Cell, Tone, printable, table_text};
