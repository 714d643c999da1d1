//! Words for RabbitMQ's refusals that say what to do next.
//!
//! No text holds a password: texts are made of the broker's words and of names of queues, exchanges, users and vhosts.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::{Error, ErrorKind};

use super::broker::Broker;
use super::certificate;
use super::topology::{ExchangeDeclaration, RefusedDeclaration, Topology};
use crate::error::TransportError;

// AMQP's reply codes.
pub(super) const CONNECTION_FORCED: u16 = 320;
const ACCESS_REFUSED: u16 = 403;
const NOT_FOUND: u16 = 404;
pub(super) const RESOURCE_LOCKED: u16 = 405;
const PRECONDITION_FAILED: u16 = 406;
const FRAME_ERROR: u16 = 501;
const NOT_IMPLEMENTED: u16 = 540;
const INTERNAL_ERROR: u16 = 541;

/// What to do about a frame that is too large. Bodies are divided into frames, so it is one with properties and headers. Ours
/// never are: each text in them has at most 255 bytes.
const FRAME_STEP: &str = "some program sends headers that do not fit into one frame: find it in the broker's log, or raise \
                          `frame_max` of the broker, which is 131072 by default";

/// User and password that are longer may not fit into the frame of the login, together with what we say of ourselves. That
/// frame has at most 4096 bytes before RabbitMQ 4.1, whatever `frame_max` is. Passwords that are tokens can be so long.
const LONG_LOGIN: usize = 3500;

/// Why a dial failed, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DialFailure {
    reason: String,
    next_step: Option<String>,
}

impl fmt::Display for DialFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)?;
        match &self.next_step {
            Some(step) => write!(f, " ({step})"),
            None => Ok(()),
        }
    }
}

fn failure(reason: impl Into<String>, next_step: impl Into<String>) -> DialFailure {
    DialFailure { reason: reason.into(), next_step: Some(next_step.into()) }
}

/// A dial that got no answer in time.
pub(super) fn silent(waited: Duration) -> DialFailure {
    failure(
        format!("no answer within {waited:?}"),
        "is the broker paused, behind a firewall or out of sockets? `rabbitmqctl status` shows its limits",
    )
}

/// A host name without an address.
pub(super) fn unresolved(error: &std::io::Error) -> DialFailure {
    failure(error.to_string(), "check the host name")
}

/// A host name for which no address was found in time.
pub(super) fn unresolved_in_time(waited: Duration) -> DialFailure {
    failure(
        format!("no address of the host name was found within {waited:?}"),
        "check the name servers of this machine, or write an address instead of the name",
    )
}

/// What all addresses of a host name answered. One answer speaks for itself.
pub(super) fn all(mut failures: Vec<(SocketAddr, DialFailure)>) -> DialFailure {
    match failures.len() {
        0 => failure("the host name has no address", "check the host name"),
        1 => failures.remove(0).1,
        _ => {
            let each: Vec<_> = failures.iter().map(|(address, why)| format!("{address}: {why}")).collect();
            DialFailure { reason: each.join("; "), next_step: None }
        }
    }
}

/// A dial that failed.
pub(super) fn dial(error: &Error, broker: &Broker, tls: bool) -> DialFailure {
    match error.kind() {
        ErrorKind::ProtocolError(amqp) => {
            let words = amqp.get_message().to_string();
            DialFailure { next_step: after_refused_login(amqp.kind(), &words, broker), reason: words }
        }
        ErrorKind::IOError(io) => io_failure(io, broker, tls),
        ErrorKind::ParsingError(_) if !tls => {
            failure("the other side does not speak plain AMQP", "does this port want TLS (amqps://)?")
        }
        _ => DialFailure { reason: error.to_string(), next_step: None },
    }
}

