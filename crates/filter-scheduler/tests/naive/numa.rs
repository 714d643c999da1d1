//! NUMA cells and PCI devices, as simply as possible: every arrangement is tried.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use novella_objects::RequestSpec;
use novella_objects::document::{
    InstanceNumaCell, InstanceNumaTopology, NetworkMetadata, NumaCell, NumaTopology, PciPool, PciRequest,
};

use super::pinning;

type Cpus = BTreeSet<u32>;

/// An instance's cells as the request has them, with the place of the last instance.
#[derive(Debug, Clone)]
pub struct Guest {
    pub asked: InstanceNumaTopology,
    /// For each cell, the host CPU of each dedicated CPU, and the CPUs of the emulator.
    pub pinned: Vec<(BTreeMap<u32, u32>, Cpus)>,
}

impl Guest {
    /// The cells that a request names, or one cell if a policy pins CPUs, or if `PCPU` is asked for. The test generates
    /// nothing else that asks for cells.
    pub fn of(request: &RequestSpec) -> Option<Self> {
        let flavor = &request.flavor;
        let alone = || {
            let mut specs = flavor.extra_specs.iter();
            specs.find(|(key, text)| key.ends_with(":PCPU") && *text != "0")?;
            let cell = InstanceNumaCell {
                pcpuset: (0..flavor.vcpus).collect(),
                memory_mb: flavor.memory_mb,
                cpu_policy: Some("dedicated".to_owned()),
                ..InstanceNumaCell::default()
            };
            Some(InstanceNumaTopology { cells: vec![cell], ..InstanceNumaTopology::default() })
        };
        let asked = request.numa_topology.clone().or_else(alone).or_else(|| pinning::cells(request))?;
        Some(Self { pinned: vec![Default::default(); asked.cells.len()], asked })
    }
}

/// Why it could not be decided.
#[derive(Debug)]
pub struct Raises;

pub struct Limits<'a> {
    pub cpu: f64,
    pub ram: f64,
    pub network: Option<&'a NetworkMetadata>,
}

fn set(cpus: &[u32]) -> Cpus {
    cpus.iter().copied().collect()
}

fn free(cell: &NumaCell) -> Cpus {
    &set(&cell.pcpuset) - &set(&cell.pinned_cpus)
}

fn policy(cell: &InstanceNumaCell) -> &str {
    cell.cpu_policy.as_deref().unwrap_or("shared")
}

fn permutations(of: &[usize], length: usize) -> Vec<Vec<usize>> {
    if length == 0 {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for &first in of {
        let others: Vec<usize> = of.iter().copied().filter(|other| *other != first).collect();
        for rest in permutations(&others, length - 1) {
            all.push([vec![first], rest].concat());
        }
    }
    all
}

/// Whether the instance fits. If so, `guest` says where.
pub fn fit(
    host: &NumaTopology,
    pools: &[PciPool],
    guest: &mut Guest,
    limits: Option<&Limits<'_>>,
    requests: &[PciRequest],
    packing: bool,
) -> Result<bool, Raises> {
    let count = guest.asked.cells.len();
    if count == 0 || host.cells.len() < count {
        return Ok(false);
    }
    let mut order: Vec<usize> = (0..host.cells.len()).collect();
    if host.cells.len() > count {
        let memory = |at: &usize| host.cells[*at].memory_mb as i64 - host.cells[*at].memory_usage_mb as i64;
        let direction = if packing { 1 } else { -1 };
        order.sort_by_key(|at| direction * memory(at));
        if policy(&guest.asked.cells[0]) == "shared" {
            order.sort_by_key(|at| -direction * host.cells[*at].cpu_usage as i64);
        } else {
            order.sort_by_key(|at| direction * free(&host.cells[*at]).len() as i64);
        }
        let devices = |at: &usize| -> i64 {
            let near = pools.iter().filter(|pool| pool.numa_node == Some(host.cells[*at].id));
            near.map(|pool| i64::from(pool.count)).sum()
        };
        order.sort_by_key(|at| if requests.is_empty() { devices(at) } else { -devices(at) });
    }
    let mut known: BTreeMap<(u32, u32), bool> = BTreeMap::new();
    'next: for permutation in permutations(&order, count) {
        for (place, &at) in permutation.iter().enumerate() {
            let cell = &host.cells[at];
            let key = (cell.id, guest.asked.cells[place].id);
            if let Entry::Vacant(unknown) = known.entry(key) {
                let isolate = guest.asked.emulator_threads_policy.as_deref() == Some("isolate");
                let emulator = usize::from(isolate && place == 0);
                let fits = fit_cell(cell, guest, place, limits, emulator)?;
                unknown.insert(fits);
            }
            if !known[&key] {
                continue 'next;
            }
            guest.asked.cells[place].id = cell.id;
        }
        let ids: Vec<u32> = guest.asked.cells.iter().map(|cell| cell.id).collect();
        if !requests.is_empty() && !grant(&mut pools.to_vec(), requests, Some(&ids), Some(host))? {
            continue;
        }
        if let Some(wanted) = limits.and_then(|limits| limits.network) {
            let near = |id: u32| host.cells.iter().filter(move |cell| cell.id == id);
            let network = |cell: &NumaCell| cell.network_metadata.clone().unwrap_or_default();
            let outside = |name: &String| {
                let chosen = ids.iter().flat_map(|id| near(*id)).any(|c| network(c).physnets.contains(name));
                !chosen && host.cells.iter().any(|cell| network(cell).physnets.contains(name))
            };
            let tunnel_here = ids.iter().flat_map(|id| near(*id)).any(|cell| network(cell).tunneled);
            let tunnel_elsewhere = host.cells.iter().any(|cell| network(cell).tunneled);
            if wanted.physnets.iter().any(outside) || (wanted.tunneled && !tunnel_here && tunnel_elsewhere) {
                continue;
            }
        }
        return Ok(true);
    }
    Ok(false)
}

