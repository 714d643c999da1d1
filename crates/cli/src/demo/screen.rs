//! The demo in a terminal: bars for each host, totals, and the latest events.
//!
//! Always holds: the terminal is restored, whether the demo ends, fails or panics. It is never in raw mode, so Ctrl-C still
//! sends a signal.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic;

use crossterm::terminal::{EnterAlternateScreen, LeaveAlternateScreen};
use crossterm::{cursor, execute};
use novella_objects::{HostState, HostSummary};
use ratatui::backend::CrosstermBackend;
use ratatui::style::{Style, Stylize};
use ratatui::text::{Line, Span, Text};
use ratatui::{Frame, Terminal};

use super::lines::{sentence, totals};
use super::view::{Event, Sample, View};
use crate::output::printable;
use crate::units;

/// How many events are kept for the log. No terminal shows more lines.
const LOG: usize = 200;
/// Lines that show neither a host nor an event: title, totals and blank lines.
const AROUND: usize = 7;
/// Lines that hosts leave to the log at least.
const LOG_AT_LEAST: usize = 5;
/// From this width on, amounts stand beside the bars, and not only percentages.
const WITH_AMOUNTS: usize = 116;

/// A terminal that shows the demo.
pub struct Screen<'a> {
    terminal: Terminal<CrosstermBackend<&'a mut (dyn Write + Send)>>,
    color: bool,
    seed: u64,
    log: VecDeque<(f64, Event)>,
}

impl<'a> Screen<'a> {
    /// Takes over the terminal. Without `color` it shows no colours.
    pub fn start(out: &'a mut (dyn Write + Send), color: bool, seed: u64) -> io::Result<Self> {
        let previous = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            // The message of the panic would be lost with the alternate screen.
            restore(&mut io::stdout());
            previous(info);
        }));
        let mut backend = CrosstermBackend::new(out);
        execute!(backend, EnterAlternateScreen)?;
        Ok(Self { terminal: Terminal::new(backend)?, color, seed, log: VecDeque::new() })
    }
}

impl Drop for Screen<'_> {
    fn drop(&mut self) {
        restore(self.terminal.backend_mut());
    }
}

/// Restores the terminal. Nothing can be done about one that is gone.
fn restore(out: &mut impl Write) {
    drop(execute!(out, cursor::Show, LeaveAlternateScreen));
}

impl View for Screen<'_> {
    fn event(&mut self, seconds: f64, event: &Event) -> anyhow::Result<()> {
        if self.log.len() == LOG {
            self.log.pop_front();
        }
        self.log.push_back((seconds, event.clone()));
        Ok(())
    }

    fn look(&mut self, seconds: f64, sample: &Sample) -> anyhow::Result<()> {
        let title = format!(
            "novella demo   {} hosts on an in-process bus   {seconds:.1} s   seed {}   Ctrl-C ends",
            sample.hosts.len(),
            self.seed
        );
        let (log, color) = (&self.log, self.color);
        self.terminal.draw(|frame| draw(frame, title, seconds, sample, log, color))?;
        Ok(())
    }
}

fn draw(
    frame: &mut Frame<'_>,
    title: String,
    seconds: f64,
    sample: &Sample,
    log: &VecDeque<(f64, Event)>,
    color: bool,
) {
    let area = frame.area();
    let (width, height) = (area.width as usize, area.height as usize);
    let mut lines = vec![Line::from(title.bold()), Line::default()];
    let shown = sample.hosts.len().min(height.saturating_sub(AROUND + LOG_AT_LEAST).max(1));
    lines.extend(sample.hosts.iter().take(shown).map(|host| host_line(host, width)));
    if sample.hosts.len() > shown {
        lines.push(format!("... and {} more hosts", sample.hosts.len() - shown).into());
    }
    lines.push(Line::default());
    lines.extend(totals(seconds, sample).map(Line::from));
    lines.push(Line::default());
    let left = height.saturating_sub(lines.len());
    lines.extend(log.iter().skip(log.len().saturating_sub(left)).map(|(at, event)| event_line(*at, event)));
    frame.render_widget(Text::from(lines), area);
    if !color {
        frame.buffer_mut().set_style(area, Style::reset());
    }
}

fn event_line(at: f64, event: &Event) -> Line<'static> {
    let line = Line::from(printable(&format!("{at:7.2}s  {}", sentence(event))));
    match event {
        Event::Refused { .. } | Event::Failed { .. } => line.yellow(),
        Event::Silenced { .. } | Event::HostState { to: HostState::Down, .. } => line.red(),
        Event::Heard { .. } | Event::HostState { .. } => line.green(),
        Event::Released { .. } => line.dim(),
        _ => line,
    }
}

