//! Requirements that extra specs make on values: Nova's `extra_specs_ops.match(value, requirement)`.
//!
//! The first word of a requirement is its operator, and `=` means "at least". A requirement without an operator is
//! compared as a whole. Nova's accidents are kept: a lone `<or>` is an error, not a refusal, and so is comparing a text
//! that is not a number as a number.

use crate::nova::python;

/// A requirement, parsed once and checked on many values.
#[derive(Debug, Clone, PartialEq)]
pub enum Requirement {
    /// There is no operator: the value must equal the text as given.
    Exact(Box<str>),
    /// `<or>`: the value must equal one of these. An empty list is Nova's IndexError.
    Or(Vec<Box<str>>),
    /// An operator without an operand, which no value matches.
    Nothing,
    /// The value is compared with the operand as a number. An operand that is not a number is an error once a value is
    /// compared with it.
    Number(Comparison, Result<f64, NotANumber>),
    /// The value is compared with the operand as a text, by code points.
    Text(Comparison, Box<str>),
    /// `<in>` and `<all-in>`: each of these must occur in the value.
    Within(Vec<Box<str>>),
}

/// How a value is compared with the operand.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Comparison {
    /// They are equal.
    Equal,
    /// They are not equal.
    NotEqual,
    /// The value is smaller than the operand.
    Less,
    /// The value is not larger than the operand.
    AtMost,
    /// The value is larger than the operand.
    Greater,
    /// The value is not smaller than the operand.
    AtLeast,
}

/// Why a value cannot be compared. Nova raises an exception there.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MatchError {
    /// The value or the operand of a numeric comparison is not a number.
    #[error(transparent)]
    NotANumber(#[from] NotANumber),
    /// `<or>` has no operand.
    #[error("`<or>` has no operand")]
    LoneOr,
}

/// A text that Python's `float()` does not accept.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0:?} is not a number")]
pub struct NotANumber(String);

impl Comparison {
    fn holds<T: PartialOrd>(self, x: T, y: T) -> bool {
        match self {
            Self::Equal => x == y,
            Self::NotEqual => x != y,
            Self::Less => x < y,
            Self::AtMost => x <= y,
            Self::Greater => x > y,
            Self::AtLeast => x >= y,
        }
    }
}

impl Requirement {
    /// Reads the value of an extra spec. Every text is a requirement.
    pub fn parse(text: &str) -> Self {
        use Comparison::{AtLeast, AtMost, Equal, Greater, Less, NotEqual};
        let mut words = python::split(text);
        let Some(operator) = words.next() else { return Self::Exact(text.into()) };
        let words: Vec<&str> = words.collect();
        let first = words.first().copied();
        let number =
            |comparison| first.map_or(Self::Nothing, |word| Self::Number(comparison, read_number(word)));
        let texts = |comparison| first.map_or(Self::Nothing, |word| Self::Text(comparison, word.into()));
        match operator {
            "<or>" => Self::Or(words.into_iter().step_by(2).map(Box::from).collect()),
            "=" | ">=" => number(AtLeast),
            "==" => number(Equal),
            "!=" => number(NotEqual),
            "<=" => number(AtMost),
            "s==" => texts(Equal),
            "s!=" => texts(NotEqual),
            "s<" => texts(Less),
            "s<=" => texts(AtMost),
            "s>" => texts(Greater),
            "s>=" => texts(AtLeast),
            "<in>" => first.map_or(Self::Nothing, |word| Self::Within(vec![word.into()])),
            "<all-in>" if first.is_none() => Self::Nothing,
            "<all-in>" => Self::Within(words.into_iter().map(Box::from).collect()),
            _ => Self::Exact(text.into()),
        }
    }

    /// The requirement that `">= " + text` is read as.
    pub fn at_least(text: &str) -> Self {
        let first = python::split(text).next();
        first.map_or(Self::Nothing, |word| Self::Number(Comparison::AtLeast, read_number(word)))
    }

