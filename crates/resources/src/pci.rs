//! PCI devices: pools of identical devices on a host, what an instance asks of them, and what it takes.
//!
//! Requests are granted one after the other, each from what the earlier ones left. A device must match what is asked, must
//! be near enough to the instance's NUMA cells, and must not be of a kind that has to be asked for by name (physical
//! functions, VDPA and remotely managed devices). Devices are taken from the pools in their order, and a pool that is used
//! up is gone. All of it follows Nova 34.
//!
//! Left out: single devices and their addresses, and that a physical function and its virtual functions exclude each
//! other. Nova leaves that to the host too.

use std::collections::{BTreeMap, HashMap};

use crate::topology::Topology;

/// Keys that requests and pools carry for Placement. They are not compared.
const NOT_COMPARED: [&str; 3] = ["resource_class", "traits", "rp_uuids"];

/// Properties of devices or of requests. A null means the same as an absent property.
pub type Tags = BTreeMap<Box<str>, Option<Box<str>>>;

/// Free devices of one kind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Pool {
    /// PCI vendor number in hexadecimal digits, such as `8086`.
    pub vendor_id: Box<str>,
    /// The vendor's number of the product, in hexadecimal digits.
    pub product_id: Box<str>,
    /// The NUMA cell that the devices are near. `None` if it is not known.
    pub numa_node: Option<u32>,
    /// Number of devices.
    pub count: u32,
    /// All other properties, such as `dev_type` and `physical_network`.
    pub tags: Tags,
}

/// Devices of one kind that an instance asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct DeviceRequest {
    /// Number of devices.
    pub count: u32,
    /// Alternatives: a device must have all properties of one of these.
    pub spec: Vec<Tags>,
    /// How near the devices must be to the instance's NUMA cells.
    pub numa_policy: NumaPolicy,
    /// Whether the request comes from an alias in a flavor, and not from a port of a network.
    pub of_alias: bool,
}

/// How near devices must be to the instance's NUMA cells: `hw:pci_numa_affinity_policy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum NumaPolicy {
    /// Devices must be near one of the instance's cells.
    Required,
    /// Devices must be near one of the instance's cells, or their cell is not known. This is Nova's default.
    #[default]
    Legacy,
    /// Devices should be near one of the instance's cells.
    Preferred,
    /// Devices must be on the socket of one of the instance's cells.
    Socket,
}

impl NumaPolicy {
    /// The policy that Nova calls `name`.
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

/// Why a request cannot be judged. Nova raises an exception here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request comes from an alias and lists no properties of devices.
    #[error("a PCI request from an alias lists no properties of devices")]
    EmptySpec,
    /// The request is for devices near a socket, and the host does not report NUMA cells.
    #[error("PCI affinity to a socket is asked of a host without NUMA topology")]
    NoTopology,
}

/// What requests take: pools, and the number of devices taken of each. The pools' own counts are zero.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage(pub Vec<(Pool, u32)>);

/// Sorts pools into the order in which devices are taken from them. Pools with the fewest properties come first.
pub fn sort(pools: &mut [Pool]) {
    pools.sort_by_key(|pool| pool.tags.len());
}

/// Whether all requests can be granted together. `cells` are the host cells of the instance, if it has NUMA cells.
pub fn supports(
    pools: &[Pool],
    requests: &[DeviceRequest],
    cells: Option<&[u32]>,
    topology: Option<&Topology>,
) -> Result<bool, RequestError> {
    Stock::of(pools, cells, topology).grant_all(requests)
}

/// What the requests take, and whether all were granted. If one was not granted, the earlier ones have taken their devices
/// nevertheless, as in Nova.
pub fn usage_of(
    pools: &[Pool],
    requests: &[DeviceRequest],
    cells: Option<&[u32]>,
    topology: Option<&Topology>,
) -> (Usage, Result<bool, RequestError>) {
    let mut stock = Stock::of(pools, cells, topology);
    let granted = stock.grant_all(requests);
    let taken = stock.left.iter().zip(pools).filter(|(left, pool)| **left != Some(pool.count));
    let usage = taken.map(|(left, pool)| (Pool { count: 0, ..pool.clone() }, pool.count - left.unwrap_or(0)));
    (Usage(usage.collect()), granted)
}

/// Whether the devices of two pools are of one kind.
pub(crate) fn alike(one: &Pool, other: &Pool) -> bool {
    one.vendor_id == other.vendor_id
        && one.product_id == other.product_id
        && one.numa_node == other.numa_node
        && one.tags == other.tags
}

