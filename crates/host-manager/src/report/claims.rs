//! The claims of one host, stored compactly.
//!
//! The claims stay in the sender's order. The usual report repeats them or adds one, so it is compared from both ends,
//! and only what lies between is a change.
//!
//! What always holds: after [`Claims::apply`] the claims are those of the report, and what `gone` and `come` saw adds
//! up to the difference.
//!
//! Left out: on which host an instance is. The table has an index for that.

use novella_objects::{Claim, Entries};
use novella_resources::{Allocation, Amounts};
use uuid::Uuid;

use crate::report::check;
use crate::report::outcome::BadReport;
use crate::report::packed::{Packed, Sink};
use crate::report::reported::raw;

/// One claim. Its amounts were checked to fit into these types; memory is in MiB, disk in GiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    pub uuid: Uuid,
    pub vcpus: u32,
    pub memory_mb: u32,
    pub disk_gb: u32,
}

impl ClaimRow {
    fn new(claim: &Claim<'_>) -> Result<Self, BadReport> {
        check::claim(claim)?;
        Ok(Self {
            uuid: claim.uuid,
            vcpus: claim.vcpus,
            memory_mb: claim.memory_mb as u32,
            disk_gb: claim.disk_gb as u32,
        })
    }

    /// What the instance takes.
    pub fn amounts(&self) -> Amounts {
        Amounts {
            vcpus: self.vcpus.into(),
            memory_mb: self.memory_mb.into(),
            disk_gb: self.disk_gb.into(),
            instances: 1,
        }
    }

    fn is(&self, claim: &Claim<'_>) -> bool {
        self.uuid == claim.uuid
            && self.vcpus == claim.vcpus
            && u64::from(self.memory_mb) == claim.memory_mb
            && u64::from(self.disk_gb) == claim.disk_gb
    }
}

/// A claim that was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FoundClaim {
    pub row: ClaimRow,
    /// Its position in the report.
    pub position: usize,
    /// What the instance takes of further resource classes, as reported.
    pub resources: Vec<(String, u64)>,
}

impl FoundClaim {
    /// Whether the instance takes no less than this allocation. Of a class that is reported twice, the last amount counts.
    pub fn covers(&self, allocation: &Allocation) -> bool {
        let taken = |class: &str| {
            self.resources.iter().rev().find(|(known, _)| known == class).map_or(0, |(_, n)| *n)
        };
        self.row.amounts().cover(&allocation.amounts)
            && allocation.resources.iter().all(|(class, amount)| taken(class) >= *amount)
    }
}

/// The claims of one host.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    /// The claims, in the order of the report.
    rows: Vec<ClaimRow>,
    /// The groups, flavors, images, devices and custom resources of claims. Empty if no claim has any.
    extras: Packed,
}

/// Writes the parts that only some claims have: position, group, flavor, image, NUMA cells, PCI devices, resources.
fn put_extras(claims: &[Claim<'_>], sink: &mut Sink<'_>) {
    for (at, claim) in claims.iter().enumerate() {
        let Claim { group, flavor, image, resources, .. } = claim;
        if group.is_some()
            || flavor.is_some()
            || image.is_some()
            || !resources.is_empty()
            || claim.takes_devices()
        {
            sink.number(at as u64);
            sink.optional(group.as_deref());
            sink.optional(flavor.as_deref());
            for text in [image, &claim.numa_topology, &claim.pci] {
                sink.optional(text.as_ref().map(|text| text.get()));
            }
            sink.number(claim.resources.0.len() as u64);
            for (class, amount) in claim.resources.iter() {
                sink.text(class);
                sink.number(*amount);
            }
        }
    }
}

/// The kind of a claimed instance: the properties on which the placement of other instances may depend. See [`Claim`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KindRef<'a> {
    pub group: Option<&'a str>,
    pub flavor: Option<&'a str>,
    /// The image, as JSON text.
    pub image: Option<&'a str>,
}

/// What a claim takes in addition to CPUs, memory and disk.
#[derive(Default)]
struct Takes<'a> {
    /// The NUMA cells, as JSON text.
    numa_topology: Option<&'a str>,
    /// The PCI devices, as JSON text.
    pci: Option<&'a str>,
    /// The amount of each further resource class.
    resources: Entries<'a, u64>,
}

