//! Limits of what may be asked and reported. Every crate that checks one of them takes it from here.
//!
//! Left out: limits of one program's own memory or time, which are beside the code that needs them, and the largest CPU
//! number, which belongs to the CPU sets of `novella-resources`.

/// Largest amount of one resource on one host or in one request, in the resource's unit (MiB, GiB or pieces).
///
/// The scheduler keeps amounts in 32-bit signed columns. Larger values are refused when they arrive, so that no
/// comparison can overflow.
pub const MAX_AMOUNT: u64 = i32::MAX as u64;

/// Largest number of CPUs of one host. A report with more must be wrong.
pub const MAX_VCPUS: u64 = 1 << 20;

/// Longest name of a host or of a service, in bytes. With a topic in front of it, a queue name `<topic>.<name>` fits into
/// the 255 bytes of AMQP.
pub const MAX_HOST_NAME: usize = 200;

/// Whether this may be the name of a host or of a service: letters A to Z, digits, `.`, `_` and `-`, and `@` inside it, as
/// in the names of volume backends. A name is part of routing keys, and people read it, so nothing in it is invisible.
pub fn is_host_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b'@');
    (1..=MAX_HOST_NAME).contains(&name.len())
        && name.bytes().all(plain)
        && !name.starts_with('@')
        && !name.ends_with('@')
}

/// Longest name of anything that is not a host, in bytes: a flavor, a group, a trait, a broker user.
pub const MAX_NAME: usize = 255;

/// Whether this may be a name: not empty, not too long, and without control characters.
pub fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// Largest number of instances in one request. It bounds how long one placement may hold the host map's lock.
pub const MAX_INSTANCES: usize = 10_000;

/// Largest number of alternates (next best hosts) that a request may ask for with each instance.
pub const MAX_ALTERNATES: u32 = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_has_nothing_that_a_reader_could_miss() {
        for name in ["h1", "cmp-7.example.org", "UP_1", "block@lvm-2", &"x".repeat(MAX_HOST_NAME)] {
            assert!(is_host_name(name), "{name}");
        }
        let refused =
            ["", "@a", "a@", "a b", "a#b", "*", "a/b", "h\u{e9}", "h\u{202e}1", "h\u{200b}", "h\n", "h\0"];
        for name in refused.into_iter().chain([&*"x".repeat(MAX_HOST_NAME + 1)]) {
            assert!(!is_host_name(name), "{name:?}");
        }
    }
}