fn fit_cell(
    host: &NumaCell,
    guest: &mut Guest,
    place: usize,
    limits: Option<&Limits<'_>>,
    emulator: usize,
) -> Result<bool, Raises> {
    let cell = &mut guest.asked.cells[place];
    let pins = policy(cell) != "shared";
    let shares = policy(cell) != "dedicated";
    let kb = cell.memory_mb * 1024;
    let pages = |size: u64, only_free: bool| {
        let Some(pages) = host.mempages.iter().find(|pages| pages.size_kb == size) else { return false };
        let count = pages.total as i64 - if only_free { (pages.used + pages.reserved) as i64 } else { 0 };
        kb as i64 <= count * size as i64 && kb.is_multiple_of(size)
    };
    let mut sizes: Vec<u64> = host.mempages.iter().map(|pages| pages.size_kb).collect();
    sizes.sort_unstable();
    match cell.pagesize.filter(|size| *size != 0) {
        Some(asked) => {
            let candidates: Vec<u64> = match asked {
                -1 => sizes.first().copied().into_iter().collect(),
                -2 => sizes.iter().skip(1).rev().copied().collect(),
                -3 => sizes.iter().rev().copied().collect(),
                size => vec![size as u64],
            };
            let Some(size) = candidates.into_iter().find(|size| pages(*size, true)) else { return Ok(false) };
            cell.pagesize = Some(size as i64);
        }
        None => {
            let available = host.memory_mb as i64 - host.memory_usage_mb as i64;
            let enough = match sizes.first() {
                Some(smallest) => pages(*smallest, pins),
                None if pins => available >= cell.memory_mb as i64,
                None => host.memory_mb >= cell.memory_mb,
            };
            if !enough {
                return Ok(false);
            }
        }
    }
    if pins && cell.pcpuset.len() + emulator > host.pcpuset.len().min(free(host).len()) {
        return Ok(false);
    }
    if shares && cell.cpuset.len() > host.cpuset.len() {
        return Ok(false);
    }
    if pins {
        let Some(pinned) = pin(host, cell, emulator)? else { return Ok(false) };
        guest.pinned[place] = pinned;
        cell.id = host.id;
        if cell.pcpuset.is_empty() && cell.cpuset.is_empty() {
            return Ok(false);
        }
    }
    Ok(match limits.filter(|_| shares) {
        None => true,
        Some(limits) => {
            (host.cpu_usage as usize + cell.cpuset.len()) as f64 <= host.cpuset.len() as f64 * limits.cpu
                && (host.memory_usage_mb + cell.memory_mb) as f64 <= host.memory_mb as f64 * limits.ram
        }
    })
}

type Pinned = (BTreeMap<u32, u32>, Cpus);

