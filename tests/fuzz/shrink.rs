//! A failing history made smaller: without steps that it fails without, then without bytes.

use std::time::{Duration, Instant};

use crate::world::{Step, World};

/// Nobody waits longer for a smaller one.
const PATIENCE: Duration = Duration::from_secs(60);

/// The smallest history found that still fails, which `steps` do.
#[expect(clippy::disallowed_methods, reason = "how long to search is real time")]
pub fn smallest(seed: u64, steps: &[Step]) -> Vec<Step> {
    let began = Instant::now();
    let fails = |steps: &[Step]| began.elapsed() < PATIENCE && fails(seed, steps);
    let mut found = without_parts(steps.to_vec(), fails);
    for at in (0..found.len()).rev() {
        let Step::Message { body, compression } = found[at].clone() else { continue };
        let with = |body: &[u8]| {
            let mut steps = found.clone();
            steps[at] = Step::Message { body: body.to_vec(), compression };
            steps
        };
        let smaller = match unsealed(&body) {
            Some(inner) => {
                let fails =
                    |inner: &[u8]| std::str::from_utf8(inner).is_ok_and(|inner| fails(&with(&sealed(inner))));
                let smaller = without_parts(inner.clone().into_bytes(), fails);
                String::from_utf8(smaller).map_or(body, |inner| sealed(&inner))
            }
            None => without_parts(body, |body| fails(&with(body))),
        };
        found = with(&smaller);
    }
    found
}

fn fails(seed: u64, steps: &[Step]) -> bool {
    let mut world = World::new(seed);
    steps.iter().any(|step| world.take(step).is_err()) || world.end().is_err()
}

/// Takes away halves, quarters, eighths, ..., single elements for as long as it fails without them.
fn without_parts<T: Clone>(mut all: Vec<T>, fails: impl Fn(&[T]) -> bool) -> Vec<T> {
    let mut size = all.len().div_ceil(2);
    while size > 0 {
        let mut at = 0;
        while at < all.len() {
            let end = (at + size).min(all.len());
            let fewer = [&all[..at], &all[end..]].concat();
            if fails(&fewer) { all = fewer } else { at = end }
        }
        size = if size == 1 { 0 } else { size.div_ceil(2) };
    }
    all
}

fn unsealed(body: &[u8]) -> Option<String> {
    let body: serde_json::Value = serde_json::from_slice(body).ok()?;
    let inner = body.get("oslo.message")?.as_str()?.to_owned();
    (sealed(&inner).len() <= body.to_string().len() + 8).then_some(inner)
}

fn sealed(inner: &str) -> Vec<u8> {
    serde_json::json!({"oslo.version": "2.0", "oslo.message": inner}).to_string().into_bytes()
}
