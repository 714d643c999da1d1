//! Versions and requirements on them, as Python's packaging rules (PEP 440) compare them.
//!
//! Left out: wildcards and the operators `~=` and `===`, which Nova does not allow in an image's requirement.

/// A requirement such as `<=6.2, !=6.1`: a list of comparisons that must all hold.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Predicate(Vec<(Operator, Version)>);

#[derive(Debug, Clone, Copy, PartialEq)]
enum Operator {
    AtMost,
    AtLeast,
    Less,
    Greater,
    NotEqual,
    Equal,
}

impl Predicate {
    /// Reads a requirement. `None` if it is invalid, where Nova refuses the image.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        use Operator::{AtLeast, AtMost, Equal, Greater, Less, NotEqual};
        let part = |part: &str| {
            let part = crate::nova::python::strip(part);
            [("<=", AtMost), (">=", AtLeast), ("<", Less), (">", Greater), ("!=", NotEqual), ("==", Equal)]
                .into_iter()
                .find_map(|(sign, operator)| Some((operator, part.strip_prefix(sign)?)))
                .and_then(|(operator, version)| Some((operator, Version::parse(version)?)))
        };
        text.split(',').map(part).collect::<Option<_>>().map(Self)
    }

    pub(crate) fn holds(&self, version: &Version) -> bool {
        self.0.iter().all(|(operator, wanted)| {
            let order = version.cmp(wanted);
            match operator {
                Operator::AtMost => order.is_le(),
                Operator::AtLeast => order.is_ge(),
                Operator::Less => order.is_lt(),
                Operator::Greater => order.is_gt(),
                Operator::NotEqual => order.is_ne(),
                Operator::Equal => order.is_eq(),
            }
        })
    }
}

/// A version. The fields are in the order in which they are compared.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    epoch: u64,
    /// The numbers of the release without trailing zeros, so that `1.0` equals `1`.
    release: Vec<u64>,
    pre: Pre,
    /// The number of the post-release. A version without one sorts before those with one.
    post: Option<u64>,
    dev: Dev,
    local: Vec<Local>,
}

/// The pre-release, in the order in which versions sort: a bare `.dev` before all pre-releases, and a version without
/// one after them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Pre {
    DevOnly,
    Alpha(u64),
    Beta(u64),
    Candidate(u64),
    None,
}

/// The development release. A version without one sorts after those with one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Dev {
    Number(u64),
    None,
}

/// One part of a local version label. Numbers sort after words.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Local {
    Word(Box<str>),
    Number(u64),
}

impl Version {
    /// The version that a hypervisor's number stands for. Each group of three decimal digits is one part: 6002000 is
    /// 6.2.0.
    pub(crate) fn of_hypervisor(number: i64) -> Self {
        let mut rest = number.unsigned_abs();
        let mut release = Vec::new();
        while rest > 0 {
            release.push(rest % 1000);
            rest /= 1000;
        }
        release.reverse();
        Self::released(release)
    }

