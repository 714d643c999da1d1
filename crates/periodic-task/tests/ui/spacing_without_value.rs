//! `=` or what follows it is missing.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacing)]
    async fn a(&self) {}

    #[periodic_task(spacing =, run_immediately)]
    async fn b(&self) {}
}

fn main() {}
