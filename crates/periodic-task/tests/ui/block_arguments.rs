//! The method's arguments on the block.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks(spacing = "30s")]
impl Manager {
    #[periodic_task]
    async fn report(&self) {}
}

fn main() {}
