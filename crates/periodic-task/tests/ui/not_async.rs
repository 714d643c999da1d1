//! A method that would block its thread.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task]
    fn report(&self) {}
}

fn main() {}
