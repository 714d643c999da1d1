//! Checks that every daemon makes of its settings.

use std::net::SocketAddr;
use std::time::Duration;

use super::Problem;

/// A name longer than this does not fit into a queue name `<topic>.<name>` with room to spare (AMQP allows 255 bytes).
pub const MAX_NAME: usize = 200;
/// No interval or time-out of ours is meant to be shorter.
const SHORTEST: Duration = Duration::from_millis(10);

/// Refuses a name that cannot be part of a queue's name. Empty is fine: it stands for a default.
pub fn check_name(key: &str, name: &str, problems: &mut Vec<Problem>) {
    if name.len() > MAX_NAME || name.chars().any(char::is_control) {
        let what = format!("a name has at most {MAX_NAME} bytes and no control characters");
        problems.push(Problem::new(&[key], what, "choose a shorter or plainer name"));
    }
}

/// Refuses an address that nothing can listen on. Empty is fine: it means none.
pub fn check_listen(key: &str, listen: &str, example: &str, problems: &mut Vec<Problem>) {
    if !listen.is_empty() && listen.parse::<SocketAddr>().is_err() {
        problems.push(Problem::new(
            &[key],
            "this is no address with a port",
            format!("write for example {example}"),
        ));
    }
}

/// The address of a setting that [`check_listen`] has passed.
pub fn listen_address(listen: &str) -> Option<SocketAddr> {
    (!listen.is_empty()).then(|| listen.parse().expect("the configuration was checked for an address"))
}

/// Refuses times that can only be a slip of the unit.
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
