//! The message as bytes: a JSON object that holds the JSON text of the message itself in one string.
//!
//! Reading copies the inner text once, to unescape it, and borrows from then on. Arguments stay text. A message that cannot
//! be read gives its [`MessageFault`], with the address of the caller if that can be found, so that the caller gets an
//! error. Nothing that a peer sends causes a panic, unbounded recursion or an allocation of more than a small multiple of
//! its size.
//!
//! Left out: acknowledging, answering and counting, which the server and the client do.
//!
//! From the bottom up: `fault` what is wrong with a message · `fields` the members of a JSON object · `outer` the object
//! around the message · `reply_address` where an answer goes · `salvage` that address in a text that is not JSON ·
//! `request` and `reply` the two kinds of message.

mod fault;
mod fields;
mod outer;
mod reply;
mod reply_address;
mod request;
mod salvage;
#[cfg(test)]
mod tests;

pub(crate) use fault::MessageFault;
pub use reply::read_answer;
pub(crate) use reply::{Reply, read_reply, write_reply};
pub(crate) use reply_address::ReplyAddress;
pub use request::read_request;
pub(crate) use request::{Incoming, OutgoingCall, OutgoingRequest, Unreadable, read_incoming, write_request};
