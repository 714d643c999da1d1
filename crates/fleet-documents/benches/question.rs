//! Questions per second, from the text of a question to the text of its answer, as `novella evaluate --stdin` answers
//! them. A question is one request on the first hosts of a recorded fleet, with twelve filters and all thirteen
//! weighers.

use std::fs::File;
use std::path::Path;

use divan::Bencher;
use divan::counter::ItemsCount;
use novella_fleet_documents::answer;
use novella_objects::document::{Answer, Question};
use serde_json::{Value, json};

fn main() {
    divan::main();
}

fn read(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle").join(name);
    let file = File::open(path).expect("the recording is there");
    serde_json::from_reader(flate2::read::GzDecoder::new(file)).expect("it is JSON")
}

#[divan::bench(args = [10, 100, 1000])]
fn on_hosts(bencher: Bencher<'_, '_>, hosts: usize) {
    let (mut fleet, requests) = (read("fleet_1000.json.gz"), read("requests_1000.json.gz"));
    fleet["hosts"].as_array_mut().expect("a list").truncate(hosts);
    let text = json!({
        "id": 1, "aggregates": fleet["aggregates"], "hosts": fleet["hosts"],
        "filter_sets": requests["filter_sets"], "requests": [requests["requests"][0]],
    })
    .to_string();
    bencher.counter(ItemsCount::new(1_usize)).bench(|| {
        let mut question: Question<'_> = serde_json::from_str(&text).expect("a good question");
        let id = question.id.take();
        let answered = answer(question, None).expect("it can be answered");
        let (filters, results) = (answered.filters, Some(answered.outcomes));
        serde_json::to_string(&Answer { id, filters, results, error: None }).expect("an answer is JSON")
    });
}
