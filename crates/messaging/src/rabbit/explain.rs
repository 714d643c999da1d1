//! RabbitMQ's refusals in words that say what to do next.
//!
//! Nothing here ever sees a password: texts are made from the broker's words, entity names and user names.

use std::fmt;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use super::dial::Broker;

/// Why something failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    reason: String,
    next_step: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match &self.next_step {
            Some(step) => write!(f, " ({step})"),
            None => Ok(()),
        }
    }
}

fn failure(reason: impl Into<String>, next_step: impl Into<String>) -> Failure {
    Failure { reason: reason.into(), next_step: Some(next_step.into()) }
}

/// A dial that got no answer in time.
pub(super) fn silent(waited: Duration) -> Failure {
    failure(
        format!("no answer within {waited:?}"),
        "is the broker paused, behind a firewall, or out of sockets? `rabbitmqctl status` shows its limits",
    )
}

/// A dial that failed.
pub(super) fn dial(error: &Error, broker: &Broker, tls: bool) -> Failure {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => {
            let words = amqp.get_message().to_string();
            let Broker { user, vhost, .. } = broker;
            let next = match amqp.kind() {
                AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => {
                    format!(
                        "check the password of user {user:?}, and that the user exists: `rabbitmqctl list_users`"
                    )
                }
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if words.contains("not found") => {
                    format!("check the vhost in the URL, or create it: `rabbitmqctl add_vhost {vhost}`")
                }
                AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) => {
                    format!("let the user in: `rabbitmqctl set_permissions -p {vhost} {user} ...`")
                }
                _ => return Failure { reason: words, next_step: None },
            };
            failure(words, next)
        }
        ErrorKind::IOError(io) => io_failure(io, tls),
        ErrorKind::ParsingError(_) if !tls => {
            failure("the other side does not speak plain AMQP", "does this port want TLS (amqps://)?")
        }
        _ => Failure { reason: error.to_string(), next_step: None },
    }
}

fn io_failure(error: &std::io::Error, tls: bool) -> Failure {
    use std::io::ErrorKind as Io;
    let words = error.to_string();
    let step = match error.kind() {
        Io::ConnectionRefused => "nothing listens there: is RabbitMQ running, and is this its port?",
        _ if words.contains("lookup") || words.contains("Name or service") => "check the host name",
        _ if words.contains("UnknownIssuer") => {
            "the broker's certificate is of an unknown authority: set ssl_ca_file"
        }
        _ if words.contains("NotValidForName") => "the broker's certificate is for another host name",
        _ if words.contains("CertificateRequired") || words.contains("HandshakeFailure") => {
            "the broker wants a client certificate: set ssl_cert_file and ssl_key_file"
        }
        _ if words.contains("InvalidContentType") => {
            "the port speaks no TLS: use amqp:// or the broker's TLS port"
        }
        Io::ConnectionAborted | Io::UnexpectedEof | Io::ConnectionReset if !tls => {
            "the other side hung up: does this port want TLS (amqps://)?"
        }
        Io::ConnectionAborted | Io::UnexpectedEof | Io::ConnectionReset => {
            "the other side hung up: does it want another client certificate? Its log tells"
        }
        _ => return Failure { reason: words, next_step: None },
    };
    failure(words, step)
}

/// The AMQP reply code of an error, if the broker gave one.
pub(super) fn reply_code(error: &Error) -> Option<u16> {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => Some(amqp.get_id()),
        _ => None,
    }
}

/// The broker's own words, or lapin's where it said nothing.
pub(super) fn words(error: &Error) -> String {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => amqp.get_message().to_string(),
        _ => error.to_string(),
    }
}

/// A refused declaration, binding or publication, with what to do by its reply code.
pub(super) fn refusal(error: &Error) -> String {
    let words = words(error);
    let next = match reply_code(error) {
        Some(ACCESS_REFUSED) => {
            "grant it: `rabbitmqctl set_permissions`, config/rabbitmq/ lists what each service needs"
        }
        Some(PRECONDITION_FAILED) if words.contains("inequivalent arg") => {
            return format!("{words} ({})", other_shape(&words));
        }
        Some(PRECONDITION_FAILED) if words.contains("larger than") => {
            "raise max_message_size on the broker or send less"
        }
        Some(INTERNAL_ERROR | NOT_IMPLEMENTED) => {
            "this RabbitMQ refuses the queue's shape (4.3 refuses transient shared queues): see `topology`"
        }
        _ => return words,
    };
    format!("{words} ({next})")
}

/// What to do about an exchange or a queue that is there in another shape, from the broker's words: `inequivalent arg
/// 'durable' for queue 'scheduler' in vhost '/': received 'true' but current is 'false'`.
fn other_shape(words: &str) -> String {
    let after =
        |start: &str| words.split_once(start).map(|(_, rest)| rest.split('\'').next().unwrap_or(rest));
    let entity = ["for exchange '", "for queue '"].iter().find_map(|start| after(start)).unwrap_or_default();
    let passing = entity.contains("_fanout") || entity.starts_with("reply_");
    let there = after("current is '").or_else(|| after("current is the value '")).unwrap_or("none");
    let option = match (after("inequivalent arg '"), there) {
        (Some("durable"), "true") if passing => "&rabbit_transient_quorum_queue=true",
        (Some("durable"), "true") => "&amqp_durable_queues=true",
        (Some("auto_delete"), "true") => "&amqp_auto_delete=true",
        (Some("x-queue-type" | "type"), "quorum") if passing => "&rabbit_transient_quorum_queue=true",
        (Some("x-queue-type" | "type"), "quorum") => "&rabbit_quorum_queue=true",
        (Some("x-expires"), _) => "&rabbit_transient_queues_ttl=...",
        (Some("x-delivery-limit"), _) => "&rabbit_quorum_delivery_limit=...",
        _ => "",
    };
    format!(
        "another program made it in another shape: delete it if it is left over, or add `topology=oslo{option}` to our \
         transport_url, and every other option that oslo.messaging is given there, so that both sides declare it alike"
    )
}

pub(super) const ACCESS_REFUSED: u16 = 403;
pub(super) const NOT_FOUND: u16 = 404;
pub(super) const RESOURCE_LOCKED: u16 = 405;
pub(super) const PRECONDITION_FAILED: u16 = 406;
const NOT_IMPLEMENTED: u16 = 540;
const INTERNAL_ERROR: u16 = 541;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_shape_names_the_option_that_has_it() {
        for (words, option) in [
            (
                "arg 'durable' for exchange 'nova' in vhost '/': received 'false' but current is 'true'",
                "&amqp_durable_queues=true`",
            ),
            (
                "arg 'durable' for queue 'scheduler' in vhost '/': received 'true' but current is 'false'",
                "`topology=oslo`",
            ),
            (
                "arg 'durable' for exchange 'x_fanout' in vhost '/': received 'false' but current is 'true'",
                "oslo&rabbit_transient_quorum_queue=true`",
            ),
            (
                "arg 'auto_delete' for exchange 'nova' in vhost '/': received 'false' but current is 'true'",
                "&amqp_auto_delete=true`",
            ),
            (
                "arg 'x-queue-type' for queue 'a' in vhost '/': received none but current is the value 'quorum' of type 'longstr'",
                "&rabbit_quorum_queue=true`",
            ),
        ] {
            let says = other_shape(&format!("PRECONDITION_FAILED - inequivalent {words}"));
            assert!(says.contains(option), "{words}: {says}");
        }
    }
}
