//! The block's attribute on other items.

use novella_periodic_task::periodic_tasks;

#[periodic_tasks]
struct Manager;

#[periodic_tasks]
async fn report() {}

fn main() {}
