//! Logging: `tracing` events to standard error, as text for people or JSON lines for machines.
//!
//! What always holds: standard output is never touched. In text, a line break in an error is a line break, and the lines
//! after the first are indented, so that no text from outside can look like a line of the log. Our own crates log from info on, others from warn on; `-v`
//! raises that, and `RUST_LOG`, when set, replaces it. Colour only on a terminal, and never with `NO_COLOR`. A panic
//! anywhere is an error event. No level shows how this process logs in to the broker.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    io::{self, IsTerminal},
    panic, thread,
};

use clap::ValueEnum;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    EnvFilter, Layer, Registry,
    field::RecordFields,
    filter::{FilterExt, ParseError},
    fmt::{self, FormatFields, MakeWriter, format::Writer},
    layer::{Context, Filter, SubscriberExt},
    util::{SubscriberInitExt, TryInitError},
};

use crate::env::panic_message;
use crate::printable::is_unprintable;

/// The prefixes of novella's own targets: the libraries, then the binaries whose names do not start with novella.
const OWN: [&str; 3] = ["novella", "scheduler", "compute_agent"];

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The logging options of the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// How lines are written.
    pub format: LogFormat,
    /// How often `-v` was given.
    pub verbose: u8,
}

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `RUST_LOG` is not a filter.
    #[error("invalid RUST_LOG={value:?}; write for example RUST_LOG=novella=debug,warn")]
    Filter {
        /// The value of the variable.
        value: String,
        /// What the parser said.
        #[source]
        source: ParseError,
    },
    /// Something else in this process logs already.
    #[error("cannot install the logger")]
    Init(#[source] TryInitError),
}

/// Starts logging for the whole process, panics included.
pub fn init(options: LogOptions) -> Result<(), LogError> {
    let rust_log = env::var("RUST_LOG").ok();
    let no_color = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let color = io::stderr().is_terminal() && !no_color;
    subscriber(options, rust_log.as_deref(), color, io::stderr)?.try_init().map_err(LogError::Init)?;
    install_panic_hook();
    Ok(())
}

fn subscriber<W>(
    options: LogOptions,
    rust_log: Option<&str>,
    color: bool,
    writer: W,
) -> Result<impl Subscriber + Send + Sync, LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let filter = match rust_log.filter(|value| !value.trim().is_empty()) {
        Some(value) => EnvFilter::builder()
            .parse(value)
            .map_err(|source| LogError::Filter { value: value.to_owned(), source })?,
        None => EnvFilter::builder().parse_lossy(default_filter(options.verbose)),
    };
    let lines = fmt::layer().with_writer(writer);
    let lines: Box<dyn Layer<Registry> + Send + Sync> = match options.format {
        LogFormat::Text => lines.fmt_fields(TextFields).with_ansi(color).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).with_span_list(false).boxed(),
    };
    Ok(tracing_subscriber::registry().with(lines.with_filter(filter.and(NoLogins))))
}

/// The frames that carry the password to the broker, as lapin writes them. On the level of traces it logs each frame, with the
/// bytes of the password as numbers.
const LOGIN_FRAMES: [&str; 3] = ["StartOk {", "SecureOk {", "UpdateSecret {"];

/// Keeps events away that show a login. Only traces and debug events of libraries show frames at all.
struct NoLogins;

impl<S> Filter<S> for NoLogins {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO || OWN.iter().any(|own| metadata.target().starts_with(own)) {
            return true;
        }
        let mut login = LoginVisitor(false);
        event.record(&mut login);
        !login.0
    }
}

/// Whether a field that it saw shows a login.
struct LoginVisitor(bool);

impl Visit for LoginVisitor {
    fn record_debug(&mut self, _: &Field, value: &dyn std::fmt::Debug) {
        let text = format!("{value:?}");
        self.0 |= LOGIN_FRAMES.iter().any(|frame| text.contains(frame));
    }
}

