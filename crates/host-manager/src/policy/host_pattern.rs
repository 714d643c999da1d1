//! Patterns of host names: names, `*` and `?`, and ranges such as `h[001-100]` or `rack[1,3-5]-n?`.
//!
//! As with Slurm, leading zeros in the first number of a range fix the width: `[01-10]` matches `07`, but not `7`.
//!
//! What always holds: a range is matched and never expanded, so `h[1-999999999]` costs nothing. All possible matches
//! are followed at once, so matching takes at most the length of the pattern times the length of the name.

use std::str::FromStr;

/// How many digits a number in a range may have. Every number with this many digits fits into a `u64`.
const MAX_DIGITS: usize = 19;

/// A pattern of host names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    /// The pattern as it was written.
    text: String,
    tokens: Vec<Token>,
}

/// One part of a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Is(char),
    Any,
    AnyRun,
    Number(Vec<NumberRange>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NumberRange {
    first: u64,
    last: u64,
    /// The number of digits, if leading zeros fix it.
    width: Option<usize>,
}

impl HostPattern {
    /// Whether the pattern is a plain name. Such a host must exist.
    pub fn is_name(&self) -> bool {
        self.tokens.iter().all(|token| matches!(token, Token::Is(_)))
    }

    /// Whether the pattern matches this host name.
    pub fn matches(&self, host: &str) -> bool {
        matches(&self.tokens, host)
    }

    /// A host name that both patterns match, or a pattern of such names. `None` if there is none, or if finding one takes
    /// more than `names_left` names, from which the names that were tried are subtracted. Two patterns with wildcards
    /// are known to meet only if they are equal or one of them is `*`.
    pub fn common_name(&self, other: &Self, names_left: &mut usize) -> Option<String> {
        let letters = self.tokens.iter().zip(&other.tokens);
        let differ = letters
            .map_while(|pair| match pair {
                (Token::Is(a), Token::Is(b)) => Some(a != b),
                _ => None,
            })
            .any(|differ| differ);
        if differ {
            return None;
        }
        let (names, pattern) = match (self.names(*names_left), other.names(*names_left)) {
            (Some(own), Some(others)) if others.len() < own.len() => (others, self),
            (Some(own), _) => (own, other),
            (None, Some(others)) => (others, self),
            (None, None) => {
                let all = |pattern: &Self| pattern.tokens == [Token::AnyRun];
                let meet = self.tokens == other.tokens || all(self) || all(other);
                return meet.then(|| if all(self) { other.text.clone() } else { self.text.clone() });
            }
        };
        *names_left -= names.len();
        names.into_iter().find(|name| pattern.matches(name))
    }

    /// The names that the pattern matches, or the first `most` of them. `None` if it has wildcards.
    fn names(&self, most: usize) -> Option<Vec<String>> {
        let mut names = vec![String::new()];
        for token in &self.tokens {
            match token {
                Token::Is(letter) => names.iter_mut().for_each(|name| name.push(*letter)),
                Token::Any | Token::AnyRun => return None,
                Token::Number(ranges) => {
                    let spell = |range: &NumberRange| {
                        let width = range.width.unwrap_or(0);
                        (range.first..=range.last).map(move |number| format!("{number:0width$}"))
                    };
                    let numbers: Vec<String> = ranges.iter().flat_map(spell).take(most).collect();
                    let each =
                        names.iter().flat_map(|name| numbers.iter().map(move |n| format!("{name}{n}")));
                    names = each.take(most).collect();
                }
            }
        }
        names.truncate(most);
        Some(names)
    }

    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("a host pattern must not be empty".to_owned());
        }
        let mut tokens = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            rest = &rest[first.len_utf8()..];
            match first {
                '*' if tokens.last() == Some(&Token::AnyRun) => {}
                '*' => tokens.push(Token::AnyRun),
                '?' => tokens.push(Token::Any),
                '[' => {
                    let (inside, after) = rest.split_once(']').ok_or("a range must end with ]")?;
                    tokens.push(Token::Number(inside.split(',').map(range).collect::<Result<_, _>>()?));
                    rest = after;
                }
                other => tokens.push(Token::Is(other)),
            }
        }
        Ok(Self { text: text.to_owned(), tokens })
    }
}

fn range(text: &str) -> Result<NumberRange, String> {
    let wrong = || format!("[{text}] is not a range of numbers; write for example [001-100] or [1,3-5]");
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let number = |digits: &str| {
        let usable = digits.len() <= MAX_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
        usable.then(|| digits.parse::<u64>().ok()).flatten().ok_or_else(wrong)
    };
    let width = (first.len() > 1 && first.starts_with('0')).then_some(first.len());
    let range = NumberRange { first: number(first)?, last: number(last)?, width };
    if range.first > range.last {
        Err(format!("the range [{text}] ends before it begins"))
    } else {
        Ok(range)
    }
}

/// Whether the tokens match the whole name. The fixed letters at the start are compared first, because most names
/// differ there.
fn matches(tokens: &[Token], mut host: &str) -> bool {
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Is(wanted) => match host.strip_prefix(*wanted) {
                Some(rest) => host = rest,
                None => return false,
            },
            _ => return matches_any_way(&tokens[at..], host),
        }
    }
    host.is_empty()
}

