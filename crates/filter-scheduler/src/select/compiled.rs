//! A request compiled for the table as it is now: the hosts that it names, its prefilters, filters, weighers, group and
//! devices.
//!
//! What always holds: a compiled request decides about hosts only by what it was compiled from.
//!
//! Left out: whether it is still right after the table has changed (`shape.rs`).

use novella_objects::RequestSpec;
use novella_resources::PinnedCpus;
use uuid::Uuid;

use crate::filters::compile::compile as compile_filter;
use crate::filters::group::Group;
use crate::filters::program::Filter;
use crate::prefilters::Prefilters;
use crate::request::asked::{Asked, Wanted};
use crate::request::failure::Failure;
use crate::select::answer::{FilterLimits, NumaLimits, Pick};
use crate::select::considered::Considered;
use crate::select::scan::Sieve;
use crate::settings::filter_kind::FilterKind;
use crate::settings::options::SchedulerOptions;
use crate::table::block::{Row, clear, set};
use crate::table::host_table::HostTable;
use crate::weighers::of_request;
use crate::weighers::weigher::{Weigher, Weighing};

/// A request compiled for the table as it is now.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    /// One bit per row, set if the request names this host or does not exclude it. Absent if the request says nothing
    /// about hosts.
    pub(crate) named: Option<Vec<u64>>,
    /// The conditions that hosts must meet before the filters run.
    pub(crate) prefilters: Prefilters,
    /// The hosts of `named` that met these conditions for the first instance of the present request, if there are
    /// conditions.
    pub(crate) considered: Considered,
    /// The filters, in the configured order.
    pub(crate) filters: Vec<Filter>,
    /// The server group of the request.
    pub(crate) group: Option<Group>,
    /// What the next instance wants of NUMA cells and PCI devices. Absent if it wants nothing of either.
    pub(crate) wanted: Option<Box<Wanted>>,
    /// How the CPUs of an instance are divided. Absent if it shares all of them.
    pub(crate) pinned: Option<PinnedCpus>,
    /// Whether the memory of an instance is encrypted.
    pub(crate) encrypted_memory: bool,
    /// The weighers. They are compiled when two candidates are to be told apart for the first time.
    pub(crate) weighers: Option<Vec<Weigher>>,
}

impl Compiled {
    /// Compiles all but the weighers.
    pub(crate) fn new(
        options: &SchedulerOptions,
        table: &mut HostTable,
        asked: &Asked<'_>,
        prefilters: Prefilters,
        named: Option<Vec<u64>>,
    ) -> Self {
        let spec = asked.spec;
        // A forced host skips the filters, unless an existing instance is checked. It must still have room, as
        // Placement requires.
        let forced = !spec.force_hosts.is_empty() || !spec.force_nodes.is_empty();
        let check = spec.scheduler_hints.get("_nova_check_type");
        let check = check.filter(|hint| hint.as_array().is_none_or(|words| !words.is_empty()));
        let forced = forced && check.is_none();
        let rebuild = asked.is_rebuild();
        let runs = |kind: &&FilterKind| {
            (!forced || options.placement && kind.judges_room()) && (!rebuild || kind.runs_on_rebuild())
        };
        let enabled = options.enabled_filters.iter().filter(runs);
        let group = Group::of(spec, table);
        let mut filters = Vec::with_capacity(options.enabled_filters.len());
        filters.extend(enabled.map(|&kind| compile_filter(kind, table, asked, group.as_ref(), options)));
        let wanted = (!asked.wanted.is_nothing()).then(|| Box::new(asked.wanted.clone()));
        Self {
            named,
            prefilters,
            considered: Considered::default(),
            filters,
            group,
            wanted,
            pinned: asked.pinning.cpus,
            encrypted_memory: asked.encryption.is_some(),
            weighers: None,
        }
    }

    /// Prepares for the turn of an instance.
    pub(crate) fn begin(&mut self, instance: Uuid, table: &HostTable) {
        if let Some(group) = &mut self.group {
            group.begin(instance, table);
        }
    }

    /// The limits that the filters held the host against.
    pub(crate) fn limits(&self, table: &HostTable, row: Row) -> FilterLimits {
        let of_host = table.view(row).limits();
        // Nova keeps the limit of the filter that ran last.
        let total_by_ratio = |plain: FilterKind, own: FilterKind, limit: f64, total: f64| {
            let ran = self.filters.iter().rev().find(|filter| filter.kind == plain || filter.kind == own)?;
            Some(ran.ratio(table, row).map_or(limit, |ratio| total * ratio))
        };
        let reported = *table.view(row).reported();
        let (vcpus, memory) = (reported.vcpus_total as f64, reported.memory_mb_total as f64);
        let vcpus = total_by_ratio(FilterKind::Core, FilterKind::AggregateCore, of_host.vcpus, vcpus);
        let disk = reported.disk_gb_total as f64;
        FilterLimits {
            vcpus: vcpus.filter(|limit| *limit > 0.0),
            memory_mb: total_by_ratio(FilterKind::Ram, FilterKind::AggregateRam, of_host.memory_mb, memory),
            disk_gb: total_by_ratio(FilterKind::Disk, FilterKind::AggregateDisk, of_host.disk_gb, disk),
            numa_topology: self.numa_limits(table, row),
        }
    }

