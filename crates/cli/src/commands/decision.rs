//! A decision for people and for machines: the chosen hosts, how many hosts each filter refused, and the weights.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use novella_objects::document::Request;
use novella_objects::{
    Decision, Explanation, FilterTally, Fixes, HostRefusal, HostStatus, HostVerdict, NearHost, NearestMiss,
    PlacementRequest, Refusal, Scored, Selection, WeigherScore,
};
use serde::Serialize;
use serde_json::json;
use uuid::Uuid;

use crate::exit_codes::{CONFLICT, OK, REFUSED};
use crate::output::{
    Cell, Column, Console, Format, Listing, OutputArgs, Tone, printable, table_text, write_answer,
};
use crate::units;

/// How many hosts are shown in the ranking below the winner.
const RUNNERS_UP: usize = 4;

/// A row of the answer: the place of one instance, and the decision that holds it.
#[derive(Serialize)]
struct Placed {
    decision_id: String,
    #[serde(flatten)]
    selection: Selection,
    /// The hosts of the decision that are not up.
    #[serde(skip)]
    not_up: Rc<BTreeMap<String, HostStatus>>,
}

impl Placed {
    /// The name of a host, with its state if it is not up.
    fn marked(&self, host: &str) -> String {
        match self.not_up.get(host) {
            None => host.to_owned(),
            Some(state) => format!("{host} ({})", state.as_str()),
        }
    }

    fn host_cell(&self) -> Cell {
        let host = &self.selection.host;
        let tone = if self.not_up.contains_key(host) { Tone::Warn } else { Tone::Plain };
        Cell::text(self.marked(host)).tone(tone)
    }

    fn alternates_cell(&self) -> Cell {
        let marked = self.selection.alternates.iter().map(|host| self.marked(host));
        Cell::text(marked.collect::<Vec<_>>().join(", "))
    }
}

const SELECTIONS: Listing<Placed> = Listing {
    all: &[
        Column::field("instance_uuid", |p| json!(p.selection.instance_uuid)),
        Column::view("host", |p| json!(p.selection.host), Placed::host_cell),
        Column::field("nodename", |p| json!(p.selection.nodename)),
        Column::view(
            "weight",
            |p| json!(p.selection.weight),
            |p| Cell::number(format!("{:.3}", p.selection.weight)),
        ),
        Column::view("alternates", |p| json!(p.selection.alternates), Placed::alternates_cell),
        Column::field("decision_id", |p| json!(p.decision_id)),
    ],
    table: &["instance_uuid", "host", "weight", "alternates"],
    wide: &["nodename", "decision_id"],
    fields: &["instance_uuid", "host", "weight", "alternates", "decision_id"],
};

/// Writes the chosen hosts, or `document` in the formats that hold it.
pub fn selections(
    document: &DecisionDocument<'_>,
    decision: &Decision,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let not_up = Rc::new(decision.not_up.clone());
    let place = |s: &Selection| Placed {
        decision_id: decision.decision_id.clone(),
        selection: s.clone(),
        not_up: Rc::clone(&not_up),
    };
    let placed: Vec<_> = decision.selections.iter().map(place).collect();
    write_answer(document, &placed, &SELECTIONS, args, console)
}

/// The decision as scripts read it.
#[derive(Serialize)]
pub struct DecisionDocument<'a> {
    decision_id: &'a str,
    /// One of `placed`, `refused` and `conflict`.
    outcome: &'static str,
    selections: &'a [Selection],
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    /// How many of the instances could be placed, if not all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    placeable: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflict: Option<Conflict<'a>>,
    dry_run: bool,
    repeated: bool,
    /// Whether the hosts keep the room until it is released.
    claimed: bool,
    hold_s: u64,
    /// The hosts that do not keep the room themselves, each with the reason.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    not_granted: &'a BTreeMap<String, String>,
    /// The hosts that refused a claim before, in order.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    refused_by: &'a [HostRefusal],
    /// The seed of random picks.
    #[serde(skip_serializing_if = "Option::is_none")]
    seed: Option<u64>,
    /// Notes on the answer, such as parts of the request that had no effect.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub notes: &'a [String],
    hosts: u32,
    suspect_hosts: u32,
    /// The chosen hosts and alternates that are not up.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    not_up: &'a BTreeMap<String, HostStatus>,
    /// What the filters did: with a refusal, or if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    filters: Option<&'a [FilterTally]>,
    /// The ranked hosts, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    ranking: Option<&'a [Scored]>,
    /// The verdict on the host that was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'a HostVerdict>,
    /// The hosts that nearly pass now, if an explained request was refused.
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    pub near: &'a [NearHost],
    /// The changes that would make it fit, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fixes: Option<&'a Fixes>,
    /// The request in the format of `novella evaluate`, in answers of `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<Request>,
}

