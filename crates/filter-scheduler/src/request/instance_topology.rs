//! The NUMA cells that a flavor and an image ask for (Nova's `numa_get_constraints`), and the PCI devices of a request.
//!
//! An instance has a topology if a number of nodes, a page size, persistent memory, or pinned CPUs are asked for. All
//! nodes are alike unless `hw:numa_cpus.N` and `hw:numa_mem.N` describe every one of them. A request is refused, as
//! Nova's API refuses it, if flavor and image disagree or ask for things that exclude each other.
//!
//! Left out: memory encryption implies locked memory, but no filter reads that.

use novella_objects::document::{InstanceNumaTopology, PciRequest};
use novella_objects::{Flavor, RequestSpec};
use novella_resources::cpu_set::{CpuSet, MAX_CPUS};
use novella_resources::numa::{
    CpuPolicy, InstanceCell, InstanceTopology, PAGES_ANY, PAGES_LARGE, PAGES_SMALL, ThreadPolicy,
};
use novella_resources::{BadDevices, pci, tag};
use serde_json::Value;

use crate::nova::image_properties::{ImageProperties, is_true};
use crate::nova::python;

/// The most NUMA nodes that an instance may have (Nova's `NUMA_NODES_MAX`).
const MAX_NODES: i128 = 128;

type Result<T> = std::result::Result<T, BadDevices>;

fn bad<T>(reason: impl Into<String>) -> Result<T> {
    Err(BadDevices(reason.into()))
}

/// The NUMA cells that a request names itself, or else those that its flavor and image ask for. `None` if there are
/// none.
pub(crate) fn of_request(spec: &RequestSpec, image: &ImageProperties) -> Result<Option<InstanceTopology>> {
    match &spec.numa_topology {
        Some(given) => named(given).map(Some),
        None => TopologyRequest { flavor: &spec.flavor, image, spec }.topology(),
    }
}

/// What a flavor and an image say about CPUs.
pub(crate) struct CpuPolicies {
    pub(crate) policy: CpuPolicy,
    pub(crate) threads: Option<ThreadPolicy>,
    pub(crate) isolate_emulator_threads: bool,
    /// How many virtual CPUs are pinned.
    pub(crate) dedicated: u32,
}

/// What a request's flavor and image say about its CPUs, even if the request names its cells itself.
pub(crate) fn cpu_policies(spec: &RequestSpec, image: &ImageProperties) -> Result<CpuPolicies> {
    let asked = TopologyRequest { flavor: &spec.flavor, image, spec };
    let emulator = emulator_policy(asked.extra_spec("hw:emulator_threads_policy"))?;
    let policy = asked.cpu_policy(emulator)?.unwrap_or_default();
    let threads = asked.thread_policy()?;
    let dedicated = match policy {
        CpuPolicy::Shared => 0,
        CpuPolicy::Dedicated => spec.flavor.vcpus,
        CpuPolicy::Mixed => asked.dedicated_cpus(Some(policy), threads, emulator)?.len() as u32,
    };
    let isolate_emulator_threads = emulator == Some(true);
    Ok(CpuPolicies { policy, threads, isolate_emulator_threads, dedicated })
}

fn named(given: &InstanceNumaTopology) -> Result<InstanceTopology> {
    let cells = given.cells.iter().map(|cell| {
        let set =
            |cpus: &[u32]| CpuSet::of(cpus).map_err(|large| BadDevices(format!("numa_topology: {large}")));
        Ok(InstanceCell {
            id: cell.id,
            cpuset: set(&cell.cpuset)?,
            pcpuset: set(&cell.pcpuset)?,
            memory_mb: memory_mb(i128::from(cell.memory_mb))?,
            pagesize: cell.pagesize.unwrap_or(0),
            cpu_policy: cpu_policy(cell.cpu_policy.as_deref(), "numa_topology")?.unwrap_or_default(),
            cpu_thread_policy: thread_policy(cell.cpu_thread_policy.as_deref(), "numa_topology")?,
            ..InstanceCell::default()
        })
    });
    let cells = cells.collect::<Result<_>>()?;
    let isolate = emulator_policy(given.emulator_threads_policy.as_deref())?;
    Ok(InstanceTopology { cells, isolate_emulator_threads: isolate == Some(true) })
}

