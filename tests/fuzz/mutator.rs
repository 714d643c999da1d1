//! Changes messages at random, level by level: the inner tree, its text, the envelope around it, the bytes, compression.
//!
//! Most of a message stays as it was, so that it comes far; and a report's host, identity and number are mostly such
//! that it is news. The same seed gives the same history.

use std::io::Write;

use novella_service::Random;
use serde_json::{Map, Value, json};

use crate::corpus;
use crate::world::Step;

/// A name of the protocol, and one that peers use but that is ignored.
const CODECS: [&str; 2] = ["application/x-gzip", "application/x-bz2"];
/// Longest text or list that is made on purpose.
const LONG: usize = 5_000;
/// Deeper than any reader should follow.
const DEEP: usize = 3_000;

/// The steps of a seed.
pub fn history(seed: u64, steps: usize) -> Vec<Step> {
    let mut mutator = Mutator { random: Random::from_number(seed), messages: corpus::inner_messages() };
    (0..steps).map(|number| mutator.step(number)).collect()
}

struct Mutator {
    random: Random,
    messages: Vec<Map<String, Value>>,
}

impl Mutator {
    fn below(&self, limit: usize) -> usize {
        (self.random.u64() % limit.max(1) as u64) as usize
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn step(&mut self, number: usize) -> Step {
        if self.one_in(100) {
            let seconds = [1, 2, 7, 25, 70][self.below(5)];
            return if self.one_in(4) { Step::Stall(seconds) } else { Step::Wait(seconds) };
        }
        let mut inner = self.messages[self.below(self.messages.len())].clone();
        self.renew(&mut inner, number);
        let mut inner = Value::Object(inner);
        for _ in 0..[0, 0, 1, 1, 1, 2, 3, 8][self.below(8)] {
            self.change_tree(&mut inner);
        }
        let mut text = inner.to_string();
        if self.one_in(6) {
            self.change_text(&mut text);
        }
        let mut body = self.seal(text);
        if self.one_in(10) {
            self.change_bytes(&mut body);
        }
        if !self.one_in(40) {
            return Step::Message { body, compression: None };
        }
        let mut body = self.compress(&body);
        if self.one_in(2) {
            self.change_bytes(&mut body);
        }
        Step::Message { body, compression: Some(CODECS[usize::from(self.one_in(4))]) }
    }

    /// Makes a report one of a known host that it has not sent yet, and a request one that was not made yet.
    fn renew(&self, inner: &mut Map<String, Value>, number: usize) {
        let Some(Value::Object(args)) = inner.get_mut("args") else { return };
        let host = self.below(12);
        if let Some(reporter) = args.get_mut("host")
            && !self.one_in(8)
        {
            *reporter = json!(format!("host-{host}"));
            if self.one_in(20) {
                *reporter = json!(self.other_case("host-abcdefgh"));
            }
        }
        if let Some(own) = args.get_mut("capabilities").and_then(|caps| caps.get_mut("novella")) {
            own["uuid"] = json!(uuid(0, host));
            own["nonce"] = json!(1);
            own["seq"] = json!(number);
            own["incarnation"] = json!(1 + number / 400);
            if self.one_in(4) {
                own["claims"] = self.claims();
            }
        }
        if let Some(Value::Array(uuids)) =
            args.get_mut("request_spec").and_then(|spec| spec.get_mut("instance_uuids"))
        {
            for (place, instance) in uuids.iter_mut().enumerate() {
                *instance = json!(uuid(1, self.below(40) * 8 + place % 8));
            }
        }
        if let Some(id) = args.get_mut("decision_id") {
            // As the scheduler of world.rs numbers them; or somebody else's.
            if self.one_in(2) {
                *id = json!(format!("d-{}", self.below(10)));
            }
        }
        if let Some(Value::Array(entries)) = args.get_mut("entries") {
            for entry in entries {
                entry["uuid"] = json!(uuid(1, self.below(300)));
                entry["host"] = json!(format!("host-{}", self.below(12)));
            }
        }
    }

    /// A name with some letters in upper case.
    fn other_case(&self, name: &str) -> String {
        name.chars().map(|letter| if self.one_in(2) { letter.to_ascii_uppercase() } else { letter }).collect()
    }

    /// Claims that other hosts and the list itself have, too, up to a few more than are allowed. Some have long texts.
    fn claims(&self) -> Value {
        let claim = |_| {
            let mut claim =
                json!({"uuid": uuid(1, self.below(40) * 8), "vcpus": 1, "memory_mb": 1, "disk_gb": 1});
            if self.one_in(3) {
                claim["group"] = json!(format!("group-{}", self.below(4)));
                claim["flavor"] = json!(format!("flavor-{}", self.below(4)));
            }
            if self.one_in(8) {
                let long = "x".repeat(self.below(2 * LONG));
                claim["image"] =
                    json!({"properties": {"os_distro": long, "many": vec![1; self.below(LONG / 4)]}});
            }
            claim
        };
        (0..self.below(70)).map(claim).collect()
    }

    fn change_tree(&self, root: &mut Value) {
        let count = nodes(root);
        let taken = nth(root, &mut self.below(count)).cloned().unwrap_or_default();
        // Other messages are full of what fits somewhere.
        let foreign = {
            let mut message = Value::Object(self.messages[self.below(self.messages.len())].clone());
            let count = nodes(&message);
            nth(&mut message, &mut self.below(count)).cloned().unwrap_or_default()
        };
        let Some(node) = nth(root, &mut self.below(count)) else { return };
        match (self.below(12), node) {
            (0, node) => *node = taken,
            (1, node) => *node = foreign,
            (2 | 3, Value::Object(members)) if !members.is_empty() => {
                let key = self.key(members);
                members.remove(&key);
            }
            (4, Value::Object(members)) => {
                let key = self.text();
                members.insert(key, foreign);
            }
            (5, Value::Object(members)) if !members.is_empty() => {
                let (from, to) = (self.key(members), self.key(members));
                let moved = members.remove(&from).unwrap_or_default();
                members.insert(to, moved);
            }
            (2, Value::Array(items)) if !items.is_empty() => {
                items.remove(self.below(items.len()));
            }
            (3 | 4, Value::Array(items)) if !items.is_empty() => {
                let item = items[self.below(items.len())].clone();
                let most = if nodes(&item) < 8 { 200 } else { 10 };
                let times = self.below(most);
                items.extend(std::iter::repeat_n(item, times));
            }
            (5, Value::Array(items)) => items.push(foreign),
            (6, Value::Number(number)) => {
                let old = number.as_i64().unwrap_or_default();
                let change = [1, -1, 1 << 31, -(1 << 31), 63][self.below(5)];
                *number = old.wrapping_mul([1, 1, -1, 1024][self.below(4)]).wrapping_add(change).into();
            }
            (7, Value::String(text)) => {
                let other = self.text();
                *text = [text.repeat(2), format!("{text}{other}"), text.chars().skip(1).collect(), other]
                    [self.below(4)]
                .clone();
            }
            (_, node) => *node = self.value(),
        }
    }

    fn key(&self, members: &Map<String, Value>) -> String {
        members.keys().nth(self.below(members.len())).cloned().unwrap_or_default()
    }

    fn value(&self) -> Value {
        match self.below(8) {
            0 => [Value::Null, json!(true), json!(false), json!([]), json!({})][self.below(5)].clone(),
            1 | 2 => json!(self.text()),
            3 => {
                json!([0.0, -0.0, 0.5, -1.5, 1e18, -1e18, 1e19, 1e308, -1e308, 5e-324, 1e-7][self.below(11)])
            }
            4 => json!(vec![0; self.below(LONG)]),
            5 => json!(self.random.u64()),
            _ => {
                let near = [0, 1, 31, 32, 52, 53, 62, 63][self.below(8)];
                let number = (1_u64 << near).wrapping_add([0, 1, u64::MAX, u64::MAX - 1][self.below(4)]);
                if self.one_in(3) { json!((number as i64).wrapping_neg()) } else { json!(number) }
            }
        }
    }

    fn text(&self) -> String {
        const TEXTS: &[&str] = &[
            "",
            " ",
            "0",
            "-1",
            "1.0",
            "2.0",
            "1.9999999999",
            "null",
            "é漢字😀",
            "\u{0}",
            "\u{feff}",
            "\u{202e}",
            "\"",
            "\\",
            "{}",
            "[]",
            "a.b",
            "../..",
            "%s",
            "infinite",
            "unknown",
            "NaN",
            "1e999",
            "18446744073709551616",
            "<in> a",
            "<or> a <or> b",
            "s== x",
            ">= 1",
            "<all-in> a b",
            "compute",
            "volume",
            "host-1",
            "host-2",
            "nova",
            "PCPU",
            "VCPU",
            "CUSTOM_A",
            "trait:CUSTOM_A",
            "resources:CUSTOM_A",
            "required",
            "forbidden",
            "hw:numa_nodes",
            "hw:cpu_policy",
            "dedicated",
            "hw:mem_page_size",
            "large",
            "any",
            "anti-affinity",
            "soft-affinity",
            "different_host",
            "query",
            "[\"and\", [\">=\", \"$free_ram_mb\", 1], [\"not\", [\"=\", \"$x\", \"y\"]]]",
            "00000000-0000-4000-8000-000000000001",
        ];
        match self.below(12) {
            0 => "x".repeat(self.below(LONG)),
            1 => "😀".repeat(self.below(300)),
            2 => "[".repeat(self.below(DEEP)),
            3 => {
                let message = &self.messages[self.below(self.messages.len())];
                self.key(message)
            }
            _ => TEXTS[self.below(TEXTS.len())].to_owned(),
        }
    }

    /// What no tree can say: not JSON, or JSON that one may read in two ways.
    fn change_text(&self, text: &mut String) {
        let mut at = self.below(text.len() + 1);
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        match self.below(8) {
            0 => text.truncate(at),
            1 => text.insert_str(at, &self.text()),
            2 => {
                const ODD: &[&str] = &[
                    "NaN",
                    "Infinity",
                    "-Infinity",
                    "1e999",
                    "-",
                    "01",
                    "\\ud800",
                    "\\u0000",
                    "\\x",
                    "'",
                    "//",
                    ",",
                    "}",
                    "]",
                    "\u{7f}",
                ];
                text.insert_str(at, ODD[self.below(ODD.len())]);
            }
            // In place of a value.
            3 | 4 => {
                const ODD: &[&str] = &[
                    "NaN",
                    "-Infinity",
                    "1e999",
                    "1E400",
                    "-0",
                    "1.0e+2",
                    "\"\\ud83d\"",
                    "123456789012345678901234567890",
                ];
                let colons: Vec<usize> = text.match_indices(':').map(|(at, _)| at).collect();
                if let Some(&colon) = colons.get(self.below(colons.len())) {
                    let end =
                        text[colon + 1..].find([',', '}', ']']).map_or(text.len(), |end| colon + 1 + end);
                    text.replace_range(colon + 1..end, ODD[self.below(ODD.len())]);
                }
            }
            // A key twice.
            5 => {
                let again = format!("{{{}:{},", json!(self.text()), self.value());
                *text = text.replacen('{', &again, 1 + self.below(3));
            }
            6 => {
                let depth = self.below(DEEP);
                let (open, close) = [("[", "]"), ("{\"a\":", "}")][self.below(2)];
                let nested = format!("{}1{}", open.repeat(depth), close.repeat(depth));
                *text = text.replacen("null", &nested, 1).replacen("[]", &nested, 1);
            }
            _ => *text = format!("{text}{}", [" ", "\n\n", "{}", "x", "\u{0}"][self.below(5)]),
        }
    }

    fn seal(&self, inner: String) -> Vec<u8> {
        let sealed = |version: Value, inner: Value| {
            json!({"oslo.version": version, "oslo.message": inner}).to_string()
        };
        let body = match self.below(60) {
            0 => inner,
            1 => sealed(self.value(), json!(inner)),
            2 => sealed(json!("2.0"), self.value()),
            3 => sealed(json!("2.0"), json!(sealed(json!("2.0"), json!(inner)))),
            4 => sealed(json!("2.0"), serde_json::from_str(&inner).unwrap_or_default()),
            5 => format!("[{}]", sealed(json!("2.0"), json!(inner))),
            6 => {
                let mut body = sealed(json!("2.0"), json!(inner));
                self.change_text(&mut body);
                body
            }
            7 => format!(
                "{{\"oslo.version\": \"2.0\", \"extra\": {}, \"oslo.message\": {}}}",
                self.value(),
                json!(inner)
            ),
            _ => sealed(json!("2.0"), json!(inner)),
        };
        body.into_bytes()
    }

    fn change_bytes(&self, body: &mut Vec<u8>) {
        for _ in 0..=self.below(3) {
            if body.is_empty() {
                return;
            }
            let at = self.below(body.len());
            match self.below(5) {
                0 => body[at] ^= 1 << self.below(8),
                1 => body[at] = self.random.u64() as u8,
                2 => body.truncate(at),
                3 => drop(body.splice(at..at, [0xff, 0xc0, b'"', b'\\'][..=self.below(3)].to_vec())),
                _ => {
                    let end = (at + self.below(64)).min(body.len());
                    body.drain(at..end);
                }
            }
        }
    }

    fn compress(&self, body: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
        let written = if self.one_in(50) {
            // A few kilobytes that would be many megabytes.
            encoder.write_all(&vec![b' '; (1 + self.below(20)) << 20])
        } else {
            encoder.write_all(body)
        };
        written.and_then(|()| encoder.finish()).expect("memory takes it")
    }
}

fn uuid(kind: u64, number: usize) -> String {
    format!("00000000-0000-4000-800{kind}-{number:012}")
}

/// How many values a tree has, itself among them.
fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Object(members) => members.values().map(nodes).sum(),
        Value::Array(items) => items.iter().map(nodes).sum(),
        _ => 0,
    }
}

/// The `n`th of them.
fn nth<'a>(value: &'a mut Value, n: &mut usize) -> Option<&'a mut Value> {
    if *n == 0 {
        return Some(value);
    }
    *n -= 1;
    match value {
        Value::Object(members) => members.values_mut().find_map(|member| nth(member, n)),
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, n)),
        _ => None,
    }
}