#[derive(Serialize)]
struct Conflict<'a> {
    instance_uuid: Uuid,
    host: &'a str,
}

/// The decision as scripts read it, with filters and ranking if `explain` is set.
pub fn document(decision: &Decision, explain: bool) -> DecisionDocument<'_> {
    let explanation = &decision.explanation;
    let (outcome, placeable, conflict) = match &decision.refusal {
        None => ("placed", None, None),
        Some(Refusal::NoValidHost { placeable, .. }) => ("refused", Some(*placeable), None),
        Some(Refusal::Conflict { instance_uuid, host, .. }) => {
            ("conflict", None, Some(Conflict { instance_uuid: *instance_uuid, host }))
        }
    };
    DecisionDocument {
        decision_id: &decision.decision_id,
        outcome,
        selections: &decision.selections,
        reason: decision.refusal.as_ref().map(reason),
        placeable,
        conflict,
        dry_run: decision.dry_run,
        repeated: decision.repeated,
        claimed: decision.claimed,
        hold_s: decision.hold_s,
        not_granted: &decision.not_granted,
        refused_by: &decision.refused_by,
        seed: decision.seed,
        notes: &decision.notes,
        hosts: explanation.hosts,
        suspect_hosts: explanation.suspect_hosts,
        not_up: &decision.not_up,
        filters: (explain || decision.refusal.is_some()).then_some(&explanation.filters),
        ranking: explain.then_some(&explanation.ranking),
        host: None,
        near: &[],
        fixes: None,
        request: None,
    }
}

/// The exit code of a decision.
pub fn exit_code(decision: &Decision) -> u8 {
    match &decision.refusal {
        None => OK,
        Some(Refusal::NoValidHost { .. }) => REFUSED,
        Some(Refusal::Conflict { .. }) => CONFLICT,
    }
}

/// How many hosts a note names. More would make it unreadable.
const NAMED_IN_NOTE: usize = 5;

/// What should be known beside the answer: what was asked for and did not count, which of the chosen hosts and of the
/// alternates are not up, and what to do about it.
pub fn notes(decision: &Decision) -> Vec<String> {
    let Decision { not_up, selections, decision_id, repeated, .. } = decision;
    let mut notes = decision.notes.clone();
    let all_chosen: BTreeSet<_> = selections.iter().map(|selection| &selection.host).collect();
    let (mut chosen, mut alternates) = (BTreeMap::<_, Vec<&str>>::new(), Vec::new());
    for (host, state) in not_up {
        match all_chosen.contains(host) {
            true => chosen.entry(state).or_default().push(host),
            false => alternates.push(format!("{host} ({})", state.as_str())),
        }
    }
    for (state, hosts) in chosen {
        let (named, are) = (names(&hosts), if hosts.len() == 1 { "is" } else { "are" });
        let why = match state {
            HostStatus::Suspect => "it has not reported for a while and may be down",
            _ if *repeated => {
                "this answer repeats an earlier decision, made when the host could still be chosen"
            }
            _ => "the request forces this host, so no filter checked its state",
        };
        let next = match state {
            HostStatus::Down if *repeated => {
                format!("; next: if the host is lost, `novella release {decision_id}` and place again")
            }
            _ => String::new(),
        };
        notes.push(format!("{named} {are} {}: {why}{next}", state.as_str()));
    }
    for HostRefusal { host, reason, .. } in decision.refused_by.iter().take(NAMED_IN_NOTE) {
        notes.push(format!("{host} refused a claim: {reason}"));
    }
    if let Some(more @ 1..) = decision.refused_by.len().checked_sub(NAMED_IN_NOTE) {
        notes.push(format!("{more} more claims were refused; `-f json` lists them all"));
    }
    let mut by_reason = BTreeMap::<_, Vec<&str>>::new();
    for (host, reason) in &decision.not_granted {
        by_reason.entry(reason).or_default().push(host);
    }
    for (reason, hosts) in by_reason {
        notes.push(format!(
            "not granted by the host: only schedulers keep the room on {}: {reason}",
            names(&hosts)
        ));
    }
    if !alternates.is_empty() {
        let named: Vec<_> = alternates.iter().map(String::as_str).collect();
        notes.push(format!("alternates that are not up: {}", names(&named)));
    }
    notes
}

