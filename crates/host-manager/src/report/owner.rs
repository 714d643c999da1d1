//! To which broker user a host belongs, by a rule such as `agent-{host}`.
//!
//! The broker vouches for the user of a message. Without a rule, a host belongs to the user who first reported it.

/// Where the name of the host stands in a rule.
pub const HOST: &str = "{host}";
/// What is shown in place of the user of a message that has none.
pub(crate) const NO_USER: &str = "anonymous";

/// The user to whom the host belongs, if this is not `user`. The backend of a volume service (`host@backend`) belongs to the
/// user of its host.
pub(crate) fn refused(rule: &str, host: &str, user: Option<&str>) -> Option<String> {
    let host = host.split('@').next().unwrap_or(host);
    let (before, after) = rule.split_once(HOST).unwrap_or((rule, ""));
    let of_user = |user: &str| user.strip_prefix(before)?.strip_suffix(after).map(|middle| middle == host);
    match user.and_then(of_user) {
        Some(true) => None,
        _ => Some(rule.replace(HOST, host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_belongs_to_the_user_of_its_name() {
        for (host, user, belongs) in [
            ("h1", Some("agent-h1"), true),
            ("h1@ceph", Some("agent-h1"), true),
            ("h1", Some("agent-h2"), false),
            ("h1", Some("agent-h1x"), false),
            ("h1", Some("agent-"), false),
            ("h1", Some("h1"), false),
            ("h1", None, false),
        ] {
            let expected = (!belongs).then(|| "agent-h1".to_owned());
            assert_eq!(refused("agent-{host}", host, user), expected, "{host} {user:?}");
        }
        assert_eq!(refused("{host}", "h1", Some("h1")), None);
    }
}