/// What to do if the broker answers the login like this.
fn after_refused_login(kind: &AMQPErrorKind, words: &str, broker: &Broker) -> Option<String> {
    let Broker { user, vhost, .. } = broker;
    if let Some(step) = limit_step(words) {
        return Some(step);
    }
    match kind {
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED) => Some(format!(
            "check the password of user {user:?}, and that the user exists: `rabbitmqctl list_users`"
        )),
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if words.ends_with("not found") => {
            Some(format!("check the vhost in the URL, or create it: `rabbitmqctl add_vhost {vhost}`"))
        }
        _ if words.ends_with("is down") => {
            Some(format!("start the vhost again: `rabbitmqctl restart_vhost -p {vhost}`"))
        }
        AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED) if words.contains(" refused for user ") => {
            Some(format!("let the user in: `rabbitmqctl set_permissions -p {vhost} {user} ...`"))
        }
        _ => None,
    }
}

/// What to do about a limit that the operator of the broker has set. `None` if the broker's words are about something else.
/// They name the limit, and the user or the vhost that has it.
fn limit_step(words: &str) -> Option<String> {
    let user = quoted(words, "user '").unwrap_or("USER");
    let vhost = quoted(words, "vhost '").unwrap_or("VHOST");
    let of_user = |limit: &str| format!("`rabbitmqctl set_user_limits {user} '{{\"{limit}\": NUMBER}}'`");
    let of_vhost =
        |limit: &str| format!("`rabbitmqctl set_vhost_limits -p {vhost} '{{\"{limit}\": NUMBER}}'`");
    if words.contains("user connection limit (") {
        return Some(format!(
            "end programs of user {user} that nobody needs (`rabbitmqctl list_connections user name`), or raise its limit: {}",
            of_user("max-connections")
        ));
    }
    if words.contains("connection limit (") {
        return Some(format!(
            "end programs on vhost {vhost} that nobody needs (`rabbitmqctl list_connections vhost user name`), or raise its \
             limit: {}",
            of_vhost("max-connections")
        ));
    }
    if words.contains("number of channels opened for user") {
        return Some(format!("raise the limit of user {user}: {}", of_user("max-channels")));
    }
    if words.contains("queue limit in vhost") {
        return Some(format!(
            "delete queues that nobody needs (`rabbitmqctl list_queues -p {vhost}`), or raise the limit: {}",
            of_vhost("max-queues")
        ));
    }
    None
}

/// What stands in the words after `start`, up to the next quote.
fn quoted<'a>(words: &'a str, start: &str) -> Option<&'a str> {
    words.split_once(start).map(|(_, rest)| rest.split('\'').next().unwrap_or(rest))
}

fn io_failure(error: &std::io::Error, broker: &Broker, tls: bool) -> DialFailure {
    use std::io::ErrorKind as Io;
    if let Some((reason, step)) = certificate::problem(error) {
        return failure(reason, step);
    }
    let words = error.to_string();
    match error.kind() {
        Io::ConnectionRefused => {
            failure(words, "nothing listens there: is RabbitMQ running, and is this its port?")
        }
        Io::ConnectionAborted | Io::UnexpectedEof | Io::ConnectionReset => {
            failure(words, hung_up(broker, tls))
        }
        _ => DialFailure { reason: words, next_step: None },
    }
}