/// Writes the notes beside the data, unless the data hold them.
pub fn write_notes(notes: &[String], args: &OutputArgs, console: &mut Console<'_>) {
    if !args.holds_notes() {
        notes.iter().for_each(|note| console.note(&format!("note: {note}")));
    }
}

/// The first names, and how many more there are.
fn names(hosts: &[&str]) -> String {
    let more = hosts.len().saturating_sub(NAMED_IN_NOTE);
    let named = hosts[..hosts.len() - more].join(", ");
    if more > 0 { format!("{named} and {more} more") } else { named }
}

/// Writes the decision with its notes.
pub fn show(
    decision: &Decision,
    notes: &[String],
    explain: bool,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let document = DecisionDocument { notes, ..document(decision, explain) };
    if args.format.is_table() {
        table(decision, &document, explain, args, console)?;
    } else {
        selections(&document, decision, args, console)?;
        note_refusal(decision, args, console);
    }
    write_notes(notes, args, console);
    Ok(())
}

/// Writes why the request was refused, if the format of the data has no place for it.
pub fn note_refusal(decision: &Decision, args: &OutputArgs, console: &mut Console<'_>) {
    let in_data = matches!(args.format, Format::Json | Format::Jsonl | Format::Yaml);
    if let (Some(refusal), false) = (&decision.refusal, in_data) {
        console.note(reason(refusal));
    }
}

/// Writes one line with what was asked for and how many hosts there are.
pub fn headline(
    request: &PlacementRequest,
    flavor: Option<&str>,
    decision: &Decision,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let PlacementRequest { instance_uuids, spec, .. } = request;
    let size = flavor.map(str::to_owned).unwrap_or_else(|| {
        let (ram, disk) = (units::mib(spec.flavor.memory_mb), units::gib(spec.flavor.disk_gb()));
        format!("{} vCPU, {ram} RAM, {disk} disk", spec.flavor.vcpus)
    });
    let zone = spec.availability_zone.as_ref().map(|az| format!(", zone {az}")).unwrap_or_default();
    let suspect = match decision.explanation.suspect_hosts {
        0 => String::new(),
        n => format!(", {n} suspect"),
    };
    let line = format!(
        "request: {} x {size}{zone}; {} hosts{suspect}",
        instance_uuids.len(),
        decision.explanation.hosts,
    );
    Ok(writeln!(console.out, "{}", printable(&line))?)
}

fn table(
    decision: &Decision,
    document: &DecisionDocument<'_>,
    explain: bool,
    args: &OutputArgs,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let held = match (decision.dry_run, decision.claimed, decision.hold_s) {
        (true, _, _) => "dry run: nothing is held".to_owned(),
        (false, true, _) => "claimed until `novella release`".to_owned(),
        (false, false, hold) => format!("held for {}", units::age(hold as f64)),
    };
    let again = if decision.repeated { ", the same answer as before" } else { "" };
    match &decision.refusal {
        None => {
            writeln!(console.out, "decision {}: placed, {held}{again}", printable(&decision.decision_id))?;
            selections(document, decision, args, console)?;
        }
        Some(refusal) => {
            let line = format!("decision {}: {}", decision.decision_id, reason(refusal));
            writeln!(console.out, "{}", printable(&line))?;
            if let Refusal::NoValidHost { placeable: placeable @ 1.., .. } = refusal {
                writeln!(console.out, "there is room for {placeable} of the instances; nothing is held")?;
            }
            if !args.columns.is_empty() {
                selections(document, decision, args, console)?;
            }
        }
    }
    let placeable = match decision.refusal {
        None => decision.selections.len().saturating_sub(1),
        Some(Refusal::NoValidHost { placeable, .. }) => placeable as usize,
        Some(Refusal::Conflict { .. }) => 0,
    };
    if explain || matches!(decision.refusal, Some(Refusal::NoValidHost { .. })) {
        filters(&decision.explanation, console)?;
        if placeable > 0 {
            let of = if decision.refusal.is_none() { "last" } else { "refused" };
            writeln!(
                console.out,
                "these counts are for the {of} instance, with {placeable} placed before it"
            )?;
        }
    }
    if explain {
        ranking(&decision.explanation, args.format == Format::Wide, console)?;
    }
    Ok(console.out.flush()?)
}

