//! Expressions of another type than the argument's; the compiler's own words, inside the attribute.

use novella_periodic_task::periodic_tasks;

struct Manager {
    seconds: u64,
    text: &'static str,
}

#[periodic_tasks]
impl Manager {
    #[periodic_task(spacing = self.seconds)]
    async fn spacing(&self) {}

    #[periodic_task(ticks_between_runs = self.text)]
    async fn ticks(&self) {}

    #[periodic_task(enabled = self.seconds)]
    async fn enabled(&self) {}

    #[periodic_task(run_immediately = self.text)]
    async fn immediately(&self) {}
}

fn main() {}
