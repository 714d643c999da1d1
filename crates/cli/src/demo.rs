//! `novella demo`: runs a whole fleet in this process. The code is that of the daemons, on the in-process bus, in real time.
//!
//! The fleet has a scheduler, hosts of different kinds, and a stream of instances. They are created in waves, built by their
//! hosts, and deleted after some seconds, so the hosts fill and drain. Some builds fail, and these instances are asked for again.
//! Every twenty seconds one host falls silent, refuses by its silence, is marked as down, and comes back. The demo shows only what
//! any operator can ask for: the answers of `list_hosts`, `list_instances` and `status`.
//!
//! Layout, in reading order:
//! - `fleet`: the scheduler and the agents
//! - `load`: the requests, and when they come
//! - `view`: what is shown, and JSON lines
//! - `lines`: lines for people
//! - `screen`: the same in a terminal

pub mod fleet;
mod lines;
mod load;
mod screen;
mod view;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Duration;

use clap::{Args, ValueEnum};
use fleet::Fleet;
use futures_util::future::OptionFuture;
use load::{DemoFlavor, Wave};
use novella_objects::{Decision, Explanation, HostRefusal, HostStatus, Refusal, VmState};
use novella_service::shutdown::Shutdown;
use novella_service::{Env, Random};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;
use view::{DemoEvent, DemoSummary, ProgramEvent, Sample, View};

use crate::exit_codes::OK;
use crate::latencies::Latencies;
use crate::output::Console;
use crate::units;

/// Maximum number of requests without an answer. The stream waits for answers before it sends more.
const IN_FLIGHT: usize = 64;
/// The time between two samples of the fleet: bars move smoothly, and people can still read the numbers.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// An instance that no host has reported after this time is not there any more.
const REPORTED: Duration = Duration::from_secs(2);
/// The time from the start to the first silence of a host.
const FIRST_SILENCE: Duration = Duration::from_secs(4);
/// The time from the beginning of one silence to the next.
const SILENCE_EVERY: Duration = Duration::from_secs(20);
/// How long a silence lasts: long enough that the scheduler marks the host as down.
const SILENCE: Duration = Duration::from_secs(8);

/// Arguments of `demo`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  novella demo
  novella demo --for 20s --hosts 12 --rate 20
  novella demo --for 10s --seed 7 --no-ui
  novella demo --for 10s -f jsonl | jq 'select(.event == \"refused\")'")]
pub struct DemoArgs {
    /// End after this time; without it, run until Ctrl-C
    #[arg(long = "for", value_name = "TIME", value_parser = units::parse_duration)]
    pub duration: Option<Duration>,
    /// Number of hosts
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=200))]
    pub hosts: u32,
    /// Repeat the requests of an earlier run: the number that it showed as its seed
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Placements per second, as the average of a wave
    #[arg(long, value_name = "N", default_value_t = 8.0, value_parser = parse_rate)]
    pub rate: f64,
    /// Write lines instead of a screen in a terminal
    #[arg(long)]
    pub no_ui: bool,
    /// How to write: text for people, jsonl for programs
    #[arg(short = 'f', long, short_alias = 'o', value_enum, default_value_t)]
    pub format: DemoFormat,
}

/// How the demo writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum DemoFormat {
    /// For people: a screen in a terminal, lines elsewhere
    #[default]
    Text,
    /// For programs: one JSON object per event and line
    Jsonl,
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1000.0).contains(&rate) => Ok(rate),
        _ => Err("write a number of placements per second from 0.1 to 1000".to_owned()),
    }
}

