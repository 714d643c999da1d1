//! What is wrong with a certificate or a TLS handshake, in words that have the names and the dates.
//!
//! What it leaves out: errors that are not of TLS, and reading certificates.

use std::io;
use std::time::{Duration, SystemTime};

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage};
use rustls_pki_types::{ServerName, UnixTime};

/// Why a handshake failed, and what to do about it. `None` if this is no error of TLS, or one that is not understood.
pub(super) fn problem(error: &io::Error) -> Option<(String, String)> {
    match tls_error(error)? {
        Error::InvalidCertificate(certificate) => Some(of_the_broker(certificate)),
        Error::AlertReceived(alert) => of_ours(*alert),
        Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some((
            "the other side does not speak TLS".into(),
            "write amqp:// in the URL, or the broker's port for TLS".into(),
        )),
        _ => None,
    }
}

fn tls_error(error: &io::Error) -> Option<&Error> {
    error.get_ref()?.downcast_ref()
}

fn of_the_broker(error: &CertificateError) -> (String, String) {
    match error {
        CertificateError::UnknownIssuer => (
            "the broker's certificate is signed by an unknown authority".into(),
            "set ssl_ca_file to the certificate of that authority".into(),
        ),
        CertificateError::ExpiredContext { time, not_after } => (
            format!("the broker's certificate has expired: it was valid until {}", date(*not_after)),
            renew_or_correct_the_clock(*time),
        ),
        CertificateError::NotValidYetContext { time, not_before } => (
            format!("the broker's certificate is not valid yet: it is valid from {}", date(*not_before)),
            renew_or_correct_the_clock(*time),
        ),
        CertificateError::NotValidForNameContext { expected, presented } => {
            for_another_name(&host(expected), presented)
        }
        other => (format!("the broker's certificate is not accepted: {other}"), RENEW.into()),
    }
}

const RENEW: &str = "give the broker another certificate";

fn renew_or_correct_the_clock(now: UnixTime) -> String {
    format!("{RENEW}, or correct the clock of this machine, which says {}", date(now))
}

/// The reason and the next step if the certificate has `names`, and `expected` is not one of them.
fn for_another_name(expected: &str, names: &[String]) -> (String, String) {
    let names: Vec<&str> = names.iter().map(|name| plain(name)).collect();
    let reason = format!("the broker's certificate is not for {expected}, the host in the URL");
    let Some((last, others)) = names.split_last() else {
        let step = format!("give the broker a certificate whose subjectAltName has {expected}");
        return (format!("{reason}; it has no name at all in its subjectAltName"), step);
    };
    let (list, one) = match others {
        [] => ((*last).to_owned(), "this name"),
        _ => (format!("{} and {last}", others.join(", ")), "one of these names"),
    };
    let step = format!("write {one} in the URL, or give the broker a certificate that has {expected} too");
    (format!("{reason}; it is for {list}"), step)
}

/// The name itself, of the library's `DnsName("mq1")` or `IpAddress(192.0.2.7)`.
fn plain(name: &str) -> &str {
    let inner = name.split_once('(').and_then(|(_, inner)| inner.strip_suffix(')')).unwrap_or(name);
    inner.trim_matches('"')
}

fn host(name: &ServerName<'_>) -> String {
    name.to_str().into_owned()
}

/// What the broker says of our certificate.
fn of_ours(alert: AlertDescription) -> Option<(String, String)> {
    let (reason, step) = match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::HandshakeFailure
        | AlertDescription::NoCertificate => {
            ("the broker wants a client certificate", "set ssl_cert_file and ssl_key_file")
        }
        AlertDescription::CertificateExpired => {
            ("the broker says that our client certificate has expired", "renew the file of ssl_cert_file")
        }
        AlertDescription::UnknownCA => (
            "the broker does not know the authority that signed our client certificate",
            "set ssl_cert_file and ssl_key_file to a certificate of an authority that the broker trusts",
        ),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateUnknown
        | AlertDescription::AccessDenied => (
            "the broker does not accept our client certificate",
            "set ssl_cert_file and ssl_key_file to another certificate; the log of the broker says what is wrong with it",
        ),
        _ => return None,
    };
    Some((format!("{reason} (TLS alert {alert:?})"), step.into()))
}

/// A date as in ISO 8601, in UTC.
fn date(time: UnixTime) -> String {
    let seconds = Duration::from_secs(time.as_secs());
    match SystemTime::UNIX_EPOCH.checked_add(seconds) {
        Some(time) => humantime::format_rfc3339_seconds(time).to_string(),
        None => format!("{} s after 1970", time.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: Error) -> (String, String) {
        problem(&io::Error::new(io::ErrorKind::InvalidData, error)).expect("an error of TLS")
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(Duration::from_secs(seconds))
    }

    #[test]
    fn dates_are_dates() {
        let (time, not_after) = (at(1_764_527_445), at(1_614_834_367));
        let (reason, step) = told(CertificateError::ExpiredContext { time, not_after }.into());
        assert_eq!(reason, "the broker's certificate has expired: it was valid until 2021-03-04T05:06:07Z");
        assert!(step.ends_with("the clock of this machine, which says 2025-11-30T18:30:45Z"), "{step}");
        let (reason, _) =
            told(CertificateError::NotValidYetContext { time, not_before: at(4_102_542_245) }.into());
        assert_eq!(
            reason,
            "the broker's certificate is not valid yet: it is valid from 2100-01-02T03:04:05Z"
        );
    }

    #[test]
    fn another_name_says_which_was_asked_for_and_which_there_are() {
        let expected = || ServerName::try_from("mq7.example.org").unwrap();
        let names = |presented: &[&str]| {
            let presented = presented.iter().map(|name| (*name).to_owned()).collect();
            told(CertificateError::NotValidForNameContext { expected: expected(), presented }.into())
        };
        let (reason, step) = names(&["DnsName(\"mq1\")", "DnsName(\"*.mq\")", "IpAddress(192.0.2.7)"]);
        assert_eq!(
            reason,
            "the broker's certificate is not for mq7.example.org, the host in the URL; it is for mq1, *.mq and 192.0.2.7"
        );
        assert!(step.starts_with("write one of these names in the URL"), "{step}");
        assert!(names(&["DnsName(\"mq1\")"]).0.ends_with("; it is for mq1"));
        assert!(names(&[]).0.ends_with("no name at all in its subjectAltName"));
    }

    #[test]
    fn what_the_broker_says_of_our_certificate_names_the_files() {
        for (alert, says) in [
            (
                AlertDescription::CertificateRequired,
                "wants a client certificate (TLS alert CertificateRequired)",
            ),
            (AlertDescription::CertificateExpired, "our client certificate has expired"),
            (AlertDescription::UnknownCA, "does not know the authority"),
            (AlertDescription::BadCertificate, "does not accept our client certificate"),
        ] {
            let (reason, step) = told(Error::AlertReceived(alert));
            assert!(reason.contains(says) && step.contains("ssl_cert_file"), "{reason} ({step})");
        }
        assert_eq!(problem(&io::Error::other(Error::AlertReceived(AlertDescription::InternalError))), None);
        assert_eq!(problem(&io::ErrorKind::ConnectionRefused.into()), None);
    }
}
