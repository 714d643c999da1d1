//! The streams that a command writes to.

use std::io::Write;

use super::style::OutputStyle;
use super::table::printable;

/// Where a command writes its data and its messages.
pub struct Console<'a> {
    /// The stream for data: standard output, outside tests.
    pub out: &'a mut (dyn Write + Send),
    /// The stream for messages: standard error, outside tests.
    pub err: &'a mut (dyn Write + Send),
    /// What `out` can show.
    pub style: OutputStyle,
}

impl Console<'_> {
    /// Writes one line of message beside the data. A failure to write it is ignored: the answer is on `out`.
    pub fn note(&mut self, text: &str) {
        drop(writeln!(self.err, "{}", printable(text)));
    }
}