/// Reads what [`put_extras`] wrote, each with the position of the claim.
fn read_extras(packed: &Packed) -> impl Iterator<Item = (usize, KindRef<'_>, Takes<'_>)> {
    let mut pieces = packed.read();
    std::iter::from_fn(move || {
        if pieces.is_empty() {
            return None;
        }
        let at = pieces.number() as usize;
        let kind = KindRef { group: pieces.optional(), flavor: pieces.optional(), image: pieces.optional() };
        let (numa_topology, pci) = (pieces.optional(), pieces.optional());
        let resources = pieces.number();
        let resources = (0..resources).map(|_| (pieces.text().into(), pieces.number())).collect();
        Some((at, kind, Takes { numa_topology, pci, resources: Entries(resources) }))
    })
}

/// The kind of each of `claims` claims.
fn kinds_by_position(packed: &Packed, claims: usize) -> Vec<KindRef<'_>> {
    let mut all = vec![KindRef::default(); claims];
    read_extras(packed).for_each(|(at, kind, _)| all[at] = kind);
    all
}

impl ClaimChange {
    /// How many bytes the extras take if they have changed.
    pub fn new_extras(&self) -> Option<usize> {
        self.extras.as_ref().map(Packed::bytes)
    }
}

/// What a new list of claims changes.
pub(crate) struct ClaimChange {
    /// How many claims at the front of the list stay.
    prefix: usize,
    /// How many claims after these disappear.
    gone: usize,
    /// The claims that take their place.
    come: Vec<ClaimRow>,
    /// The new extras, if they have changed.
    extras: Option<Packed>,
}

impl Claims {
    pub fn rows(&self) -> &[ClaimRow] {
        &self.rows
    }

