//! Configuration: settings are declared once, read from layers of sources, checked, explained and shipped as examples.
//!
//! Layers, later ones win: the defaults, the files of `--config` in their order (TOML), environment variables
//! (`NOVELLA_SECTION__KEY`; a top-level key is `NOVELLA_KEY`, such as `NOVELLA_TRANSPORT_URL`), the command line.
//! Tables are merged entry by entry, everything else is replaced. An environment variable that is set to nothing counts
//! as unset, because that is how compose files pass on what the user left out.
//!
//! What always holds: a secret's value appears in no problem and no listing.
//!
//! What it leaves out: the settings themselves. Each program declares its own with [`settings!`](crate::settings).

mod checks;
mod command;
mod example;
mod layers;
mod load;
mod problem;
mod secret;
mod setting;
mod source;
mod units;
mod value;

pub(crate) use checks::listen_address;
pub use checks::{
    MAX_NAME, check_exchange, check_listen, check_name, check_times, check_topics, check_users, name_fault,
};
pub use command::{ConfigCommand, ExplainFormat, OutputFormat};
pub use example::{shipped_file_faults, shipped_table_faults};
pub use load::{CheckedFiles, Loaded, Settings, changed_keys, load};
pub use problem::{Invalid, Problem};
pub(crate) use secret::redact_url;
pub(crate) use setting::ENV_PREFIX;
pub use setting::{Section, Setting};
pub use source::{Origin, Override, Sources};
pub use units::{Size, SizeError, duration};

#[cfg(test)]
mod tests;
