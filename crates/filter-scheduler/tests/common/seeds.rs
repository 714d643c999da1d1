//! The seeds of a random test, shared out among all processors.
//!
//! A case that fails prints its seed. With the test's variable set to a number, the case of that seed runs alone.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Runs the cases of the seeds below `cases`, and notes what each yields. Returns whether all of them ran, so that the
/// test can hold the sum of the notes against what the generator should reach.
pub fn each<T: Send>(
    variable: &str,
    cases: u64,
    case: impl Fn(u64) -> T + Sync,
    mut note: impl FnMut(T),
) -> bool {
    if let Ok(seed) = std::env::var(variable) {
        note(case(seed.parse().unwrap_or_else(|_| panic!("{variable} is a number"))));
        return false;
    }
    let one = |seed| {
        catch_unwind(AssertUnwindSafe(|| case(seed))).unwrap_or_else(|panic| {
            eprintln!("failed at {variable}={seed}");
            resume_unwind(panic)
        })
    };
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let part = |thread: u64| (thread..cases).step_by(threads as usize).map(one).collect::<Vec<_>>();
    std::thread::scope(|scope| {
        let parts: Vec<_> = (0..threads).map(|thread| scope.spawn(move || part(thread))).collect();
        for part in parts {
            part.join().unwrap_or_else(|panic| resume_unwind(panic)).into_iter().for_each(&mut note);
        }
    });
    true
}

/// Runs the cases of the seeds below `cases`. Each yields words for what it reached. If all cases ran, each of `words`
/// must have come up `least` times.
pub fn reaching(
    variable: &str,
    cases: u64,
    case: impl Fn(u64) -> Vec<String> + Sync,
    words: &[&str],
    least: u32,
) {
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    let all_ran = each(variable, cases, case, |reached| {
        reached.into_iter().for_each(|word| *seen.entry(word).or_default() += 1);
    });
    let few: Vec<_> =
        words.iter().filter(|word| seen.get(**word).is_none_or(|times| *times < least)).collect();
    assert!(!all_ran || few.is_empty(), "{few:?} {seen:?}");
}
