//! A compiled filter: what it does to a block of hosts, and how long that holds.

use novella_resources::Amount;

use crate::filters::by_aggregate;
use crate::filters::by_value::Values;
use crate::filters::compute_capabilities::Questions;
use crate::filters::devices::{CellQuestion, DeviceQuestion};
use crate::filters::group::Group;
use crate::filters::image::Support;
use crate::filters::json_query::Query;
use crate::filters::pinned::RoomOfPinned;
use crate::filters::ratios::rooms_of_sets;
use crate::filters::tally::{Count, Each, Measure, Tally, fitting, room_column};
use crate::request::asked::Wanted;
use crate::settings::filter_kind::FilterKind;
use crate::table::bitmap::{above, below_f32, either};
use crate::table::block::{BLOCK, Row};
use crate::table::host_table::HostTable;

/// One filter, compiled for one request.
#[derive(Debug)]
pub(crate) struct Filter {
    pub(crate) kind: FilterKind,
    pub(super) program: Program,
}

#[derive(Debug)]
pub(super) enum Program {
    /// The request asks nothing that this filter looks at.
    PassAll,
    Serving,
    /// Hosts with one of two zone symbols.
    Zone(u32, u32),
    /// The same, where a set of aggregates does not name zones itself: then, by set, whether it names the one wanted.
    ZoneOfSet(Vec<Option<bool>>, u32, u32),
    /// Hosts with room for `wanted`.
    Room {
        amount: Amount,
        wanted: i32,
    },
    /// The same, with the ratios of aggregates, by set, where they have one.
    RoomOfSet {
        amount: Amount,
        wanted: i32,
        ratios: Vec<Option<f64>>,
    },
    /// Hosts with room for CPUs of which an instance has some for itself.
    RoomOfPinned(Box<RoomOfPinned>),
    Capabilities(Questions),
    /// Hosts whose bit is set, which follows from [`Filter::lasts`] and nothing else.
    Rows(Vec<u64>),
    /// Hosts of the group.
    Together,
    /// Hosts with few of the group.
    Apart,
    /// Hosts with fewer than `limit` of something.
    Fewer {
        count: Count,
        limit: i64,
    },
    /// The same, with limits by set of aggregates.
    FewerOfSet {
        count: Count,
        limits: Vec<i64>,
    },
    /// The verdicts by set of aggregates.
    Sets(Vec<by_aggregate::Verdict>),
    /// The verdicts by value of an attribute.
    Values(Box<Values>),
    Image(Box<Support>),
    Query(Query),
    /// Hosts with instances of this flavor only.
    Flavor(Box<str>),
    /// What it asks changes with every instance of the request that is placed.
    Cells(Box<CellQuestion>),
    Devices(DeviceQuestion),
    /// Nova raises the same exception at every host.
    Broken(String),
}

/// How long a compiled filter holds, its table's keys, zones and aggregates staying as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lasts {
    /// Through every change of a host.
    Always,
    /// Until a host is added, removed or renamed.
    UntilNames,
    /// Until that, or until an instance appears or disappears somewhere.
    UntilInstances,
    /// For one request.
    Once,
}

impl Filter {
    /// The next instance of the request wants this of NUMA cells and PCI devices.
    pub(crate) fn wants(&mut self, wanted: &Wanted) {
        if let Program::Cells(question) = &mut self.program {
            question.wants(wanted);
        }
    }

    /// Whether it passes every host, whatever it has.
    pub(crate) fn passes_all(&self) -> bool {
        matches!(self.program, Program::PassAll)
    }

    /// Whether it runs for the instance at this place of a request.
    pub(crate) fn runs(&self, index: usize) -> bool {
        index == 0 || !self.kind.once()
    }

    /// Whether its verdict on a host holds until that host reports something new besides amounts, and takes more to find
    /// than a comparison.
    pub(crate) fn is_steady(&self) -> bool {
        match &self.program {
            Program::Capabilities(questions) => questions.is_steady(),
            Program::Values(values) => !values.reads_measured(),
            Program::Image(_) | Program::Sets(_) | Program::ZoneOfSet(..) => true,
            _ => false,
        }
    }

