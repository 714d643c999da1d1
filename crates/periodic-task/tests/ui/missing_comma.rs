//! Arguments without a comma.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(run_immediately spacing = "30s")]
    async fn report(&self) {}
}

fn main() {}
