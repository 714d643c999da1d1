//! Remembers which hosts pass the filters of a shape, block by block, so that a later request looks again only at
//! blocks that changed.
//!
//! For each block the scan remembers the hosts that passed, how many hosts each filter let pass, and the nearest miss
//! of each filter that compares numbers. When a block is looked at again, the sums over all blocks change by the
//! difference. For a steady filter the scan also remembers each verdict, because most blocks change only by what was
//! placed on them.
//!
//! What always holds: after [`Scan::refresh`], the hosts, tallies and nearest misses are the same as if every filter
//! had run over the whole fleet. After [`Scan::again`], they are the same as if the filters that run again had run over
//! the hosts that were left.
//!
//! Left out: whether the compiled filters are still right for the table (`shape.rs`).

use crate::filters::group::Group;
use crate::filters::program::Filter;
use crate::filters::tally::Tally;
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, Row, clear, refill};
use crate::table::host_table::HostTable;

/// What the filters of a shape said about each block.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// The candidates, one bit per row.
    pub(crate) alive: Vec<u64>,
    /// The number of candidates.
    pub(crate) hosts: u32,
    /// For each filter, what it did for the present instance.
    pub(crate) tallies: Vec<Tally>,
    /// The blocks that were looked at for the present instance, in order.
    pub(crate) looked_at: Vec<u32>,
    /// The table's revision at the last refresh. `None` if all blocks must be looked at.
    seen: Option<u64>,
    /// Whether a filter reads measured values, so that it must run again if only those changed.
    reads_measured: bool,
    /// The filters that may refuse a host. All others pass every host and are not run.
    asked: Vec<AskingFilter>,
    /// For each block, the number of its hosts before the first asking filter and after each of them.
    counts: Vec<u8>,
    /// The sums of `counts` over all blocks.
    totals: Vec<u32>,
    /// The nearest misses of each filter that compares numbers.
    misses: Vec<Misses>,
    /// For each steady filter and each block, the verdicts that are known.
    verdicts: Vec<BlockVerdicts>,
    /// One bit per block, set if a filter could not decide about a host in it. Such a block is looked at for every
    /// request, because every request must report the error.
    erring: Vec<u64>,
}

/// A filter that may refuse a host.
#[derive(Debug, Clone, Copy)]
struct AskingFilter {
    /// The position of the filter among all filters.
    at: u16,
    /// The position among the steady filters, if it is one.
    steady: Option<u16>,
    /// The position among the filters that compare numbers, if it is one.
    compares: Option<u16>,
}

/// The nearest misses of a filter that compares numbers.
#[derive(Debug, Default)]
struct Misses {
    /// For each block, its nearest miss in the form of [`pack`], or an upper bound of it, or [`NO_MISS`].
    nearest: Vec<i64>,
    /// One bit per block, set if `nearest` is only an upper bound.
    bounds: Vec<u64>,
    /// The nearest miss of all blocks.
    best: i64,
    /// Whether the block that had `best` no longer has it, so that `best` must be searched for.
    lost: bool,
}

impl Misses {
    fn start(&mut self, blocks: usize) {
        refill(&mut self.nearest, blocks, NO_MISS);
        refill(&mut self.bounds, blocks.div_ceil(BLOCK), 0);
        (self.best, self.lost) = (NO_MISS, false);
    }

    /// How much room a miss of this block must have to be the nearest one. A miss with equal room in an earlier block
    /// is nearer.
    fn interesting(&self, block: usize) -> i32 {
        let Some((row, room)) = unpack(self.best) else { return i32::MIN };
        room.saturating_add(i32::from(row.index() / BLOCK < block))
    }

    /// Takes over the miss that the filter noted for a block.
    fn note(&mut self, block: usize, tally: &Tally) {
        let (word, bit) = (&mut self.bounds[block / BLOCK], 1 << (block % BLOCK));
        let miss = match tally.bound {
            Some(room) => {
                *word |= bit;
                pack((Row((block * BLOCK) as u32), room))
            }
            None => {
                *word &= !bit;
                tally.nearest.map_or(NO_MISS, pack)
            }
        };
        let before = std::mem::replace(&mut self.nearest[block], miss);
        if miss >= self.best && tally.bound.is_none() {
            self.best = miss;
        } else {
            self.lost |= before == self.best && self.best != NO_MISS;
        }
    }

    /// Searches all blocks for the nearest miss. If only a bound of it is known, returns the block, which must be
    /// looked at.
    fn find_best(&mut self) -> Option<usize> {
        let misses = self.nearest.iter().copied().enumerate();
        let (block, best) = misses.fold((0, NO_MISS), |best, miss| if miss.1 > best.1 { miss } else { best });
        (self.best, self.lost) = (best, false);
        (self.bounds[block / BLOCK] >> (block % BLOCK) & 1 == 1).then_some(block)
    }
}

