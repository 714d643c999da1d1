//! Where the answer to a call goes, as the call says it.

use std::time::Duration;

use serde_json::value::RawValue;

use super::fields::{Fields, is_truthy, text_of};
use crate::transport::MAX_NAME_BYTES;

/// Longest `_timeout` that is taken literally, in seconds: a year. Longer ones count as a year.
pub(super) const MAX_MONITOR_S: f64 = 366.0 * 86_400.0;

/// Where the answer to a call goes.
#[derive(Debug, Clone)]
pub(crate) struct ReplyAddress {
    /// `_msg_id`, which the answer repeats unchanged.
    pub(crate) msg_id: Box<RawValue>,
    /// `_reply_q`, if it can be the name of a queue.
    pub(crate) queue: Option<String>,
    /// How often the caller wants a heartbeat: half its monitor timeout. `None` if it wants none.
    pub(crate) heartbeat: Option<Duration>,
}

impl ReplyAddress {
    /// The address in a request. `None` if the request is a cast.
    pub(super) fn of(fields: &Fields<'_>) -> Option<Self> {
        let msg_id = fields.get("_msg_id").filter(|raw| is_truthy(raw))?;
        Some(Self {
            msg_id: msg_id.to_owned(),
            queue: fields.get("_reply_q").and_then(text_of).filter(|name| can_be_a_queue(name)),
            heartbeat: fields.get("_timeout").and_then(heartbeat),
        })
    }
}

pub(super) fn can_be_a_queue(name: &str) -> bool {
    !name.is_empty() && name.len() <= MAX_NAME_BYTES
}

/// Half of `_timeout`, as oslo.messaging computes it: `int(_timeout) / 2`. Below one second there are no heartbeats.
fn heartbeat(timeout: &RawValue) -> Option<Duration> {
    let seconds = match text_of(timeout) {
        Some(text) => text.trim().parse::<i64>().ok()? as f64,
        None => serde_json::from_str::<f64>(timeout.get()).ok()?.trunc(),
    };
    (seconds >= 2.0).then(|| Duration::from_secs_f64(seconds.min(MAX_MONITOR_S) / 2.0))
}
