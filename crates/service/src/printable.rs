//! Texts of others, for people to read: in logs, on terminals and in errors.
//!
//! What always holds: what is shown is neither long nor invisible, and cannot change what stands around it.

use std::borrow::Cow;

/// How many bytes of a text are shown of which only the beginning is wanted.
const SHOWN_BYTES: usize = 200;

/// Whether a character must not reach a terminal or a log: it could change the terminal's state, is invisible, or turns
/// the direction of the text around it.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The beginning of a text, and how much is left out.
pub fn beginning(text: &str) -> Cow<'_, str> {
    if text.len() <= SHOWN_BYTES {
        return text.into();
    }
    let shown = (0..=SHOWN_BYTES).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    format!("{}... ({} bytes more)", &text[..shown], text.len() - shown).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_invisible_is_unprintable_and_letters_are_not() {
        assert!("\u{1b}\u{7}\n\u{202e}\u{200b}\u{feff}\u{2066}\u{e0041}".chars().all(is_unprintable));
        assert!(!"aé漢字 ✓…|\u{1f600}".chars().any(is_unprintable));
    }

    #[test]
    fn a_long_text_is_shown_by_its_beginning() {
        assert_eq!(beginning("short"), "short");
        let long = "\u{e9}".repeat(1_000_000);
        let shown = beginning(&long);
        assert!(shown.len() < 300 && shown.ends_with("... (1999800 bytes more)"), "{shown}");
    }
}
