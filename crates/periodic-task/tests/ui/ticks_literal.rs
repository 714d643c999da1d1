//! Ticks that cannot be counted.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(ticks_between_runs = -1)]
    async fn negative(&self) {}

    #[periodic_task(ticks_between_runs = "2")]
    async fn text(&self) {}

    #[periodic_task(ticks_between_runs = 1.5)]
    async fn fraction(&self) {}

    #[periodic_task(ticks_between_runs = 4294967296)]
    async fn too_many(&self) {}
}

fn main() {}
