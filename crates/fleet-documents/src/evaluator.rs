//! Answers requests about one fleet, in the form in which answers are stored and compared.
//!
//! What always holds: the table is the same before and after every answer.
//!
//! Left out: reading and writing the documents themselves.

use std::collections::BTreeMap;

use novella_filter_scheduler::{
    Eligible, Evaluation, Failure, FilterError, FilterKind, FilterScheduler, HostTable, OnFilterError, Pick,
    Running, SchedulerOptions, Selected, Terms, Verdict, WeigherError,
};
use novella_host_manager::pci_requests;
use novella_objects::document::{
    FilterChoice, Fleet, Host, Outcome, OutcomeError, PciAlias, Request, RequestId,
};
use novella_objects::{PlacementRequest, Scored};
use novella_resources::Amounts;

use crate::bad_document::BadDocument;
use crate::options::{EvaluationOptions, kinds};
use crate::request::request_spec;
use crate::server_groups::Groups;

/// Answers requests about one fleet.
#[derive(Debug)]
pub struct Evaluator {
    table: HostTable,
    /// The options for all requests. A request may replace the list of filters.
    options: SchedulerOptions,
    /// The filter sets that requests may name.
    filter_sets: BTreeMap<String, Vec<FilterKind>>,
    groups: Groups,
    pci_aliases: BTreeMap<String, PciAlias>,
    /// What each host holds back for itself.
    held_back: Vec<Amounts>,
    /// One engine for each list of filters that was asked for. Requests ask for few.
    engines: Vec<FilterScheduler>,
}

impl Evaluator {
    /// An evaluator for the fleet in `table`. Fails if a filter set names an unknown filter.
    pub fn new(
        table: HostTable,
        options: EvaluationOptions,
        filter_sets: &BTreeMap<String, Vec<String>>,
    ) -> Result<Self, BadDocument> {
        let mut sets = BTreeMap::new();
        for (name, filters) in filter_sets {
            sets.insert(name.clone(), kinds(&format!("filter_sets.{name}"), filters)?);
        }
        Ok(Self {
            table,
            options: options.scheduler,
            filter_sets: sets,
            groups: Groups::default(),
            pci_aliases: BTreeMap::new(),
            held_back: Vec::new(),
            engines: Vec::new(),
        })
    }

    /// Adds what the fleet says besides its table: server groups with their members, PCI aliases, and what hosts hold back
    /// for themselves.
    #[must_use]
    pub fn with_fleet(self, fleet: &Fleet<'_>) -> Self {
        let held_back =
            |host: &Host<'_>| host.reserved.as_ref().map(Amounts::of_reserved).unwrap_or_default();
        Self {
            groups: Groups::of(fleet),
            pci_aliases: fleet.pci_aliases.clone(),
            held_back: fleet.hosts.iter().map(held_back).collect(),
            ..self
        }
    }

    /// What runs on the hosts. A document does not say which instance takes how much.
    pub fn running(&self) -> Running {
        Running { held_back: self.held_back.clone(), instances: Vec::new() }
    }

    /// A document's request, with its server group and PCI requests.
    fn asked(&self, request: &Request) -> Result<PlacementRequest, BadDocument> {
        self.resolved(request_spec(request)?)
    }

    /// A request with its server group and PCI requests.
    fn resolved(&self, mut asked: PlacementRequest) -> Result<PlacementRequest, BadDocument> {
        let PlacementRequest { spec, instance_uuids, .. } = &mut asked;
        self.groups.join(spec, instance_uuids)?;
        let devices = pci_requests(&self.pci_aliases, &spec.flavor, spec.image.as_ref(), &spec.pci_requests);
        if let Some(devices) = devices.map_err(bad_alias)? {
            spec.pci_requests = devices;
        }
        Ok(asked)
    }

    /// Which hosts may take instances like those of a request, so that they can be counted. A request without an image
    /// is asked as if it had one without properties, because in Nova every request has one. If no filter counts CPUs,
    /// memory or disk, as in Nova, these three are counted all the same.
    pub fn eligible(&mut self, asked: PlacementRequest) -> Result<Eligible, BadDocument> {
        let PlacementRequest { mut spec, .. } = self.resolved(asked)?;
        spec.image.get_or_insert_default();
        let mut filters = self.options.enabled_filters.clone();
        if !filters.iter().any(|kind| kind.judges_room()) {
            filters.extend([FilterKind::Ram, FilterKind::Core, FilterKind::Disk]);
        }
        let (engine, table) = self.engine(&filters)?;
        novella_filter_scheduler::eligible(engine, table, &spec)
            .map_err(|failure| BadDocument::new("request", failure.to_string()))
    }

