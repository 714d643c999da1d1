//! The demo in a terminal: bars for each host, totals, and the latest events.
//!
//! What always holds: the terminal is restored, whether the demo ends, fails or panics.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic;

use crossterm::style::Stylize;
use crossterm::{Command, cursor, queue, terminal};
use novella_objects::{HostStatus, HostSummary};

use super::lines::{sentence, totals};
use super::view::{DemoEvent, Sample, View};
use crate::output::{Tone, printable, state_tone};
use crate::units;

/// How many events are kept for the log. No terminal shows more lines.
const LOG: usize = 200;
/// Lines that show neither a host nor an event: title, totals and blank lines.
const AROUND: usize = 7;
/// The minimum number of lines for the log.
const LOG_AT_LEAST: usize = 5;
/// The size to draw for if the size of the terminal is unknown.
const SIZE: (u16, u16) = (100, 30);
/// From this width on, amounts are shown beside the bars, and not only percentages.
const WITH_AMOUNTS: usize = 116;

/// A terminal that shows the demo.
pub struct Screen<'a> {
    out: &'a mut (dyn Write + Send),
    color: bool,
    seed: u64,
    log: VecDeque<(f64, DemoEvent)>,
}

impl<'a> Screen<'a> {
    /// Takes over the terminal. Without `color` it shows no colours.
    pub fn start(out: &'a mut (dyn Write + Send), color: bool, seed: u64) -> Self {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // Otherwise, the message of the panic would be lost with the alternate screen.
            restore(&mut io::stdout());
            previous(info);
        }));
        // A terminal without an alternate screen shows one frame after the other.
        drop(send(out, terminal::EnterAlternateScreen, cursor::Hide));
        Self { out, color, seed, log: VecDeque::new() }
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        restore(self.out);
    }
}

/// Restores the terminal. If the terminal is gone, there is nothing to restore.
fn restore(out: &mut (dyn Write + Send)) {
    drop(send(out, cursor::Show, terminal::LeaveAlternateScreen));
}

fn send(out: &mut (dyn Write + Send), first: impl Command, second: impl Command) -> io::Result<()> {
    let mut bytes = Vec::new();
    queue!(bytes, first, second)?;
    out.write_all(&bytes)?;
    out.flush()
}

impl View for Screen<'_> {
    fn event(&mut self, seconds: f64, event: &DemoEvent) -> anyhow::Result<()> {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((seconds, event.clone()));
        Ok(())
    }

    fn look(&mut self, seconds: f64, sample: &Sample) -> anyhow::Result<()> {
        let (width, height) = terminal::size().unwrap_or(SIZE);
        let title = format!(
            "novella demo   {} hosts on an in-process bus   {seconds:.1} s   seed {}   Ctrl-C ends",
            sample.hosts.len(),
            self.seed
        );
        let lines = frame(&title, seconds, sample, &self.log, (width.into(), height.into()), self.color);
        // One write per frame avoids flicker. Each line is cleared to its end, so that nothing of the last frame remains.
        let body = lines.join("\x1b[K\r\n");
        write!(self.out, "\x1b[H{body}\x1b[K\x1b[J")?;
        Ok(self.out.flush()?)
    }
}

/// The lines of one frame. They fit into `width` and `height`.
fn frame(
    title: &str,
    seconds: f64,
    sample: &Sample,
    log: &VecDeque<(f64, DemoEvent)>,
    (width, height): (usize, usize),
    color: bool,
) -> Vec<String> {
    let title = cut(title, width);
    let title = if color { title.bold().to_string() } else { title };
    let mut lines = vec![title, String::new()];
    let shown = sample.hosts.len().min(height.saturating_sub(AROUND + LOG_AT_LEAST).max(1));
    lines.extend(sample.hosts.iter().take(shown).map(|host| host_line(host, width, color)));
    if sample.hosts.len() > shown {
        lines.push(cut(&format!("... and {} more hosts", sample.hosts.len() - shown), width));
    }
    lines.push(String::new());
    lines.extend(totals(seconds, sample).map(|line| cut(&line, width)));
    lines.push(String::new());
    let left = height.saturating_sub(lines.len());
    let recent = log.iter().skip(log.len().saturating_sub(left));
    lines.extend(recent.map(|(at, event)| {
        let line = cut(&printable(&format!("{at:7.2}s  {}", sentence(event))), width);
        let tone = match event {
            DemoEvent::Refused { .. }
            | DemoEvent::HostRefused { .. }
            | DemoEvent::BuildFailed { .. }
            | DemoEvent::Failed { .. } => Tone::Warn,
            DemoEvent::Silenced { .. } | DemoEvent::HostStatus { to: HostStatus::Down, .. } => Tone::Bad,
            DemoEvent::Heard { .. } | DemoEvent::HostStatus { .. } => Tone::Good,
            DemoEvent::Deleted { .. } | DemoEvent::Built { .. } => Tone::Dim,
            DemoEvent::Placed { .. } => Tone::Plain,
        };
        paint(line, tone, color)
    }));
    lines.truncate(height);
    lines
}

