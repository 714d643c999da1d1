//! Nobody could hand it over.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task]
    async fn report(&self, _refresh: bool) {}
}

fn main() {}
