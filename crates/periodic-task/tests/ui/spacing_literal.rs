//! Durations that are none.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacing = "30")]
    async fn no_unit(&self) {}

    #[periodic_task(spacing = "thirty seconds")]
    async fn words(&self) {}

    #[periodic_task(spacing = "5 parsecs")]
    async fn unknown_unit(&self) {}

    #[periodic_task(spacing = "")]
    async fn empty(&self) {}

    #[periodic_task(spacing = "-5s")]
    async fn negative(&self) {}

    #[periodic_task(spacing = "0s")]
    async fn zero(&self) {}

    #[periodic_task(spacing = 30)]
    async fn number(&self) {}

    #[periodic_task(spacing = -1)]
    async fn negative_number(&self) {}

    #[periodic_task(spacing = true)]
    async fn boolean(&self) {}
}

fn main() {}