/// How many characters of one field are written. All that is wrong with a large policy file is within it; what a peer
/// sends may be far longer.
const SHOWN_CHARS: usize = 16 * 1024;

/// What stands before each further line of a text of several lines.
const INDENT: &str = "    ";

/// Writes the fields of an event as `message name=value name=value`. Short texts are quoted. A text of several lines, such
/// as all that is wrong with a file, is written as such lines.
struct TextFields;

impl<'w> FormatFields<'w> for TextFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'w>, fields: R) -> std::fmt::Result {
        let mut visitor = TextVisitor { writer, written: Ok(()), first: true };
        fields.record(&mut visitor);
        visitor.written
    }
}

struct TextVisitor<'w> {
    writer: Writer<'w>,
    written: std::fmt::Result,
    first: bool,
}

impl TextVisitor<'_> {
    fn write(&mut self, name: &str, value: &str) -> std::fmt::Result {
        // The bridge from the crate `log` adds fields that the line already shows.
        if name.starts_with("log.") {
            return Ok(());
        }
        let name = name.strip_prefix("r#").unwrap_or(name);
        if !std::mem::replace(&mut self.first, false) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            match self.writer.has_ansi_escapes() {
                true => write!(self.writer, "\x1b[3m{name}\x1b[0m\x1b[2m=\x1b[0m")?,
                false => write!(self.writer, "{name}=")?,
            }
        }
        for c in value.chars().take(SHOWN_CHARS) {
            match c {
                '\n' => write!(self.writer, "\n{INDENT}")?,
                c if is_unprintable(c) => write!(self.writer, "{}", c.escape_default())?,
                c => self.writer.write_char(c)?,
            }
        }
        match value.char_indices().nth(SHOWN_CHARS) {
            Some((shown, _)) => write!(self.writer, "... ({} bytes more)", value.len() - shown),
            None => Ok(()),
        }
    }
}

impl Visit for TextVisitor<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let plain = field.name() == "message" || value.contains('\n');
        let text = if plain { value.to_owned() } else { format!("{value:?}") };
        self.record_debug(field, &format_args!("{text}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if self.written.is_ok() {
            self.written = self.write(field.name(), &format!("{value:?}"));
        }
    }
}

fn default_filter(verbose: u8) -> String {
    let (own, others) = match verbose {
        0 => ("info", "warn"),
        1 => ("debug", "warn"),
        2 => ("trace", "info"),
        _ => ("trace", "debug"),
    };
    // Errors that the AMQP library logs are often routine (a fanout exchange that is gone with its last queue). The
    // transport logs the others itself, in words for operators.
    let others = if verbose < 2 { format!("{others},lapin=off") } else { others.to_owned() };
    OWN.iter().fold(others, |filter, target| format!("{filter},{target}={own}"))
}