    /// The options. A request may replace their filters.
    pub fn options(&self) -> &SchedulerOptions {
        &self.options
    }

    /// The letter that stands for the filter at this position of the list in a verdict. There are fewer filters than
    /// letters.
    pub fn letter(at: usize) -> char {
        char::from(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[at])
    }

    /// The filters that run for a request, in their order. Fails if the request names an unknown filter or filter set.
    pub fn filters(&self, request: &Request) -> Result<Vec<FilterKind>, BadDocument> {
        match &request.filters {
            None => Ok(self.options.enabled_filters.clone()),
            Some(FilterChoice::List(names)) => kinds("filters", names),
            Some(FilterChoice::Set(name)) => self.filter_sets.get(name).cloned().ok_or_else(|| {
                let known: Vec<_> = self.filter_sets.keys().map(String::as_str).collect();
                let reason = format!("there is no filter set {name:?}; choose one of {}", known.join(", "));
                BadDocument::new("filters", reason)
            }),
        }
    }

    /// The outcome of a request, which is at position `at` of its document. Fails if the request cannot be used.
    pub fn outcome(&mut self, at: usize, request: &Request) -> Result<Outcome, BadDocument> {
        self.decide(at, request).map_err(|bad| bad.within(&format!("requests[{at}]")))
    }

    fn decide(&mut self, at: usize, request: &Request) -> Result<Outcome, BadDocument> {
        let PlacementRequest { spec, instance_uuids, .. } = self.asked(request)?;
        let filters = self.filters(request)?;
        let hosts = self.table.len();
        // All hosts are asked for as alternates, because those of other cells are left out later.
        let alternates = Some(if request.alternates { hosts as u32 } else { 0 });
        let terms = Terms { seed: request.seed, dry_run: true, alternates, unexplained: false };
        let mut outcome = Outcome {
            complete: false,
            id: request.id.clone().unwrap_or(RequestId::Number(at as u64)),
            picks: Vec::new(),
            alternates: Vec::new(),
            verdict: String::new(),
            weights: Vec::new(),
            errors: Vec::new(),
        };
        let fails = self.options.on_filter_error == OnFilterError::FailRequest;
        let (engine, table) = self.engine(&filters)?;
        match novella_filter_scheduler::evaluate(engine, table, &spec, instance_uuids[0]) {
            Ok(evaluation) => {
                outcome.verdict = verdicts(&evaluation, &filters);
                outcome.errors = errors(table, &evaluation, &filters);
                if !fails || outcome.errors.is_empty() {
                    let ranking = evaluation.ranking.iter();
                    outcome.weights = ranking.map(|(row, weight)| (row.index() as u32, *weight)).collect();
                }
            }
            Err(failure) => {
                outcome.verdict = "-".repeat(hosts);
                outcome.errors.extend(error(table, failure));
                return Ok(outcome);
            }
        }
        if fails && !outcome.errors.is_empty() {
            return Ok(outcome);
        }
        let selected = engine.select(table, &spec, &instance_uuids, &terms);
        match selected.failure {
            None => {
                outcome.complete = true;
                outcome.picks = positions(&selected.picks);
                if request.alternates {
                    let most = engine.options().max_attempts.saturating_sub(1) as usize;
                    outcome.alternates = alternates_by_cell(table, &selected, most);
                }
            }
            Some(Failure::NoValidHost { placeable: 0, .. }) => {}
            Some(Failure::NoValidHost { placeable, .. }) => {
                // The instances that found a host before one did not get the same hosts if they are placed alone.
                let first = &instance_uuids[..placeable as usize];
                outcome.picks = positions(&engine.select(table, &spec, first, &terms).picks);
            }
            Some(failure) => outcome.errors.extend(error(table, failure)),
        }
        Ok(outcome)
    }

    /// What each weigher says about every host that passes, best first. A single host is not weighed.
    pub fn scores(&mut self, request: &Request) -> Result<Vec<Scored>, BadDocument> {
        let PlacementRequest { spec, instance_uuids, .. } = self.asked(request)?;
        let filters = self.filters(request)?;
        let (engine, table) = self.engine(&filters)?;
        let terms = Terms { seed: request.seed, dry_run: true, alternates: Some(0), unexplained: false };
        Ok(engine.select(table, &spec, &instance_uuids[..1], &terms).explanation.ranking)
    }

