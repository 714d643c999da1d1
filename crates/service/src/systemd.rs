//! Tells systemd how the service is doing (Type=notify, WatchdogSec=).
//!
//! What always holds: without `NOTIFY_SOCKET` in the environment nothing is sent and nothing fails. The watchdog is
//! fed only while the process is alive by its own judgement, so a hung loop gets it restarted.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time;

use crate::{health::Health, shutdown::Shutdown};

/// The longest status that is sent, in characters. systemd shows one line.
const STATUS_LIMIT: usize = 200;

/// Keeps systemd informed from start to stop: the status, READY, the watchdog, and STOPPING when a stop is asked
/// for. Spawn it as a separate task. It ends when the stop is asked for.
pub async fn accompany(health: Health, shutdown: Shutdown) {
    let watchdog = sd_notify::watchdog_enabled();
    // Twice per period, as systemd asks; without a watchdog, often enough for a status that people read.
    let pulse = watchdog.map_or(Duration::from_secs(5), |period| period / 2);
    let mut pulses = time::interval(pulse.max(Duration::from_millis(1)));
    let mut announced = false;
    let mut last_status = String::new();
    loop {
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            () = health.until_ready(), if !announced => {}
            _ = pulses.tick() => {
                let live = health.live();
                if !live.ok {
                    tracing::error!(reason = live.summary(), "not alive; the watchdog is not fed");
                } else if watchdog.is_some() {
                    send(&[NotifyState::Watchdog]);
                }
            }
        }
        let report = health.ready();
        if report.ok && !announced {
            send(&[NotifyState::Ready]);
            announced = true;
        }
        let current = if report.ok { "ready".to_owned() } else { report.summary() };
        if current != last_status {
            send_status(&current);
            last_status = current;
        }
    }
    send(&[NotifyState::Stopping]);
}

/// Tells in one line what the service is doing, for `systemctl status`.
fn send_status(text: &str) {
    let line: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_LIMIT).collect();
    send(&[NotifyState::Status(&line)]);
}

fn send(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify systemd");
    }
}