    /// Whether it reads values that are measured, which change without a change of their block.
    pub(crate) fn reads_measured(&self) -> bool {
        match &self.program {
            Program::Capabilities(questions) => questions.read_measured(),
            Program::Values(values) => values.reads_measured(),
            Program::Query(_) => true,
            _ => false,
        }
    }

    /// See [`Lasts`].
    pub(crate) fn lasts(&self) -> Lasts {
        match (&self.program, self.kind) {
            (Program::Rows(_), FilterKind::IsolatedHosts | FilterKind::Retry) => Lasts::UntilNames,
            (Program::Rows(_), FilterKind::SameHost | FilterKind::DifferentHost) => Lasts::UntilInstances,
            (Program::Rows(_) | Program::Together | Program::Apart, _) => Lasts::Once,
            (Program::Cells(_) | Program::Devices(_), _) => Lasts::Once,
            _ => Lasts::Always,
        }
    }

    /// Some value symbols stand for other values than before.
    pub(crate) fn forget_values(&mut self, symbols: usize) {
        match &mut self.program {
            Program::Capabilities(questions) => questions.forget_values(symbols),
            Program::Values(values) => values.forget(symbols),
            Program::Image(support) => support.forget_values(symbols),
            _ => {}
        }
    }

    /// Of the hosts `alive` in a block, those that pass. Counting them is the caller's.
    #[inline]
    pub(crate) fn run(
        &mut self,
        table: &HostTable,
        group: Option<&Group>,
        block: usize,
        alive: u64,
        tally: &mut Tally,
    ) -> u64 {
        let columns = &table.columns;
        let pass = match &mut self.program {
            Program::PassAll => return alive,
            Program::Serving => columns.serving[block],
            Program::Room { amount, wanted } => {
                let column = room_column(columns, *amount);
                if column.low[block] >= *wanted {
                    return alive;
                }
                fitting(&column.rooms.as_chunks::<BLOCK>().0[block], *wanted, block, alive, tally)
            }
            Program::Zone(a, b) => either(&columns.zone.as_chunks::<BLOCK>().0[block], *a, *b),
            Program::Capabilities(questions) => questions.run(table, block, alive, tally),
            Program::Rows(rows) => rows[block],
            _ => self.run_rare(table, group, block, alive, tally),
        };
        alive & pass
    }