/// What to do if the other side ended the connection without a word.
fn hung_up(broker: &Broker, tls: bool) -> String {
    if broker.user.len() + broker.password.len() > LONG_LOGIN {
        return "the other side hung up: user and password are longer than RabbitMQ before 4.1 takes, which is one frame of \
                4096 bytes"
            .to_owned();
    }
    let question =
        if tls { "does it want another client certificate?" } else { "does this port want TLS (amqps://)?" };
    format!(
        "the other side hung up: {question} If its log says that the frame_max is too high, raise `frame_max` of the broker \
         to the default, 131072; at least 8192 is needed"
    )
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

/// Whether the broker refused something because this exchange is missing.
pub(super) fn is_missing(error: &Error, exchange: &ExchangeDeclaration) -> bool {
    reply_code(error) == Some(NOT_FOUND) && words(error).contains(&format!("no exchange '{}'", exchange.name))
}

/// Whether the broker refused something because the permissions of the user do not allow it.
pub(super) fn is_denied(error: &Error) -> bool {
    reply_code(error) == Some(ACCESS_REFUSED)
}

/// Why an open connection is gone, and what to do about it if that is known.
pub(super) fn lost(error: &Error) -> String {
    let words = words(error);
    let frame = || (reply_code(error) == Some(FRAME_ERROR)).then(|| FRAME_STEP.to_owned());
    match limit_step(&words).or_else(frame) {
        Some(step) => format!("{words} ({step})"),
        None => words,
    }
}

/// The error of a queue or an exchange that the broker refused to declare.
pub(super) fn declaration(refused: RefusedDeclaration, topology: &Topology) -> TransportError {
    let reason = refusal(&refused.error, topology);
    TransportError::Refused { attempted: refused.attempted, reason }
}

/// What a refused declaration, binding or publication means, and what to do about it.
pub(super) fn refusal(error: &Error, topology: &Topology) -> String {
    let words = words(error);
    if let Some(step) = limit_step(&words) {
        return format!("{words} ({step})");
    }
    let next = match reply_code(error) {
        Some(ACCESS_REFUSED) => {
            "the permissions of this broker user do not allow it; config/rabbitmq/README.md lists what each user may do"
        }
        Some(NOT_FOUND) if words.contains("no exchange '") => {
            "schedulers declare what is missing within seconds: start one, or import config/rabbitmq/definitions.json, \
             then try again"
        }
        Some(PRECONDITION_FAILED) if words.contains("inequivalent arg") => {
            return format!("{words} ({})", other_shape(&words, topology));
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

/// What to do about an exchange or a queue that exists in another shape. The broker's words are of the form `inequivalent
/// arg 'durable' for queue 'scheduler' in vhost '/': received 'true' but current is 'false'`.
fn other_shape(words: &str, topology: &Topology) -> String {
    let after = |start: &str| quoted(words, start);
    let entity = ["for exchange '", "for queue '"].iter().find_map(|start| after(start)).unwrap_or_default();
    let transient = entity.contains("_fanout") || entity.starts_with("reply_");
    let there = after("current is '").or_else(|| after("current is the value '")).unwrap_or("none");
    let option = match after("inequivalent arg '").unwrap_or_default() {
        "durable" if transient => "rabbit_transient_quorum_queue",
        "durable" => "amqp_durable_queues",
        "auto_delete" => "amqp_auto_delete",
        "x-queue-type" if transient => "rabbit_transient_quorum_queue",
        "x-queue-type" => "rabbit_quorum_queue",
        "x-expires" => "rabbit_transient_queues_ttl",
        "x-delivery-limit" => "rabbit_quorum_delivery_limit",
        "x-max-in-memory-length" => "rabbit_quorum_max_memory_length",
        "x-max-in-memory-bytes" => "rabbit_quorum_max_memory_bytes",
        _ => {
            return "another program made it in a shape that none of our options has: delete it if it is left over, or \
                    give our services another control_exchange and other topics"
                .into();
        }
    };
    let made = "another program made it in another shape: delete it if it is left over, or";
    let alike = "and see that every program that declares it is given the same options";
    let value = match there {
        "true" | "quorum" => Some("true".to_owned()),
        "false" | "none" | "classic" => None,
        milliseconds if option == "rabbit_transient_queues_ttl" => {
            milliseconds.parse::<u64>().ok().map(|ttl| (ttl / 1000).to_string())
        }
        number => Some(number.to_owned()),
    };
    match (topology, value) {
        (Topology::Native, None) => format!("{made} add `topology=oslo` to our transport_url, {alike}"),
        (Topology::Native, Some(value)) => {
            format!("{made} add `topology=oslo&{option}={value}` to our transport_url, {alike}")
        }
        (Topology::Oslo(_), Some(value)) => {
            format!("{made} add `{option}={value}` to our transport_url, {alike}")
        }
        (Topology::Oslo(_), None) if option == "rabbit_transient_queues_ttl" => {
            format!("{made} add `{option}=0` to our transport_url, {alike}")
        }
        (Topology::Oslo(options), None) if option == "amqp_durable_queues" && options.rabbit_quorum_queue => {
            format!("{made} leave `rabbit_quorum_queue` out of our transport_url, {alike}")
        }
        (Topology::Oslo(_), None) => format!("{made} leave `{option}` out of our transport_url, {alike}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::topology::OsloOptions;
    use super::*;
    use lapin::protocol::AMQPError;

    fn refused(code: u16, words: &str) -> Error {
        let name = match code {
            ACCESS_REFUSED => "ACCESS_REFUSED",
            PRECONDITION_FAILED => "PRECONDITION_FAILED",
            FRAME_ERROR => "FRAME_ERROR",
            INTERNAL_ERROR => "INTERNAL_ERROR",
            _ => "NOT_ALLOWED",
        };
        let error = AMQPError::from_id(code, format!("{name} - {words}").into());
        ErrorKind::ProtocolError(error.expect("a reply code of AMQP")).into()
    }

    fn agent_of(password: &str) -> Broker {
        Broker {
            host: "mq".into(),
            port: 5672,
            user: "agent".into(),
            password: password.into(),
            vhost: "fleet".into(),
        }
    }

    /// A login of user `agent` at vhost `fleet` that is refused.
    fn login(code: u16, words: &str) -> String {
        dial(&refused(code, words), &agent_of("s3cret"), false).to_string()
    }

    #[test]
    fn a_login_that_fits_no_frame_says_so_without_the_password() {
        let hung_up = || Error::from(std::io::Error::from(std::io::ErrorKind::ConnectionReset));
        let token = "s3cret".repeat(700);
        let told = dial(&hung_up(), &agent_of(&token), true).to_string();
        assert!(told.contains("one frame of 4096 bytes") && !told.contains("s3cret"), "{told}");
        assert!(dial(&hung_up(), &agent_of("s3cret"), false).to_string().contains("does this port want TLS"));
    }

    #[test]
    fn each_refusal_of_a_login_has_its_own_next_step() {
        const NOT_ALLOWED: u16 = 530;
        for (code, words, step) in [
            (
                NOT_ALLOWED,
                "Connection refused for user 'agent': user connection limit (5) is reached",
                Some("rabbitmqctl set_user_limits agent '{\"max-connections\": NUMBER}'"),
            ),
            (
                NOT_ALLOWED,
                "access to vhost 'fleet' refused for user 'agent': connection limit (50) is reached",
                Some("rabbitmqctl set_vhost_limits -p fleet '{\"max-connections\": NUMBER}'"),
            ),
            // RabbitMQ 4 says it like this in some places.
            (
                NOT_ALLOWED,
                "access to vhost 'fleet' refused for user 'agent': vhost connection limit (50) is reached",
                Some("rabbitmqctl set_vhost_limits -p fleet"),
            ),
            (NOT_ALLOWED, "vhost fleet not found", Some("rabbitmqctl add_vhost fleet")),
            (
                NOT_ALLOWED,
                "access to vhost 'fleet' refused for user 'agent'",
                Some("rabbitmqctl set_permissions -p fleet agent"),
            ),
            (
                INTERNAL_ERROR,
                "access to vhost 'fleet' refused for user 'agent': vhost 'fleet' is down",
                Some("rabbitmqctl restart_vhost -p fleet"),
            ),
            (NOT_ALLOWED, "negotiated frame_max = 4096 is lower than the minimum allowed value (8192)", None),
            (
                ACCESS_REFUSED,
                "Login was refused using authentication mechanism PLAIN",
                Some("check the password"),
            ),
        ] {
            let told = login(code, words);
            assert!(told.contains(words), "{told}");
            match step {
                Some(step) => assert!(told.contains(step), "{told}"),
                None => assert!(told.ends_with(words), "{told}"),
            }
            let widens = told.contains("set_permissions");
            assert_eq!(widens, step.is_some_and(|step| step.contains("set_permissions")), "{told}");
        }
    }

    #[test]
    fn limits_and_frames_on_an_open_connection_have_a_next_step() {
        let channels = refused(
            530,
            "number of channels opened for user 'agent' has reached the maximum allowed user limit of (2)",
        );
        assert!(lost(&channels).contains("set_user_limits agent '{\"max-channels\": NUMBER}'"));
        assert!(lost(&refused(FRAME_ERROR, "frame too large: 5000 bytes")).contains("raise `frame_max`"));
        let queues =
            refused(PRECONDITION_FAILED, "cannot declare queue 'q': queue limit in vhost '/' (9) is reached");
        let told = refusal(&queues, &Topology::Native);
        assert!(told.contains("set_vhost_limits -p / '{\"max-queues\": NUMBER}'"), "{told}");
    }

    #[test]
    fn another_shape_names_the_option_that_has_it() {
        let native = Topology::Native;
        let oslo = Topology::Oslo(OsloOptions { amqp_durable_queues: true, ..OsloOptions::default() });
        let quorum = Topology::Oslo(OsloOptions { rabbit_quorum_queue: true, ..OsloOptions::default() });
        for (arg, entity, found, topology, says) in [
            ("durable", "exchange 'nova'", "'true'", &native, "add `topology=oslo&amqp_durable_queues=true`"),
            ("durable", "queue 'scheduler'", "'false'", &native, "add `topology=oslo`"),
            ("durable", "queue 'scheduler'", "'false'", &oslo, "leave `amqp_durable_queues` out"),
            ("durable", "queue 'scheduler'", "'false'", &quorum, "leave `rabbit_quorum_queue` out"),
            ("durable", "exchange 'x_fanout'", "'true'", &oslo, "add `rabbit_transient_quorum_queue=true`"),
            ("auto_delete", "exchange 'nova'", "'true'", &native, "oslo&amqp_auto_delete=true`"),
            ("auto_delete", "queue 'q'", "'false'", &oslo, "leave `amqp_auto_delete` out"),
            (
                "x-queue-type",
                "queue 'a'",
                "the value 'quorum' of type 'longstr'",
                &native,
                "&rabbit_quorum_queue=true`",
            ),
            ("x-queue-type", "queue 'reply_1'", "none", &oslo, "leave `rabbit_transient_quorum_queue` out"),
            (
                "x-expires",
                "queue 'reply_1'",
                "the value '60000' of type 'signedint'",
                &oslo,
                "add `rabbit_transient_queues_ttl=60`",
            ),
            ("x-expires", "queue 'reply_1'", "none", &oslo, "add `rabbit_transient_queues_ttl=0`"),
            (
                "x-delivery-limit",
                "queue 'a'",
                "the value '5' of type 'signedint'",
                &quorum,
                "add `rabbit_quorum_delivery_limit=5`",
            ),
            (
                "x-max-in-memory-length",
                "queue 'a'",
                "none",
                &quorum,
                "leave `rabbit_quorum_max_memory_length` out",
            ),
            ("type", "exchange 'nova'", "'direct'", &oslo, "in a shape that none of our options has"),
            (
                "x-message-ttl",
                "queue 'a'",
                "the value '5' of type 'signedint'",
                &native,
                "none of our options has",
            ),
        ] {
            let words = format!(
                "inequivalent arg '{arg}' for {entity} in vhost '/': received 'x' but current is {found}"
            );
            let told = other_shape(&words, topology);
            assert!(told.contains(says), "{words}: {told}");
        }
    }
}