/// Whether the tokens match the whole name. For each token it keeps the set of positions at which the part matched so
/// far can end.
fn matches_any_way(tokens: &[Token], host: &str) -> bool {
    let mut ends = vec![false; host.len() + 1];
    ends[0] = true;
    for token in tokens {
        let mut next = vec![false; host.len() + 1];
        for at in (0..=host.len()).filter(|at| ends[*at]) {
            let rest = &host[at..];
            match token {
                Token::Is(wanted) if rest.starts_with(*wanted) => next[at + wanted.len_utf8()] = true,
                Token::Is(_) => {}
                Token::Any => rest.chars().take(1).for_each(|any| next[at + any.len_utf8()] = true),
                Token::AnyRun => {
                    rest.char_indices().for_each(|(end, _)| next[at + end] = true);
                    next[host.len()] = true;
                    break; // a later start would reach no further position
                }
                Token::Number(ranges) => {
                    let digits = rest.bytes().take(MAX_DIGITS).take_while(u8::is_ascii_digit).count();
                    let held = (1..=digits).filter(|n| ranges.iter().any(|range| range.holds(&rest[..*n])));
                    held.for_each(|n| next[at + n] = true);
                }
            }
        }
        ends = next;
    }
    ends[host.len()]
}

impl NumberRange {
    fn holds(&self, digits: &str) -> bool {
        let spelled = match self.width {
            Some(width) => digits.len() == width || (digits.len() > width && !digits.starts_with('0')),
            None => digits.len() == 1 || !digits.starts_with('0'),
        };
        spelled && digits.parse().is_ok_and(|n: u64| (self.first..=self.last).contains(&n))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_say() {
        for (pattern, yes, no) in [
            ("cmp-1", &["cmp-1"][..], &["cmp-10", "cmp-", "CMP-1"][..]),
            ("cmp-*", &["cmp-", "cmp-17.example"], &["cm"]),
            ("*", &["a", ""], &[]),
            ("h?", &["h1", "hx"], &["h", "h12"]),
            ("h[001-100]", &["h001", "h099", "h100"], &["h1", "h000", "h101", "h0100"]),
            ("h[8-12].dc", &["h8.dc", "h12.dc"], &["h08.dc", "h13.dc", "h.dc"]),
            ("r[1,3-5]-n[01-02]", &["r1-n01", "r4-n02"], &["r2-n01", "r1-n1"]),
            ("[1-3][4-6]", &["14", "36"], &["44", "1"]),
            ("*[2]*", &["ab2c", "2"], &["ab"]),
            ("*a*\u{e9}?", &["xa\u{e9}1", "a\u{e9}\u{e9}"], &["a\u{e9}", "\u{e9}a1"]),
        ] {
            let pattern: HostPattern = pattern.parse().unwrap();
            yes.iter().for_each(|host| assert!(pattern.matches(host), "{pattern:?} {host}"));
            no.iter().for_each(|host| assert!(!pattern.matches(host), "{pattern:?} {host}"));
        }
        assert!("cmp-1".parse::<HostPattern>().unwrap().is_name());
        assert!(!"cmp-?".parse::<HostPattern>().unwrap().is_name());
    }

    #[test]
    fn two_patterns_may_have_a_name_in_common() {
        for (a, b, common) in [
            ("cmp[1-2]", "cmp[2-3]", Some("cmp2")),
            ("cmp[1-2]", "cmp[3-4]", None),
            ("cmp[01-10]", "cmp[8-9]", None),
            ("cmp-*", "cmp-7", Some("cmp-7")),
            ("r[1-2]-n[1-9]", "r2-*", Some("r2-n1")),
            ("north-*", "south-*", None),
            ("*", "cmp-?", Some("cmp-?")),
            ("x", "x", Some("x")),
        ] {
            let (a, b): (HostPattern, HostPattern) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(a.common_name(&b, &mut 100).as_deref(), common, "{a:?} {b:?}");
            assert_eq!(b.common_name(&a, &mut 100).as_deref(), common, "{b:?} {a:?}");
        }
        let (large, mut left) = ("h[1-999999999]".parse::<HostPattern>().unwrap(), 100);
        assert_eq!(large.common_name(&"h[500-999999999]".parse().unwrap(), &mut left), None);
        assert_eq!(left, 0, "no more names than these are tried");
    }

    #[test]
    fn a_pattern_of_many_stars_is_not_slow() {
        let pattern: HostPattern = "*a".repeat(40).parse::<HostPattern>().unwrap();
        assert!(!pattern.matches(&format!("{}b", "a".repeat(200))));
        assert!(pattern.matches(&"a".repeat(200)));
    }

    #[test]
    fn a_wrong_range_is_refused() {
        for (text, said) in [
            ("h[1-3", "end with ]"),
            ("h[a-b]", "not a range"),
            ("h[]", "not a range"),
            ("h[5-1]", "ends before it begins"),
            ("h[1-99999999999999999999]", "not a range"),
            ("", "must not be empty"),
        ] {
            let error = text.parse::<HostPattern>().unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
    }
}