/// The PCI devices that a request asks for. A NUMA policy of the flavor or the image holds for all devices whose own
/// request names none.
pub(crate) fn pci_requests(spec: &RequestSpec, image: &ImageProperties) -> Result<Vec<pci::DeviceRequest>> {
    const KEY: &str = "hw:pci_numa_affinity_policy";
    let flavor = set(spec.flavor.extra_specs.get(KEY).map(String::as_str));
    let of_image = set(image.get_text("hw_pci_numa_affinity_policy"));
    if let (Some(flavor), Some(image)) = (flavor, of_image)
        && flavor != image
    {
        return bad(format!("{KEY} is {flavor:?} in the flavor and {image:?} in the image"));
    }
    let known = |name: &str| {
        let reason =
            || format!("{name:?} is not a PCI NUMA policy; use required, preferred, legacy or socket");
        pci::NumaPolicy::of_name(name).ok_or_else(|| BadDevices(reason()))
    };
    let policy = |name: Option<&str>| name.map(known).transpose();
    let general = policy(flavor.or(of_image))?;
    let request = |request: &PciRequest| {
        let specs = request.spec.iter().map(|spec| {
            let tag = |(key, value): (&String, &Value)| Ok((key.as_str().into(), tag(key, value)?));
            spec.iter().map(tag).collect::<Result<pci::Tags>>()
        });
        Ok(pci::DeviceRequest {
            count: request.count,
            spec: specs.collect::<Result<_>>()?,
            numa_policy: policy(request.numa_policy.as_deref())?.or(general).unwrap_or_default(),
            of_alias: request.alias_name.is_some(),
        })
    };
    spec.pci_requests.iter().map(request).collect()
}

/// Treats an empty text as none, like Python's `text or None`.
fn set(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.is_empty())
}

fn memory_mb(value: i128) -> Result<i64> {
    const MOST: i128 = 1 << 40; // in MiB, so that no sum or product of a fit overflows
    if value.abs() > MOST {
        return bad(format!("{value} MiB of memory in one NUMA node"));
    }
    Ok(value as i64)
}

fn cpu_policy(name: Option<&str>, place: &str) -> Result<Option<CpuPolicy>> {
    let reason = |name| format!("{place}: {name:?} is not a CPU policy; use shared, dedicated or mixed");
    let known = |name| CpuPolicy::of_name(name).ok_or_else(|| BadDevices(reason(name)));
    set(name).map(known).transpose()
}

fn thread_policy(name: Option<&str>, place: &str) -> Result<Option<ThreadPolicy>> {
    let reason =
        |name| format!("{place}: {name:?} is not a CPU thread policy; use prefer, isolate or require");
    let known = |name| ThreadPolicy::of_name(name).ok_or_else(|| BadDevices(reason(name)));
    set(name).map(known).transpose()
}

/// Whether the emulator's threads are isolated. `None` if nothing is said about them.
fn emulator_policy(name: Option<&str>) -> Result<Option<bool>> {
    match set(name) {
        None => Ok(None),
        Some("share") => Ok(Some(false)),
        Some("isolate") => Ok(Some(true)),
        Some(name) => bad(format!("{name:?} is not an emulator threads policy; use share or isolate")),
    }
}

struct TopologyRequest<'a> {
    flavor: &'a Flavor,
    image: &'a ImageProperties,
    spec: &'a RequestSpec,
}

