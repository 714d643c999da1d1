//! Which instances belong to which server group, and where they are, from claims in reports and from reservations.
//!
//! The manager notes an instance here and in the table's index when its claim or reservation appears, and forgets it in
//! both when that disappears. What always holds: an entry stands for a claim that the last report of its row lists, or
//! for a reservation that counts on the row.

use hashbrown::{HashMap, HashSet};
use novella_filter_scheduler::{HostTable, Instance, Row};
use novella_objects::Image;
use uuid::Uuid;

use crate::report::claims::KindRef;

/// How many hosts are listed for one instance at most. An instance is on two hosts while it moves, and on a few more when
/// moves fail. More are a fault, and without a limit each report would walk a list that grows with it.
pub(crate) const MAX_ROWS_PER_INSTANCE: usize = 8;

/// The members of each group, by the name of the group.
#[derive(Debug, Default)]
pub(crate) struct Members(HashMap<Box<str>, HashSet<(Uuid, Row)>>);

impl Members {
    /// The members of a group and their rows, in no order.
    pub fn of(&self, group: &str) -> impl Iterator<Item = (Uuid, Row)> {
        self.0.get(group).into_iter().flatten().copied()
    }

    /// The names of the groups that have members, in no order.
    pub fn groups(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(|name| &**name)
    }

    /// Notes an instance on a row. Doing so again changes nothing. Returns false, without noting it, if
    /// [`MAX_ROWS_PER_INSTANCE`] other rows have the instance.
    pub fn come(&mut self, table: &mut HostTable, row: Row, uuid: Uuid, kind: KindRef<'_>) -> bool {
        if table.rows_with(uuid).filter(|other| *other != row).count() >= MAX_ROWS_PER_INSTANCE {
            return false;
        }
        let KindRef { group, flavor, image } = kind;
        let image = image.and_then(|text| serde_json::from_str::<Image>(text).ok());
        let known = Instance { uuid, flavor, image: image.as_ref() };
        // An image that cannot be read has no properties that another instance could share.
        table.add_instance(row, &known).unwrap_or_else(|_| {
            let plain = table.add_instance(row, &Instance { image: None, ..known });
            plain.expect("only images are refused")
        });
        if let Some(group) = group {
            match self.0.get_mut(group) {
                Some(members) => members.insert((uuid, row)),
                None => self.0.entry(group.into()).or_default().insert((uuid, row)),
            };
        }
        true
    }

    /// Undoes [`Self::come`].
    pub fn go(&mut self, table: &mut HostTable, row: Row, uuid: Uuid, group: Option<&str>) {
        table.remove_instance(row, uuid);
        self.forget(row, uuid, group);
    }

    /// Forgets an instance on a row that is removed from the table with all its instances.
    pub fn forget(&mut self, row: Row, uuid: Uuid, group: Option<&str>) {
        if let Some(group) = group
            && let Some(members) = self.0.get_mut(group)
        {
            members.remove(&(uuid, row));
            if members.is_empty() {
                self.0.remove(group);
            }
        }
    }
}
