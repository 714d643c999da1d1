//! Keeps credentials out of everything that is shown.

/// What stands where a secret was.
pub(super) const HIDDEN: &str = "***";

/// A secret value as it may be shown: of a URL all but the passwords, of anything else nothing.
pub(super) fn redact(value: &str) -> String {
    if value.contains("://") { redact_url(value) } else { HIDDEN.to_owned() }
}

/// Whether a secret value has something to hide: of a URL a password, of anything else any text.
pub(super) fn holds_password(value: &str) -> bool {
    let main = value.split(['?', '#']).next().unwrap_or_default();
    match value.contains("://") {
        // A password that holds one of these characters has its `@` behind it.
        true => redact_url(main) != main || value[main.len()..].contains('@'),
        false => !value.is_empty(),
    }
}

/// A transport URL (`scheme://user:password@host,user:password@host/vhost?options`) without its passwords.
///
/// When in doubt it hides too much: a URL whose password holds an unescaped `@`, `/`, `?`, `#` or `,` loses everything up to
/// its last `@`. The query is cut, as it may name a key's pass phrase.
pub fn redact_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return HIDDEN.to_owned() };
    // A password may also come before a stray `://`.
    if !scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c)) {
        return HIDDEN.to_owned();
    }
    let (main, query) = match rest.split_once(['?', '#']) {
        Some((main, query)) => (main, query),
        None => (rest, ""),
    };
    // It is not known whether this query belongs to the options or to a password.
    if query.contains('@') {
        return format!("{scheme}://{HIDDEN}");
    }
    let query = if query.is_empty() { "" } else { "?***" };
    let (hosts, path) = main.find('/').map_or((main, ""), |at| main.split_at(at));
    let parts: Vec<&str> = hosts.split(',').collect();
    let several = parts.len() > 1;
    let clear = |part: &&str| match part.split_once('@') {
        // Without `@` this is `host:port`, unless it is the front of a password that was cut at a comma or slash.
        None => {
            part.rsplit_once(':').is_none_or(|(_, port)| port.ends_with(']') || port.parse::<u16>().is_ok())
        }
        // Beside other hosts, a user without a password may be the end of a password that was cut at a comma.
        Some((login, host)) => !host.contains('@') && (login.contains(':') || !several),
    };
    if path.contains('@') || !parts.iter().all(clear) {
        let end = main.rfind('@').map_or("", |at| &main[at..]);
        return format!("{scheme}://{HIDDEN}{end}{query}");
    }
    let shown = parts.iter().map(|part| match part.split_once('@') {
        Some((login, host)) => match login.split_once(':') {
            Some((user, _)) => format!("{user}:{HIDDEN}@{host}"),
            None => format!("{login}@{host}"),
        },
        None => (*part).to_owned(),
    });
    format!("{scheme}://{}{path}{query}", shown.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_go_and_the_rest_stays() {
        for (url, shown) in [
            ("rabbit://agent:s3cret@mq:5672/nova", "rabbit://agent:***@mq:5672/nova"),
            ("amqps://a:p1@h1:5671,b:p2@[::1]:5671/", "amqps://a:***@h1:5671,b:***@[::1]:5671/"),
            ("rabbit://mq/nova", "rabbit://mq/nova"),
            ("rabbit://agent@mq", "rabbit://agent@mq"),
            ("amqp://u:p@mq/v?ssl_key_password=x", "amqp://u:***@mq/v?***"),
            ("in-process://", "in-process://"),
        ] {
            assert_eq!(redact(url), shown);
        }
    }

    #[test]
    fn only_a_password_counts_as_one() {
        for url in [
            "rabbit://agent:s3cret@mq/",
            "amqp://a@h1,b:p@h2/?heartbeat=5",
            "rabbit://u:s3?cret@mq",
            "s3cret",
        ] {
            assert!(holds_password(url), "{url}");
        }
        for url in ["rabbit://mq:5672/nova", "rabbit://agent@mq/?ssl_ca_file=/ca.pem", ""] {
            assert!(!holds_password(url), "{url}");
        }
    }

    #[test]
    fn a_malformed_url_shows_no_part_of_its_password() {
        for url in [
            "amqp://u:s3/cret@mq/v",
            "amqp://u:s3cret@s3cret@mq/v",
            "amqp://u:s3cret,s3cret@mq/v",
            "amqp://u:s3?cret@mq",
            "amqp://u:33/s3cret@mq",
            "amqp://u:33#s3cret@mq",
            "amqp://u:33,s3cret@mq",
            "amqp://u:a@s3,cret@mq",
            "amqp://u:a@s3/cret@mq/v?ssl_key_password=s3cret",
            "amqp://u:a@mq/v?ssl_key_password=b@s3cret",
            "u:s3cret://mq",
            "amqp://u:s3cret",
            "s3cret",
        ] {
            let shown = redact(url);
            assert!(!shown.contains("s3") && !shown.contains("cret"), "{url} is shown as {shown}");
        }
    }
}