    /// The limits of the host's NUMA cells, if the instance is placed on cells.
    fn numa_limits(&self, table: &HostTable, row: Row) -> Option<NumaLimits> {
        let wants_cells = self.wanted.as_ref().is_some_and(|wanted| wanted.cells.is_some());
        let fitted = wants_cells
            && self.filters.iter().any(|filter| filter.kind == FilterKind::NumaTopology)
            && table.devices(row).is_some_and(|devices| devices.cells().is_some());
        let ratios = table.view(row).reported().ratios;
        fitted.then_some(NumaLimits { cpu_allocation_ratio: ratios.cpu, ram_allocation_ratio: ratios.ram })
    }

    /// Takes the NUMA cells and PCI devices that an instance gets of its host. The next instance may want other ones.
    pub(crate) fn take_devices(&mut self, table: &mut HostTable, instance: Uuid, pick: &mut Pick) {
        let limits = self.numa_limits(table, pick.row);
        let limits = limits.map(|limits| (limits.cpu_allocation_ratio, limits.ram_allocation_ratio));
        let Some(wanted) = &mut self.wanted else { return };
        pick.took_devices = table.take_devices(pick.row, instance, wanted, limits);
        for filter in &mut self.filters {
            filter.wants(wanted);
        }
    }

    /// Notes which host an instance got.
    pub(crate) fn placed(&mut self, instance: Uuid, row: Row) {
        if let Some(group) = &mut self.group {
            group.placed(instance, row);
            of_request::placed(self.weighers.as_deref_mut().unwrap_or_default(), group, row);
        }
    }

    /// The weighers and the table that they weigh. There are none before they are compiled.
    pub(crate) fn weighing<'a>(&'a self, table: &'a HostTable) -> Weighing<'a> {
        Weighing { weighers: self.weighers.as_deref().unwrap_or_default(), table }
    }

    /// The filters, and which hosts they are asked about.
    pub(crate) fn sieve(&mut self) -> Sieve<'_> {
        let named = self.considered.rows().or(self.named.as_deref());
        Sieve { filters: &mut self.filters, group: self.group.as_ref(), named }
    }
}

/// Returns the hosts that the request names or does not exclude, one bit per row; `None` if it says nothing about
/// hosts. Fails if the target host, or every forced host or node, is unknown.
pub(crate) fn named(table: &HostTable, request: &RequestSpec) -> Result<Option<Vec<u64>>, Failure> {
    let no_such_host = |host: Option<&String>, node: Option<&String>| {
        let name = |name: Option<&String>| name.map_or("None".to_owned(), Clone::clone);
        let reason = format!("No such host - host: {} node: {} ", name(host), name(node));
        Failure::NoValidHost { reason, placeable: 0 }
    };
    let words = table.columns.present.len();
    let mut left: Option<Vec<u64>> = None;
    if let Some(target) = &request.target_host {
        let node = request.target_node.as_ref();
        let of_node = |row: &Row| node.is_none_or(|node| table.view(*row).nodename() == node);
        let row = table.row_of(target).filter(of_node);
        let mut only = vec![0; words];
        set(&mut only, row.ok_or_else(|| no_such_host(Some(target), node))?);
        left = Some(only);
    }
    for row in request.ignore_hosts.iter().flat_map(|host| table.rows_of_any_case(host)) {
        clear(left.get_or_insert_with(|| vec![u64::MAX; words]), row);
    }
    let mut keep = |rows: &mut dyn Iterator<Item = Row>| {
        let mut kept = vec![0; words];
        rows.for_each(|row| set(&mut kept, row));
        let any = kept.iter().any(|word| *word != 0);
        let left = left.get_or_insert_with(|| vec![u64::MAX; words]);
        left.iter_mut().zip(&kept).for_each(|(left, kept)| *left &= kept);
        any
    };
    if let Some(first) = request.force_hosts.first()
        && !keep(&mut request.force_hosts.iter().flat_map(|host| table.rows_of_any_case(host)))
    {
        return Err(no_such_host(Some(first), request.force_nodes.first()));
    }
    if let Some(first) = request.force_nodes.first() {
        let named = |row: &Row| request.force_nodes.iter().any(|node| node == table.view(*row).nodename());
        if !keep(&mut table.rows().filter(named)) {
            return Err(no_such_host(request.force_hosts.first(), Some(first)));
        }
    }
    // A request that names hosts gets a bitmap even if it excludes none yet, because a host with such a name may appear
    // later.
    let says = request.target_host.is_some()
        || !(request.ignore_hosts.is_empty()
            && request.force_hosts.is_empty()
            && request.force_nodes.is_empty());
    Ok(left.or_else(|| says.then(|| vec![u64::MAX; words])))
}