    /// Answers [`Self::matches`] for a number without writing it out as text. `None` if the text is needed.
    pub fn matches_number(&self, value: f64) -> Option<bool> {
        match self {
            Self::Number(comparison, Ok(operand)) => Some(comparison.holds(value, *operand)),
            _ => None,
        }
    }

    /// Whether a value satisfies this requirement.
    pub fn matches(&self, value: &str) -> Result<bool, MatchError> {
        match self {
            Self::Exact(text) => Ok(value == &**text),
            Self::Or(words) if words.is_empty() => Err(MatchError::LoneOr),
            Self::Or(words) => Ok(words.iter().any(|word| value == &**word)),
            Self::Nothing => Ok(false),
            Self::Text(comparison, text) => Ok(comparison.holds(value, &**text)),
            Self::Within(words) => Ok(words.iter().all(|word| value.contains(&**word))),
            Self::Number(comparison, operand) => {
                let value = read_number(value)?;
                let operand = operand.as_ref().map_err(Clone::clone)?;
                Ok(comparison.holds(value, *operand))
            }
        }
    }
}

fn read_number(word: &str) -> Result<f64, NotANumber> {
    python::float(word).ok_or_else(|| NotANumber(word.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(cases: &[(&str, &str, bool)]) {
        for (value, requirement, expected) in cases {
            let matches = Requirement::parse(requirement).matches(value);
            assert_eq!(matches, Ok(*expected), "{value:?} against {requirement:?}");
        }
    }

    #[test]
    fn without_an_operator_the_whole_text_is_compared() {
        check(&[
            ("1", "1", true),
            ("1", " 1", false),
            (" 1", " 1", true),
            ("", "", true),
            ("x", "", false),
            (">=5", ">=5", true),
            ("6", ">=5", false),
            ("5", "> 4", false),
            ("> 4", "> 4", true),
            ("~= 5", "~= 5", true),
            ("< 6", "< 6", true),
        ]);
    }

    #[test]
    fn numbers() {
        check(&[
            ("2", "= 1", true),
            ("1", "= 1", true),
            ("0", "= 1", false),
            ("4.0", "== 4", true),
            ("4", "== 4.0 and more", true),
            ("4", "!= 4", false),
            ("3", ">= 3", true),
            ("3", "<= 2.9", false),
            ("nan", "== nan", false),
            ("nan", "!= nan", true),
            ("inf", ">= 1e308", true),
            ("1_0", "== 10", true),
            ("5", "==", false),
        ]);
    }

    #[test]
    fn texts_and_parts_of_texts() {
        check(&[
            ("abc", "s== abc", true),
            ("abc", "s!= abc", false),
            ("abc", "s< abd", true),
            ("Abc", "s<= abc", true),
            ("abc", "s> Abc", true),
            ("2", "s>= 10", true),
            ("abc", "s==", false),
            ("['pge', 'clflush']", "<in> pge", true),
            ("['pge', 'clflush']", "<in> sse clflush", false),
            ("['pge', 'clflush']", "<all-in> pge clflush", true),
            ("['pge', 'clflush']", "<all-in> pge sse", false),
            ("x", "<in>", false),
            ("x", "<all-in>", false),
        ]);
    }

    #[test]
    fn alternatives_take_every_second_word() {
        check(&[
            ("v1", "<or> v1 <or> v2", true),
            ("v2", "<or> v1 <or> v2", true),
            ("v3", "<or> v1 <or> v2", false),
            ("v2", "<or> v1 v2", false),
            ("v2", "<or> v1 x v2", true),
            ("x", "<or> v1 x v2", false),
        ]);
    }

    #[test]
    fn what_nova_raises_is_an_error() {
        for (value, requirement) in [("x", "= 1"), ("1", "= x"), ("", ">= 1"), ("x", "<or>"), ("0x1", "== 1")]
        {
            assert!(
                Requirement::parse(requirement).matches(value).is_err(),
                "{value:?} against {requirement:?}"
            );
        }
    }
}
