//! Finds the caller's address in a message that is not JSON: a NaN, a number out of range, a text cut short.
//!
//! A caller that is told what is wrong is better off than one that waits for its timeout. The scan knows strings and
//! brackets and nothing else, so that it can neither fail nor recurse.

use serde_json::value::RawValue;

use super::{MAX_QUEUE_NAME, ReplyAddress};

/// `_msg_id` and `_reply_q` of the outermost object, if both are there as strings.
pub(super) fn reply_address(text: &str) -> Option<ReplyAddress> {
    let (mut msg_id, mut queue) = (None, None);
    // The string before the colon, and the last string seen.
    let (mut key, mut last) = (None, None);
    let (mut depth, mut at) = (0_usize, 0);
    let bytes = text.as_bytes();
    while let Some(&byte) = bytes.get(at) {
        match byte {
            b'"' => {
                let end = end_of_string(bytes, at)?;
                if depth == 1 {
                    last = Some(&text[at..end]);
                    match key {
                        Some("\"_msg_id\"") => msg_id = last,
                        Some("\"_reply_q\"") => queue = last,
                        _ => {}
                    }
                }
                at = end;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b':' if depth == 1 => key = last,
            b',' if depth == 1 => key = None,
            _ => {}
        }
        at += 1;
    }
    let msg_id = RawValue::from_string(msg_id.filter(|id| id.len() > 2)?.to_owned()).ok()?;
    let queue: String = serde_json::from_str(queue?).ok()?;
    (!queue.is_empty() && queue.len() <= MAX_QUEUE_NAME).then_some(ReplyAddress {
        msg_id,
        queue: Some(queue),
        heartbeat: None,
    })
}

/// The index after the closing quote of the string that opens at `start`.
fn end_of_string(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match bytes.get(at)? {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
}
