//! The mark where no `#[periodic_tasks]` reads it.

use novella_periodic_task::periodic_task;

struct Manager;

impl Manager {
    #[periodic_task(spacing = "30s")]
    async fn report(&self) {}
}

#[periodic_task]
async fn alone() {}

fn main() {}