/// The text in the colour of a tone.
fn paint(text: String, tone: Tone, color: bool) -> String {
    match tone {
        Tone::Good if color => text.green().to_string(),
        Tone::Warn if color => text.yellow().to_string(),
        Tone::Bad if color => text.red().to_string(),
        Tone::Dim if color => text.dim().to_string(),
        _ => text,
    }
}

fn cut(text: &str, width: usize) -> String {
    text.chars().take(width).collect()
}

fn host_line(host: &HostSummary, width: usize, color: bool) -> String {
    let state = paint(format!("{:<9}", host.state.as_str()), state_tone(host.state), color);
    let amounts = width >= WITH_AMOUNTS;
    let fixed = if amounts { 80 } else { 64 };
    let bar_width = (width.saturating_sub(fixed) / 3).clamp(3, 24);
    let gauge = |label: &str, used: u64, total: u64, text: String, text_width: usize| {
        let filled = bar(used, total, bar_width, color);
        if amounts {
            format!("  {label} {filled} {text:<text_width$}")
        } else {
            format!("  {label} {filled} {:>3.0}%", used as f64 * 100.0 / total.max(1) as f64)
        }
    };
    let cpu = format!("{}/{}", host.vcpus_used, host.vcpus);
    let ram = format!("{}/{}", units::mib(host.memory_mb_used), units::mib(host.memory_mb));
    let disk = format!("{}/{}", units::gib(host.disk_gb_used), units::gib(host.disk_gb));
    [
        format!(
            "{:<9}{state}{:<6}",
            cut(&printable(&host.host), 9),
            cut(&printable(&host.availability_zone), 6)
        ),
        gauge("cpu", host.vcpus_used, host.vcpus, cpu, 6),
        gauge("ram", host.memory_mb_used, host.memory_mb, ram, 11),
        gauge("disk", host.disk_gb_used, host.disk_gb, disk, 10),
        format!(" {:>5}", units::age(host.report_age_s)),
    ]
    .concat()
}

/// A bar, filled in eighths of a cell.
fn bar(used: u64, total: u64, width: usize, color: bool) -> String {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let share = (used as f64 / total.max(1) as f64).clamp(0.0, 1.0);
    let eighths = (share * (width * 8) as f64).round() as usize;
    let mut text = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        text.push(PARTS[eighths % 8]);
    }
    let rest = "·".repeat(width - eighths.div_ceil(8));
    let tone = match share {
        s if s < 0.7 => Tone::Good,
        s if s < 0.9 => Tone::Warn,
        _ => Tone::Bad,
    };
    paint(text, tone, color) + &paint(rest, Tone::Dim, color)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::view::Counts;
    use crate::tests::a_host;

    #[test]
    fn a_bar_is_as_wide_as_asked_and_as_full_as_its_host() {
        assert_eq!(bar(0, 16, 8, false), "········");
        assert_eq!(bar(8, 16, 8, false), "████····");
        assert_eq!(bar(9, 16, 8, false), "████▌···");
        assert_eq!(bar(16, 16, 8, false), "████████");
        assert_eq!(bar(99, 16, 8, false), "████████");
        assert_eq!(bar(1, 0, 3, false), "███");
    }

    #[test]
    fn a_frame_fits_its_terminal() {
        let hosts = (1..=40).map(|n| HostSummary {
            vcpus: 16,
            vcpus_used: n % 17,
            disk_gb: 500,
            disk_gb_used: 500,
            ..a_host(&format!("std-{n}"))
        });
        let hosts = hosts.collect();
        let counts = Counts::default();
        let sample = Sample { filling: true, hosts, counts, instances: 3, p50: None, p99: None };
        let reason = "x".repeat(300);
        let log = (0..LOG).map(|n| {
            (n as f64, DemoEvent::Refused { flavor: "small", reason: reason.clone(), latency_ms: 0.1 })
        });
        let log = log.collect();
        for size in [(80, 24), (132, 50), (200, 100), (20, 5)] {
            let lines = frame("title", 1.0, &sample, &log, size, false);
            assert!(lines.len() <= size.1, "{size:?}: {} lines", lines.len());
            if size.0 >= 80 {
                let widest = lines.iter().map(|line| line.chars().count()).max();
                assert!(widest <= Some(size.0), "{size:?}: {widest:?} in {lines:#?}");
            }
        }
        assert!(frame("title", 1.0, &sample, &log, (132, 50), true)[2].contains("\x1b["));
    }
}
