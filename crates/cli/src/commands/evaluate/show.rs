//! Results of `novella evaluate`: tables for people, one request after the other, and documents for machines.

use novella_filter_scheduler::FilterKind;
use novella_fleet_documents::Evaluator;
use novella_objects::document::{Fleet, Outcome, OutcomeError, Request, RequestId, Results};
use novella_objects::{Scored, WeigherScore};
use serde::Serialize;
use serde_json::json;

use crate::commands::decision::ranking_table;
use crate::output::{
    Cell, Column, Console, Format, Listing, OutputArgs, Tone, printable, table_text, write_object, write_rows,
};
use crate::units;

/// How many ranked hosts a table shows without `-f wide`.
const RANKED: usize = 10;

/// Writes the result of one request as tables.
pub fn outcome(
    request: &Request,
    outcome: &Outcome,
    fleet: &Fleet<'_>,
    evaluator: &mut Evaluator,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let filters = evaluator.filters(request)?;
    let scores = if outcome.weights.is_empty() { Vec::new() } else { evaluator.scores(request)? };
    let instances = request.num_instances.map_or(request.instance_uuids.len().max(1), |n| n as usize);
    let kind = request.kind.as_ref().map(|kind| format!(" ({kind})")).unwrap_or_default();
    let line = format!(
        "request {}{kind}: {instances} x {} vCPU, {} RAM, {} disk; {} hosts",
        id(&outcome.id),
        request.vcpus,
        units::mib(request.memory_mb),
        units::gib(request.root_gb.saturating_add(request.ephemeral_gb)),
        fleet.hosts.len(),
    );
    writeln!(console.out, "{}", printable(&line))?;
    if instances > 1 {
        writeln!(console.out, "filters and weights are those of the first instance")?;
    }
    let picks: Vec<_> = outcome.picks.iter().map(|host| host_name(fleet, *host)).collect();
    let line = match (outcome.complete, outcome.errors.is_empty()) {
        (true, _) => format!("picks: {}", picks.join(", ")),
        (false, false) => "picks: none, because of an error".to_owned(),
        (false, true) => {
            let room = if picks.is_empty() { String::new() } else { format!(" ({})", picks.join(", ")) };
            format!("picks: none; there is room for {} of {instances}{room}", picks.len())
        }
    };
    writeln!(console.out, "{}", printable(&line))?;
    for error in &outcome.errors {
        writeln!(console.out, "error: {}", printable(&error_text(error, fleet)))?;
    }
    verdicts(outcome, &filters, fleet, console)?;
    ranking(&scores, args, console)?;
    Ok(writeln!(console.out)?)
}

/// Writes what each filter did to the hosts that passed those before it, with the names of the hosts it refused.
fn verdicts(
    outcome: &Outcome,
    filters: &[FilterKind],
    fleet: &Fleet<'_>,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let hosts_of = |wanted: char| -> Vec<&str> {
        let hosts = outcome.verdict.chars().zip(0..).filter(|(verdict, _)| *verdict == wanted);
        hosts.map(|(_, host)| host_name(fleet, host)).collect()
    };
    let mut left = outcome.verdict.chars().filter(|verdict| *verdict != '-').count();
    let mut table = Vec::new();
    let aside = hosts_of('-');
    if !aside.is_empty() {
        table.push(vec![
            Cell::text("(before the filters)"),
            Cell::number(fleet.hosts.len()),
            Cell::number(left),
            Cell::text(aside.join(" ")),
        ]);
    }
    for (at, filter) in filters.iter().enumerate() {
        let errors = outcome.errors.iter().filter_map(|error| match error {
            OutcomeError::Filter { filter: of, host, .. } if of == filter.name() => Some(*host),
            _ => None,
        });
        let undecided = errors.map(|host| format!("{}!", host_name(fleet, host)));
        let refused = hosts_of(Evaluator::letter(at)).into_iter().map(str::to_owned);
        let lost: Vec<_> = refused.chain(undecided).collect();
        let tone = match lost.len() {
            0 => Tone::Plain,
            n if n == left => Tone::Bad,
            _ => Tone::Warn,
        };
        let after = left.saturating_sub(lost.len());
        table.push(vec![
            Cell::text(filter.name()).tone(tone),
            Cell::number(left),
            Cell::number(after),
            Cell::text(lost.join(" ")),
        ]);
        left = after;
    }
    let text = table_text(&["filter", "in", "out", "refused"], table, console.style);
    Ok(write!(console.out, "\n{text}")?)
}

