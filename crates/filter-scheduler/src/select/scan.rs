//! Which hosts pass the filters of a shape, kept by block, so that a later request looks again only at blocks that changed.
//!
//! For each block the scan remembers the hosts that passed, how many each filter let pass, and the nearest miss of each
//! filter that compares numbers. Sums over all blocks are kept up to date by what a block adds less what it added before.
//! Of a steady filter it remembers each verdict, since most blocks change for what was placed on them alone.
//!
//! What always holds: after [`Scan::refresh`] hosts, tallies and nearest misses are those of running every filter over the
//! whole fleet; after [`Scan::again`] those of running the filters that run again over the hosts that were left.
//!
//! Left out: whether the compiled filters still hold (`shape.rs`).

use crate::filters::group::Group;
use crate::filters::program::Filter;
use crate::filters::tally::Tally;
use crate::table::bitmap::word_bits;
use crate::table::block::{BLOCK, Row, refill};
use crate::table::host_table::HostTable;

/// See the module's text.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// One bit per row that is a candidate.
    pub(crate) alive: Vec<u64>,
    /// How many these are.
    pub(crate) hosts: u32,
    /// By filter: what it did in this round.
    pub(crate) tallies: Vec<Tally>,
    /// The blocks that this round looked at, in order.
    pub(crate) looked_at: Vec<u32>,
    /// The table's revision that the last refresh saw; `None` before the first.
    seen: Option<u64>,
    /// Whether some filter reads measured values.
    reads_measured: bool,
    /// The filters that ask something, by their place: the others pass every host.
    asked: Vec<AskingFilter>,
    /// By block, one more than these: the hosts before the first of them and after each.
    counts: Vec<u8>,
    /// The sums of these.
    totals: Vec<u32>,
    /// By filter that compares numbers.
    misses: Vec<Misses>,
    /// By steady filter, by block: what is known of its verdicts.
    verdicts: Vec<Verdicts>,
    /// One bit per block with a host that some filter could not decide about: errors are told anew to each request.
    erring: Vec<u64>,
}

/// A filter that asks something.
#[derive(Debug, Clone, Copy)]
struct AskingFilter {
    /// Its place among all filters.
    at: u16,
    /// Its place among the steady ones, if it is one.
    steady: Option<u16>,
    /// Its place among those that compare numbers, if it is one.
    compares: Option<u16>,
}

/// The nearest misses of a filter that compares numbers.
#[derive(Debug, Default)]
struct Misses {
    /// By block: its nearest, or [`NO_MISS`], or more than that.
    nearest: Vec<i64>,
    /// One bit per block: that is more than its nearest.
    bounds: Vec<u64>,
    /// The largest of all.
    best: i64,
    /// Its block has lost it.
    lost: bool,
}

impl Misses {
    fn start(&mut self, blocks: usize) {
        refill(&mut self.nearest, blocks, NO_MISS);
        refill(&mut self.bounds, blocks.div_ceil(BLOCK), 0);
        (self.best, self.lost) = (NO_MISS, false);
    }

    /// How much room a miss of this block must have to be of interest: as much in an earlier block is nearer.
    fn interesting(&self, block: usize) -> i32 {
        let Some((row, room)) = unpack(self.best) else { return i32::MIN };
        room.saturating_add(i32::from(row.index() / BLOCK < block))
    }

    /// Takes what the filter noted of a block.
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

    /// Looks for the nearest miss over all blocks. Returns the block that may have it, if only a bound is known of that.
    fn find_best(&mut self) -> Option<usize> {
        let misses = self.nearest.iter().copied().enumerate();
        let (block, best) = misses.fold((0, NO_MISS), |best, miss| if miss.1 > best.1 { miss } else { best });
        (self.best, self.lost) = (best, false);
        (self.bounds[block / BLOCK] >> (block % BLOCK) & 1 == 1).then_some(block)
    }
}

/// One bit per host of a block.
#[derive(Debug, Clone, Copy, Default)]
struct Verdicts {
    known: u64,
    /// Of these, those that pass.
    pass: u64,
}

/// A nearest miss as one number: more room is larger, then an earlier row.
const NO_MISS: i64 = i64::MIN;

fn pack((row, room): (Row, i32)) -> i64 {
    i64::from(room) << 32 | i64::from(u32::MAX - row.0)
}

fn unpack(miss: i64) -> Option<(Row, i32)> {
    (miss != NO_MISS).then(|| (Row(u32::MAX - miss as u32), (miss >> 32) as i32))
}

/// What is looked at: the filters, and whom they ask.
pub(crate) struct Sieve<'a> {
    pub(crate) filters: &'a mut [Filter],
    pub(crate) group: Option<&'a Group>,
    /// Leaves the hosts whose bit is set, if the request names hosts.
    pub(crate) named: Option<&'a [u64]>,
}

impl Scan {
    /// Bytes kept for the blocks.
    pub(crate) fn bytes(&self) -> usize {
        size_of_val(&*self.alive)
            + size_of_val(&*self.counts)
            + self.misses.iter().map(|misses| size_of_val(&*misses.nearest)).sum::<usize>()
            + size_of_val(&*self.verdicts)
    }

    /// Forgets all blocks, keeping the memory.
    pub(crate) fn forget(&mut self) {
        self.seen = None;
    }

    /// The first round of a request: looks at every block that changed since the last refresh.
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
                        .for_each(|known| *known = Verdicts::default());
                }
                self.look(table, sieve, block, true);
            }
        }
        self.seen = Some(table.stamps.revision);
        self.hosts = self.totals[self.asked.len()];
        for at in 0..self.misses.len() {
            while self.misses[at].lost {
                if let Some(block) = self.misses[at].find_best() {
                    self.misses[at].best = NO_MISS; // now everything is of interest
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
        refill(&mut self.verdicts, steady * blocks, Verdicts::default());
        let stages = 1 + self.asked.len();
        refill(&mut self.counts, blocks * stages, 0);
        refill(&mut self.totals, stages, 0);
        refill(&mut self.erring, blocks.div_ceil(BLOCK), 0);
    }

    /// Runs all filters over a block and replaces what it adds to the sums. Errors are counted if this is the `first` look
    /// of a round.
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

    /// A later round: `changed` blocks, in order, may hold hosts that no longer pass; all others pass again.
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

    /// Takes hosts out that cannot be weighed. The scan cannot be refreshed after that.
    pub(crate) fn take_out(&mut self, rows: impl Iterator<Item = Row>) {
        for row in rows {
            self.alive[row.index() / BLOCK] &= !(1 << (row.index() % BLOCK));
            self.hosts -= 1;
        }
        self.seen = None;
    }

    /// The only host that is left.
    pub(crate) fn only(&self) -> Option<u32> {
        let (block, word) = self.alive.iter().enumerate().find(|(_, word)| **word != 0)?;
        word_bits(*word).next().map(|bit| (block * BLOCK + bit) as u32)
    }
}
