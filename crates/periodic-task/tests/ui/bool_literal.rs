//! Switches that are no `bool`.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(enabled = "yes")]
    async fn a(&self) {}

    #[periodic_task(run_immediately = 1)]
    async fn b(&self) {}
}

fn main() {}
