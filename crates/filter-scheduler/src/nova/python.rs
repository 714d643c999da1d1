//! How Python reads and writes values, where Nova's decisions depend on it.
//!
//! Nova compares extra specs as Python texts and floats. A scheduler that gives the same verdicts must split words at
//! the same characters, accept the same numbers and print the same text.

use std::fmt::Write;

/// The code point of the digit zero in each script outside ASCII, sorted (Unicode 15). The other nine digits follow it.
const DIGIT_ZEROS: [u32; 65] = [
    0x660, 0x6f0, 0x7c0, 0x966, 0x9e6, 0xa66, 0xae6, 0xb66, 0xbe6, 0xc66, 0xce6, 0xd66, 0xde6, 0xe50, 0xed0,
    0xf20, 0x1040, 0x1090, 0x17e0, 0x1810, 0x1946, 0x19d0, 0x1a80, 0x1a90, 0x1b50, 0x1bb0, 0x1c40, 0x1c50,
    0xa620, 0xa8d0, 0xa900, 0xa9d0, 0xa9f0, 0xaa50, 0xabf0, 0xff10, 0x104a0, 0x10d30, 0x11066, 0x110f0,
    0x11136, 0x111d0, 0x112f0, 0x11450, 0x114d0, 0x11650, 0x116c0, 0x11730, 0x118e0, 0x11950, 0x11c50,
    0x11d50, 0x11da0, 0x16a60, 0x16ac0, 0x16b50, 0x1d7ce, 0x1d7d8, 0x1d7e2, 0x1d7ec, 0x1d7f6, 0x1e140,
    0x1e2f0, 0x1e950, 0x1fbf0,
];

/// Python's `str.isspace` for one character: Unicode's white space, and the separators U+001C to U+001F.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Python's `text.split()`.
pub fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Python's `text.strip()`.
pub fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

/// Python's `int(text)`; `None` where Python raises ValueError. A number beyond 128 bits is cut to `i128::MAX` or its
/// negative.
pub fn int(text: &str) -> Option<i128> {
    let text = strip(text);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let mut digits = with_ascii_digits(unsigned)?;
    let good = digits.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    if digits.is_empty() || !good || !underscores_stand_between_digits(&digits) {
        return None;
    }
    digits.retain(|c| c != '_');
    let size = digits.parse().unwrap_or(i128::MAX);
    Some(if text.starts_with('-') { -size } else { size })
}

/// Python's `float(text)`; `None` where Python raises ValueError.
pub fn float(text: &str) -> Option<f64> {
    let mut ascii = with_ascii_digits(strip(text))?;
    let unsigned = ascii.strip_prefix(['+', '-']).unwrap_or(&ascii);
    let word = ["inf", "infinity", "nan"].iter().any(|w| unsigned.eq_ignore_ascii_case(w));
    if !word {
        let letters_ok = unsigned.bytes().all(|b| b.is_ascii_digit() || b"._eE+-".contains(&b));
        if !letters_ok || !underscores_stand_between_digits(unsigned) {
            return None;
        }
        ascii.retain(|c| c != '_');
    }
    ascii.parse().ok()
}

/// The text with each digit as an ASCII one. `None` if another character is not ASCII.
fn with_ascii_digits(text: &str) -> Option<String> {
    text.chars().map(|c| if c.is_ascii() { Some(c) } else { decimal_digit(c) }).collect()
}

fn decimal_digit(c: char) -> Option<char> {
    let code = u32::from(c);
    let zero = DIGIT_ZEROS[DIGIT_ZEROS.partition_point(|&zero| zero <= code).checked_sub(1)?];
    char::from_digit(code - zero, 10)
}

fn underscores_stand_between_digits(number: &str) -> bool {
    let bytes = number.as_bytes();
    let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
    bytes.iter().enumerate().all(|(at, &b)| b != b'_' || (digit(at.checked_sub(1)) && digit(Some(at + 1))))
}