    fn released(mut release: Vec<u64>) -> Self {
        while release.last() == Some(&0) {
            release.pop();
        }
        Self { epoch: 0, release, pre: Pre::None, post: None, dev: Dev::None, local: Vec::new() }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = crate::nova::python::strip(text).to_ascii_lowercase();
        let (public, local) = match text.split_once('+') {
            Some((public, local)) => (public, Some(local)),
            None => (text.as_str(), None),
        };
        let public = public.strip_prefix('v').unwrap_or(public);
        let (epoch, public) = match public.split_once('!') {
            Some((epoch, public)) => (number(epoch)?, public),
            None => (0, public),
        };
        let end = public
            .char_indices()
            .find(|&(at, c)| {
                !(c.is_ascii_digit()
                    || c == '.' && public[at + 1..].starts_with(|next: char| next.is_ascii_digit()))
            })
            .map_or(public.len(), |(at, _)| at);
        let (release, mut rest) = public.split_at(end);
        let mut version = Self::released(release.split('.').map(number).collect::<Option<_>>()?);
        version.epoch = epoch;
        if let Some((kind, digits, after)) =
            suffix(rest, &["alpha", "a", "beta", "b", "preview", "pre", "c", "rc"])
        {
            let number = digits.unwrap_or(0);
            version.pre = match kind {
                "alpha" | "a" => Pre::Alpha(number),
                "beta" | "b" => Pre::Beta(number),
                _ => Pre::Candidate(number),
            };
            rest = after;
        }
        if let Some((_, digits, after)) = suffix(rest, &["post", "rev", "r"]) {
            version.post = Some(digits.unwrap_or(0));
            rest = after;
        } else if let Some(digits) =
            rest.strip_prefix('-').filter(|d| d.starts_with(|c: char| c.is_ascii_digit()))
        {
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            version.post = Some(number(&digits[..end])?);
            rest = &digits[end..];
        }
        if let Some((_, digits, after)) = suffix(rest, &["dev"]) {
            version.dev = Dev::Number(digits.unwrap_or(0));
            if version.pre == Pre::None && version.post.is_none() {
                version.pre = Pre::DevOnly;
            }
            rest = after;
        }
        let piece = |piece: &str| match number(piece) {
            Some(number) => Some(Local::Number(number)),
            None if !piece.is_empty() && piece.bytes().all(|b| b.is_ascii_alphanumeric()) => {
                Some(Local::Word(piece.into()))
            }
            None => None,
        };
        if let Some(local) = local {
            version.local = local.split(['.', '-', '_']).map(piece).collect::<Option<_>>()?;
        }
        rest.is_empty().then_some(version)
    }
}

fn number(digits: &str) -> Option<u64> {
    digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()
}

/// Reads an optional separator and one of `words`, then an optional separator and number. Returns the word, the number
/// and the rest of the text; `None` if `text` does not begin so.
fn suffix<'a>(text: &'a str, words: &[&'static str]) -> Option<(&'static str, Option<u64>, &'a str)> {
    let bare = text.strip_prefix(['.', '-', '_']).unwrap_or(text);
    let (word, after) = words.iter().find_map(|word| Some((*word, bare.strip_prefix(word)?)))?;
    let digits = after.strip_prefix(['.', '-', '_']).unwrap_or(after);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    match number(&digits[..end]) {
        Some(number) if end > 0 => Some((word, Some(number), &digits[end..])),
        _ => Some((word, None, after)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_sort_as_python_sorts_them() {
        let sorted = [
            "1.0.dev1",
            "1.0a1.dev1",
            "1.0a1",
            "1.0b2",
            "1.0rc1",
            "1.0",
            "1.0+abc",
            "1.0+1",
            "1.0.post1.dev2",
            "1.0.post1",
            "1.0.1",
            "1.10",
            "2",
            "1!0.1",
        ];
        for pair in sorted.windows(2) {
            let [a, b] = [pair[0], pair[1]].map(|text| Version::parse(text).unwrap());
            assert!(a < b, "{} before {}", pair[0], pair[1]);
        }
        for (a, b) in
            [("6.2", "6.2.0"), ("v1.0", "1"), ("1.0-1", "1.0.post1"), ("1c1", "1.0RC1"), ("1.0.alpha", "1a0")]
        {
            assert_eq!(Version::parse(a), Version::parse(b), "{a} is {b}");
        }
        for bad in ["", "x", "1..2", "1.", "1.0x", "1.0+", ".1", "1 2"] {
            assert_eq!(Version::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_hypervisors_number_is_a_version() {
        for (number, text) in [(6_002_000, "6.2.0"), (12_003, "12.3"), (999, "999"), (1000, "1.0")] {
            assert_eq!(Version::of_hypervisor(number), Version::parse(text).unwrap());
        }
    }

    #[test]
    fn all_parts_of_a_requirement_must_hold() {
        for (text, number, holds) in [
            (">=6.0,<8.0", 6_002_000, true),
            (">=6.0,<8.0", 8_000_000, false),
            (" >= 6.2 , != 6.2.1", 6_002_000, true),
            ("==6.2", 6_002_000, true),
            (">6.2rc1", 6_002_000, true),
        ] {
            let version = Version::of_hypervisor(number);
            assert_eq!(Predicate::parse(text).map(|p| p.holds(&version)), Some(holds), "{text} {number}");
        }
        for bad in ["", "6.2", "~=6", ">=", ">=6,", "=6"] {
            assert_eq!(Predicate::parse(bad), None, "{bad}");
        }
    }
}
