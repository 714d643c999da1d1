//! The server group of a request: how many members are on which host, and which hosts the group's policy leaves.
//!
//! What always holds: `members_on` counts members on each row, those placed by this request included; `full` marks the
//! rows that may take no further member under `anti-affinity`, `hosts` those that `affinity` leaves.

use hashbrown::{HashMap, HashSet};
use novella_objects::{InstanceGroup, RequestSpec};
use uuid::Uuid;

use crate::nova::python;
use crate::table::block::{BLOCK, Row, set};
use crate::table::host_table::HostTable;

/// The server group of a request, with what the table and the request's own placements say about its members.
#[derive(Debug)]
pub(crate) struct Group {
    pub(crate) policy: ServerGroupPolicy,
    members: HashSet<Uuid>,
    /// The number of members on each row. Rows without members may be missing.
    members_on: HashMap<u32, i32>,
    /// The most members that one host may hold under `anti-affinity`, or the text of the rule if it is not a number.
    most: Result<i128, String>,
    /// One bit per row: it may take no further member under `anti-affinity`.
    full: Vec<u64>,
    /// One bit per row: it is one of the group's hosts.
    hosts: Vec<u64>,
    /// Whether the group names any host, in the fleet or not.
    anywhere: bool,
    /// The rows that the instance being placed is on already.
    current: Vec<u32>,
}

/// Where a server group wants its members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerGroupPolicy {
    Affinity,
    AntiAffinity,
    SoftAffinity,
    SoftAntiAffinity,
    /// A policy that Nova does not know. It asks for nothing.
    Other,
}

impl ServerGroupPolicy {
    fn of(group: &InstanceGroup) -> Self {
        match group.policy.as_str() {
            "affinity" => Self::Affinity,
            "anti-affinity" => Self::AntiAffinity,
            "soft-affinity" => Self::SoftAffinity,
            "soft-anti-affinity" => Self::SoftAntiAffinity,
            _ => Self::Other,
        }
    }
}

impl Group {
    /// The group of a request as the table has it now.
    pub(crate) fn of(request: &RequestSpec, table: &HostTable) -> Option<Self> {
        let asked = request.instance_group.as_ref()?;
        let words = table.columns.present.len();
        let most = match asked.rules.get("max_server_per_host") {
            None => Ok(1),
            Some(text) => python::int(text).ok_or_else(|| text.clone()),
        };
        let mut group = Self {
            policy: ServerGroupPolicy::of(asked),
            members: asked.members.iter().copied().collect(),
            members_on: HashMap::new(),
            full: vec![if most.as_ref().is_ok_and(|most| *most <= 0) { u64::MAX } else { 0 }; words],
            most,
            hosts: vec![0; words],
            anywhere: !asked.hosts.is_empty(),
            current: Vec::new(),
        };
        for &member in &group.members.clone() {
            for row in table.instances.rows_of(member) {
                group.count(row);
            }
        }
        for row in asked.hosts.iter().filter_map(|host| table.row_of(host)) {
            set(&mut group.hosts, row);
        }
        Some(group)
    }

    /// Counts one more member on a row.
    fn count(&mut self, row: u32) {
        let members = self.members_on.entry(row).or_insert(0);
        *members += 1;
        if self.most.as_ref().is_ok_and(|most| i128::from(*members) >= *most) {
            set(&mut self.full, Row(row));
        }
    }

    /// Begins with the next instance of the request.
    pub(crate) fn begin(&mut self, instance: Uuid, table: &HostTable) {
        self.current.clear();
        self.current.extend(table.instances.rows_of(instance));
    }

    /// Takes note that the current instance was placed on this row.
    pub(crate) fn placed(&mut self, instance: Uuid, row: Row) {
        self.anywhere = true;
        set(&mut self.hosts, row);
        if self.members.contains(&instance) && !self.current.contains(&row.0) {
            self.count(row.0);
        }
        // When its alternates are looked for, the instance is on this row already.
        self.current.push(row.0);
    }

    /// The number of members on a row.
    pub(crate) fn members_on(&self, row: u32) -> i32 {
        self.members_on.get(&row).copied().unwrap_or(0)
    }

    /// The most members that one row may have under `anti-affinity`. `None` if the rule is not a number, or a negative
    /// one.
    pub(crate) fn most(&self) -> Option<u64> {
        self.most.as_ref().ok().and_then(|most| u64::try_from(*most).ok())
    }

    /// How many further members a row may take under `anti-affinity`. Negative if it has more than it may.
    pub(crate) fn room_on(&self, row: u32) -> i32 {
        let most = self.most.as_ref().copied().unwrap_or_default();
        let room = most.saturating_sub(self.members_on(row).into());
        room.clamp(i32::MIN.into(), i32::MAX.into()) as i32
    }

    /// All rows with members, each with their number.
    pub(crate) fn rows(&self) -> impl Iterator<Item = (u32, i32)> {
        self.members_on.iter().map(|(row, members)| (*row, *members))
    }

    /// The rows of a block that `affinity` leaves.
    pub(crate) fn together(&self, block: usize) -> u64 {
        if self.anywhere { self.hosts[block] } else { u64::MAX }
    }

    /// The rows of a block that `anti-affinity` leaves. The error is the text of the rule, if it is not a number.
    pub(crate) fn apart(&self, block: usize) -> Result<u64, &str> {
        let here = |row: &&u32| **row as usize / BLOCK == block;
        let own = self.current.iter().filter(here).fold(0, |own, row| own | 1 << (row % BLOCK as u32));
        match &self.most {
            Ok(_) => Ok(!self.full[block] | own),
            Err(text) => Err(text),
        }
    }
}
