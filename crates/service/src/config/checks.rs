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

/// The text of an address that means that there is none. Unlike an empty text, it can be given in every layer.
const NO_ADDRESS: &str = "none";

/// Why this cannot be the name of a host or of a scheduler. A name is part of a routing key: with `*` or `#` in it, its
/// owner would be sent the commands of others.
pub fn name_fault(name: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let refused = name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain);
    refused
        .then(|| format!("a name has 1 to {MAX_NAME} characters: letters A to Z, digits, and any of . _ -"))
}

/// Refuses what cannot be the name of a host or of a scheduler. An empty one is fine, because it stands for a default.
pub fn check_name(key: &str, name: &str, problems: &mut Vec<Problem>) {
    if let Some(what) = name_fault(name).filter(|_| !name.is_empty()) {
        problems.push(Problem::new(&[key], what, "choose a plainer name, such as cmp-7.example.org"));
    }
}

/// Refuses a name that the control exchange cannot have.
pub fn check_exchange(key: &str, name: &str, problems: &mut Vec<Problem>) {
    if name.is_empty() || name.starts_with("amq.") {
        let what = "the default exchange and RabbitMQ's own cannot be used";
        problems.push(Problem::new(&[key], what, "write nova, or what the other services have"));
    }
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let what = format!("an exchange's name has at most {MAX_NAME} bytes and no control characters");
        problems.push(Problem::new(&[key], what, "choose a shorter or plainer name"));
    }
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

/// Refuses a list of broker users that has an empty name, or a `*` before the end of a name. A `*` alone is refused too: a
/// list that is for everybody is empty.
pub fn check_users(key: &str, users: &[String], problems: &mut Vec<Problem>) {
    for user in users {
        let name = user.strip_suffix('*').unwrap_or(user);
        if name.is_empty() || name.contains('*') {
            let what = format!("{user:?} names no broker user");
            let fix = "write whole names, or the beginning of names with a * behind it; an empty list means every user";
            problems.push(Problem::new(&[key], what, fix));
        }
    }
}

/// Refuses a text that is not an address with a port. `none` is fine, and so is an empty one: both mean no address.
pub fn check_listen(key: &str, listen: &str, example: &str, problems: &mut Vec<Problem>) {
    if !no_address(listen) && listen.parse::<SocketAddr>().is_err() {
        problems.push(Problem::new(
            &[key],
            "this is not an address with a port",
            format!("write for example {example}, or {NO_ADDRESS} to switch it off"),
        ));
    }
}

/// The address of a setting that [`check_listen`] has found right. `None` if it is switched off.
pub fn listen_address(listen: &str) -> Option<SocketAddr> {
    (!no_address(listen)).then(|| listen.parse().expect("the configuration was checked for an address"))
}

fn no_address(listen: &str) -> bool {
    listen.is_empty() || listen == NO_ADDRESS
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_get_the_commands_of_others_is_refused() {
        for name in ["cmp-7", "CMP_7.example.org", "10.0.0.7"] {
            assert_eq!(name_fault(name), None, "{name}");
        }
        for name in ["", "*", "a.#", "two words", "tab\t", "naïve", "a/b", &"x".repeat(MAX_NAME + 1)] {
            assert!(name_fault(name).is_some(), "{name}");
        }
        let mut problems = Vec::new();
        check_name("host", "", &mut problems);
        assert_eq!(problems, [], "an empty name stands for a default");
        check_name("host", "*", &mut problems);
        assert_eq!(problems[0].keys, ["host"]);
    }

    #[test]
    fn an_address_can_be_switched_off_by_a_word() {
        let mut problems = Vec::new();
        for (listen, address) in [("none", None), ("", None), ("127.0.0.1:1", Some(1))] {
            check_listen("http.listen", listen, "127.0.0.1:9", &mut problems);
            assert_eq!(listen_address(listen).map(|address| address.port()), address, "{listen}");
        }
        assert_eq!(problems, []);
        check_listen("http.listen", "off", "127.0.0.1:9", &mut problems);
        assert!(problems[0].fix.contains("none to switch it off"), "{problems:?}");
    }
}
