//! What changes the map. Each verb has one file.

pub(crate) mod adopt_holds;
pub(crate) mod answers;
pub(crate) mod apply_report;
pub(crate) mod enforce_policy;
pub(crate) mod forget_host;
pub(crate) mod make_room;
pub(crate) mod place;
pub(crate) mod place_on_service;
pub(crate) mod quota;
pub(crate) mod reserve;
pub(crate) mod watch;