/// Python's `str(value)` of a float: the shortest digits, and always a point or an exponent.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').expect("`{:e}` writes an exponent");
    let exponent: i32 = exponent.parse().expect("`{:e}` writes a whole exponent");
    if (-4..16).contains(&exponent) {
        return format!("{value:?}"); // plain notation in this range, with a point
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// Python's `repr(text)`.
pub fn quote(text: &str) -> String {
    let mark = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::from(mark);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == mark => out.extend(['\\', c]),
            c if is_printable(c) => out.push(c),
            c => {
                let code = u32::from(c);
                let written = match code {
                    0..=0xff => write!(out, "\\x{code:02x}"),
                    0x100..=0xffff => write!(out, "\\u{code:04x}"),
                    _ => write!(out, "\\U{code:08x}"),
                };
                written.expect("writing to a String does not fail");
            }
        }
    }
    out.push(mark);
    out
}

fn is_printable(c: char) -> bool {
    let space_but_not_plain = c != ' ' && is_space(c);
    !space_but_not_plain && (matches!(c, '\'' | '"') || c.escape_debug().len() == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_read_as_python_reads_them() {
        for (text, value) in [
            ("4", 4.0),
            (" 4.\n", 4.0),
            (".5", 0.5),
            ("+1_000.2_5e1_0", 1000.25e10),
            ("1e999", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("\u{1f}\u{a0}7\u{85}", 7.0),
            ("\u{661}\u{662}", 12.0),
            ("\u{1d7d8}", 0.0),
            ("1E+2", 100.0),
        ] {
            assert_eq!(float(text), Some(value), "{text:?}");
        }
        assert!(float("NaN").is_some_and(f64::is_nan));
        for text in [
            "",
            " ",
            "0x10",
            "1 2",
            "True",
            "_1",
            "1_",
            "1__0",
            "1_.5",
            "1._5",
            "1e_5",
            ".",
            "e5",
            "++1",
            "infin",
            "in_f",
            "\u{200b}1",
            "1f",
            "\u{b2}",
        ] {
            assert_eq!(float(text), None, "{text:?}");
        }
    }

    #[test]
    fn whole_numbers_are_read_as_python_reads_them() {
        for (text, value) in [
            ("5", 5),
            (" +007\n", 7),
            ("-1_000", -1000),
            ("\u{661}", 1),
            ("\u{85}0", 0),
            ("9".repeat(50).as_str(), i128::MAX),
        ] {
            assert_eq!(int(text), Some(value), "{text:?}");
        }
        for text in ["", "5.0", "0x5", "_5", "5_", "1__0", "- 5", "+-5", "1e3", "3,9", "-"] {
            assert_eq!(int(text), None, "{text:?}");
        }
    }

    #[test]
    fn words_end_at_pythons_white_space() {
        let words: Vec<_> = split(" a\u{1c}b\u{85}c\u{a0}d\u{200b}e\t\n").collect();
        assert_eq!(words, ["a", "b", "c", "d\u{200b}e"]);
        assert_eq!(split(" \u{1d}").count(), 0);
    }

    #[test]
    fn floats_are_written_as_python_writes_them() {
        for (value, text) in [
            (4.0, "4.0"),
            (-0.0, "-0.0"),
            (0.1, "0.1"),
            (1e16, "1e+16"),
            (1.5e16, "1.5e+16"),
            (9_999_999_999_999_998.0, "9999999999999998.0"),
            (1e-4, "0.0001"),
            (1e-5, "1e-05"),
            (1.25e-100, "1.25e-100"),
            (f64::NAN, "nan"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(float_text(value), text);
        }
    }

    #[test]
    fn texts_are_quoted_as_python_quotes_them() {
        assert_eq!(quote("it's"), "\"it's\"");
        assert_eq!(quote("it's \"x\""), "'it\\'s \"x\"'");
        assert_eq!(quote("a\n\u{1}\u{a0}\u{e9}\\"), "'a\\n\\x01\\xa0\u{e9}\\\\'");
    }
}
