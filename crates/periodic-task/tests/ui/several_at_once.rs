//! Every mistake of a block is told in one go, and none causes another: the runner still starts this manager.

use std::sync::Arc;

use novella_periodic_task::{Runner, RunnerOptions, periodic_tasks};

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task(every = "30s")]
    async fn first(&self) {}

    #[periodic_task]
    fn second(&self) {}

    #[periodic_task]
    async fn third(&self) {}
}

fn start(options: RunnerOptions) -> Runner {
    Runner::start(Arc::new(Manager), options)
}

fn main() {}