fn reason(refusal: &Refusal) -> &str {
    match refusal {
        Refusal::NoValidHost { reason, .. } | Refusal::Conflict { reason, .. } => reason,
    }
}

fn filters(explanation: &Explanation, console: &mut Console<'_>) -> anyhow::Result<()> {
    if explanation.filters.is_empty() {
        return Ok(());
    }
    let row = |tally: &FilterTally| {
        let lost = tally.hosts_in.saturating_sub(tally.hosts_out);
        let tone = match tally.hosts_out {
            0 => Tone::Bad,
            _ if lost > 0 => Tone::Warn,
            _ => Tone::Plain,
        };
        let miss = tally.nearest_miss.as_ref().map_or_else(String::new, NearestMiss::text);
        vec![
            Cell::text(&*tally.filter).tone(tone),
            Cell::number(tally.hosts_in),
            Cell::number(tally.hosts_out),
            Cell::number(lost).tone(tone),
            Cell::text(miss),
        ]
    };
    let rows = explanation.filters.iter().map(row).collect();
    let text = table_text(&["filter", "in", "out", "lost", "nearest miss"], rows, console.style);
    Ok(write!(console.out, "\n{text}")?)
}

fn ranking(explanation: &Explanation, all: bool, console: &mut Console<'_>) -> anyhow::Result<()> {
    if explanation.ranking.is_empty() {
        return Ok(());
    }
    let share = |s: &WeigherScore| {
        format!("{} x {:.3} (raw {} in {}..{})", s.multiplier, s.normalised, s.raw, s.range.0, s.range.1)
    };
    let first = &explanation.ranking[..explanation.ranking.len().min(1 + RUNNERS_UP)];
    ranking_table(first, 3, all, share, console)?;
    let more = explanation.ranking.len() - first.len();
    if more > 0 {
        writeln!(console.out, "... and {more} more")?;
    }
    Ok(())
}

/// Writes ranked hosts with their weights, rounded to this many decimals, and a `share` for each weigher. Weighers that add
/// nothing for any of these hosts are left out unless `all` are wanted.
pub fn ranking_table(
    ranked: &[Scored],
    decimals: usize,
    all: bool,
    share: impl Fn(&WeigherScore) -> String,
    console: &mut Console<'_>,
) -> anyhow::Result<()> {
    let adds = |at: &usize| {
        ranked.iter().any(|host| host.weighers[*at].normalised * host.weighers[*at].multiplier != 0.0)
    };
    let shown: Vec<usize> = (0..ranked[0].weighers.len()).filter(|at| all || adds(at)).collect();
    let names = shown.iter().map(|at| &*ranked[0].weighers[*at].weigher);
    let header: Vec<&str> = ["rank", "host", "weight"].into_iter().chain(names).collect();
    let row = |(at, host): (usize, &Scored)| {
        let tone = if at == 0 { Tone::Good } else { Tone::Plain };
        let first = [
            Cell::number(at + 1),
            Cell::text(&host.host).tone(tone),
            Cell::number(format!("{:.decimals$}", host.weight)),
        ];
        let shares = shown.iter().map(|at| Cell::text(share(&host.weighers[*at])));
        first.into_iter().chain(shares).collect()
    };
    let rows = ranked.iter().enumerate().map(row).collect();
    Ok(write!(console.out, "\n{}", table_text(&header, rows, console.style))?)
}