    /// Compares with the list of a report. Returns `None` if nothing changed. Fails if the report must be refused.
    pub fn compare(&self, claims: &[Claim<'_>]) -> Result<Option<ClaimChange>, BadReport> {
        let prefix = self.rows.iter().zip(claims).take_while(|(row, claim)| row.is(claim)).count();
        let (old, new) = (&self.rows[prefix..], &claims[prefix..]);
        let suffix = old.iter().rev().zip(new.iter().rev()).take_while(|(row, claim)| row.is(claim)).count();
        let same_extras = self.extras.matches(|sink| put_extras(claims, sink));
        if old.is_empty() && new.is_empty() && same_extras {
            return Ok(None);
        }
        let come: Result<Vec<_>, _> = new[..new.len() - suffix].iter().map(ClaimRow::new).collect();
        let extras = if same_extras {
            None
        } else {
            claims.iter().try_for_each(check::claim)?;
            Some(Packed::build(|sink| put_extras(claims, sink)))
        };
        Ok(Some(ClaimChange { prefix, gone: old.len() - suffix, come: come?, extras }))
    }

    /// Applies a change that [`Self::compare`] found. `gone` is called for each claim that disappeared or changed, with
    /// its group. `come` is called for each claim that is new or changed.
    pub fn apply(
        &mut self,
        change: ClaimChange,
        mut gone: impl FnMut(Uuid, Option<&str>),
        mut come: impl FnMut(Uuid, KindRef<'_>),
    ) {
        let ClaimChange { prefix, gone: old, come: new, extras } = change;
        let (gone_rows, come_rows) = (prefix..prefix + old, prefix..prefix + new.len());
        let (before, after) = (self.rows.len(), self.rows.len() - old + new.len());
        let new_extras = extras.as_ref().unwrap_or(&self.extras);
        if self.extras.is_empty() && new_extras.is_empty() {
            self.rows[gone_rows.clone()].iter().for_each(|row| gone(row.uuid, None));
            new.iter().for_each(|row| come(row.uuid, KindRef::default()));
        } else {
            let (had, has) = (kinds_by_position(&self.extras, before), kinds_by_position(new_extras, after));
            // The position in the new list of a claim that stays.
            let now = |at: usize| if at < prefix { at } else { at - old + new.len() };
            let stays = |at: usize| !gone_rows.contains(&at) && had[at] == has[now(at)];
            for at in (0..before).filter(|at| !stays(*at)) {
                gone(self.rows[at].uuid, had[at].group);
            }
            come_rows.clone().zip(&new).for_each(|(at, row)| come(row.uuid, has[at]));
            for at in (0..before).filter(|at| !gone_rows.contains(at) && !stays(*at)) {
                come(self.rows[at].uuid, has[now(at)]);
            }
        }
        self.rows.splice(gone_rows, new);
        if self.rows.capacity() > 2 * self.rows.len() {
            self.rows.shrink_to_fit();
        }
        if let Some(extras) = extras {
            self.extras = extras;
        }
    }

    /// How many bytes the extras take.
    pub fn extras(&self) -> usize {
        self.extras.bytes()
    }

    /// The claims that are in groups, each with its group.
    pub fn grouped(&self) -> impl Iterator<Item = (Uuid, &str)> {
        read_extras(&self.extras).filter_map(|(at, kind, _)| Some((self.rows[at].uuid, kind.group?)))
    }

    /// Whether a claim takes NUMA cells or PCI devices.
    pub fn take_devices(&self) -> bool {
        read_extras(&self.extras).any(|(_, _, takes)| takes.numa_topology.is_some() || takes.pci.is_some())
    }

    /// The claims of these instances, which are in ascending order. Reads the list once, however many are asked for. Of an
    /// instance that is listed twice, the first claim counts.
    pub fn find(&self, instances: &[Uuid]) -> Vec<FoundClaim> {
        let mut found = Vec::new();
        let mut seen = vec![false; instances.len()];
        for (at, row) in self.rows.iter().enumerate() {
            if let Ok(which) = instances.binary_search(&row.uuid)
                && !std::mem::replace(&mut seen[which], true)
            {
                found.push((at, FoundClaim { row: *row, position: at, resources: Vec::new() }));
                if found.len() == instances.len() {
                    break;
                }
            }
        }
        let mut rest = found.iter_mut().peekable();
        for (at, _, takes) in read_extras(&self.extras) {
            while rest.next_if(|(of, _)| *of < at).is_some() {}
            match rest.next_if(|(of, _)| *of == at) {
                Some((_, claim)) => {
                    let resources = takes.resources.0.into_iter();
                    claim.resources = resources.map(|(class, amount)| (class.into_owned(), amount)).collect();
                }
                None if rest.peek().is_none() => break,
                None => {}
            }
        }
        found.into_iter().map(|(_, claim)| claim).collect()
    }

    /// The claims with their kinds, in the order of the report.
    pub fn with_kinds(&self) -> impl Iterator<Item = (Uuid, KindRef<'_>)> {
        let kinds = kinds_by_position(&self.extras, self.rows.len());
        self.rows.iter().zip(kinds).map(|(row, kind)| (row.uuid, kind))
    }

    /// The claims as they were reported.
    pub fn list(&self) -> Vec<Claim<'_>> {
        let mut claims: Vec<Claim<'_>> = self
            .rows
            .iter()
            .map(|row| Claim {
                uuid: row.uuid,
                vcpus: row.vcpus,
                memory_mb: row.memory_mb.into(),
                disk_gb: row.disk_gb.into(),
                ..Claim::default()
            })
            .collect();
        for (at, kind, takes) in read_extras(&self.extras) {
            let claim = &mut claims[at];
            claim.group = kind.group.map(Into::into);
            claim.flavor = kind.flavor.map(Into::into);
            claim.image = kind.image.map(raw);
            claim.numa_topology = takes.numa_topology.map(raw);
            claim.pci = takes.pci.map(raw);
            claim.resources = takes.resources;
        }
        claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(uuid: u128, memory_mb: u64) -> Claim<'static> {
        Claim { uuid: Uuid::from_u128(uuid), vcpus: 1, memory_mb, disk_gb: 1, ..Claim::default() }
    }

    /// Applies lists one after another. After each it checks the stored claims, and which claims have come and gone.
    #[test]
    fn what_comes_and_goes_adds_up_to_any_list() {
        let mut claims = Claims::default();
        let mut there: Vec<(Uuid, Option<String>)> = Vec::new();
        let grouped = Claim { group: Some("g".into()), flavor: Some("small".into()), ..claim(2, 2) };
        let with_devices = Claim {
            numa_topology: Some(raw(r#"[{"id":0,"memory_mb":1,"pagesize_kb":4}]"#)),
            pci: Some(raw(r#"[{"vendor_id":"8086","product_id":"1572","dev_type":"type-VF","count":1}]"#)),
            ..claim(6, 6)
        };
        let with_resources = Claim { resources: Entries(vec![("CUSTOM_GPU".into(), 2)]), ..claim(3, 3) };
        for list in [
            vec![claim(1, 1), claim(2, 2), claim(3, 3)],
            vec![claim(1, 1), claim(3, 3)],
            vec![claim(9, 9), claim(1, 1), claim(3, 3), claim(4, 4)],
            vec![claim(9, 9), claim(1, 7), claim(3, 3), claim(4, 4)],
            vec![claim(4, 4), claim(3, 3), claim(1, 7), claim(9, 9)],
            vec![claim(4, 4), claim(4, 4), claim(4, 4)],
            vec![claim(4, 4)],
            vec![claim(4, 4), grouped.clone()],
            vec![grouped.clone(), claim(4, 4)],
            vec![claim(5, 5), grouped.clone(), claim(4, 4)],
            vec![claim(5, 5), claim(2, 2), claim(4, 4)],
            vec![claim(5, 5), Claim { group: Some("h".into()), ..claim(2, 2) }, claim(4, 4)],
            vec![claim(4, 4), claim(2, 2)],
            vec![grouped.clone(), with_resources.clone(), with_devices.clone()],
            vec![grouped.clone(), with_resources.clone(), Claim { pci: None, ..with_devices.clone() }],
            vec![grouped, with_resources],
            vec![],
        ] {
            let change = claims.compare(&list).unwrap().expect("every list differs from the one before");
            let (mut gone, mut come) = (Vec::new(), Vec::new());
            let owned = |uuid, group: Option<&str>| (uuid, group.map(str::to_owned));
            claims.apply(
                change,
                |uuid, group| gone.push(owned(uuid, group)),
                |uuid, kind| come.push(owned(uuid, kind.group)),
            );
            for one in gone {
                let at = there.iter().position(|known| *known == one).expect("only what is there goes");
                there.swap_remove(at);
            }
            there.extend(come);
            let mut listed: Vec<_> =
                list.iter().map(|claim| owned(claim.uuid, claim.group.as_deref())).collect();
            listed.sort();
            there.sort();
            assert_eq!((&there, claims.list()), (&listed, list.clone()));
            let grouped: Vec<_> = claims.grouped().map(|(uuid, group)| owned(uuid, Some(group))).collect();
            assert_eq!(claims.take_devices(), list.iter().any(Claim::takes_devices));
            assert_eq!(grouped.len(), list.iter().filter(|claim| claim.group.is_some()).count());
            assert!(claims.compare(&list).unwrap().is_none());
            let mut wanted: Vec<_> = list.iter().map(|claim| claim.uuid).collect();
            wanted.push(Uuid::from_u128(1000));
            wanted.sort_unstable();
            wanted.dedup();
            let found = claims.find(&wanted);
            assert_eq!(found.len(), wanted.len() - 1);
            for FoundClaim { row, resources, .. } in found {
                let listed = list.iter().find(|claim| claim.uuid == row.uuid).unwrap();
                assert!(row.is(listed) && resources.len() == listed.resources.0.len());
            }
        }
    }

    #[test]
    fn an_absurd_claim_refuses_the_list_and_changes_nothing() {
        let mut claims = Claims::default();
        let change = claims.compare(&[claim(1, 1)]).unwrap().unwrap();
        claims.apply(change, |_, _| (), |_, _| ());
        assert!(claims.compare(&[claim(1, 1), claim(2, u64::MAX)]).is_err());
        assert_eq!(claims.rows().len(), 1);
    }
}