fn ranking(scores: &[Scored], args: &OutputArgs, console: &mut Console<'_>) -> anyhow::Result<()> {
    if scores.is_empty() {
        return Ok(());
    }
    let wide = args.format == Format::Wide;
    let count = if wide { scores.len() } else { scores.len().min(RANKED) };
    let share = |s: &WeigherScore| format!("{} x {:.3} (raw {})", s.multiplier, s.normalised, s.raw);
    let best = &scores[..count];
    ranking_table(best, 6, wide, share, console)?;
    if scores.len() > count {
        writeln!(console.out, "... and {} more; -f wide shows all", scores.len() - count)?;
    }
    Ok(())
}

fn error_text(error: &OutcomeError, fleet: &Fleet<'_>) -> String {
    match error {
        OutcomeError::Filter { filter: who, host, reason }
        | OutcomeError::Weigher { weigher: who, host, reason } => {
            format!("{who} at {}: {reason}", host_name(fleet, *host))
        }
        OutcomeError::Image { reason } | OutcomeError::Request { reason } => reason.clone(),
    }
}

/// The id as text.
pub fn id(id: &RequestId) -> String {
    match id {
        RequestId::Number(number) => number.to_string(),
        RequestId::Text(text) => text.clone(),
    }
}

/// What one request got from one host.
#[derive(Serialize)]
struct Judged {
    request: RequestId,
    host: String,
    verdict: String,
    rank: Option<usize>,
    weight: Option<f64>,
    /// How many instances of the request go to this host.
    picked: usize,
}

const JUDGED: Listing<Judged> = Listing::of(&[
    Column::field("request", |j| json!(j.request)),
    Column::field("host", |j| json!(j.host)),
    Column::field("verdict", |j| json!(j.verdict)),
    Column::field("rank", |j| json!(j.rank)),
    Column::field("weight", |j| json!(j.weight)),
    Column::field("picked", |j| json!(j.picked)),
]);

/// A result on a line of its own, with the filters that its verdict refers to.
#[derive(Serialize)]
struct OutcomeLine<'a> {
    #[serde(flatten)]
    outcome: &'a Outcome,
    filters: Vec<&'static str>,
}

/// Writes all results for machines: documents as JSON and YAML, and a row for each request and host otherwise.
pub fn results(
    results: &Results,
    fleet: &Fleet<'_>,
    asked: &[&Request],
    evaluator: &Evaluator,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    match args.format {
        Format::Json if args.columns.is_empty() => {
            // Each result has a line, so that two runs can be compared line by line.
            let Results { results: outcomes, .. } = results;
            let head = serde_json::to_string(&Results { results: Vec::new(), ..results.clone() })?;
            let head = head.strip_suffix("]}").expect("results are the last field");
            writeln!(console.out, "{head}")?;
            for (at, outcome) in outcomes.iter().enumerate() {
                let comma = if at + 1 == outcomes.len() { "" } else { "," };
                writeln!(console.out, "{}{comma}", serde_json::to_string(outcome)?)?;
            }
            writeln!(console.out, "]}}")?;
            Ok(console.out.flush()?)
        }
        Format::Jsonl if args.columns.is_empty() => {
            for (request, outcome) in asked.iter().zip(&results.results) {
                let filters = evaluator.filters(request)?.into_iter().map(FilterKind::name).collect();
                writeln!(console.out, "{}", serde_json::to_string(&OutcomeLine { outcome, filters })?)?;
            }
            Ok(console.out.flush()?)
        }
        Format::Yaml if args.columns.is_empty() => write_object(results, args, console),
        _ => write_rows(&judged(results, fleet, asked, evaluator)?, &JUDGED, args, console),
    }
}

fn judged(
    results: &Results,
    fleet: &Fleet<'_>,
    asked: &[&Request],
    evaluator: &Evaluator,
) -> anyhow::Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for (request, outcome) in asked.iter().zip(&results.results) {
        let filters = evaluator.filters(request)?;
        let mut ranks = vec![None; fleet.hosts.len()];
        for (rank, (host, weight)) in (1..).zip(&outcome.weights) {
            ranks[*host as usize] = Some((rank, *weight));
        }
        for (host, verdict) in outcome.verdict.chars().enumerate() {
            let verdict = match verdict {
                '.' => "passed",
                '-' => "not considered",
                '!' => "error",
                letter => {
                    let at = (0..filters.len()).find(|&at| Evaluator::letter(at) == letter);
                    filters[at.expect("only filters that ran refuse")].name()
                }
            };
            judged.push(Judged {
                request: outcome.id.clone(),
                host: host_name(fleet, host as u32).to_owned(),
                verdict: verdict.to_owned(),
                rank: ranks[host].map(|(rank, _)| rank),
                weight: ranks[host].map(|(_, weight)| weight),
                picked: outcome.picks.iter().filter(|pick| **pick as usize == host).count(),
            });
        }
    }
    Ok(judged)
}

/// The name of the host at this place of the fleet.
fn host_name<'f>(fleet: &'f Fleet<'_>, at: u32) -> &'f str {
    fleet.hosts.get(at as usize).map_or("?", |host| &host.host)
}
