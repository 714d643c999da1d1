//! A trait's methods are not the manager's own.

use novella_periodic_task::periodic_tasks;

struct Manager;

trait Report {
    fn report(&self) -> impl Future<Output = ()>;
}

#[periodic_tasks]
impl Report for Manager {
    #[periodic_task]
    async fn report(&self) {}
}

fn main() {}
