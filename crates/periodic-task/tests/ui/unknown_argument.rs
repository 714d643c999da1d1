//! An argument that does not exist.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacin = "30s")]
    async fn report(&self) {}
}

fn main() {}
