//! Return types that are no outcome.

use novella_periodic_task::periodic_tasks;

struct Manager;

#[periodic_tasks]
impl Manager {
    #[periodic_task]
    async fn number(&self) -> u32 {
        7
    }

    #[periodic_task]
    async fn value(&self) -> Result<u32, String> {
        Ok(7)
    }
}

fn main() {}
