//! The streams that a command writes to.

use std::io::Write;

use super::style::OutputStyle;
use super::table::printable;

/// Where a command writes its data and its messages.
pub struct Console<'a> {
    /// The stream for data: standard output, except in tests.
    pub out: &'a mut (dyn Write + Send),
    /// The stream for messages: standard error, except in tests.
    pub err: &'a mut (dyn Write + Send),
    /// What `out` can show.
    pub style: OutputStyle,
}

impl Console<'_> {
    /// Writes a message as one line. A failure to write it is ignored, because the answer is on `out`.
    pub fn note(&mut self, text: &str) {
        drop(writeln!(self.err, "{}", printable(text)));
    }
}
