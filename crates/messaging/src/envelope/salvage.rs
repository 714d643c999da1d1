//! Finds the caller's address in a message that is not JSON: one with a NaN, a number out of range, or cut short.
//!
//! With the address, the caller gets an error at once and need not wait for its timeout. The scan knows strings and
//! brackets and nothing else, so that it can neither fail nor recurse.

use serde_json::value::RawValue;

use super::reply_address::{ReplyAddress, can_be_a_queue};

/// `_msg_id` and `_reply_q` of a request, if both are there as strings.
pub(super) fn reply_address(text: &str) -> Option<ReplyAddress> {
    let Found { msg_id, queue } = find(text)?;
    let msg_id = RawValue::from_string(msg_id?.to_owned()).ok()?;
    let queue: String = serde_json::from_str(queue?).ok()?;
    can_be_a_queue(&queue).then_some(ReplyAddress { msg_id, queue: Some(queue), heartbeat: None })
}

/// `_msg_id` of a reply, which names no queue.
pub(super) fn msg_id(text: &str) -> Option<String> {
    serde_json::from_str(find(text)?.msg_id?).ok()
}

/// Strings in the outermost object, with their quotes.
struct Found<'a> {
    msg_id: Option<&'a str>,
    queue: Option<&'a str>,
}

/// Scans the text. `None` if a string has no end.
fn find(text: &str) -> Option<Found<'_>> {
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
    Some(Found { msg_id: msg_id.filter(|id| id.len() > 2), queue })
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