fn pin(host: &NumaCell, guest: &InstanceNumaCell, emulator: usize) -> Result<Option<Pinned>, Raises> {
    if host.siblings.is_empty() {
        return Err(Raises);
    }
    let wanted: Vec<u32> = set(&guest.pcpuset).into_iter().collect();
    let threads = host.siblings.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let cores: Vec<Vec<u32>> =
        host.siblings.iter().map(|core| (&set(core) & &free(host)).into_iter().collect()).collect();
    // Takes so many CPUs of each core that has as many.
    let packed = |of_each: usize| -> Option<Pinned> {
        let usable: Vec<u32> = cores
            .iter()
            .filter(|core| core.len() >= of_each && !core.is_empty())
            .flat_map(|core| core[..of_each].to_vec())
            .collect();
        (usable.len() >= wanted.len()).then(|| (wanted.iter().copied().zip(usable).collect(), Cpus::new()))
    };
    let reserved = |(pinned, _): Pinned, candidates: Vec<u32>| -> Option<Pinned> {
        let left = candidates.into_iter().filter(|cpu| !pinned.values().any(|taken| taken == cpu));
        let reserved: Cpus = if pinned.is_empty() { Cpus::new() } else { left.take(emulator).collect() };
        (emulator == 0 || !reserved.is_empty()).then_some((pinned, reserved))
    };
    let everything: Vec<u32> = cores.iter().flatten().copied().collect();
    let policy = guest.cpu_thread_policy.as_deref();
    if policy == Some("isolate") {
        if wanted.is_empty() || (threads > 1 && set(&host.pcpuset) != set(&host.cpuset)) {
            return Ok(None);
        }
        let whole: Vec<u32> = cores.iter().filter(|core| core.len() >= threads).map(|core| core[0]).collect();
        if whole.len() < wanted.len() {
            return Ok(None);
        }
        let pinned: BTreeMap<u32, u32> = wanted.iter().copied().zip(whole).collect();
        let untouched = cores.iter().filter(|core| !pinned.values().any(|cpu| core.contains(cpu)));
        let candidates = untouched.flatten().copied().collect();
        return Ok(reserved((pinned, Cpus::new()), candidates));
    }
    if policy == Some("require") && threads < 2 {
        return Ok(None);
    }
    let least = if policy == Some("require") { 2 } else { 1 };
    let most = cores.iter().map(Vec::len).max().unwrap_or(0);
    for of_each in (least..=most).rev() {
        if let Some(pinned) = packed(of_each).and_then(|pinned| reserved(pinned, everything.clone())) {
            return Ok(Some(pinned));
        }
    }
    if policy == Some("require") || everything.len() < wanted.len() {
        return Ok(None);
    }
    let linear = wanted.iter().copied().zip(everything.iter().copied()).collect();
    Ok(reserved((linear, Cpus::new()), everything))
}

/// Adds what a fitted instance takes, everything or nothing.
pub fn take(host: &mut NumaTopology, guest: &Guest) -> Result<(), Raises> {
    let mut after = host.clone();
    for cell in &mut after.cells {
        for (inner, (pinned, reserved)) in guest.asked.cells.iter().zip(&guest.pinned) {
            if inner.id != cell.id {
                continue;
            }
            let smallest = cell.mempages.iter().map(|pages| pages.size_kb as i64).min();
            let size = inner.pagesize.filter(|size| *size != 0).or(smallest).ok_or(Raises)?;
            for pages in cell.mempages.iter_mut().filter(|pages| pages.size_kb as i64 == size) {
                pages.used += inner.memory_mb * 1024 / pages.size_kb;
            }
            cell.memory_usage_mb += inner.memory_mb;
            cell.cpu_usage += set(&inner.cpuset).len() as u64;
            if policy(inner) == "shared" {
                continue;
            }
            let mut cpus: Cpus = pinned.values().copied().chain(reserved.iter().copied()).collect();
            if inner.cpu_thread_policy.as_deref() == Some("isolate") {
                let touched = cell.siblings.iter().filter(|core| core.iter().any(|cpu| cpus.contains(cpu)));
                cpus = touched.flatten().copied().collect();
            }
            if cpus.iter().any(|cpu| !cell.pcpuset.contains(cpu) || cell.pinned_cpus.contains(cpu)) {
                return Err(Raises);
            }
            cell.pinned_cpus.extend(cpus);
        }
    }
    *host = after;
    Ok(())
}

