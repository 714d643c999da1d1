//! Files of fleets, requests and policies: gzipped or not, as one document or with one item on each line.
//!
//! What always holds: an error names the file and the place in it. In a file with one item on each line, the place begins
//! with the line.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use novella_fleet_documents::BadDocument;
use novella_host_manager::PolicyFile;
use novella_objects::document::{Fleet, Requests};
use novella_service::exit::Failure;
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::exit_codes::{NOT_FOUND, USAGE};

/// The next step after an error in a document.
const NEXT: &str = "docs/evaluate.md describes the documents";

/// A line with its number, which counts from 1.
type Line<'s> = (usize, &'s str);

/// The text of a file, with its name for errors.
#[derive(Debug)]
pub struct Source {
    name: String,
    text: String,
}

impl Source {
    /// Reads a whole file, or standard input if the path is `-`.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let name = path.display().to_string();
        let text = match name.as_str() {
            "-" => read(io::stdin().lock()),
            _ => File::open(path).and_then(read),
        };
        match text {
            Ok(text) => Ok(Self { name, text }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Failure::new(NOT_FOUND, format!("there is no file {name}")))
            }
            Err(error) => Err(Failure::new(USAGE, format!("cannot read {name}")).because(error)),
        }
    }

    /// The failure for something wrong in this file.
    pub fn refused(&self, bad: &BadDocument) -> Failure {
        Failure::new(USAGE, format!("{}: {bad}", self.name)).next(NEXT)
    }

    /// Reads the file as a fleet.
    pub fn fleet(&self) -> Result<Fleet<'_>, Failure> {
        self.document("hosts", "host", |fleet: &mut Fleet<'_>| &mut fleet.hosts)
    }

    /// Reads the file as requests.
    pub fn requests(&self) -> Result<Requests, Failure> {
        self.document("requests", "vcpus", |requests: &mut Requests| &mut requests.requests)
    }

    /// Reads one document that holds this list, or a header and then an item of the list on each line.
    fn document<'s, T: Deserialize<'s> + Default, Item: Deserialize<'s>>(
        &'s self,
        list: &str,
        of_item: &str,
        items: impl Fn(&mut T) -> &mut Vec<Item>,
    ) -> Result<T, Failure> {
        let Some(lines) = self.lines(list)? else { return self.parse("", &self.text) };
        let (mut document, rest) = self.header(&lines, of_item)?;
        for (line, text) in rest {
            items(&mut document).push(self.parse(&format!("line {line}"), text)?);
        }
        if items(&mut document).is_empty() { Err(self.nothing(list)) } else { Ok(document) }
    }

    /// Reads the file as a policy of a scheduler.
    pub fn policy(&self) -> Result<PolicyFile, Failure> {
        PolicyFile::parse(&self.text).map_err(|bad| {
            let next = "config/policy.toml shows every key of a policy";
            Failure::new(USAGE, format!("{}: {bad}", self.name)).next(next)
        })
    }

    fn nothing(&self, what: &str) -> Failure {
        let next = format!("write {{\"schema\": 1, \"{what}\": [...]}}, or one object on each line");
        Failure::new(USAGE, format!("{}: there are no {what}", self.name)).next(next)
    }

    /// The lines that are not blank. Returns `None` if the file is one document that holds this list.
    fn lines(&self, list: &str) -> Result<Option<Vec<Line<'_>>>, Failure> {
        let lines = || (1..).zip(self.text.lines()).filter(|(_, line)| !line.trim().is_empty());
        let Some((_, first)) = lines().next() else { return Err(self.nothing(list)) };
        let by_line = keys(first).is_some_and(|keys| !keys.contains_key(list));
        Ok(by_line.then(|| lines().collect()))
    }

    /// Splits off a first line that is a header. A header has the key `schema` and not the key that every item has.
    fn header<'s, 'l, T: Deserialize<'s> + Default>(
        &self,
        lines: &'l [Line<'s>],
        of_item: &str,
    ) -> Result<(T, &'l [Line<'s>]), Failure> {
        if let Some(((line, first), rest)) = lines.split_first()
            && keys(first).is_some_and(|keys| keys.contains_key("schema") && !keys.contains_key(of_item))
        {
            return Ok((self.parse(&format!("line {line}"), first)?, rest));
        }
        Ok((T::default(), lines))
    }

    fn parse<'s, T: Deserialize<'s>>(&self, place: &str, text: &'s str) -> Result<T, Failure> {
        parse(text).map_err(|(within, reason)| {
            let parts = [self.name.as_str(), place, &within, &reason];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            Failure::new(USAGE, parts.join(": ")).next(NEXT)
        })
    }
}

