//! A value that does not say what it is.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task("30s")]
    async fn report(&self) {}
}

fn main() {}
