//! PCI devices: pools of alike devices on a host, what an instance asks of them, and what that takes.
//!
//! Requests are granted one after the other from what the ones before left. A device must match what is asked, be near
//! enough to the instance's NUMA cells, and not be of a kind that must be asked for by name (physical functions, VDPA,
//! remotely managed devices). All of it follows Nova 34; pools are taken from in their order, and a pool that is used up
//! is gone.
//!
//! Left out: single devices and their addresses, and that a physical function and its virtual functions exclude each
//! other, which Nova leaves to the host too.

use std::collections::BTreeMap;

use crate::numa::Topology;

/// Keys that requests and pools carry for Placement, and that are not compared.
const NOT_COMPARED: [&str; 3] = ["resource_class", "traits", "rp_uuids"];

/// Properties of devices or of requests: a null is as good as an absent one.
pub type Tags = BTreeMap<Box<str>, Option<Box<str>>>;

/// Devices of one kind that are free.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pool {
    /// Of whose make, such as `8086`.
    pub vendor_id: Box<str>,
    /// Which of its products.
    pub product_id: Box<str>,
    /// The cell that they are near, if one is known.
    pub numa_node: Option<u32>,
    /// How many there are.
    pub count: u32,
    /// All else, such as `dev_type` and `physical_network`.
    pub tags: Tags,
}

/// Devices of one kind that an instance asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// How many.
    pub count: u32,
    /// What a device must have; one of these suffices.
    pub spec: Vec<Tags>,
    /// How near they must be to the instance's cells.
    pub numa_policy: NumaPolicy,
    /// Whether it was written with an alias of a flavor, and not for a port of a network.
    pub of_alias: bool,
}

/// `hw:pci_numa_affinity_policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NumaPolicy {
    /// On one of the instance's cells.
    Required,
    /// There, or on a cell that is not known; Nova's default.
    #[default]
    Legacy,
    /// There if possible.
    Preferred,
    /// On one of their sockets.
    Socket,
}

impl NumaPolicy {
    /// By Nova's name.
    pub fn of_name(name: &str) -> Option<Self> {
        match name {
            "required" => Some(Self::Required),
            "legacy" => Some(Self::Legacy),
            "preferred" => Some(Self::Preferred),
            "socket" => Some(Self::Socket),
            _ => None,
        }
    }
}

/// A request that cannot be judged; Nova raises an exception.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestError {
    /// One that was written with an alias and says nothing of its devices.
    EmptySpec,
    /// Nearness to a socket, on a host that does not report NUMA cells.
    NoTopology,
}

impl std::fmt::Display for RequestError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::EmptySpec => "a PCI request of an alias has an empty spec",
            Self::NoTopology => "PCI affinity to a socket is asked of a host without NUMA topology",
        })
    }
}

impl std::error::Error for RequestError {}

/// What requests take: pools without their count, with how many devices of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(pub Vec<(Pool, u32)>);

/// Puts pools into the order in which they are taken from: those with the fewest properties first.
pub fn sort(pools: &mut [Pool]) {
    pools.sort_by_key(|pool| pool.tags.len());
}

/// Whether all requests can be granted together. `cells` are the host cells of the instance, if it has any.
pub fn supports(
    pools: &[Pool],
    requests: &[Request],
    cells: Option<&[u32]>,
    topology: Option<&Topology>,
) -> Result<bool, RequestError> {
    Stock::of(pools).grant_all(requests, cells, topology)
}

/// What the requests take, and whether all were granted. Where they were not, those before have taken their devices all
/// the same, as in Nova.
pub fn usage_of(
    pools: &[Pool],
    requests: &[Request],
    cells: Option<&[u32]>,
    topology: Option<&Topology>,
) -> (Usage, Result<bool, RequestError>) {
    let mut stock = Stock::of(pools);
    let granted = stock.grant_all(requests, cells, topology);
    let taken = stock.left.iter().zip(pools).filter(|(left, pool)| **left != Some(pool.count));
    let usage = taken.map(|(left, pool)| (Pool { count: 0, ..pool.clone() }, pool.count - left.unwrap_or(0)));
    (Usage(usage.collect()), granted)
}

