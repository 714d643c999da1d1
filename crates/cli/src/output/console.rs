//! The streams that a command writes to.

use std::io::Write;

use novella_service::exit::{ErrorFormat, printable_lines};
use serde_json::json;

use super::style::OutputStyle;

/// Where a command writes its data and its messages.
pub struct Console<'a> {
    /// The stream for data: standard output, except in tests.
    pub out: &'a mut (dyn Write + Send),
    /// The stream for messages: standard error, except in tests.
    pub err: &'a mut (dyn Write + Send),
    /// What `out` can show.
    pub style: OutputStyle,
    /// How messages are written, which is also how an error is.
    pub messages: ErrorFormat,
}

impl Console<'_> {
    /// Writes a message beside the data: a text for people, or for programs one line with a JSON object. `note: ` or
    /// `warning: ` in front is the name of its field there. A failure to write it is ignored: the answer is on `out`.
    pub fn note(&mut self, text: &str) {
        drop(match self.messages {
            ErrorFormat::Text => writeln!(self.err, "{}", printable_lines(text)),
            ErrorFormat::Json => match text.strip_prefix("warning: ") {
                Some(warning) => writeln!(self.err, "{}", json!({ "warning": warning })),
                None => {
                    let note = text.strip_prefix("note: ").unwrap_or(text);
                    writeln!(self.err, "{}", json!({ "note": note }))
                }
            },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(messages: ErrorFormat, texts: &[&str]) -> String {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let style = OutputStyle::default();
        let mut console = Console { out: &mut out, err: &mut err, style, messages };
        texts.iter().for_each(|text| console.note(text));
        String::from_utf8(err).expect("text")
    }

    #[test]
    fn a_message_is_lines_for_people_and_one_line_for_programs() {
        let texts = ["warning: line 2: wrong\n    fix: write\x1b[2J 3", "note: so it is", "done"];
        assert_eq!(
            written(ErrorFormat::Text, &texts),
            "warning: line 2: wrong\n    fix: write\u{fffd}[2J 3\nnote: so it is\ndone\n"
        );
        assert_eq!(
            written(ErrorFormat::Json, &texts),
            "{\"warning\":\"line 2: wrong\\n    fix: write\\u001b[2J 3\"}\n{\"note\":\"so it is\"}\n{\"note\":\"done\"}\n"
        );
    }
}
