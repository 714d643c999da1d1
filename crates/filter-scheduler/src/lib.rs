//! Nova's filter scheduler as a pure, synchronous, columnar engine.
//!
//! [`HostTable`] is the fleet as columns; the host manager writes reports and reservations into it; [`FilterScheduler`]
//! filters, weighs and picks from it. Time and randomness are arguments: same table, request and seed, same answer.
//!
//! Left out on purpose: clocks, I/O, tasks, locks, and the wire.
//!
//! # Layout
//!
//! The modules in reading order, from the request to the answer. Each imports only those above it.
//!
//! - `nova`: how Nova's Python reads values
//! - `settings`: what an operator sets: filters, weighers, options
//! - `request`: what is asked, read once
//! - `table`: the fleet as columns
//! - `filters`: one file per rule, compiled to operations on columns
//! - `prefilters`: what Nova asks Placement for, checked before the filters
//! - `weighers`: the value of a host
//! - `select`: the placement algorithm; start at `select/select.rs`
//! - `questions`: explain, near misses, fixes, capacity

mod filters;
pub mod nova;
mod prefilters;
mod questions;
mod request;
mod select;
mod settings;
mod table;
mod weighers;

pub use novella_resources::{Allocation, Amounts, ClassAmounts, is_resource_class};

pub use nova::image_properties::BadImage;
pub use prefilters::COMPUTE_STATUS_DISABLED;
pub use questions::capacity::{Eligible, MAX_ON_A_HOST, eligible};
pub use questions::changes::{change_request, try_changes};
pub use questions::evaluate::{Evaluation, Verdict, evaluate};
pub use questions::fix::{MAX_LOOKS, MAX_TRIALS, search as search_fixes};
pub use questions::inspect::inspect;
pub use questions::moving::Running;
pub use questions::near::{NearMisses, near_misses};
pub use questions::unread::{Unread, never_fits, unread, unread_extra_spec};
pub use request::charges::charges;
pub use request::failure::{BadFeature, Failure, FilterError, WeigherError};
pub use request::server_group;
pub use select::answer::{FilterLimits, NumaLimits, Pick, Selected, Terms};
pub use select::select::FilterScheduler;
pub use settings::filter_kind::FilterKind;
pub use settings::named::UnknownName;
pub use settings::nearest::{misspelt, nearest};
pub use settings::options::{
    BadOptions, MAX_MULTIPLIER, MIN_MULTIPLIER, OnFilterError, Policy, SchedulerOptions, is_multiplier, ratio,
};
pub use settings::weigher_kind::WeigherKind;
pub use table::aggregates::Aggregate;
pub use table::amounts::{MAX_RATIO, MIN_RATIO, Resources, Unusable};
pub use table::block::Row;
pub use table::dictionary::Dictionary;
pub use table::host_table::HostTable;
pub use table::instances::{Instance, InstanceKind};
pub use table::inventories::ClassUsage;
pub use table::traits::TraitSnapshot;
pub use table::view::{HostState, Snapshot};
pub use weighers::weigher::{SUSPECT_WEIGHER, suspect_multiplier};