/// Makes every panic an error event. If events are not collected, the previous hook prints it as before.
fn install_panic_hook() {
    let previous = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !tracing::dispatcher::has_been_set() {
            return previous(info);
        }
        let location = info.location().map(ToString::to_string).unwrap_or_default();
        let backtrace = Backtrace::capture();
        let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
        tracing::error!(
            thread = thread::current().name().unwrap_or("unnamed"),
            location,
            backtrace,
            "panic: {}",
            panic_message(info.payload())
        );
    }));
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(options: LogOptions, rust_log: Option<&str>, color: bool, events: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber = subscriber(options, rust_log, color, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(captured.0.lock().unwrap().clone()).unwrap()
    }

    fn events() {
        tracing::info!(target: "novella_messaging::rabbit", host = "c1", "own info");
        tracing::debug!(target: "scheduler", "own debug");
        tracing::info!(target: "lapin", "foreign info");
        tracing::warn!(target: "hyper", "foreign warn");
        tracing::error!(target: "lapin::channel", "routine");
    }

    #[test]
    fn own_crates_speak_from_info_and_others_from_warn_on() {
        let text = logged(LogOptions::default(), None, false, events);
        assert!(text.contains("own info") && text.contains("foreign warn"), "{text}");
        assert!(!text.contains("routine"), "{text}");
        assert!(!text.contains("own debug") && !text.contains("foreign info"), "{text}");
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(logged(LogOptions::default(), None, true, events).contains('\x1b'));
    }

    #[test]
    fn verbosity_raises_and_rust_log_replaces_the_filter() {
        let verbose =
            |verbose| logged(LogOptions { verbose, ..LogOptions::default() }, Some(""), false, events);
        assert!(verbose(1).contains("own debug") && !verbose(1).contains("foreign info"));
        assert!(verbose(2).contains("foreign info"));
        let text = logged(LogOptions::default(), Some("lapin=info"), false, events);
        assert!(text.contains("foreign info") && !text.contains("own info"), "{text}");
    }

    #[test]
    fn a_login_is_shown_on_no_level_and_the_frames_beside_it_are() {
        for format in [LogFormat::Text, LogFormat::Json] {
            let text = logged(LogOptions { format, verbose: 0 }, Some("trace"), false, || {
                for frame in ["StartOk { response: [0, 97] }", "SecureOk { response: [0, 97] }", "TuneOk {}"]
                {
                    tracing::trace!(target: "lapin::io_loop", next_msg = ?format_args!("{frame}"), "will write");
                }
            });
            assert_eq!(text.lines().count(), 1, "{text}");
            assert!(text.contains("TuneOk") && !text.contains("97"), "{text}");
        }
    }

    #[test]
    fn json_is_one_object_a_line_with_the_fields_on_top() {
        let text = logged(LogOptions { format: LogFormat::Json, verbose: 0 }, None, true, events);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(
            (&first["message"], &first["host"], &first["level"]),
            (&"own info".into(), &"c1".into(), &"INFO".into())
        );
    }

    #[test]
    fn a_line_break_in_text_is_one_and_cannot_forge_a_line_of_the_log() {
        let forged = "refused\n2026-01-01T00:00:00Z  INFO scheduler: all is well\x1b[2J";
        let log = logged(LogOptions::default(), None, false, || {
            tracing::error!(target: "scheduler", error = "two problems\n  first\n  second", "cannot reload");
            tracing::warn!(target: "scheduler", host = "a \"b\"", reason = %forged, count = 2, "{}", forged);
        });
        let lines: Vec<&str> = log.lines().collect();
        assert!(lines[0].ends_with("ERROR scheduler: cannot reload error=two problems"), "{log}");
        assert_eq!(lines[1..3], ["      first", "      second"], "{log}");
        assert!(lines[3].ends_with("WARN scheduler: refused"), "{log}");
        let after = "    2026-01-01T00:00:00Z  INFO scheduler: all is well\\u{1b}[2J";
        assert_eq!(lines[4], format!("{after} host=\"a \\\"b\\\"\" reason=refused"), "{log}");
        assert_eq!(lines[5], format!("{after} count=2"), "{log}");
    }

    #[test]
    fn a_long_or_invisible_text_is_cut_and_escaped() {
        let long = "\u{e9}".repeat(1 << 20);
        let log = logged(LogOptions::default(), None, false, || {
            tracing::warn!(target: "scheduler", host = %long, zone = %"a\u{202e}b\u{200b}", "{}", long);
        });
        assert!(log.len() < 5 * SHOWN_CHARS && log.contains("bytes more)"), "{} bytes", log.len());
        assert!(log.contains("zone=a\\u{202e}b\\u{200b}"), "{}", &log[log.len() - 200..]);
    }

    #[test]
    fn a_bad_rust_log_says_what_to_write() {
        let error =
            subscriber(LogOptions::default(), Some("novella=loud"), false, io::sink).map(drop).unwrap_err();
        assert!(error.to_string().contains("RUST_LOG=\"novella=loud\"; write for example"), "{error}");
    }
}