/// The verdicts of a steady filter about the hosts of a block, one bit per host.
#[derive(Debug, Clone, Copy, Default)]
struct BlockVerdicts {
    /// The hosts whose verdict is known.
    known: u64,
    /// The hosts that are known to pass.
    pass: u64,
}

/// Stands for no miss, in the form of [`pack`].
const NO_MISS: i64 = i64::MIN;

/// Packs a miss into one number, so that the nearer of two misses is the larger number: the one with more room, and of
/// equal room the earlier row.
fn pack((row, room): (Row, i32)) -> i64 {
    i64::from(room) << 32 | i64::from(u32::MAX - row.0)
}

fn unpack(miss: i64) -> Option<(Row, i32)> {
    (miss != NO_MISS).then(|| (Row(u32::MAX - miss as u32), (miss >> 32) as i32))
}

/// The filters, and the hosts that they are asked about.
pub(crate) struct Sieve<'a> {
    pub(crate) filters: &'a mut [Filter],
    /// The server group of the request, which some filters read.
    pub(crate) group: Option<&'a Group>,
    /// One bit per row, if the request names hosts. Only hosts whose bit is set are asked about.
    pub(crate) named: Option<&'a [u64]>,
}

impl Scan {
    /// How many bytes are kept for the blocks.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.alive)
            + size_of_val(&*self.counts)
            + self.misses.iter().map(|misses| size_of_val(&*misses.nearest)).sum::<usize>()
            + size_of_val(&*self.verdicts)
    }

    /// Forgets all blocks, but keeps their memory.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// Filters for the first instance of a request. Looks at every block that changed since the last refresh.
    pub(crate) fn refresh(&mut self, table: &HostTable, sieve: &mut Sieve<'_>) {
        let blocks = table.columns.present.len();
        self.reset_tallies(sieve.filters.len());
        self.looked_at.clear();
        let seen = match self.seen {
            Some(seen) => seen,
            None => {
                self.start(blocks, sieve.filters);
                0
            }
        };
        let fresh = self.seen.is_none();
        for block in 0..blocks {
            let erring = self.erring[block / BLOCK] >> (block % BLOCK) & 1 == 1;
            let measured = self.reads_measured && table.stamps.measured[block] > seen;
            if fresh || erring || measured || table.stamps.blocks[block] > seen {
                if table.stamps.described[block] > seen {
                    self.verdicts
                        .iter_mut()
                        .skip(block)
                        .step_by(blocks)
                        .for_each(|known| *known = BlockVerdicts::default());
                }
                self.look(table, sieve, block, true);
            }
        }
        self.seen = Some(table.stamps.revision);
        self.hosts = self.totals[self.asked.len()];
        for at in 0..self.misses.len() {
            while self.misses[at].lost {
                if let Some(block) = self.misses[at].find_best() {
                    self.misses[at].best = NO_MISS; // so that the filter notes every miss of the block
                    self.look(table, sieve, block, false);
                    self.misses[at].lost = true;
                }
            }
        }
        let (mut stage, mut misses) = (0, self.misses.iter());
        for (filter, tally) in sieve.filters.iter().zip(&mut self.tallies) {
            tally.hosts_in = self.totals[stage];
            stage += usize::from(!filter.passes_all());
            tally.hosts_out = self.totals[stage];
            tally.nearest =
                if filter.compares() { misses.next() } else { None }.and_then(|misses| unpack(misses.best));
        }
    }

    fn reset_tallies(&mut self, filters: usize) {
        self.tallies.resize_with(filters, Tally::default);
        for tally in &mut self.tallies {
            tally.clear();
        }
    }

    fn start(&mut self, blocks: usize, filters: &[Filter]) {
        refill(&mut self.alive, blocks, 0);
        self.reads_measured = filters.iter().any(Filter::reads_measured);
        self.asked.clear();
        let (mut steady, mut compares) = (0.., 0..);
        self.asked.extend((0..).zip(filters).filter(|(_, filter)| !filter.passes_all()).map(
            |(at, filter)| AskingFilter {
                at,
                steady: if filter.is_steady() { steady.next() } else { None },
                compares: if filter.compares() { compares.next() } else { None },
            },
        ));
        let compares = self.asked.iter().filter(|asked| asked.compares.is_some()).count();
        self.misses.resize_with(compares, Misses::default);
        self.misses.iter_mut().for_each(|misses| misses.start(blocks));
        let steady = self.asked.iter().filter(|asked| asked.steady.is_some()).count();
        refill(&mut self.verdicts, steady * blocks, BlockVerdicts::default());
        let stages = 1 + self.asked.len();
        refill(&mut self.counts, blocks * stages, 0);
        refill(&mut self.totals, stages, 0);
        refill(&mut self.erring, blocks.div_ceil(BLOCK), 0);
    }

    /// Runs all filters over a block and corrects the sums. Errors are counted only if this is the `first` look at the
    /// block for the present instance.
    fn look(&mut self, table: &HostTable, sieve: &mut Sieve<'_>, block: usize, first: bool) {
        let blocks = self.alive.len();
        let stages = self.totals.len();
        let counts = &mut self.counts[block * stages..(block + 1) * stages];
        let mut note = |stage: usize, count: u8| {
            let before = std::mem::replace(&mut counts[stage], count);
            self.totals[stage] = self.totals[stage] + u32::from(count) - u32::from(before);
        };
        let mut alive = table.columns.present[block] & sieve.named.map_or(u64::MAX, |named| named[block]);
        let mut count = alive.count_ones() as u8;
        note(0, count);
        let mut errors = false;
        for (stage, asked) in self.asked.iter().enumerate() {
            let at = usize::from(asked.at);
            let (filter, tally) = (&mut sieve.filters[at], &mut self.tallies[at]);
            let misses = asked.compares.map(|compares| &mut self.misses[usize::from(compares)]);
            let known = tally.errors;
            if let Some(misses) = &misses {
                (tally.nearest, tally.bound) = (None, None);
                tally.interesting = misses.interesting(block);
            }
            if alive != 0 {
                let mut run = |alive| filter.run(table, sieve.group, block, alive, tally);
                let pass = match asked.steady {
                    None => run(alive),
                    Some(steady) => {
                        let verdicts = &mut self.verdicts[usize::from(steady) * blocks + block];
                        let unknown = alive & !verdicts.known;
                        let news = if unknown == 0 { 0 } else { run(unknown) };
                        let pass = alive & verdicts.pass | news;
                        if tally.errors == known {
                            verdicts.known |= unknown;
                            verdicts.pass |= news;
                        }
                        pass
                    }
                };
                if pass != alive {
                    (alive, count) = (pass, pass.count_ones() as u8);
                }
            }
            note(1 + stage, count);
            errors |= tally.errors > known;
            if !first {
                tally.errors = known;
            }
            if let Some(misses) = misses {
                misses.note(block, tally);
            }
        }
        self.alive[block] = alive;
        let (word, bit) = (&mut self.erring[block / BLOCK], 1 << (block % BLOCK));
        *word = if errors { *word | bit } else { *word & !bit };
        if first {
            self.looked_at.push(block as u32);
        }
    }

    /// Filters for a later instance of a request. Only the `changed` blocks, which are in order, may hold hosts that no
    /// longer pass. In all other blocks every host passes again.
    pub(crate) fn again(
        &mut self,
        table: &HostTable,
        sieve: &mut Sieve<'_>,
        changed: impl Iterator<Item = u32>,
    ) {
        self.reset_tallies(sieve.filters.len());
        self.looked_at.clear();
        let mut unchanged = self.hosts;
        for block in changed {
            let alive = &mut self.alive[block as usize];
            unchanged -= alive.count_ones();
            for (filter, tally) in sieve.filters.iter_mut().zip(&mut self.tallies) {
                if !filter.kind.once() && *alive != 0 {
                    tally.hosts_in += alive.count_ones();
                    *alive = filter.run(table, sieve.group, block as usize, *alive, tally);
                    tally.hosts_out += alive.count_ones();
                }
            }
            self.looked_at.push(block);
        }
        for tally in &mut self.tallies {
            tally.hosts_in += unchanged;
            tally.hosts_out += unchanged;
        }
        let looked_at = self.looked_at.iter().map(|block| self.alive[*block as usize].count_ones());
        self.hosts = unchanged + looked_at.sum::<u32>();
    }

    /// Takes out hosts that cannot be weighed. The next refresh then looks at all blocks, because the counts no longer
    /// fit.
    pub(crate) fn take_out(&mut self, rows: impl Iterator<Item = Row>) {
        for row in rows {
            clear(&mut self.alive, row);
            self.hosts -= 1;
        }
        self.seen = None;
    }

    /// The first candidate, which is the only one if `hosts` is 1.
    pub(crate) fn only(&self) -> Option<u32> {
        let (block, word) = self.alive.iter().enumerate().find(|(_, word)| **word != 0)?;
        word_bits(*word).next().map(|bit| (block * BLOCK + bit) as u32)
    }
}
