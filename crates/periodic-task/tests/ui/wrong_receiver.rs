//! Receivers other than `&self`.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task]
    async fn exclusive(&mut self) {}

    #[periodic_task]
    async fn by_value(self) {}

    #[periodic_task]
    async fn shared(self: std::sync::Arc<Self>) {}
}

fn main() {}
