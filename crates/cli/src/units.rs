//! Sizes, times and pairs as people write and read them.
//!
//! What always holds: a size that is not a whole number of MiB (memory) or GiB (disk) is refused and not rounded, because a
//! placement holds exactly what was asked for. A bare number counts these units, as in Nova. The crate `bytesize` would read
//! `4G` as 4,000,000,000 bytes and round fractions, so sizes are read by `novella_service::config::Size`.

use std::collections::BTreeMap;
use std::time::Duration;

use novella_filter_scheduler::is_resource_class;
use novella_objects::MAX_AMOUNT;
use novella_service::config::Size;
use serde_json::Value;

/// Reads memory in MiB: `512M`, `1.5G`, `2T` or a bare number.
pub fn parse_ram(text: &str) -> Result<u64, String> {
    amount(text, 1 << 20, "MiB", "512M or 2G")
}

/// Reads disk in GiB: `20G`, `1T` or a bare number.
pub fn parse_disk(text: &str) -> Result<u64, String> {
    amount(text, 1 << 30, "GiB", "20G or 1T")
}

fn amount(text: &str, unit: u64, name: &str, example: &str) -> Result<u64, String> {
    let trimmed = text.trim();
    if trimmed.starts_with('-') {
        return Err(format!("an amount cannot be negative; write for example {example}"));
    }
    let whole = if !trimmed.is_empty() && trimmed.bytes().all(|b| b.is_ascii_digit()) {
        trimmed.parse().map_err(|_| too_large(name))?
    } else if trimmed.parse::<f64>().is_ok_and(f64::is_finite) {
        return Err(format!(
            "a number without a unit must be a whole number of {name}; write for example {example}"
        ));
    } else {
        let size: Size = trimmed.parse().map_err(|_| not_a_size(trimmed, example, name))?;
        if !size.bytes().is_multiple_of(unit) {
            return Err(format!("not a whole number of {name}; write for example {example}"));
        }
        size.bytes() / unit
    };
    if whole > MAX_AMOUNT { Err(too_large(name)) } else { Ok(whole) }
}

fn not_a_size(text: &str, example: &str, name: &str) -> String {
    // Digits with a known unit are written correctly, so the number is too large.
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let unit = text[digits..].to_ascii_uppercase();
    if digits > 0
        && ["K", "M", "G", "T"]
            .iter()
            .any(|u| [u, &*format!("{u}B"), &*format!("{u}I"), &*format!("{u}IB")].contains(&&*unit))
    {
        return too_large(name);
    }
    format!("not a size: write a number and a unit of K, M, G or T, for example {example}")
}

fn too_large(name: &str) -> String {
    format!("too large: at most {MAX_AMOUNT} {name}")
}

/// Reads a duration: `10s`, `1m 30s`, `500ms`, or a bare number of seconds, as `sleep` takes it. It is never zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let text = text.trim();
    let bare = text.parse::<u32>().map(|seconds| Duration::from_secs(seconds.into()));
    let duration = bare
        .or_else(|_| humantime::parse_duration(text))
        .map_err(|_| "not a duration: write a number and a unit, for example 500ms, 10s or 2m".to_owned())?;
    if duration.is_zero() { Err("must be longer than zero".to_owned()) } else { Ok(duration) }
}

/// Reads a duration of whole seconds, at least one.
pub fn parse_seconds(text: &str) -> Result<u64, String> {
    let duration = parse_duration(text)?;
    if duration.subsec_nanos() == 0 {
        Ok(duration.as_secs())
    } else {
        Err("must be whole seconds, for example 30s or 2m".to_owned())
    }
}

/// Reads `KEY=VALUE`.
pub fn parse_pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it as KEY=VALUE".to_owned()),
    }
}

/// Reads `CLASS=N`: an amount of a resource class of Nova, or of a custom one.
pub fn parse_resource(text: &str) -> Result<(String, String), String> {
    let (class, amount) = parse_pair(text).map_err(|_| "write it as CLASS=N".to_owned())?;
    if !is_resource_class(&class) {
        return Err(format!("{class} is not a resource class; names of custom classes begin with CUSTOM_"));
    }
    amount.parse::<u64>().map_err(|_| format!("{amount} is not a whole number of 0 or more"))?;
    Ok((class, amount))
}

