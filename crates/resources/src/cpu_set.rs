//! Sets of CPU numbers, as bits.
//!
//! Equal sets are equal in memory, because there are no trailing words of zeros: sets are compared and hashed often, which
//! a general bit set does not promise. Numbers are below [`MAX_CPUS`], so that no text or message can make a set large.

use std::fmt;
use std::str::FromStr;

/// One more than the largest CPU number that a set holds. No kernel supports as many CPUs.
pub const MAX_CPUS: u32 = 1 << 16;

/// A set of CPU numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct CpuSet(Vec<u64>);

/// A CPU number that no set holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("CPU {0} is beyond the largest that is supported, {largest}", largest = MAX_CPUS - 1)]
pub struct TooLarge(pub u32);

/// Why a text does not name a set of CPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// A part is not of the form `N`, `N-M`, `^N` or `^N-M`.
    #[error("{0:?} is not a CPU number or a range of CPU numbers, with or without ^")]
    Part(String),
    /// In a range the second number is below the first.
    #[error("the range {0:?} ends before it begins")]
    Backwards(String),
    /// A number is too large.
    #[error(transparent)]
    TooLarge(#[from] TooLarge),
}

/// Reads Nova's notation: `0-3,^2,8`. CPUs after a `^` are left out, wherever in the text they are. White space and empty
/// parts do not matter.
impl FromStr for CpuSet {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let (mut set, mut left_out) = (Self::EMPTY, Self::EMPTY);
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (cpus, into) = match part.strip_prefix('^') {
                Some(rest) => (rest, &mut left_out),
                None => (part, &mut set),
            };
            let (first, last) = cpus.split_once('-').unwrap_or((cpus, cpus));
            let number =
                |text: &str| text.trim().parse::<u32>().map_err(|_| ParseError::Part(part.to_owned()));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(ParseError::Backwards(part.to_owned()));
            }
            if last >= MAX_CPUS {
                return Err(TooLarge(last).into());
            }
            into.add(&Self::range(first, last + 1)?);
        }
        Ok(set.minus(&left_out))
    }
}

/// Writes the notation that is read: `0-3,8`.
impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut cpus = self.iter().peekable();
        let mut separator = "";
        while let Some(first) = cpus.next() {
            let mut last = first;
            while let Some(next) = cpus.next_if_eq(&(last + 1)) {
                last = next;
            }
            write!(f, "{separator}{first}")?;
            if last > first {
                write!(f, "-{last}")?;
            }
            separator = ",";
        }
        Ok(())
    }
}

impl CpuSet {
    /// The set without CPUs.
    pub const EMPTY: Self = Self(Vec::new());

    /// The set of the listed CPUs. Their order does not matter, and repetitions count once.
    pub fn of(cpus: &[u32]) -> Result<Self, TooLarge> {
        let mut set = Self::EMPTY;
        for &cpu in cpus {
            set.insert(cpu)?;
        }
        Ok(set)
    }

    /// The set of CPUs 0 to `count - 1`.
    pub fn first(count: u32) -> Result<Self, TooLarge> {
        Self::range(0, count)
    }

    /// The set of CPUs `from` to `to - 1`.
    pub fn range(from: u32, to: u32) -> Result<Self, TooLarge> {
        let mut set = Self::EMPTY;
        if to > MAX_CPUS && from < to {
            return Err(TooLarge(to - 1));
        }
        for cpu in from..to {
            set.insert(cpu)?;
        }
        Ok(set)
    }

    /// Adds one CPU.
    pub fn insert(&mut self, cpu: u32) -> Result<(), TooLarge> {
        if cpu >= MAX_CPUS {
            return Err(TooLarge(cpu));
        }
        let word = cpu as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (cpu % 64);
        Ok(())
    }

    /// Number of CPUs in the set.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether the set has no CPU.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many bytes the set takes beside the value itself.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.0)
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.get(cpu as usize / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)
    }

    /// The CPU numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut left = word;
            std::iter::from_fn(move || {
                let bit = (left != 0).then(|| left.trailing_zeros())?;
                left &= left - 1;
                Some(at as u32 * 64 + bit)
            })
        })
    }

    /// The CPUs that are in both sets.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let mut set = Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect());
        set.trim();
        set
    }

    /// The CPUs that are in this set and not in the other.
    #[must_use]
    pub fn minus(&self, other: &Self) -> Self {
        let rest = other.0.iter().copied().chain(std::iter::repeat(0));
        let mut set = Self(self.0.iter().zip(rest).map(|(a, b)| a & !b).collect());
        set.trim();
        set
    }

    /// Adds all CPUs of another set.
    pub fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        self.0.iter_mut().zip(&other.0).for_each(|(a, b)| *a |= b);
    }

    /// Whether the sets have a CPU in common.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).any(|(a, b)| a & b != 0)
    }

    fn trim(&mut self) {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn what_is_too_large_is_refused() {
        assert_eq!(CpuSet::of(&[1, MAX_CPUS]), Err(TooLarge(MAX_CPUS)));
        assert_eq!(CpuSet::range(0, u32::MAX), Err(TooLarge(u32::MAX - 1)));
        assert_eq!(CpuSet::range(5, 5), Ok(CpuSet::EMPTY));
    }

    #[test]
    fn nova_s_notation_is_read_and_written() {
        for (text, set) in [
            ("", ""),
            ("3", "3"),
            ("0-3,^2,8", "0-1,3,8"),
            ("^2,0-3", "0-1,3"),
            (" 5 , 1 - 2 ,,", "1-2,5"),
            ("0-7,^1-6", "0,7"),
            ("4,^4", ""),
            ("65535", "65535"),
        ] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), set, "{text}");
        }
        for (text, says) in [
            ("a", "\"a\" is not a CPU number"),
            ("1-", "\"1-\" is not a CPU number"),
            ("-1", "\"-1\" is not a CPU number"),
            ("^", "\"^\" is not a CPU number"),
            ("1,0x3", "\"0x3\" is not a CPU number"),
            ("5-3", "the range \"5-3\" ends before it begins"),
            ("0-4294967295", "CPU 4294967295 is beyond the largest"),
            ("65536", "CPU 65536 is beyond the largest"),
        ] {
            let error = text.parse::<CpuSet>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_what_is_read(cpus in proptest::collection::vec(0u32..300, 0..60)) {
            let set = CpuSet::of(&cpus).unwrap();
            prop_assert_eq!(set.to_string().parse::<CpuSet>(), Ok(set));
        }

        #[test]
        fn it_is_a_set(a in proptest::collection::vec(0u32..300, 0..40), b in proptest::collection::vec(0u32..300, 0..40)) {
            let (x, y): (BTreeSet<_>, BTreeSet<_>) = (a.iter().copied().collect(), b.iter().copied().collect());
            let (s, t) = (CpuSet::of(&a).unwrap(), CpuSet::of(&b).unwrap());
            let list = |set: &CpuSet| set.iter().collect::<Vec<_>>();
            prop_assert_eq!(s.len(), x.len());
            prop_assert_eq!(list(&s.and(&t)), x.intersection(&y).copied().collect::<Vec<_>>());
            prop_assert_eq!(list(&s.minus(&t)), x.difference(&y).copied().collect::<Vec<_>>());
            prop_assert_eq!(s.meets(&t), !x.is_disjoint(&y));
            let mut sum = s.clone();
            sum.add(&t);
            prop_assert_eq!(list(&sum), x.union(&y).copied().collect::<Vec<_>>());
            prop_assert_eq!(sum.minus(&t), s.minus(&t), "equal sets are equal in memory");
        }
    }
}