/// Runs the demo to its end and writes the summary.
pub async fn run(
    args: &DemoArgs,
    env: Env,
    shutdown: &Shutdown,
    console: &mut Console<'_>,
) -> anyhow::Result<u8> {
    let seed = args.seed.unwrap_or_else(|| env.random.u64() % 1_000_000);
    let env = Env { random: Random::from_number(seed), ..env };
    let fleet = Fleet::start(&env, args.hosts as usize).await?;
    if args.format == DemoFormat::Text {
        console.note(&format!("{} hosts and a scheduler on a bus in this process; seed {seed}", args.hosts));
    }
    let mut demo = Demo::new(args, &env, fleet);
    let ran = {
        let mut view = view(args, console, seed);
        demo.run(args, shutdown, &mut *view).await
    };
    let summary = demo.summary(seed);
    demo.fleet.stop().await;
    ran?;
    match args.format {
        DemoFormat::Text => write!(console.out, "{}", lines::summary(&summary))?,
        DemoFormat::Jsonl => {
            view::write_json_line(console.out, summary.seconds, &ProgramEvent::Summary(&summary))?;
        }
    }
    console.out.flush()?;
    Ok(OK)
}

fn view<'a>(args: &DemoArgs, console: &'a mut Console<'_>, seed: u64) -> Box<dyn View + 'a> {
    match args.format {
        DemoFormat::Jsonl => Box::new(view::JsonLines(&mut *console.out)),
        DemoFormat::Text if console.style.terminal && !args.no_ui => {
            Box::new(screen::Screen::start(&mut *console.out, console.style.color, seed))
        }
        DemoFormat::Text => Box::new(lines::Lines::new(&mut *console.out)),
    }
}

/// An instance that a host has granted. The earliest to be deleted comes first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Instance {
    /// When the demo deletes it.
    until: Instant,
    /// When it was placed.
    since: Instant,
    uuid: Uuid,
    flavor: &'static str,
    host: String,
    /// The number of the attempt that placed it.
    attempt: u32,
}

/// The outcome of one request.
enum Done {
    Decided { asked: Asked, latency: Duration, decision: Box<Decision> },
    Deleted { instance: Instance },
    Failed { what: &'static str, error: String },
}

/// An instance that is asked for.
#[derive(Clone, Copy)]
struct Asked {
    flavor: DemoFlavor,
    uuid: Uuid,
    attempt: u32,
    lifetime: Duration,
}

/// The running demo.
struct Demo {
    fleet: Fleet,
    wave: Wave,
    random: Random,
    began: Instant,
    under_way: JoinSet<Done>,
    instances: BinaryHeap<Reverse<Instance>>,
    /// The instances that are being built.
    building: BTreeMap<Uuid, Asked>,
    /// The times from request to answer.
    latencies: Latencies,
    counts: view::Counts,
    /// The state of each host in the last sample.
    states: Vec<(String, HostStatus)>,
    /// The host that is cut off the bus now.
    silent: Option<String>,
    /// When the next host is cut off, or the silent one comes back.
    next_switch: Instant,
}

impl Demo {
    fn new(args: &DemoArgs, env: &Env, fleet: Fleet) -> Self {
        let began = Instant::now();
        Self {
            wave: Wave::new(args.rate),
            random: Random::from_seed(env.random.fork("load")),
            began,
            under_way: JoinSet::new(),
            instances: BinaryHeap::new(),
            building: BTreeMap::new(),
            latencies: Latencies::default(),
            counts: view::Counts::default(),
            states: Vec::new(),
            silent: None,
            next_switch: began + FIRST_SILENCE,
            fleet,
        }
    }

