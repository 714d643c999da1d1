//! Two marks on one method.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacing = "30s")]
    #[periodic_task]
    async fn report(&self) {}
}

fn main() {}