    /// The programs that do more than compare columns, kept out of the loop over those that do not.
    #[inline(never)]
    fn run_rare(
        &mut self,
        table: &HostTable,
        group: Option<&Group>,
        block: usize,
        alive: u64,
        tally: &mut Tally,
    ) -> u64 {
        let columns = &table.columns;
        let set_of = |row: usize| table.aggregates.set_of(row) as usize;
        let mut each = Each { kind: self.kind, table, block, alive, tally };
        match &mut self.program {
            Program::RoomOfSet { amount, wanted, ratios } => {
                let room = rooms_of_sets(table, *amount, ratios, block, alive);
                let fits = above(&room, *wanted - 1);
                tally.note_nearest(&room, block, alive & !fits);
                fits
            }
            Program::RoomOfPinned(asked) => asked.run(table, block, alive, tally),
            Program::Together => group.map_or(u64::MAX, |group| group.together(block)),
            Program::Apart => match group.map_or(Ok(u64::MAX), |group| group.apart(block)) {
                Ok(apart) => {
                    each.note_nearest(apart, |row| group.map_or(0, |group| group.room_on(row as u32)));
                    apart
                }
                Err(text) => {
                    each.ask(|_| Err(format!("max_server_per_host is {text:?}, which is no number")))
                }
            },
            Program::Fewer { count, limit } => {
                let pass = match count.column(columns) {
                    // Rounding keeps order, and moves no number across one that it keeps as it is.
                    column if limit.unsigned_abs() <= 1 << f32::MANTISSA_DIGITS => {
                        below_f32(&column.rounded.as_chunks::<BLOCK>().0[block], *limit as f32)
                    }
                    _ => each.ask(|row| Ok(count.of(&columns.exact[row]) < i128::from(*limit))),
                };
                each.note_nearest(pass, |row| count.room(&columns.exact[row], *limit));
                pass
            }
            Program::FewerOfSet { count, limits } => {
                let limit = |row| limits[set_of(row)];
                let pass = each.ask(|row| Ok(count.of(&columns.exact[row]) < i128::from(limit(row))));
                each.note_nearest(pass, |row| count.room(&columns.exact[row], limit(row)));
                pass
            }
            Program::ZoneOfSet(sets, a, b) => each.ask(|row| {
                let own = || columns.zone[row] == *a || columns.zone[row] == *b;
                Ok(sets[set_of(row)].unwrap_or_else(own))
            }),
            Program::Sets(verdicts) => each.ask(|row| verdicts[set_of(row)].clone()),
            Program::Values(values) => each.ask(|row| values.ask(table, row)),
            Program::Image(support) => each.ask(|row| support.ask(table, row)),
            Program::Query(query) => each.ask(|row| query.ask(table, Row(row as u32))),
            Program::Flavor(wanted) => each.ask(|row| {
                let flavors =
                    table.instances.kinds_on(row).map(|kind| kind.and_then(|kind| kind.flavor.as_deref()));
                Ok(flavors.into_iter().all(|flavor| flavor == Some(&**wanted)))
            }),
            Program::Cells(question) => each.ask(|row| question.ask(table, row)),
            Program::Devices(question) => each.ask(|row| question.ask(table, row)),
            Program::Broken(reason) => each.ask(|_| Err(reason.clone())),
            program => unreachable!("{program:?} has run"),
        }
    }

    /// Whether it compares numbers, so that misses are near or far.
    pub(crate) fn compares(&self) -> bool {
        matches!(
            self.program,
            Program::Room { .. }
                | Program::RoomOfSet { .. }
                | Program::RoomOfPinned(_)
                | Program::Fewer { .. }
                | Program::FewerOfSet { .. }
                | Program::Apart
        )
    }

    /// What this filter compares, if it [compares](Self::compares) anything, and how much of it is asked of a host.
    pub(crate) fn measure(&self, table: &HostTable, row: Row) -> Option<(Measure, i32)> {
        match &self.program {
            Program::RoomOfPinned(asked) => {
                let wanted = asked.of(table.has_pcpus(row)).unwrap_or(0);
                Some((Measure::Amount(Amount::Vcpus), wanted))
            }
            Program::Room { amount, wanted } | Program::RoomOfSet { amount, wanted, .. } => {
                Some((Measure::Amount(*amount), *wanted))
            }
            Program::Fewer { count, .. } | Program::FewerOfSet { count, .. } => {
                Some((Measure::Count(*count), 1))
            }
            Program::Apart => Some((Measure::Members, 1)),
            _ => None,
        }
    }

    /// The metadata that aggregates may give their own ratio or limit in, for this filter.
    pub(crate) fn aggregate_key(&self) -> Option<&'static str> {
        match self.kind {
            FilterKind::AggregateCore => Some("cpu_allocation_ratio"),
            FilterKind::AggregateRam => Some("ram_allocation_ratio"),
            FilterKind::AggregateDisk => Some("disk_allocation_ratio"),
            FilterKind::AggregateIoOps => Some("max_io_ops_per_host"),
            FilterKind::AggregateNumInstances => Some("max_instances_per_host"),
            _ => None,
        }
    }

    /// The ratio that this filter counted with, if an aggregate of the host gave one.
    pub(crate) fn ratio(&self, table: &HostTable, row: Row) -> Option<f64> {
        let ratios = match &self.program {
            Program::RoomOfSet { ratios, .. } => ratios,
            Program::RoomOfPinned(asked) => &asked.ratios,
            _ => return None,
        };
        ratios.get(table.aggregates.set_of(row.index()) as usize).copied().flatten()
    }
}
