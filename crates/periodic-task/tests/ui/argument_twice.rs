//! `spacing` twice.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacing = "30s", spacing = "40s")]
    async fn report(&self) {}
}

fn main() {}