    async fn run(&mut self, args: &DemoArgs, shutdown: &Shutdown, view: &mut dyn View) -> anyhow::Result<()> {
        let end = args.duration.map(|duration| self.began + duration);
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut next_arrival = self.began;
        loop {
            let next_delete = self.instances.peek().map(|Reverse(instance)| instance.until);
            let free = self.under_way.len() < IN_FLIGHT;
            tokio::select! { biased;
                () = shutdown.requested() => return Ok(()),
                Some(()) = OptionFuture::from(end.map(sleep_until)) => return Ok(()),
                Some(done) = self.under_way.join_next() => self.done(done?, view)?,
                _ = look.tick() => self.look(view).await?,
                Some(()) = OptionFuture::from(next_delete.map(sleep_until)), if free => self.delete(),
                () = sleep_until(self.next_switch) => self.switch(view)?,
                () = sleep_until(next_arrival), if free => {
                    self.create();
                    next_arrival = self.wave.next_arrival(next_arrival, self.began, &self.random);
                }
            }
        }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    fn create(&mut self) {
        let asked = Asked {
            flavor: load::draw(&self.random),
            uuid: self.random.uuid(),
            attempt: 1,
            lifetime: load::lifetime(&self.random),
        };
        self.ask(asked);
    }

    fn ask(&mut self, asked: Asked) {
        let request = asked.flavor.request(asked.uuid, asked.attempt);
        let (api, options) = (self.fleet.bus().scheduler().clone(), self.fleet.bus().options());
        self.under_way.spawn(async move {
            let began = Instant::now();
            match api.create_instance(&request, options).await {
                Ok(decision) => {
                    Done::Decided { asked, latency: began.elapsed(), decision: Box::new(decision) }
                }
                Err(error) => Done::Failed { what: "creation", error: novella_service::exit::chain(&error) },
            }
        });
    }

    fn delete(&mut self) {
        let Some(Reverse(instance)) = self.instances.pop() else { return };
        self.building.remove(&instance.uuid);
        let (api, options) = (self.fleet.bus().scheduler().clone(), self.fleet.bus().options());
        self.under_way.spawn(async move {
            match api.terminate_instance(instance.uuid, options).await {
                Ok(()) => Done::Deleted { instance },
                Err(error) => Done::Failed { what: "deletion", error: novella_service::exit::chain(&error) },
            }
        });
    }

    fn done(&mut self, done: Done, view: &mut dyn View) -> anyhow::Result<()> {
        let event = match done {
            Done::Decided { asked, latency, decision } => {
                for HostRefusal { host, reason, .. } in &decision.refused_by {
                    self.counts.refused_by_hosts += 1;
                    let (host, reason) = (host.clone(), reason.clone());
                    let refused = DemoEvent::HostRefused { flavor: asked.flavor.name, host, reason };
                    view.event(self.seconds(), &refused)?;
                }
                self.decided(asked, latency, &decision)
            }
            Done::Deleted { instance } => {
                self.counts.deleted += 1;
                let after_s = instance.since.elapsed().as_secs_f64();
                DemoEvent::Deleted { flavor: instance.flavor, host: instance.host, after_s }
            }
            Done::Failed { what, error } => {
                self.counts.failed += 1;
                DemoEvent::Failed { what, error }
            }
        };
        view.event(self.seconds(), &event)
    }

    fn decided(&mut self, asked: Asked, latency: Duration, decision: &Decision) -> DemoEvent {
        self.latencies.record(latency);
        let (flavor, latency_ms) = (asked.flavor.name, latency.as_secs_f64() * 1e3);
        match (&decision.refusal, decision.selections.first()) {
            (None, Some(selection)) => {
                self.counts.placed += 1;
                let (since, host) = (Instant::now(), selection.host.clone());
                let Asked { uuid, attempt, lifetime, .. } = asked;
                let until = since + lifetime;
                self.instances.push(Reverse(Instance { until, since, uuid, flavor, host, attempt }));
                self.building.insert(uuid, asked);
                DemoEvent::Placed {
                    flavor,
                    host: selection.host.clone(),
                    weight: selection.weight,
                    alternates: selection.alternates.clone(),
                    latency_ms,
                }
            }
            (refusal, _) => {
                self.counts.refused += 1;
                let reason = match refusal {
                    Some(Refusal::Conflict { reason, .. }) => reason.clone(),
                    _ => why_refused(&decision.explanation),
                };
                DemoEvent::Refused { flavor, reason, latency_ms }
            }
        }
    }

    /// Looks which builds have ended. A failed one is asked for again, as its owner would.
    async fn look_at_builds(&mut self, view: &mut dyn View) -> anyhow::Result<()> {
        if self.building.is_empty() {
            return Ok(());
        }
        let states = self.fleet.instance_states().await?;
        let since: BTreeMap<Uuid, (Instant, String)> = self
            .instances
            .iter()
            .map(|Reverse(instance)| (instance.uuid, (instance.since, instance.host.clone())))
            .collect();
        for (uuid, asked) in std::mem::take(&mut self.building) {
            let Some((since, host)) = since.get(&uuid).cloned() else { continue };
            let (flavor, after_s) = (asked.flavor.name, since.elapsed().as_secs_f64());
            match states.get(&uuid) {
                Some(VmState::Building) => drop(self.building.insert(uuid, asked)),
                Some(VmState::Error) | None if since.elapsed() > REPORTED => {
                    self.counts.builds_failed += 1;
                    view.event(self.seconds(), &DemoEvent::BuildFailed { flavor, host })?;
                    self.instances.retain(|Reverse(instance)| instance.uuid != uuid);
                    self.ask(Asked { attempt: asked.attempt + 1, ..asked });
                }
                // No report has come yet.
                None => drop(self.building.insert(uuid, asked)),
                Some(_) => {
                    self.counts.built += 1;
                    view.event(self.seconds(), &DemoEvent::Built { flavor, host, after_s })?;
                }
            }
        }
        Ok(())
    }

    /// Cuts a host off the bus, or connects the silent one again.
    fn switch(&mut self, view: &mut dyn View) -> anyhow::Result<()> {
        let event = match self.silent.take() {
            Some(host) => {
                self.fleet.silence(&host, false);
                self.next_switch += SILENCE_EVERY - SILENCE;
                DemoEvent::Heard { host }
            }
            None => {
                let host = self.fleet.pick(&self.random);
                self.fleet.silence(&host, true);
                self.next_switch += SILENCE;
                self.silent = Some(host.clone());
                DemoEvent::Silenced { host }
            }
        };
        view.event(self.seconds(), &event)
    }

    async fn look(&mut self, view: &mut dyn View) -> anyhow::Result<()> {
        self.look_at_builds(view).await?;
        let (hosts, status) = self.fleet.look().await?;
        self.counts.reports = status.reports;
        let states = hosts.iter().map(|host| (host.host.clone(), host.state)).collect();
        let before = std::mem::replace(&mut self.states, states);
        for (host, state) in &self.states {
            let was = before.iter().find(|(name, _)| name == host).map(|(_, state)| *state);
            if let Some(was) = was.filter(|was| was != state) {
                match state {
                    HostStatus::Down => self.counts.went_down += 1,
                    HostStatus::Up => self.counts.came_back += 1,
                    HostStatus::Suspect | HostStatus::Disabled => {}
                }
                view.event(
                    self.seconds(),
                    &DemoEvent::HostStatus { host: host.clone(), from: was, to: *state },
                )?;
            }
        }
        let sample = Sample {
            filling: self.wave.is_filling(self.began.elapsed()),
            hosts,
            counts: self.counts,
            instances: self.instances.len(),
            p50: self.latencies.quantile(0.5),
            p99: self.latencies.quantile(0.99),
        };
        view.look(self.seconds(), &sample)
    }

    fn summary(&self, seed: u64) -> DemoSummary {
        DemoSummary {
            seconds: self.seconds(),
            hosts: self.states.len(),
            seed,
            decisions: self.counts.placed + self.counts.refused,
            counts: self.counts,
            p50_ms: self.latencies.quantile_ms(0.5),
            p99_ms: self.latencies.quantile_ms(0.99),
        }
    }
}

/// A refusal in one line: the filter that left no host, and the host that came closest.
fn why_refused(explanation: &Explanation) -> String {
    let Some(last) = explanation.filters.iter().find(|tally| tally.hosts_out == 0) else {
        return format!("none of {} hosts", explanation.hosts);
    };
    let nearest = last.nearest_miss.as_ref().map(|m| format!("; nearest: {}", m.text())).unwrap_or_default();
    format!("{} refused the last {}{nearest}", last.filter, last.hosts_in)
}