/// Takes a usage out of pools. What they no longer have is passed over: it was of an earlier report.
pub fn take(pools: &mut Vec<Pool>, usage: &Usage) {
    for (kind, count) in &usage.0 {
        let mut wanted = *count;
        pools.retain_mut(|pool| {
            let alike = pool.vendor_id == kind.vendor_id
                && pool.product_id == kind.product_id
                && pool.numa_node == kind.numa_node
                && pool.tags == kind.tags;
            if !alike {
                return true;
            }
            let taken = wanted.min(pool.count);
            let emptied = taken == pool.count && (wanted > 0 || *count == 0);
            pool.count -= taken;
            wanted -= taken;
            !emptied
        });
    }
}

/// Pools with what is left of each; `None`: the pool is gone.
struct Stock<'a> {
    pools: &'a [Pool],
    left: Vec<Option<u32>>,
}

impl<'a> Stock<'a> {
    fn of(pools: &'a [Pool]) -> Self {
        Self { pools, left: pools.iter().map(|pool| Some(pool.count)).collect() }
    }

    /// Grants one request after the other, up to the first that cannot be.
    fn grant_all(
        &mut self,
        requests: &[Request],
        cells: Option<&[u32]>,
        topology: Option<&Topology>,
    ) -> Result<bool, RequestError> {
        for request in requests {
            if !self.grant(request, cells, topology)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn grant(
        &mut self,
        request: &Request,
        cells: Option<&[u32]>,
        topology: Option<&Topology>,
    ) -> Result<bool, RequestError> {
        let providers = request.providers()?;
        let mut pools: Vec<usize> = (0..self.pools.len())
            .filter(|&at| self.left[at].is_some() && request.matches(&self.pools[at]))
            .collect();
        if self.count(&pools) < u64::from(request.count) {
            return Ok(false);
        }
        if let Some(cells) = cells.filter(|cells| !cells.is_empty()) {
            pools = self.near(pools, request, cells, topology)?;
        }
        pools.retain(|&at| request.may_have(&self.pools[at]));
        let Some(providers) = providers else {
            if pools.is_empty() || self.count(&pools) < u64::from(request.count) {
                return Ok(false);
            }
            let mut wanted = request.count;
            for at in pools {
                let left = self.left[at].unwrap_or(0);
                self.left[at] = (left > wanted).then(|| left - wanted);
                wanted -= wanted.min(left);
                if wanted == 0 {
                    break;
                }
            }
            return Ok(true);
        };
        // Placement has chosen the providers: a name for each device.
        let provider = |at: usize| self.pools[at].tags.get("rp_uuid").and_then(Option::as_deref);
        let asked = |at: usize| providers.iter().filter(|name| provider(at) == Some(name)).count() as u64;
        pools.retain(|&at| asked(at) > 0 && self.left[at].is_some_and(|left| u64::from(left) >= asked(at)));
        if pools.is_empty() || self.count(&pools) < u64::from(request.count) {
            return Ok(false);
        }
        let all: Vec<_> = (0..self.pools.len()).filter(|&at| self.left[at].is_some()).collect();
        let named: Vec<_> = all.iter().filter(|&&at| self.pools[at].tags.contains_key("rp_uuid")).collect();
        if named.iter().enumerate().any(|(n, &&a)| named[..n].iter().any(|&&b| provider(a) == provider(b))) {
            return Ok(false);
        }
        let grants: Vec<_> = pools.iter().map(|&at| (at, asked(at))).collect();
        for (at, asked) in grants {
            let left = u64::from(self.left[at].unwrap_or(0)) - asked;
            self.left[at] = (left > 0).then_some(left as u32);
        }
        Ok(true)
    }

    fn count(&self, pools: &[usize]) -> u64 {
        pools.iter().map(|&at| u64::from(self.left[at].unwrap_or(0))).sum()
    }

    /// The pools that the policy allows: the strictest one that yields enough, down to the one asked for.
    fn near(
        &self,
        pools: Vec<usize>,
        request: &Request,
        cells: &[u32],
        topology: Option<&Topology>,
    ) -> Result<Vec<usize>, RequestError> {
        let node = |at: usize| self.pools[at].numa_node;
        let those = |near: &dyn Fn(usize) -> bool| -> Vec<usize> {
            pools.iter().copied().filter(|&at| near(at)).collect()
        };
        let enough = |pools: &[usize]| self.count(pools) >= u64::from(request.count);
        let on_cells = |at: usize| node(at).is_some_and(|node| cells.contains(&node));
        let required = those(&on_cells);
        if request.numa_policy == NumaPolicy::Required || enough(&required) {
            return Ok(required);
        }
        if request.numa_policy == NumaPolicy::Socket {
            let host = &topology.ok_or(RequestError::NoTopology)?.cells;
            if host.iter().any(|cell| cell.socket.is_none()) {
                return Ok(Vec::new());
            }
            let sockets = || host.iter().filter(|cell| cells.contains(&cell.id)).map(|cell| cell.socket);
            let near = |node: u32| {
                host.iter().any(|cell| cell.id == node && sockets().any(|socket| socket == cell.socket))
            };
            return Ok(those(&|at| node(at).is_some_and(near)));
        }
        let legacy_fit = |at: usize| node(at).is_none() || on_cells(at);
        let legacy = those(&legacy_fit);
        if request.numa_policy == NumaPolicy::Legacy || enough(&legacy) {
            return Ok(legacy);
        }
        let mut preferred = pools;
        preferred.sort_by_key(|&at| !legacy_fit(at));
        Ok(preferred)
    }
}

impl Request {
    /// The providers that Placement has chosen, one name for each device; `None` if it has not.
    fn providers(&self) -> Result<Option<Vec<&str>>, RequestError> {
        if !self.of_alias {
            return Ok(None);
        }
        let spec = self.spec.first().ok_or(RequestError::EmptySpec)?;
        let names = spec.get("rp_uuids").and_then(Option::as_deref).filter(|names| !names.is_empty());
        Ok(names.map(|names| names.split(',').collect()))
    }

    /// Whether one of the alternatives is true of the pool's devices.
    fn matches(&self, pool: &Pool) -> bool {
        self.spec.iter().any(|spec| spec.iter().all(|(key, value)| pool.has(key, value.as_deref())))
    }

    /// Whether devices of this pool may be given without being asked for by kind, or are asked for so.
    fn may_have(&self, pool: &Pool) -> bool {
        let asks = |key: &str, value: &str| self.spec.iter().any(|spec| text(spec, key) == Some(value));
        let dev_type = text(&pool.tags, "dev_type");
        let live = |value: &str| self.spec.iter().all(|spec| text(spec, "live_migratable") == Some(value));
        let managed = |tags: &Tags| text(tags, "remote_managed").is_some_and(is_true);
        (dev_type != Some("type-PF") || asks("dev_type", "type-PF"))
            && (dev_type != Some("vdpa") || asks("dev_type", "vdpa"))
            && (!managed(&pool.tags) || self.spec.iter().any(managed))
            && (!live("true") || text(&pool.tags, "live_migratable") == Some("true"))
            && (!live("false") || text(&pool.tags, "live_migratable") == Some("false"))
    }
}

impl Pool {
    /// Whether the property has this value, letter case aside. Numbers are never equal to what a request writes.
    fn has(&self, key: &str, wanted: Option<&str>) -> bool {
        if NOT_COMPARED.contains(&key) {
            return true;
        }
        let own = match key {
            "vendor_id" => Some(&*self.vendor_id),
            "product_id" => Some(&*self.product_id),
            "count" => return false,
            "numa_node" if self.numa_node.is_some() => return false,
            "numa_node" => None,
            _ => text(&self.tags, key),
        };
        match (own, wanted) {
            (Some(own), Some(wanted)) => own == wanted || own.to_lowercase() == wanted.to_lowercase(),
            (own, wanted) => own == wanted,
        }
    }
}

fn text<'t>(tags: &'t Tags, key: &str) -> Option<&'t str> {
    tags.get(key)?.as_deref()
}

/// What Nova takes for true; everything else is false.
pub(crate) fn is_true(text: &str) -> bool {
    matches!(text.trim().to_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes")
}