impl TopologyRequest<'_> {
    fn extra_spec(&self, key: &str) -> Option<&str> {
        set(self.flavor.extra_specs.get(key).map(String::as_str))
    }

    fn image_text(&self, name: &str) -> Option<&str> {
        set(self.image.get_text(name))
    }

    /// A property in the form in which the image service has it.
    fn image_raw(&self, name: &str) -> Option<&Value> {
        self.spec.image.as_ref()?.properties.get(name)
    }

    fn topology(&self) -> Result<Option<InstanceTopology>> {
        if self.flavor.extra_specs.is_empty() && self.spec.image.is_none() {
            return Ok(None);
        }
        let emulator = emulator_policy(self.extra_spec("hw:emulator_threads_policy"))?;
        let policy = self.cpu_policy(emulator)?;
        let threads = self.thread_policy()?;
        let dedicated = self.dedicated_cpus(policy, threads, emulator)?;
        let nodes = self.nodes()?;
        let pages = self.page_size()?;
        self.check_locked_memory()?;
        let persistent = self.extra_spec("hw:pmem").unwrap_or("");
        let persistent = persistent.split(',').any(|label| !python::strip(label).is_empty());
        let policy = policy.unwrap_or_default();
        if nodes.is_none() && !pages.asked && !persistent && !policy.pins() {
            return Ok(None);
        }
        if threads.is_none() && self.flavor.extra_specs.contains_key("hw:cpu_thread_policy") {
            return bad("hw:cpu_thread_policy is empty");
        }
        let nodes = nodes.unwrap_or(1);
        let mut cells = match (self.cpus_by_node()?, self.memory_by_node()?) {
            (None, None) => self.equal_nodes(nodes)?,
            (Some(cpus), Some(memory)) if cpus.len() == nodes && memory.len() == nodes => {
                self.given_nodes(&cpus, &memory)?
            }
            _ => {
                return bad(format!(
                    "hw:numa_cpus.N and hw:numa_mem.N must be given for each of {nodes} NUMA nodes, or for none"
                ));
            }
        };
        for cell in &mut cells {
            cell.pcpuset = cell.cpuset.and(&dedicated);
            cell.cpuset = cell.cpuset.minus(&dedicated);
            (cell.pagesize, cell.cpu_policy, cell.cpu_thread_policy) = (pages.size, policy, threads);
        }
        Ok(Some(InstanceTopology { cells, isolate_emulator_threads: emulator == Some(true) }))
    }

    /// The policy of `hw:cpu_policy` and `hw_cpu_policy`, or the one that `resources:VCPU` or `resources:PCPU` implies.
    fn cpu_policy(&self, emulator: Option<bool>) -> Result<Option<CpuPolicy>> {
        let flavor = cpu_policy(self.extra_spec("hw:cpu_policy"), "hw:cpu_policy")?;
        let image = cpu_policy(self.image_text("hw_cpu_policy"), "hw_cpu_policy")?;
        let policy = match (flavor, image) {
            (Some(CpuPolicy::Mixed), Some(CpuPolicy::Dedicated))
            | (Some(CpuPolicy::Shared), Some(CpuPolicy::Mixed | CpuPolicy::Dedicated)) => {
                return bad(
                    "hw_cpu_policy of the image asks for more than hw:cpu_policy of the flavor allows",
                );
            }
            (Some(flavor), _) => Some(flavor),
            (None, image) => image,
        };
        let (shared, pinned) = (self.resources("VCPU"), self.resources("PCPU"));
        if policy.is_some() && (shared != 0 || pinned != 0) {
            return bad("resources:VCPU or resources:PCPU with hw:cpu_policy: use one or the other");
        }
        if shared != 0 && pinned != 0 {
            return bad("resources:VCPU with resources:PCPU: use one or the other");
        }
        if pinned != 0 {
            let wanted = i128::from(self.flavor.vcpus) + i128::from(emulator == Some(true));
            if pinned != wanted {
                return bad(format!("resources:PCPU is {pinned}, and must be {wanted} with this flavor"));
            }
            return Ok(Some(CpuPolicy::Dedicated));
        }
        Ok(if shared != 0 { Some(CpuPolicy::Shared) } else { policy })
    }

    /// How much of a class the extra specs ask for, over all their groups. Values that are not numbers are skipped
    /// here, because they are refused where the amounts are read.
    fn resources(&self, class: &str) -> i128 {
        let specs = self.flavor.extra_specs.iter();
        let of_class = specs.filter(|(key, _)| of_group(key, "resources", class));
        of_class.filter_map(|(_, value)| python::int(value)).fold(0, i128::saturating_add)
    }

    /// The policy of `hw:cpu_thread_policy` and `hw_cpu_thread_policy`, or the one that the trait implies.
    fn thread_policy(&self) -> Result<Option<ThreadPolicy>> {
        let flavor = thread_policy(self.extra_spec("hw:cpu_thread_policy"), "hw:cpu_thread_policy")?;
        let image = thread_policy(self.image_text("hw_cpu_thread_policy"), "hw_cpu_thread_policy")?;
        let empty = self.flavor.extra_specs.get("hw:cpu_thread_policy").is_some_and(String::is_empty);
        let policy = match (flavor, image) {
            (None, Some(_)) if empty => return bad("hw:cpu_thread_policy is empty, and the image names one"),
            (None, image) => image,
            (Some(own), Some(image)) if own != ThreadPolicy::Prefer && own != image => {
                return bad(
                    "hw:cpu_thread_policy of the flavor and hw_cpu_thread_policy of the image differ",
                );
            }
            (flavor, _) => flavor,
        };
        const TRAIT: &str = "HW_CPU_HYPERTHREADING";
        let mut specs = self.flavor.extra_specs.iter();
        let any = specs.find(|(key, _)| of_group(key, "trait", TRAIT)).map(|(_, value)| value);
        let own = self.flavor.extra_specs.get(&format!("trait:{TRAIT}"));
        let flavor = own.or(any).map(String::as_str);
        let image = self.image_raw(&format!("trait:{TRAIT}")).filter(|value| *value == "required");
        let hyperthreading = flavor.or(image.map(|_| "required"));
        if policy.is_some() && set(hyperthreading).is_some() {
            return bad(format!("trait:{TRAIT} with hw:cpu_thread_policy: use one or the other"));
        }
        Ok(match hyperthreading {
            Some("forbidden") => Some(ThreadPolicy::Isolate),
            Some("required") => Some(ThreadPolicy::Require),
            _ => policy,
        })
    }

    /// The set of virtual CPUs that are pinned.
    fn dedicated_cpus(
        &self,
        policy: Option<CpuPolicy>,
        threads: Option<ThreadPolicy>,
        emulator: Option<bool>,
    ) -> Result<CpuSet> {
        let all = CpuSet::first(self.flavor.vcpus).map_err(|large| BadDevices(format!("vcpus: {large}")));
        let realtime = self.realtime_cpus(emulator)?;
        let mask = match self.extra_spec("hw:cpu_dedicated_mask") {
            None => None,
            Some(text) => {
                let (mask, all) = (self.mask(text)?, all.clone()?);
                if mask.is_empty() || !mask.minus(&all).is_empty() || all.minus(&mask).is_empty() {
                    return bad("hw:cpu_dedicated_mask must name some of the flavor's CPUs, and not all");
                }
                Some(mask)
            }
        };
        match policy.unwrap_or_default() {
            CpuPolicy::Shared => {
                if threads.is_some() {
                    return bad("a CPU thread policy needs hw:cpu_policy=dedicated or mixed");
                }
                if emulator == Some(true) {
                    return bad("hw:emulator_threads_policy=isolate needs hw:cpu_policy=dedicated or mixed");
                }
                if mask.is_some() {
                    return bad("hw:cpu_dedicated_mask needs hw:cpu_policy=mixed");
                }
                if realtime.is_some() {
                    return bad("hw:cpu_realtime needs hw:cpu_policy=dedicated or mixed");
                }
                Ok(CpuSet::EMPTY)
            }
            CpuPolicy::Dedicated if mask.is_some() => bad("hw:cpu_dedicated_mask needs hw:cpu_policy=mixed"),
            CpuPolicy::Dedicated => all,
            CpuPolicy::Mixed => match (mask, realtime) {
                (Some(mask), None) => Ok(mask),
                (None, Some(realtime)) => Ok(realtime),
                _ => bad("hw:cpu_policy=mixed needs hw:cpu_dedicated_mask or hw:cpu_realtime_mask, not both"),
            },
        }
    }

    fn realtime_cpus(&self, emulator: Option<bool>) -> Result<Option<CpuSet>> {
        if !self.extra_spec("hw:cpu_realtime").is_some_and(is_true) {
            return Ok(None);
        }
        let all = CpuSet::first(self.flavor.vcpus).map_err(|large| BadDevices(format!("vcpus: {large}")))?;
        let text = self.image_text("hw_cpu_realtime_mask").or(self.extra_spec("hw:cpu_realtime_mask"));
        let mask = text.map_or_else(|| Ok(all.clone()), |text| self.mask(text))?;
        if mask.is_empty() || !mask.minus(&all).is_empty() || (mask == all && emulator.is_none()) {
            return bad(
                "a realtime mask must name some of the flavor's CPUs, and all only with an emulator threads policy",
            );
        }
        Ok(Some(mask))
    }

    /// Reads a set of virtual CPUs. A text that begins with `^` is taken out of all CPUs of the flavor.
    fn mask(&self, text: &str) -> Result<CpuSet> {
        if python::strip(text).starts_with('^') {
            return cpu_spec(&format!("0-{},{text}", i64::from(self.flavor.vcpus) - 1));
        }
        cpu_spec(text)
    }

    fn nodes(&self) -> Result<Option<usize>> {
        let flavor = self.extra_spec("hw:numa_nodes").map(str::to_owned);
        let image = self.image.get("hw_numa_nodes").map(|nodes| nodes.text());
        let nodes = match (flavor, image) {
            (Some(_), Some(image)) if image != "0" => {
                return bad("hw_numa_nodes of the image overrides hw:numa_nodes of the flavor");
            }
            (Some(nodes), _) | (None, Some(nodes)) => nodes,
            (None, None) => return Ok(None),
        };
        let number = python::int(&nodes).filter(|number| number.to_string() == nodes);
        match number.filter(|number| (1..=MAX_NODES).contains(number)) {
            Some(number) => Ok(Some(number as usize)),
            None => bad(format!("{nodes:?} NUMA nodes; there may be 1 to {MAX_NODES}")),
        }
    }

    fn page_size(&self) -> Result<PageSize> {
        let flavor = self.extra_spec("hw:mem_page_size");
        let image = self.image_text("hw_mem_page_size");
        match (flavor.map(page_size).transpose()?, image) {
            (None, None) => Ok(PageSize { size: 0, asked: false }),
            (Some(of_flavor), None) => Ok(of_flavor),
            (Some(PageSize { size: PAGES_ANY | PAGES_LARGE, .. }), Some(image)) => page_size(image),
            (_, Some(image)) => {
                bad(format!("hw_mem_page_size {image:?} of the image is not allowed by hw:mem_page_size"))
            }
        }
    }

    fn check_locked_memory(&self) -> Result<()> {
        let flavor = self.flavor.extra_specs.get("hw:locked_memory").map(|text| is_true(text));
        let image = self.image.get("hw_locked_memory").map(|locked| locked.truthy());
        if let (Some(flavor), Some(image)) = (flavor, image)
            && flavor != image
        {
            return bad("hw:locked_memory of the flavor and hw_locked_memory of the image differ");
        }
        let pages = self.extra_spec("hw:mem_page_size").or(self.image_text("hw_mem_page_size"));
        if flavor.or(image) == Some(true) && pages.is_none() {
            return bad("hw:locked_memory needs hw:mem_page_size");
        }
        Ok(())
    }

    /// The CPUs of each node, from `hw:numa_cpus.N` or `hw_numa_cpus.N`.
    fn cpus_by_node(&self) -> Result<Option<Vec<CpuSet>>> {
        self.by_node("numa_cpus", |place, text| {
            cpu_spec(text).map_err(|BadDevices(reason)| BadDevices(format!("{place}: {reason}")))
        })
    }

    /// The memory of each node in MiB, from `hw:numa_mem.N` or `hw_numa_mem.N`.
    fn memory_by_node(&self) -> Result<Option<Vec<i64>>> {
        self.by_node("numa_mem", |place, text| match python::int(text) {
            Some(number) => memory_mb(number),
            None => bad(format!("{place} is {text:?}, which is not a whole number")),
        })
    }

    fn by_node<T>(&self, name: &str, read: impl Fn(&str, &str) -> Result<T>) -> Result<Option<Vec<T>>> {
        let mut flavor = Vec::new();
        let mut image = Vec::new();
        for node in 0..MAX_NODES {
            let key = format!("hw:{name}.{node}");
            let Some(text) = self.flavor.extra_specs.get(&key) else { break };
            flavor.push(read(&key, text)?);
        }
        for node in 0..MAX_NODES {
            let key = format!("hw_{name}.{node}");
            let Some(value) = self.image_raw(&key) else { break };
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            image.push(read(&key, &text)?);
        }
        match (flavor.is_empty(), image.is_empty()) {
            (true, true) => Ok(None),
            (false, true) => Ok(Some(flavor)),
            (true, false) => Ok(Some(image)),
            (false, false) => bad(format!("hw_{name} of the image overrides hw:{name} of the flavor")),
        }
    }

    fn equal_nodes(&self, nodes: usize) -> Result<Vec<InstanceCell>> {
        let (vcpus, memory) = (self.flavor.vcpus, self.flavor.memory_mb);
        if vcpus % nodes as u32 != 0 || memory % nodes as u64 != 0 {
            return bad(format!(
                "{vcpus} CPUs and {memory} MiB cannot be shared out evenly to {nodes} NUMA nodes"
            ));
        }
        let (vcpus, memory) = (vcpus / nodes as u32, memory_mb(i128::from(memory) / nodes as i128)?);
        let cell = |id: u32| {
            let cpus = CpuSet::range(id * vcpus, (id + 1) * vcpus);
            let cpuset = cpus.map_err(|large| BadDevices(format!("vcpus: {large}")))?;
            Ok(InstanceCell { id, cpuset, memory_mb: memory, ..InstanceCell::default() })
        };
        (0..nodes as u32).map(cell).collect()
    }

    fn given_nodes(&self, cpus: &[CpuSet], memory: &[i64]) -> Result<Vec<InstanceCell>> {
        let mut assigned = CpuSet::EMPTY;
        for set in cpus {
            if let Some(large) = set.iter().find(|cpu| *cpu >= self.flavor.vcpus) {
                return bad(format!("hw:numa_cpus names CPU {large} of {}", self.flavor.vcpus));
            }
            if set.meets(&assigned) {
                return bad("hw:numa_cpus names a CPU for two NUMA nodes");
            }
            assigned.add(set);
        }
        if assigned.len() as u64 != u64::from(self.flavor.vcpus) {
            return bad(format!("hw:numa_cpus names {} of {} CPUs", assigned.len(), self.flavor.vcpus));
        }
        let sum: i128 = memory.iter().map(|memory| i128::from(*memory)).sum();
        if sum != i128::from(self.flavor.memory_mb) {
            return bad(format!("hw:numa_mem adds up to {sum} MiB, not to {}", self.flavor.memory_mb));
        }
        let cells = cpus.iter().zip(memory).zip(0..).map(|((cpus, memory), id)| InstanceCell {
            id,
            cpuset: cpus.clone(),
            memory_mb: *memory,
            ..InstanceCell::default()
        });
        Ok(cells.collect())
    }
}