/// Removes a usage from pools. Devices that the host no longer reports are ignored.
pub fn take(pools: &mut Vec<Pool>, usage: &Usage) {
    for (kind, count) in &usage.0 {
        let mut wanted = *count;
        pools.retain_mut(|pool| {
            if !alike(pool, kind) {
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

/// What many instances take together, so that it can be removed from pools at once. Removing one usage after the other
/// looks at every pool for every device.
#[derive(Debug, Default)]
pub struct TakenDevices(HashMap<Pool, TakenKind>);

/// What is taken of one kind of device.
#[derive(Debug, Default)]
struct TakenKind {
    count: u64,
    /// Whether a usage takes none of the kind. Pools without devices are removed for it.
    none: bool,
}

impl TakenDevices {
    /// Adds what one instance takes.
    pub fn add(&mut self, usage: &Usage) {
        for (kind, count) in &usage.0 {
            let taken = self.0.entry(Pool { count: 0, ..kind.clone() }).or_default();
            taken.count += u64::from(*count);
            taken.none |= *count == 0;
        }
    }

    /// Removes everything that was added from pools, with the same result as [`take`] for each usage.
    pub fn take_from(mut self, pools: &mut Vec<Pool>) {
        if self.0.is_empty() {
            return;
        }
        pools.retain_mut(|pool| {
            let count = std::mem::take(&mut pool.count);
            let Some(wanted) = self.0.get_mut(pool) else {
                pool.count = count;
                return true;
            };
            let taken = u32::try_from(wanted.count).map_or(count, |wanted| wanted.min(count));
            let emptied = taken == count && (wanted.count > 0 || (count == 0 && wanted.none));
            wanted.count -= u64::from(taken);
            pool.count = count - taken;
            !emptied
        });
    }
}

/// A host's pools, from which the requests of one instance are granted.
struct Stock<'a> {
    pools: &'a [Pool],
    /// How many devices are left of each pool. `None`: the pool is gone.
    left: Vec<Option<u32>>,
    /// The host cells of the instance, if it has NUMA cells.
    cells: Option<&'a [u32]>,
    topology: Option<&'a Topology>,
}

impl<'a> Stock<'a> {
    fn of(pools: &'a [Pool], cells: Option<&'a [u32]>, topology: Option<&'a Topology>) -> Self {
        Self { pools, left: pools.iter().map(|pool| Some(pool.count)).collect(), cells, topology }
    }

    /// Grants one request after the other, up to the first that cannot be granted.
    fn grant_all(&mut self, requests: &[DeviceRequest]) -> Result<bool, RequestError> {
        for request in requests {
            if !self.grant(request)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn grant(&mut self, request: &DeviceRequest) -> Result<bool, RequestError> {
        let providers = request.providers()?;
        let mut pools: Vec<usize> = (0..self.pools.len())
            .filter(|&at| self.left[at].is_some() && request.matches(&self.pools[at]))
            .collect();
        if self.count(&pools) < u64::from(request.count) {
            return Ok(false);
        }
        if let Some(cells) = self.cells.filter(|cells| !cells.is_empty()) {
            pools = self.near(pools, request, cells)?;
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
        // Placement has chosen the devices by the names of their resource providers.
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

    /// The pools that are near enough. Policies are tried from the strictest to the one asked for, until one yields enough.
    fn near(
        &self,
        pools: Vec<usize>,
        request: &DeviceRequest,
        cells: &[u32],
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
            let host = &self.topology.ok_or(RequestError::NoTopology)?.cells;
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

impl DeviceRequest {
    /// Names of the resource providers that Placement has chosen, one for each device. `None` if it has chosen none.
    fn providers(&self) -> Result<Option<Vec<&str>>, RequestError> {
        if !self.of_alias {
            return Ok(None);
        }
        let spec = self.spec.first().ok_or(RequestError::EmptySpec)?;
        let names = spec.get("rp_uuids").and_then(Option::as_deref).filter(|names| !names.is_empty());
        Ok(names.map(|names| names.split(',').collect()))
    }

    /// Whether the pool's devices have all properties of one of the alternatives.
    fn matches(&self, pool: &Pool) -> bool {
        self.spec.iter().any(|spec| spec.iter().all(|(key, value)| pool.has(key, value.as_deref())))
    }

    /// Whether devices of this pool may be given: either their kind need not be asked for by name, or it is.
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
    /// Whether the property has this value, apart from letter case. Numbers never match, because requests write strings.
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

/// Whether Nova takes the text for true. All other texts are false.
fn is_true(text: &str) -> bool {
    matches!(text.trim().to_lowercase().as_str(), "1" | "t" | "true" | "on" | "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares with taking one after the other, for all small pools and usages.
    #[test]
    fn what_many_take_together_is_what_they_take_one_after_the_other() {
        let of_kind =
            |kind: u32, count| Pool { vendor_id: kind.to_string().into(), count, ..Pool::default() };
        for n in 0..4u32.pow(7) {
            let digit = |at: u32| n / 4u32.pow(at) % 4;
            let pools: Vec<_> = (0..4).map(|at| of_kind(at % 2, digit(at))).collect();
            let usages: Vec<_> = (4..7).map(|at| Usage(vec![(of_kind(at % 2, 0), digit(at))])).collect();
            let (mut one_by_one, mut together) = (pools.clone(), pools.clone());
            let mut taken = TakenDevices::default();
            for usage in &usages {
                take(&mut one_by_one, usage);
                taken.add(usage);
            }
            taken.take_from(&mut together);
            assert_eq!(one_by_one, together, "{usages:?} of {pools:?}");
        }
    }
}
