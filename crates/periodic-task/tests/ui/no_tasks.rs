//! A block without a mark.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    async fn report(&self) {}
}

fn main() {}