/// Makes extra specs from pairs. A key that is given twice is an error.
pub fn extra_specs(pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, String> {
    let mut specs = BTreeMap::new();
    for (key, value) in pairs {
        if specs.insert(key.clone(), value.clone()).is_some() {
            return Err(format!("--extra-spec {key} is given twice"));
        }
    }
    Ok(specs)
}

/// Makes scheduler hints from pairs. A key that is given more than once becomes a list, as in Nova.
pub fn hints(pairs: &[(String, String)]) -> BTreeMap<String, Value> {
    let mut hints: BTreeMap<String, Value> = BTreeMap::new();
    for (key, value) in pairs {
        let value = Value::from(value.as_str());
        match hints.get_mut(key) {
            None => drop(hints.insert(key.clone(), value)),
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    hints
}

/// Shows MiB as `512M` or `24.5G`.
pub fn mib(amount: u64) -> String {
    scaled(amount, ["M", "G", "T", "P"])
}

/// Shows GiB as `500G` or `1.5T`.
pub fn gib(amount: u64) -> String {
    scaled(amount, ["G", "T", "P", "E"])
}

fn scaled(amount: u64, units: [&str; 4]) -> String {
    let mut value = amount as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    // One decimal, but not `.0`.
    let text = format!("{value:.1}");
    format!("{}{}", text.strip_suffix(".0").unwrap_or(&text), units[unit])
}

/// Shows seconds as an age in one unit, so that a column stays narrow: `0.4s`, `41s`, `3m`, `5h`, `2d`.
pub fn age(seconds: f64) -> String {
    match seconds {
        s if s < 9.95 => format!("{s:.1}s"),
        s if s < 120.0 => format!("{s:.0}s"),
        s if s < 7_200.0 => format!("{:.0}m", s / 60.0),
        s if s < 172_800.0 => format!("{:.0}h", s / 3_600.0),
        s => format!("{:.0}d", s / 86_400.0),
    }
}

/// Shows a latency as `310 µs`, `1.2 ms` or `2.5 s`, and as `-` if there is none.
pub fn latency(time: Option<Duration>) -> String {
    let Some(time) = time else { return "-".to_owned() };
    match time.as_secs_f64() {
        s if s < 0.000_999_5 => format!("{:.0} µs", s * 1e6),
        s if s < 0.999_5 => format!("{:.1} ms", s * 1e3),
        s => format!("{s:.1} s"),
    }
}

/// Shows milliseconds with two decimals, and as `-` if there are none.
pub fn milliseconds(time: Option<f64>) -> String {
    time.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.2} ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_exact() {
        for (text, mb) in [
            ("512M", 512),
            ("512", 512),
            ("1G", 1024),
            ("1.5GiB", 1536),
            ("4Gi", 4096),
            ("512Mi", 512),
            ("2048Ki", 2),
            ("1ti", 1 << 20),
            ("4GB", 4096),
            (" 2T ", 2 << 20),
            ("1024K", 1),
            ("0", 0),
        ] {
            assert_eq!(parse_ram(text), Ok(mb), "{text}");
        }
        for (text, gb) in
            [("20G", 20), ("20", 20), ("20Gi", 20), ("1T", 1024), ("1TiB", 1024), ("2048M", 2), ("0G", 0)]
        {
            assert_eq!(parse_disk(text), Ok(gb), "{text}");
        }
    }

    #[test]
    fn a_wrong_amount_says_what_to_write() {
        for (text, said) in [
            ("-1G", "negative"),
            ("-5", "negative"),
            ("1.5", "must be a whole number of MiB"),
            ("100K", "not a whole number of MiB"),
            ("0.5K", "not a whole number of MiB"),
            ("99999999999999999999", "too large"),
            ("99999999T", "too large"),
            ("99999999Ti", "too large"),
            ("4P", "K, M, G or T"),
            ("", "not a size"),
            ("lots", "not a size"),
            ("nan", "not a size"),
            ("inf", "not a size"),
        ] {
            let error = parse_ram(text).unwrap_err();
            assert!(error.contains(said), "{text}: {error}");
        }
        assert!(parse_disk("512M").unwrap_err().contains("not a whole number of GiB"));
    }

    #[test]
    fn durations_have_units_or_are_seconds() {
        assert_eq!(parse_duration("10"), Ok(Duration::from_secs(10)));
        assert_eq!(parse_duration("1m 30s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_seconds("2m"), Ok(120));
        for wrong in ["", "-1s", "0", "0s", "-1", "soon"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_seconds("1500ms").unwrap_err().contains("whole seconds"));
    }

    #[test]
    fn pairs_become_specs_and_hints() {
        let pairs =
            [("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(serde_json::to_string(&hints(&pairs)).unwrap(), r#"{"a":["1","3","4"],"b":"2"}"#);
        assert!(extra_specs(&pairs).unwrap_err().contains("--extra-spec a is given twice"));
        assert_eq!(extra_specs(&pairs[..2]).unwrap().len(), 2);
        assert_eq!(parse_pair("k=v=w"), Ok(("k".into(), "v=w".into())));
        assert!(parse_pair("=v").is_err() && parse_pair("k").is_err());
        assert_eq!(parse_resource("CUSTOM_GPU=2"), Ok(("CUSTOM_GPU".into(), "2".into())));
        assert_eq!(parse_resource("CUSTOM_GPU"), Err("write it as CLASS=N".into()));
        assert!(parse_resource("GPU=2").unwrap_err().contains("CUSTOM_"));
        assert!(parse_resource("VGPU=-1").unwrap_err().contains("-1 is not a whole number"));
    }

    #[test]
    fn amounts_are_shown_short() {
        assert_eq!([0, 512, 1024, 25_088, 1 << 20].map(mib), ["0M", "512M", "1G", "24.5G", "1T"]);
        assert_eq!([500, 1536].map(gib), ["500G", "1.5T"]);
        assert_eq!(
            [0.04, 9.94, 41.2, 200.0, 9_000.0, 400_000.0].map(age),
            ["0.0s", "9.9s", "41s", "3m", "2h", "5d"]
        );
        let times = [310, 1_240, 2_500_000].map(Duration::from_micros);
        assert_eq!(times.map(|time| latency(Some(time))), ["310 µs", "1.2 ms", "2.5 s"]);
        assert_eq!([latency(None), milliseconds(None), milliseconds(Some(1.5))], ["-", "-", "1.50 ms"]);
    }
}