/// Reads a document. An error is the place in it and the reason.
pub fn parse<'s, T: Deserialize<'s>>(text: &'s str) -> Result<T, (String, String)> {
    // Tracking places is slow, so it is only done in a second reading, after an error.
    serde_json::from_str(text).map_err(|error| {
        let mut reader = serde_json::Deserializer::from_str(text);
        match serde_path_to_error::deserialize::<_, T>(&mut reader) {
            Ok(_) => (String::new(), error.to_string()), // something follows the document
            Err(traced) => match traced.path().to_string() {
                path if path == "." => (String::new(), traced.inner().to_string()),
                path => (path, traced.inner().to_string()),
            },
        }
    })
}

/// The keys of a text that is one JSON object.
fn keys(text: &str) -> Option<BTreeMap<Cow<'_, str>, IgnoredAny>> {
    serde_json::from_str(text).ok()
}

fn read(input: impl Read) -> io::Result<String> {
    let mut input = BufReader::new(input);
    let mut text = String::new();
    if io::BufRead::fill_buf(&mut input)?.starts_with(&[0x1f, 0x8b]) {
        MultiGzDecoder::new(input).read_to_string(&mut text)?;
    } else {
        input.read_to_string(&mut text)?;
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn source(text: &str) -> Source {
        Source { name: "f".to_owned(), text: text.to_owned() }
    }

    fn names(text: &str) -> Result<Vec<String>, String> {
        let source = source(text);
        let fleet = source.fleet().map_err(|failure| failure.what)?;
        Ok(fleet.hosts.iter().map(|host| host.host.to_string()).collect())
    }

    #[test]
    fn one_document_or_one_host_on_each_line() {
        let two = Ok(vec!["a".to_owned(), "b".to_owned()]);
        assert_eq!(names(r#"{"schema":1,"hosts":[{"host":"a"},{"host":"b"}]}"#), two);
        assert_eq!(names("{\"hosts\":\n[{\"host\":\"a\"},{\"host\":\"b\"}],\n\"n\":2}\n"), two);
        assert_eq!(names("{\"host\":\"a\",\"aggregates\":[1]}\n\n{\"host\":\"b\"}\n"), two);
        assert_eq!(
            names("{\"schema\":1,\"aggregates\":[{\"id\":1}]}\n{\"host\":\"a\"}\n{\"host\":\"b\"}"),
            two
        );
        assert_eq!(names(r#"{"host":"a"}"#), Ok(vec!["a".to_owned()]));
        let requests = source("{\"vcpus\":1}\n{\"memory_mb\":2}\n").requests().unwrap();
        assert_eq!((requests.requests[0].vcpus, requests.requests[1].memory_mb), (1, 2));
        let one =
            source("{\"schema\":1,\"filter_sets\":{\"few\":[]}}\n{\"filters\":\"few\"}").requests().unwrap();
        assert_eq!((one.requests.len(), one.filter_sets.len()), (1, 1));
    }

    #[test]
    fn refusals_name_the_place() {
        for (text, error) in [
            ("", "f: there are no hosts"),
            (r#"{"schema":1}"#, "f: there are no hosts"),
            (
                r#"{"schema":1,"hosts":[{"host":"a","vcpus":"x"}]}"#,
                "f: hosts[0].vcpus: invalid type: string \"x\"",
            ),
            (
                "{\"host\":\"a\"}\n{\"host\":\"b\",\"cpus\":1}",
                "f: line 2: cpus: unknown field `cpus`, expected one of",
            ),
            (r#"{"schema":3,"hosts":[]}"#, "f: schema: this is version 3 of the schema; only version 1"),
            ("{\"hosts\":[]} x", "f: trailing characters at line 1"),
            ("hosts", "f: expected value at line 1 column 1"),
        ] {
            let refused = names(text).unwrap_err();
            assert!(refused.starts_with(error), "{text}: {refused}");
        }
    }

    #[test]
    fn gzipped_text_is_read_as_text() {
        let mut zipped = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        zipped.write_all(b"{}").unwrap();
        assert_eq!(read(&*zipped.finish().unwrap()).unwrap(), "{}");
        assert_eq!(read(&b"{}"[..]).unwrap(), "{}");
        assert_eq!(read(&b""[..]).unwrap(), "");
        assert!(read(&b"\x1f\x8bx"[..]).is_err());
    }
}
