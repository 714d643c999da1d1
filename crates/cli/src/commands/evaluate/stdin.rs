//! Answers a question on each line of input with a line of output, for programs that ask thousands of questions.
//!
//! What always holds: each line that is not blank gets one line of answer, in order. A line that cannot be read gets an
//! error, and the next line is read. Output is flushed when no further question has arrived, so a program may wait for each
//! answer before it asks again.

use std::io::{self, BufRead, BufReader, Read, Write};

use novella_fleet_documents::{Answered, answer};
use novella_host_manager::PolicyFile;
use novella_objects::Json;
use novella_objects::document::{Answer, Question, QuestionError};
use serde::Deserialize;

use crate::commands::documents::parse;
use crate::exit_codes::OK;

/// The longest line in bytes. A fleet of 200,000 hosts fits, and an endless line cannot use up the memory.
const MAX_LINE: u64 = 256 << 20;

/// Answers questions until the input ends.
pub fn serve(input: &mut dyn Read, policy: Option<&PolicyFile>, out: &mut dyn Write) -> anyhow::Result<u8> {
    let mut input = BufReader::with_capacity(1 << 16, input);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        if (&mut input).take(MAX_LINE).read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let mut id = None;
        let results = if text.len() as u64 == MAX_LINE && text.last() != Some(&b'\n') {
            skip_line(&mut input)?;
            Some(Err((String::new(), format!("the line is longer than {MAX_LINE} bytes"))))
        } else {
            let is_blank = text.iter().all(u8::is_ascii_whitespace);
            (!is_blank).then(|| results(&text, policy, &mut id))
        };
        if let Some(results) = results {
            let answer = match results {
                Ok(Answered { filters, outcomes }) => {
                    Answer { id, filters, results: Some(outcomes), error: None }
                }
                Err((place, reason)) => {
                    let error = Some(QuestionError { line, place, reason });
                    Answer { id, filters: Vec::new(), results: None, error }
                }
            };
            serde_json::to_writer(&mut *out, &answer)?;
            out.write_all(b"\n")?;
        }
        if input.buffer().is_empty() {
            out.flush()?;
        }
    }
    out.flush()?;
    Ok(OK)
}

/// The id of a question, even if nothing else in it can be read.
#[derive(Deserialize)]
struct Identified<'a> {
    #[serde(default, borrow)]
    id: Option<Json<'a>>,
}

/// The results of the question on a line, or the place of an error and its reason. The id is known if the line is
/// JSON.
fn results<'a>(
    text: &'a [u8],
    policy: Option<&PolicyFile>,
    id: &mut Option<Json<'a>>,
) -> Result<Answered, (String, String)> {
    let text = std::str::from_utf8(text).map_err(|error| (String::new(), error.to_string()))?;
    let mut question: Question<'_> = parse(text).inspect_err(|_| {
        *id = serde_json::from_str::<Identified<'_>>(text).ok().and_then(|question| question.id);
    })?;
    *id = question.id.take();
    answer(question, policy).map_err(|bad| (bad.place, bad.reason))
}

fn skip_line(input: &mut impl BufRead) -> io::Result<()> {
    loop {
        let buffer = input.fill_buf()?;
        let (length, end) = match buffer.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (buffer.len(), buffer.is_empty()),
        };
        input.consume(length);
        if end {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn every_line_gets_a_line() {
        let good = r#"{"id":[7],"hosts":[{"host":"a","memory_mb":9}],"requests":[{"memory_mb":1}]}"#;
        let input = format!(
            "{good}\n\nx\n{{\"id\":{{\"n\":1}},\"hosts\":[],\"requests\":[{{\"cpus\":1}}]}}\n{{\"id\":\"q\",\"options\":{{\"x\":1}},\"hosts\":[],\
             \"requests\":[]}}\n{good}"
        );
        let mut input = input.into_bytes();
        input.extend(b"\n\xff\n{\"hosts\":[],\"requests\":[]}");
        let mut out = Vec::new();
        assert_eq!(serve(&mut &*input, None, &mut out).unwrap(), OK);
        let lines: Vec<Value> =
            String::from_utf8(out).unwrap().lines().map(|l| serde_json::from_str(l).unwrap()).collect();
        let outcome = json!({"complete": true, "id": 0, "picks": [0], "verdict": ".", "weights": [[0, 0.0]]});
        let filters = &lines[0]["filters"];
        assert_eq!((&filters[0], filters.as_array().unwrap().len()), (&json!("ComputeFilter"), 5));
        assert_eq!(lines[0], json!({"id": [7], "filters": filters, "results": [outcome]}));
        assert_eq!(lines[0], lines[4]);
        let error = |at: usize| (&lines[at]["error"]["line"], &lines[at]["error"]["place"]);
        assert_eq!(error(1), (&json!(3), &json!("")));
        assert_eq!(error(2), (&json!(4), &json!("requests[0].cpus")));
        assert_eq!(lines[2]["id"], json!({"n": 1}), "the id is known although the question is not");
        assert_eq!((error(3), &lines[3]["id"]), ((&json!(5), &json!("options.x")), &json!("q")));
        assert_eq!(error(5), (&json!(7), &json!("")));
        assert_eq!(lines[6..], [json!({"filters": filters, "results": []})]);
    }

    #[test]
    fn the_rest_of_a_line_is_skipped() {
        let mut input = BufReader::with_capacity(2, &b"long\nnext"[..]);
        skip_line(&mut input).unwrap();
        let mut rest = String::new();
        input.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "next");
        skip_line(&mut input).unwrap();
    }
}
