//! Values with a unit: durations (`"10s"`, `"1m 30s"`, `"500ms"`) and sizes (`"512M"`, `"1.5G"`).
//!
//! What always holds: a number without a unit is refused, because its reader and its writer might guess differently. What
//! is written out can be read back to the same value.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// No time-out or interval is meant to be longer. A longer one is a slip of the pen, and some would overflow a deadline.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// Reads and writes a `Duration` with its unit, for `#[serde(with = "duration")]`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserializer, Serializer};

    use super::DurationVisitor;

    /// Writes `1m 30s`.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*value))
    }

    /// Reads `1m 30s`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_str(DurationVisitor)
    }
}

struct DurationVisitor;

impl de::Visitor<'_> for DurationVisitor {
    type Value = Duration;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration with its unit, such as \"10s\", \"500ms\" or \"1m 30s\"")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
        match humantime::parse_duration(text.trim()) {
            Ok(duration) if duration <= LONGEST => Ok(duration),
            Ok(_) => Err(E::custom(format_args!("{text:?} is longer than 365 days, and no time here is"))),
            Err(_) => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }
}

/// An amount of bytes, written with a binary unit: `K`, `M`, `G`, `T` (also `KiB`, `Ki`, `kB`, `k` and so on, all powers
/// of 1024, as Nova counts), or `B`.
///
/// The crate bytesize would not do: it reads `4G` as 4,000,000,000 bytes, and takes a number without a unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

/// A text is not a size.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a size: write a number of 0 or more and a unit, such as 512M or 1.5G")]
pub struct SizeError {
    text: String,
}

const UNITS: [(char, u64); 4] = [('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

impl Size {
    /// The amount in bytes.
    pub const fn bytes(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match UNITS.iter().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit)) {
            Some((letter, unit)) => write!(f, "{}{letter}", self.0 / unit),
            None => write!(f, "{}B", self.0),
        }
    }
}

impl FromStr for Size {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Size, SizeError> {
        let refuse = || SizeError { text: text.to_owned() };
        let trimmed = text.trim();
        let end = trimmed.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(trimmed.len());
        let (number, unit) = trimmed.split_at(end);
        let factor = match unit.trim().to_ascii_uppercase().as_str() {
            "B" => 1,
            unit => {
                let letter = ["IB", "I", "B"].iter().find_map(|end| unit.strip_suffix(end)).unwrap_or(unit);
                let known = UNITS.iter().find(|(known, _)| letter.chars().eq([*known]));
                known.ok_or_else(refuse)?.1
            }
        };
        if let Ok(whole) = number.parse::<u64>() {
            return whole.checked_mul(factor).map(Size).ok_or_else(refuse);
        }
        let bytes = number.parse::<f64>().map_err(|_| refuse())? * factor as f64;
        // Beyond 2^53 a fraction of a unit is no longer exact, and no disk is that large.
        if bytes <= (1_u64 << 53) as f64 { Ok(Size(bytes.round() as u64)) } else { Err(refuse()) }
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Size, D::Error> {
        struct SizeVisitor;
        impl de::Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size with its unit, such as \"512M\" or \"1.5G\"")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_str(SizeVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_in_powers_of_1024() {
        for (text, bytes) in [
            ("512M", 512 << 20),
            ("512 MiB", 512 << 20),
            ("512Mi", 512 << 20),
            ("512mb", 512 << 20),
            ("1.5G", 3 << 29),
            ("2T", 2 << 40),
            ("64k", 64 << 10),
            ("10B", 10),
            ("0G", 0),
        ] {
            assert_eq!(text.parse(), Ok(Size(bytes)), "{text}");
        }
        for text in
            ["", "512", "M", "-1G", "1X", "1.2.3G", "99999999T", "nanG", "1 G B", "1e3M", "99999999.5T"]
        {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_written_as_they_can_be_read() {
        for bytes in [0, 1, 1023, 1024, 1025, 512 << 20, (1 << 40) + 1, u64::MAX] {
            let size = Size(bytes);
            assert_eq!(size.to_string().parse(), Ok(size));
        }
        assert_eq!(Size(1536 << 20).to_string(), "1536M");
    }

    #[test]
    fn a_duration_needs_its_unit_and_an_end() {
        #[derive(Serialize, Deserialize, Debug, PartialEq)]
        struct Holder(#[serde(with = "duration")] Duration);
        let holder = Holder(Duration::from_secs(90));
        assert_eq!(serde_json::from_str::<Holder>(r#""1m 30s""#).unwrap(), holder);
        assert_eq!(serde_json::to_string(&holder).unwrap(), r#""1m 30s""#);
        let refused = |json| serde_json::from_str::<Holder>(json).unwrap_err().to_string();
        assert!(refused("10").contains("expected a duration with its unit, such as \"10s\""));
        assert!(refused(r#""366days""#).contains("\"366days\" is longer than 365 days"));
    }
}