fn host_line(host: &HostSummary, width: usize) -> Line<'static> {
    let state = format!("{:<9}", host.state.as_str());
    let state = match host.state {
        HostState::Up => state.green(),
        HostState::Suspect => state.yellow(),
        HostState::Disabled => state.dim(),
        HostState::Down => state.red(),
    };
    let amounts = width >= WITH_AMOUNTS;
    let fixed = if amounts { 80 } else { 64 };
    let bar_width = (width.saturating_sub(fixed) / 3).clamp(3, 24);
    let gauge = |label: &str, used: u64, total: u64, text: String, text_width: usize| {
        let [filled, rest] = bar(used, total, bar_width);
        let beside = if amounts {
            format!(" {text:<text_width$}")
        } else {
            format!(" {:>3.0}%", used as f64 * 100.0 / total.max(1) as f64)
        };
        [format!("  {label} ").into(), filled, rest, beside.into()]
    };
    let cpu = format!("{}/{}", host.vcpus_used, host.vcpus);
    let ram = format!("{}/{}", units::mib(host.memory_mb_used), units::mib(host.memory_mb));
    let disk = format!("{}/{}", units::gib(host.disk_gb_used), units::gib(host.disk_gb));
    let mut spans = vec![
        format!("{:<9.9}", printable(&host.host)).into(),
        state,
        format!("{:<6.6}", printable(&host.availability_zone)).into(),
    ];
    spans.extend(gauge("cpu", host.vcpus_used, host.vcpus, cpu, 6));
    spans.extend(gauge("ram", host.memory_mb_used, host.memory_mb, ram, 11));
    spans.extend(gauge("disk", host.disk_gb_used, host.disk_gb, disk, 10));
    spans.push(format!(" {:>5}", units::age(host.report_age_s)).into());
    Line::from(spans)
}

/// The filled part of a bar, in eighths of a cell, and the rest.
fn bar(used: u64, total: u64, width: usize) -> [Span<'static>; 2] {
    const PARTS: [char; 8] = [' ', '▏', '▎', '▍', '▌', '▋', '▊', '▉'];
    let share = (used as f64 / total.max(1) as f64).clamp(0.0, 1.0);
    let eighths = (share * (width * 8) as f64).round() as usize;
    let mut filled = "█".repeat(eighths / 8);
    if !eighths.is_multiple_of(8) {
        filled.push(PARTS[eighths % 8]);
    }
    let filled = match share {
        s if s < 0.7 => filled.green(),
        s if s < 0.9 => filled.yellow(),
        _ => filled.red(),
    };
    [filled, "·".repeat(width - eighths.div_ceil(8)).dim()]
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;
    use ratatui::style::Color;

    use super::*;
    use crate::demo::view::Counts;

    fn host(name: &str, used: u64) -> HostSummary {
        HostSummary {
            host: name.into(),
            uuid: None,
            state: HostState::Up,
            availability_zone: "north".into(),
            vcpus: 16,
            vcpus_used: used,
            memory_mb: 65_536,
            memory_mb_used: 512,
            disk_gb: 500,
            disk_gb_used: 500,
            instances: 0,
            resources: Default::default(),
            traits: Vec::new(),
            reservations: 0,
            report_age_s: 0.4,
            disabled_reason: None,
            warnings: Vec::new(),
        }
    }

    /// The screen of 40 hosts and a full log.
    fn drawn(width: u16, height: u16, color: bool) -> Buffer {
        let hosts = (1..=40).map(|n| host(&format!("std-{n}"), n % 17)).collect();
        let counts = Counts::default();
        let sample = Sample { filling: true, hosts, counts, held: 3, p50: None, p99: None };
        let reason = "x".repeat(300);
        let refused = |n| Event::Refused { flavor: "small", reason: reason.clone(), latency_ms: 0.1 + n };
        let log = (0..LOG).map(|n| (n as f64, refused(n as f64))).collect();
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, "title".into(), 1.0, &sample, &log, color)).unwrap();
        terminal.backend().buffer().clone()
    }

    fn rows(buffer: &Buffer) -> Vec<String> {
        let row = |y| (0..buffer.area.width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..buffer.area.height).map(|y| row(y).trim_end().to_owned()).collect()
    }

    #[test]
    fn a_bar_is_as_wide_as_asked_and_as_full_as_its_host() {
        let text =
            |used, total, width| bar(used, total, width).map(|part| part.content.into_owned()).concat();
        assert_eq!(text(0, 16, 8), "········");
        assert_eq!(text(8, 16, 8), "████····");
        assert_eq!(text(9, 16, 8), "████▌···");
        assert_eq!(text(16, 16, 8), "████████");
        assert_eq!(text(99, 16, 8), "████████");
        assert_eq!(text(1, 0, 3), "███");
    }

    #[test]
    fn hosts_totals_and_the_latest_events_share_the_screen() {
        for (width, height, hosts) in [(80, 24, 12), (132, 50, 38), (200, 100, 40)] {
            let rows = rows(&drawn(width, height, false));
            assert_eq!((rows[0].as_str(), rows[1].as_str()), ("title", ""));
            let shown = rows.iter().filter(|row| row.starts_with("std-")).count();
            assert_eq!(shown, hosts, "{rows:#?}");
            assert_eq!(rows.contains(&format!("... and {} more hosts", 40 - hosts)), hosts < 40, "{rows:#?}");
            assert!(rows[2].ends_with("  0.4s"), "{rows:#?}");
            assert!(rows.iter().any(|row| row.starts_with("filling    3 held  cpu ")), "{rows:#?}");
            assert!(rows[height as usize - 1].starts_with(" 199.00s  refused   small "), "{rows:#?}");
        }
        drawn(20, 5, false);
    }

    #[test]
    fn colours_are_shown_only_if_they_are_wanted() {
        let plain = |cell: &ratatui::buffer::Cell| cell.fg == Color::Reset && cell.modifier.is_empty();
        assert!(drawn(132, 50, false).content.iter().all(plain));
        let colored = drawn(132, 50, true);
        assert_eq!((colored[(9, 2)].fg, colored[(0, 49)].fg), (Color::Green, Color::Yellow));
    }
}