/// Whether the key of an extra spec has the form `prefix:name...` or `prefixN:name...`.
fn of_group(key: &str, prefix: &str, name: &str) -> bool {
    let Some(rest) = key.strip_prefix(prefix) else { return false };
    let unnumbered = rest.trim_start_matches(|c: char| c.is_ascii_digit());
    !rest.starts_with('0') && unnumbered.strip_prefix(':').is_some_and(|rest| rest.starts_with(name))
}

struct PageSize {
    /// The size in KiB, or one of `PAGES_ANY`, `PAGES_LARGE` and `PAGES_SMALL`. Zero if none is asked for.
    size: i64,
    /// Whether a size is asked for. A size of less than one KiB is, although `size` is zero.
    asked: bool,
}

/// Reads `any`, `large`, `small`, a number of KiB, or a number with a unit.
fn page_size(text: &str) -> Result<PageSize> {
    let whole = |size| Ok(PageSize { size, asked: size != 0 });
    match text {
        "any" => return whole(PAGES_ANY),
        "large" => return whole(PAGES_LARGE),
        "small" => return whole(PAGES_SMALL),
        _ => {}
    }
    if text.chars().all(|c| c.is_ascii_digit())
        && let Ok(size) = text.parse()
    {
        return whole(size);
    }
    match bytes(text) {
        Some(bytes) => Ok(PageSize { size: (bytes / 1024.0) as i64, asked: bytes != 0.0 }),
        None => bad(format!(
            "{text:?} is not a page size; use small, large, any, a number of KiB, or a size such as 2MB"
        )),
    }
}

