//! A function of nobody.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task]
    async fn report() {}
}

fn main() {}
