//! Checks that more than one program makes of its settings.

use std::net::SocketAddr;
use std::time::Duration;

use crate::config::problem::Problem;

/// Longest name, in bytes. With a topic in front of it, a queue name `<topic>.<name>` fits into the 255 bytes of AMQP.
pub const MAX_NAME: usize = 200;
/// Longest topic, in bytes: `<topic>.<name>` and `<topic>_fanout_<id>` fit into a queue's name.
const MAX_TOPIC: usize = 50;
/// Shortest interval or time-out that [`check_times`] takes. A shorter one would only burn the CPU.
const SHORTEST: Duration = Duration::from_millis(10);

/// Refuses a name that cannot be part of a queue's name. An empty one is fine, because it stands for a default.
pub fn check_name(key: &str, name: &str, problems: &mut Vec<Problem>) {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let what = format!("a name has at most {MAX_NAME} bytes and no control characters");
        problems.push(Problem::new(&[key], what, "choose a shorter or plainer name"));
    }
}

/// Refuses a name that the control exchange cannot have.
pub fn check_exchange(key: &str, name: &str, problems: &mut Vec<Problem>) {
    if name.is_empty() || name.starts_with("amq.") {
        let what = "the default exchange and RabbitMQ's own cannot be used";
        problems.push(Problem::new(&[key], what, "write nova, or what the other services have"));
    }
    check_name(key, name, problems);
}

/// Refuses names that cannot be topics. Also refuses an agents' topic that is used for something else, because agents
/// and schedulers would each be sent what they cannot read.
pub fn check_topics(compute: (&str, &str), others: &[(&str, &str)], problems: &mut Vec<Problem>) {
    for (key, topic) in others.iter().chain([&compute]) {
        let plain = |c: char| !c.is_control() && !c.is_whitespace() && !matches!(c, '*' | '#');
        if topic.is_empty() || topic.len() > MAX_TOPIC || !topic.chars().all(plain) {
            let what = format!("a topic has 1 to {MAX_TOPIC} bytes, without white space, * and #");
            problems.push(Problem::new(&[*key], what, "choose a plain name, such as scheduler"));
        }
    }
    for (key, _) in others.iter().filter(|(_, topic)| *topic == compute.1) {
        let what = "agents and schedulers cannot share a topic";
        problems.push(Problem::new(&[*key, compute.0], what, "write two different names"));
    }
}

/// Refuses a text that is not an address with a port. An empty one is fine, because it means none.
pub fn check_listen(key: &str, listen: &str, example: &str, problems: &mut Vec<Problem>) {
    if !listen.is_empty() && listen.parse::<SocketAddr>().is_err() {
        problems.push(Problem::new(
            &[key],
            "this is not an address with a port",
            format!("write for example {example}"),
        ));
    }
}

/// The address of a setting that [`check_listen`] has found right, or none if the setting is empty.
pub fn listen_address(listen: &str) -> Option<SocketAddr> {
    (!listen.is_empty()).then(|| listen.parse().expect("the configuration was checked for an address"))
}

/// Refuses times that are so short that the wrong unit must have been written.
pub fn check_times(times: &[(&str, Duration)], problems: &mut Vec<Problem>) {
    for (key, time) in times {
        if *time < SHORTEST {
            problems.push(Problem::new(
                &[key],
                "this is too short to be meant",
                "write a duration such as 10s",
            ));
        }
    }
}
