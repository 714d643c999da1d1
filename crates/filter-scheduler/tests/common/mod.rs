//! What tests share: hosts that are up, plain requests, and ways to ask about them.

#![allow(dead_code, reason = "no test uses all of it")]

pub mod seeds;

use std::collections::BTreeMap;

use novella_filter_scheduler::{
    FilterScheduler, HostTable, Resources, Row, SchedulerOptions, Selected, Terms,
};
use novella_objects::{Flavor, HostStatus, RequestSpec};
use rand::RngExt;
use rand::seq::IndexedRandom;
use rand_chacha::ChaCha8Rng;
use uuid::Uuid;

pub type Rng = ChaCha8Rng;

/// Terms with which nothing stays placed.
pub const DRY: Terms = Terms { seed: 0, dry_run: true, alternates: None, unexplained: false };

/// Adds a host that is up.
pub fn add(table: &mut HostTable, host: &str, nodename: &str, resources: &Resources) -> Row {
    let row = table.insert(host, nodename);
    table.set_resources(row, resources).expect("good resources");
    table.set_status(row, HostStatus::Up);
    row
}

/// Writes what a host reports about itself: top-level keys, each followed by a comma, and facts.
pub fn report(table: &mut HostTable, row: Row, attributes: &str, facts: &str) {
    let text = format!(
        r#"{{{attributes}"novella":{{"uuid":"00000000-0000-0000-0000-000000000001","incarnation":1,"nonce":1,"seq":1,
        "sent_at":"","interval_ms":1,"facts":{{{facts}}}}}}}"#
    );
    table.set_capabilities(row, &serde_json::from_str(&text).expect("a good report"));
}

pub fn scheduler(options: SchedulerOptions) -> FilterScheduler {
    FilterScheduler::new(options).expect("good options")
}

/// A request of 1 GiB of memory and 1 GiB of disk, with these extra specs.
pub fn request(vcpus: u32, specs: &[(&str, &str)]) -> RequestSpec {
    let extra_specs = specs.iter().map(|(key, text)| ((*key).to_owned(), (*text).to_owned())).collect();
    RequestSpec {
        flavor: Flavor { vcpus, memory_mb: 1024, root_gb: 1, extra_specs, ..Flavor::default() },
        ..RequestSpec::default()
    }
}

pub fn uuids(instances: u128) -> Vec<Uuid> {
    (1..=instances).map(Uuid::from_u128).collect()
}

/// The answer of a new scheduler.
pub fn answer(
    options: SchedulerOptions,
    table: &mut HostTable,
    request: &RequestSpec,
    instances: u128,
    terms: &Terms,
) -> Selected {
    scheduler(options).select(table, request, &uuids(instances), terms)
}

/// The hosts that were picked.
pub fn picks(table: &HostTable, selected: &Selected) -> Vec<String> {
    selected.picks.iter().map(|pick| table.host(pick.row).to_owned()).collect()
}

/// How many instances of a request fit on a host one by one, up to `many`, and which filter refused the next.
pub fn one_by_one(
    engine: &mut FilterScheduler,
    table: &mut HostTable,
    request: &RequestSpec,
    host: &str,
    many: u64,
) -> (u64, Option<String>) {
    let request = RequestSpec { target_host: Some(host.to_owned()), ..request.clone() };
    for placed in 0..many {
        let selected = engine.select(table, &request, &uuids(1), &Terms::default());
        if selected.failure.is_some() {
            return (placed, selected.explanation.filters.last().map(|tally| tally.filter.to_string()));
        }
    }
    (many, None)
}

/// Sets a key to one of these values, with this chance.
pub fn set<V: for<'v> From<&'v str>>(
    rng: &mut Rng,
    map: &mut BTreeMap<String, V>,
    key: &str,
    chance: f64,
    values: &[&str],
) {
    if rng.random_bool(chance) {
        map.insert(key.to_owned(), V::from(values.choose(rng).expect("there are some")));
    }
}
