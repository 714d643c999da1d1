//! Two ways to say how often.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacing = "30s", ticks_between_runs = 2)]
    async fn report(&self) {}
}

fn main() {}