/// Reads a number with a binary unit of bits or bytes as oslo.utils does. The result is rounded up to whole bytes.
fn bytes(text: &str) -> Option<f64> {
    let (text, bits) = match text.strip_suffix('B') {
        Some(text) => (text, false),
        None => (text.strip_suffix("bit").or_else(|| text.strip_suffix('b'))?, true),
    };
    let plain = text.strip_suffix('i').unwrap_or(text);
    let (number, exponent) = match "KMGTPEZYRQ".find(plain.chars().next_back()?) {
        Some(at) => (&plain[..plain.len() - 1], at as i32 + 1),
        None if plain.len() == text.len() => (text, 0),
        None => return None,
    };
    let digits = number.strip_prefix(['-', '+']).unwrap_or(number);
    let decimal = digits.bytes().all(|b| b.is_ascii_digit() || b == b'.') && !digits.ends_with('.');
    let value: f64 = number.parse().ok().filter(|_| decimal)?;
    let value = if bits { value / 8.0 } else { value };
    Some((value * 1024_f64.powi(exponent)).ceil())
}

/// Reads a set of CPUs as Nova's `parse_cpu_spec` does: numbers and ranges, and after `^` those that are not in the
/// set.
fn cpu_spec(text: &str) -> Result<CpuSet> {
    let (mut set, mut excluded) = (CpuSet::EMPTY, CpuSet::EMPTY);
    for rule in text.split(',').map(python::strip).filter(|rule| !rule.is_empty()) {
        let (range, exclude) = rule.strip_prefix('^').map_or((rule, false), |range| (range, true));
        let (from, to) = range.split_once('-').unwrap_or((range, range));
        let number = |text| python::int(text).filter(|number| *number >= 0);
        let (Some(from), Some(to)) = (number(from), number(to)) else {
            return bad(format!("{rule:?} is neither a CPU nor a range of CPUs"));
        };
        if from > to || to >= i128::from(MAX_CPUS) {
            return bad(format!("{rule:?} is not a range of CPUs from 0 to {}", MAX_CPUS - 1));
        }
        let range =
            CpuSet::range(from as u32, to as u32 + 1).map_err(|large| BadDevices(large.to_string()))?;
        if exclude { &mut excluded } else { &mut set }.add(&range);
    }
    Ok(set.minus(&excluded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use novella_objects::Image;
    use serde_json::json;

    /// A cell's shared CPUs, dedicated CPUs, memory in MiB, and page size.
    type Cell = (Vec<u32>, Vec<u32>, i64, i64);

    /// The cells of an instance of four CPUs and 2 GiB.
    fn cells(extra_specs: Value, image: Value) -> Result<Option<Vec<Cell>>> {
        let extra_specs = serde_json::from_value(extra_specs).unwrap();
        let spec = RequestSpec {
            flavor: Flavor { vcpus: 4, memory_mb: 2048, extra_specs, ..Flavor::default() },
            image: Some(Image { properties: serde_json::from_value(image).unwrap(), ..Image::default() }),
            ..RequestSpec::default()
        };
        let image = ImageProperties::read(spec.image.as_ref().unwrap()).unwrap();
        let list = |set: &CpuSet| set.iter().collect();
        let cell = |c: &InstanceCell| (list(&c.cpuset), list(&c.pcpuset), c.memory_mb, c.pagesize);
        Ok(of_request(&spec, &image)?.map(|topology| topology.cells.iter().map(cell).collect()))
    }

    #[test]
    fn flavor_and_image_make_cells() {
        let none = json!({});
        for (extra_specs, image, expected) in [
            (json!({"quota:cpu": "1"}), none.clone(), None),
            (json!({"hw:cpu_policy": "shared"}), none.clone(), None),
            (
                json!({"hw:numa_nodes": "2"}),
                none.clone(),
                Some(vec![(vec![0, 1], vec![], 1024, 0), (vec![2, 3], vec![], 1024, 0)]),
            ),
            (
                json!({"hw:numa_nodes": "2", "hw:numa_cpus.0": "0,3", "hw:numa_cpus.1": "1-2", "hw:numa_mem.0": "512",
                    "hw:numa_mem.1": "1536"}),
                none.clone(),
                Some(vec![(vec![0, 3], vec![], 512, 0), (vec![1, 2], vec![], 1536, 0)]),
            ),
            (
                json!({}),
                json!({"hw_cpu_policy": "dedicated"}),
                Some(vec![(vec![], vec![0, 1, 2, 3], 2048, 0)]),
            ),
            (
                json!({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "^0-1"}),
                none.clone(),
                Some(vec![(vec![0, 1], vec![2, 3], 2048, 0)]),
            ),
            (
                json!({"hw:cpu_policy": "mixed", "hw:cpu_realtime": "yes", "hw:cpu_realtime_mask": "^0"}),
                none.clone(),
                Some(vec![(vec![0], vec![1, 2, 3], 2048, 0)]),
            ),
            (
                json!({"hw:mem_page_size": "large"}),
                json!({"hw_mem_page_size": "2MB"}),
                Some(vec![(vec![0, 1, 2, 3], vec![], 2048, 2048)]),
            ),
            (json!({"resources:PCPU": "4"}), none, Some(vec![(vec![], vec![0, 1, 2, 3], 2048, 0)])),
        ] {
            let got = cells(extra_specs.clone(), image.clone());
            assert_eq!(got, Ok(expected), "{extra_specs} {image}");
        }
    }

    #[test]
    fn what_goes_not_together_is_refused() {
        for (extra_specs, image, part) in [
            (json!({"hw:cpu_policy": "pinned"}), json!({}), "is not a CPU policy"),
            (json!({"hw:cpu_policy": "shared"}), json!({"hw_cpu_policy": "dedicated"}), "asks for more"),
            (json!({"hw:cpu_thread_policy": "require"}), json!({}), "needs hw:cpu_policy"),
            (json!({"hw:numa_nodes": "3"}), json!({}), "shared out evenly"),
            (json!({"hw:numa_nodes": "02"}), json!({}), "there may be 1 to 128"),
            (json!({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3"}), json!({}), "or for none"),
            (
                json!({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-9", "hw:numa_mem.0": "2048"}),
                json!({}),
                "CPU 4 of 4",
            ),
            (
                json!({"hw:numa_nodes": "1", "hw:numa_cpus.0": "0-3", "hw:numa_mem.0": "1"}),
                json!({}),
                "adds up to 1",
            ),
            (json!({"hw:mem_page_size": "2M"}), json!({}), "is not a page size"),
            (json!({}), json!({"hw_mem_page_size": "large"}), "not allowed"),
            (json!({"hw:cpu_policy": "mixed"}), json!({}), "not both"),
            (json!({"hw:cpu_policy": "mixed", "hw:cpu_dedicated_mask": "0-3"}), json!({}), "not all"),
            (json!({"hw:numa_nodes": "1"}), json!({"hw_numa_nodes": "2"}), "overrides"),
            (json!({"hw:locked_memory": "true"}), json!({}), "needs hw:mem_page_size"),
            (json!({"hw:cpu_policy": "dedicated", "resources:VCPU": "1"}), json!({}), "one or the other"),
        ] {
            let error = cells(extra_specs.clone(), image.clone()).unwrap_err().to_string();
            assert!(error.contains(part), "{extra_specs} {image}: {error}");
        }
    }

    #[test]
    fn sizes_are_read_as_oslo_does() {
        for (text, size) in [
            ("4", Some(4)),
            ("2MB", Some(2048)),
            ("1GiB", Some(1_048_576)),
            (".5MB", Some(512)),
            ("16Kbit", Some(2)),
            ("2M", None),
            ("2iB", None),
            ("5.B", None),
            ("", None),
        ] {
            assert_eq!(page_size(text).ok().map(|pages| pages.size), size, "{text}");
        }
    }
}