fn property(pool: &PciPool, key: &str) -> Option<String> {
    match key {
        "vendor_id" => Some(pool.vendor_id.clone()),
        "product_id" => Some(pool.product_id.clone()),
        "dev_type" => Some(pool.dev_type.clone()),
        other => pool.tags.get(other).and_then(|value| value.as_str().map(str::to_owned)),
    }
}

/// Grants requests in turn from `pools`. If one cannot be granted, those before it keep what they got.
pub fn grant(
    pools: &mut Vec<PciPool>,
    requests: &[PciRequest],
    cells: Option<&[u32]>,
    host: Option<&NumaTopology>,
) -> Result<bool, Raises> {
    for request in requests {
        if request.alias_name.is_some() && request.spec.is_empty() {
            return Err(Raises);
        }
        let text = |spec: &BTreeMap<String, serde_json::Value>, key: &str| {
            spec.get(key).and_then(|value| value.as_str().map(str::to_owned))
        };
        let asks = |key: &str, value: &str| {
            request.spec.iter().any(|spec| text(spec, key).as_deref() == Some(value))
        };
        let matches = |pool: &PciPool| {
            request.spec.iter().any(|spec| {
                spec.iter().all(|(key, value)| {
                    let own = property(pool, key).map(|own| own.to_lowercase());
                    key == "traits" || own == value.as_str().map(str::to_lowercase)
                })
            })
        };
        let sum =
            |places: &[usize], pools: &[PciPool]| -> u32 { places.iter().map(|at| pools[*at].count).sum() };
        let mut places: Vec<usize> = (0..pools.len()).filter(|at| matches(&pools[*at])).collect();
        if sum(&places, pools) < request.count {
            return Ok(false);
        }
        if let Some(cells) = cells.filter(|cells| !cells.is_empty()) {
            let on = |at: &usize| pools[*at].numa_node.is_some_and(|node| cells.contains(&node));
            let required: Vec<usize> = places.iter().copied().filter(on).collect();
            let legacy: Vec<usize> =
                places.iter().copied().filter(|at| pools[*at].numa_node.is_none() || on(at)).collect();
            let wanted = request.numa_policy.as_deref().unwrap_or("legacy");
            places = if wanted == "required" || sum(&required, pools) >= request.count {
                required
            } else if wanted == "socket" {
                let host = host.ok_or(Raises)?;
                if host.cells.iter().any(|cell| cell.socket.is_none()) {
                    return Ok(false);
                }
                let socket =
                    |id: u32| host.cells.iter().find(|cell| cell.id == id).and_then(|cell| cell.socket);
                let sockets: Vec<_> = cells.iter().filter_map(|id| socket(*id)).collect();
                let near = |node: u32| socket(node).is_some_and(|socket| sockets.contains(&socket));
                places.into_iter().filter(|at| pools[*at].numa_node.is_some_and(near)).collect()
            } else if wanted == "legacy" || sum(&legacy, pools) >= request.count {
                legacy
            } else {
                let rest = places.iter().copied().filter(|at| !legacy.contains(at)).collect();
                [legacy.clone(), rest].concat()
            };
        }
        let truth = |text: Option<String>| text.is_some_and(|text| text.to_lowercase() == "true");
        let managed = request.spec.iter().any(|spec| truth(text(spec, "remote_managed")));
        places.retain(|at| {
            let pool = &pools[*at];
            (pool.dev_type != "type-PF" || asks("dev_type", "type-PF"))
                && (pool.dev_type != "vdpa" || asks("dev_type", "vdpa"))
                && (managed || !truth(property(pool, "remote_managed")))
        });
        for word in ["true", "false"] {
            if request.spec.iter().all(|spec| text(spec, "live_migratable").as_deref() == Some(word)) {
                places.retain(|at| property(&pools[*at], "live_migratable").as_deref() == Some(word));
            }
        }
        if places.is_empty() || sum(&places, pools) < request.count {
            return Ok(false);
        }
        let mut left = request.count;
        let mut gone = Vec::new();
        for at in places {
            let taken = left.min(pools[at].count);
            if pools[at].count <= left {
                gone.push(at);
            }
            pools[at].count -= taken;
            left -= taken;
            if left == 0 {
                break;
            }
        }
        gone.sort_unstable();
        gone.into_iter().rev().for_each(|at| drop(pools.remove(at)));
    }
    Ok(true)
}
