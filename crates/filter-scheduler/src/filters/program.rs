//! A compiled filter: what it does to a block of hosts, and how long it stays valid.

use novella_resources::Amount;

use crate::filters::by_value::Values;
use crate::filters::compute_capabilities::Questions;
use crate::filters::devices::{CellQuestion, DeviceQuestion};
use crate::filters::group::Group;
use crate::filters::image::Support;
use crate::filters::json_query::Query;
use crate::filters::pinned::RoomOfPinned;
use crate::filters::ratios::rooms_of_sets;
use crate::filters::tally::{Count, Each, Measure, Passes, Tally, fitting, room_column};
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

/// What a compiled filter does. Each variant says which hosts pass.
#[derive(Debug)]
pub(super) enum Program {
    /// All hosts pass: the request asks nothing that this filter looks at.
    PassAll,
    /// Hosts on which instances may be placed.
    Serving,
    /// Hosts with one of two zone symbols.
    Zone(u32, u32),
    /// Hosts whose set of aggregates names the zone wanted, as the list says by the symbol of a set. Where a set names
    /// no zone (`None`), hosts with one of two zone symbols.
    ZoneOfSet(Vec<Option<bool>>, u32, u32),
    /// Hosts with room for `wanted`.
    Room { amount: Amount, wanted: i32 },
    /// Hosts with room for `wanted`, with the ratio of their set of aggregates, by its symbol, if the set has one.
    RoomOfSet { amount: Amount, wanted: i32, ratios: Vec<Option<f64>> },
    /// Hosts with room for CPUs of which an instance has some for itself.
    RoomOfPinned(Box<RoomOfPinned>),
    /// Hosts whose capabilities satisfy the extra specs.
    Capabilities(Questions),
    /// Hosts whose bit is set. The bits depend on nothing but what [`Filter::lasts`] says.
    Rows(Vec<u64>),
    /// Hosts that the server group's `affinity` leaves.
    Together,
    /// Hosts that the server group's `anti-affinity` leaves.
    Apart,
    /// Hosts with fewer than `limit` of something.
    Fewer { count: Count, limit: i64 },
    /// Hosts with fewer of something than the limit of their set of aggregates, by its symbol.
    FewerOfSet { count: Count, limits: Vec<i64> },
    /// Hosts whose set of aggregates passes, by its symbol.
    Sets(Vec<Passes>),
    /// Hosts whose value of an attribute passes.
    Values(Box<Values>),
    /// Hosts that can run the image.
    Image(Box<Support>),
    /// Hosts for which the query holds.
    Query(Query),
    /// Hosts with instances of this flavor only.
    Flavor(Box<str>),
    /// Hosts whose NUMA cells fit. What is asked changes with every instance of the request that is placed.
    Cells(Box<CellQuestion>),
    /// Hosts that have the PCI devices.
    Devices(DeviceQuestion),
    /// No host can be judged: Nova raises the same exception at every host.
    Broken(String),
}

/// How long a compiled filter stays valid, provided that the table's keys, zones and aggregates do not change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lasts {
    /// It stays valid through every change of a host.
    Always,
    /// It is valid until a host is added, removed or renamed.
    UntilNames,
    /// It is valid until a host is added, removed or renamed, or an instance appears or disappears somewhere.
    UntilInstances,
    /// It is valid for one request.
    Once,
}

impl Filter {
    /// Tells the filter which NUMA cells and PCI devices the next instance of the request wants.
    pub(crate) fn wants(&mut self, wanted: &Wanted) {
        if let Program::Cells(question) = &mut self.program {
            question.wants(wanted);
        }
    }

    /// Whether this filter passes every host, whatever it has.
    pub(crate) fn passes_all(&self) -> bool {
        matches!(self.program, Program::PassAll)
    }

    /// Whether the answer for a host may change when an instance of the request is placed there, apart from what is
    /// [counted](Self::bound).
    pub(crate) fn changes_with_instances(&self) -> bool {
        match &self.program {
            Program::Capabilities(questions) => questions.read_computed(),
            Program::Query(_) | Program::Apart => true,
            _ => false,
        }
    }

    /// Whether this filter runs for the instance at this index of a request.
    pub(crate) fn runs(&self, index: usize) -> bool {
        index == 0 || !self.kind.once()
    }

    /// Whether this filter's verdicts are worth keeping: one holds until the host reports something new besides
    /// amounts, and takes more than a comparison to find.
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

    /// How long this filter stays valid.
    pub(crate) fn lasts(&self) -> Lasts {
        match (&self.program, self.kind) {
            (Program::Rows(_), FilterKind::IsolatedHosts | FilterKind::Retry) => Lasts::UntilNames,
            (Program::Rows(_), FilterKind::SameHost | FilterKind::DifferentHost) => Lasts::UntilInstances,
            (Program::Rows(_) | Program::Together | Program::Apart, _) => Lasts::Once,
            (Program::Cells(_) | Program::Devices(_), _) => Lasts::Once,
            _ => Lasts::Always,
        }
    }

    /// Forgets the answers about value symbols, some of which stand for other values now. There are `symbols` of
    /// them.
    pub(crate) fn forget_values(&mut self, symbols: usize) {
        match &mut self.program {
            Program::Capabilities(questions) => questions.forget_values(symbols),
            Program::Values(values) => values.forget(symbols),
            Program::Image(support) => support.forget_values(symbols),
            _ => {}
        }
    }

    /// The hosts that pass, of those `alive` in a block. The caller counts them.
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

    /// Runs the programs that do more than compare columns. They are kept out of the loop over those that do not.
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
                    each.ask(|_| Err(format!("max_server_per_host is {text:?}, which is not a number")))
                }
            },
            Program::Fewer { count, limit } => {
                let pass = match count.column(columns) {
                    // Rounding keeps order and does not change the limit, so no number moves across it.
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

    /// Whether this filter compares numbers, so that a refused host is a near or a far miss.
    pub(crate) fn compares(&self) -> bool {
        self.measured().is_some()
    }

    fn measured(&self) -> Option<Measure> {
        match &self.program {
            Program::Room { amount, .. } | Program::RoomOfSet { amount, .. } => {
                Some(Measure::Amount(*amount))
            }
            Program::RoomOfPinned(_) => Some(Measure::Amount(Amount::Vcpus)),
            Program::Fewer { count, .. } | Program::FewerOfSet { count, .. } => Some(Measure::Count(*count)),
            Program::Apart => Some(Measure::Members),
            _ => None,
        }
    }

    /// What this filter compares, if it [compares](Self::compares) anything, and how much of it is asked of a host.
    pub(crate) fn measure(&self, table: &HostTable, row: Row) -> Option<(Measure, i32)> {
        let wanted = match &self.program {
            Program::RoomOfPinned(asked) => asked.of(table.has_pcpus(row)).unwrap_or(0),
            Program::Room { wanted, .. } | Program::RoomOfSet { wanted, .. } => *wanted,
            _ => 1,
        };
        Some((self.measured()?, wanted))
    }

    /// The ratio that this filter used for a host, if an aggregate of the host sets one.
    pub(crate) fn ratio(&self, table: &HostTable, row: Row) -> Option<f64> {
        let ratios = match &self.program {
            Program::RoomOfSet { ratios, .. } => ratios,
            Program::RoomOfPinned(asked) => &asked.ratios,
            _ => return None,
        };
        ratios.get(table.aggregates.set_of(row.index()) as usize).copied().flatten()
    }
}
