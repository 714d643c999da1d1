//! Texts of others, for people to read: in logs, on terminals and in errors.
//!
//! What always holds: what is shown is not invisible, and cannot change what stands around it.

/// Whether a character must not reach a terminal or a log: it could change the terminal's state, is invisible, or turns
/// the direction of the text around it.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_invisible_is_unprintable_and_letters_are_not() {
        assert!("\u{1b}\u{7}\n\u{202e}\u{200b}\u{feff}\u{2066}\u{e0041}".chars().all(is_unprintable));
        assert!(!"aé漢字 ✓…|\u{1f600}".chars().any(is_unprintable));
    }
}