    /// The engine with these filters, which is made if there is none, and the table.
    fn engine(
        &mut self,
        filters: &[FilterKind],
    ) -> Result<(&mut FilterScheduler, &mut HostTable), BadDocument> {
        let known = self.engines.iter().position(|engine| engine.options().enabled_filters == filters);
        let at = match known {
            Some(at) => at,
            None => {
                let options = SchedulerOptions {
                    enabled_filters: filters.to_vec(),
                    runners_up: self.table.len(),
                    ..self.options.clone()
                };
                let engine = FilterScheduler::new(options);
                self.engines.push(engine.map_err(|bad| BadDocument::new("filters", bad.to_string()))?);
                self.engines.len() - 1
            }
        };
        Ok((&mut self.engines[at], &mut self.table))
    }
}

/// The error that Nova's API gives before it asks a scheduler: an alias is not defined, or the extra spec is not valid.
fn bad_alias(failure: Failure) -> BadDocument {
    let reason = match failure {
        Failure::Unknown { name, known, .. } if known.is_empty() => {
            format!("PCI alias {name:?} is not defined: there are no pci_aliases, and --policy gives none")
        }
        Failure::Unknown { name, known, .. } => {
            format!("PCI alias {name:?} is not defined; choose one of {known}")
        }
        other => other.to_string(),
    };
    BadDocument::new("extra_specs", reason)
}

fn positions(picks: &[Pick]) -> Vec<u32> {
    picks.iter().map(|pick| pick.row.index() as u32).collect()
}

/// For each pick, the next best hosts of its cell.
fn alternates_by_cell(table: &HostTable, selected: &Selected, most: usize) -> Vec<Vec<u32>> {
    let of_pick = |pick: &Pick| {
        let cell = table.cell(pick.row);
        let same = selected.alternates.iter().filter(|row| table.cell(**row) == cell);
        same.take(most).map(|row| row.index() as u32).collect()
    };
    selected.picks.iter().map(of_pick).collect()
}

fn place(filters: &[FilterKind], kind: FilterKind) -> usize {
    filters.iter().position(|filter| *filter == kind).expect("only filters that run refuse")
}

fn verdicts(evaluation: &Evaluation, filters: &[FilterKind]) -> String {
    let of_host = |verdict: &Verdict| match verdict {
        Verdict::Passed => '.',
        Verdict::NotConsidered => '-',
        Verdict::Refused(kind) => Evaluator::letter(place(filters, *kind)),
        Verdict::Error(_) => '!',
    };
    evaluation.verdicts.iter().map(|(_, verdict)| of_host(verdict)).collect()
}

fn errors(table: &HostTable, evaluation: &Evaluation, filters: &[FilterKind]) -> Vec<OutcomeError> {
    let of_filters = evaluation.verdicts.iter().filter_map(|(_, verdict)| match verdict {
        Verdict::Error(error) => Some(error),
        _ => None,
    });
    let mut of_filters: Vec<_> = of_filters.collect();
    of_filters.sort_by_key(|error| place(filters, error.filter)); // stable: within a filter in fleet order
    let of_filters = of_filters.into_iter().map(|error| filter_error(table, error));
    let of_weighers = evaluation.weigher_errors.iter().map(|error| weigher_error(table, error));
    of_filters.chain(of_weighers).collect()
}

/// The error of a failure; `None` if there was only no host left.
fn error(table: &HostTable, failure: Failure) -> Option<OutcomeError> {
    match failure {
        Failure::NoValidHost { .. } => None,
        Failure::Filter(error) => Some(filter_error(table, &error)),
        Failure::Weigher(error) => Some(weigher_error(table, &error)),
        Failure::Image(bad) => Some(OutcomeError::Image { reason: bad.to_string() }),
        failure @ (Failure::Invalid { .. }
        | Failure::Unknown { .. }
        | Failure::NotConfigured { .. }
        | Failure::Devices(_)
        | Failure::Feature(_)) => Some(OutcomeError::Request { reason: failure.to_string() }),
    }
}

fn filter_error(table: &HostTable, error: &FilterError) -> OutcomeError {
    let FilterError { filter, host, reason } = error;
    OutcomeError::Filter { filter: filter.name().to_owned(), host: row(table, host), reason: reason.clone() }
}

fn weigher_error(table: &HostTable, error: &WeigherError) -> OutcomeError {
    let WeigherError { weigher, host, reason } = error;
    OutcomeError::Weigher {
        weigher: weigher.name().to_owned(),
        host: row(table, host),
        reason: reason.clone(),
    }
}

fn row(table: &HostTable, host: &str) -> u32 {
    table.row_of(host).expect("errors are about hosts of the table").index() as u32
}
