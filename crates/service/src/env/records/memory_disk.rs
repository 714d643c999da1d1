//! A disk in memory that can lose its power, for files of records.
//!
//! What always holds: a process sees all that it wrote. After [`Disk::lose_power`] there is what was synced, and of the
//! writes after that whatever the seed chooses: none, all, or any of them, as a real disk writes in the order that it
//! likes, one sector of 512 bytes at a time.
//!
//! What it leaves out: names of files, faults, and who may write; `MemoryStore` has them.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A disk keeps its content in blocks of this many bytes; a block of zeros that was never written is not kept.
const BLOCK: usize = 4096;
/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

#[derive(Debug, Clone)]
enum Step {
    Write { offset: u64, data: Vec<u8> },
    SetLen(u64),
}

/// The content of one file.
#[derive(Debug, Default)]
pub(in crate::env) struct Disk {
    blocks: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// What was done since the last sync, in order.
    unsynced: Vec<Step>,
    /// The blocks that it touched, as they were at the last sync.
    synced_blocks: BTreeMap<u64, Option<Box<[u8]>>>,
    synced_len: u64,
}

impl Disk {
    pub(in crate::env) fn len(&self) -> u64 {
        self.len
    }

    /// Bytes of content that are kept.
    #[cfg(test)]
    pub(in crate::env) fn kept(&self) -> usize {
        self.blocks.len() * BLOCK
    }

    pub(in crate::env) fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        if offset.checked_add(out.len() as u64).is_none_or(|end| end > self.len) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        for (number, within, part) in parts(offset, out.len()) {
            match self.blocks.get(&number) {
                Some(block) => out[part.clone()].copy_from_slice(&block[within..within + part.len()]),
                None => out[part].fill(0),
            }
        }
        Ok(())
    }

    pub(in crate::env) fn write(&mut self, offset: u64, data: &[u8]) {
        self.unsynced.push(Step::Write { offset, data: data.to_vec() });
        self.len = self.len.max(offset + data.len() as u64);
        self.put(offset, data);
    }

    pub(in crate::env) fn set_len(&mut self, len: u64) {
        self.unsynced.push(Step::SetLen(len));
        self.cut(len);
    }

    pub(in crate::env) fn sync(&mut self) {
        self.unsynced.clear();
        self.synced_blocks.clear();
        self.synced_len = self.len;
    }

    /// Goes back to what was synced, and does again what `seed` chooses of the rest. What is left is on the disk for good.
    pub(in crate::env) fn lose_power(&mut self, seed: u64) {
        let steps = std::mem::take(&mut self.unsynced);
        for (number, block) in std::mem::take(&mut self.synced_blocks) {
            match block {
                Some(block) => drop(self.blocks.insert(number, block)),
                None => drop(self.blocks.remove(&number)),
            }
        }
        self.len = self.synced_len;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let survivors = random.random_range(0..=4u8); // in quarters
        let whole = random.random_bool(0.5);
        for step in steps {
            let mut survives = || random.random_range(0..4) < survivors;
            match step {
                Step::SetLen(len) => {
                    if survives() {
                        self.cut(len);
                    }
                }
                Step::Write { offset, data } => {
                    let size = if whole { data.len().max(1) } else { SECTOR };
                    for (at, piece) in data.chunks(size).enumerate() {
                        let start = offset + (at * size) as u64;
                        // Beyond the end there is nothing to write to, unless the longer length survived.
                        if survives() && start + piece.len() as u64 <= self.len {
                            self.put(start, piece);
                        }
                    }
                }
            }
        }
        self.sync();
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        for (number, within, part) in parts(offset, data.len()) {
            self.remember(number);
            let block = self.blocks.entry(number).or_insert_with(|| vec![0; BLOCK].into());
            block[within..within + part.len()].copy_from_slice(&data[part]);
        }
    }

    fn cut(&mut self, len: u64) {
        if len < self.len {
            let (whole, rest) = (len / BLOCK as u64, (len % BLOCK as u64) as usize);
            let gone: Vec<u64> = self.blocks.range(whole..).map(|(number, _)| *number).collect();
            for number in gone {
                self.remember(number);
                if number == whole && rest > 0 {
                    self.blocks.get_mut(&number).expect("it was just listed")[rest..].fill(0);
                } else {
                    self.blocks.remove(&number);
                }
            }
        }
        self.len = len;
    }

    /// Keeps a block as it was at the last sync.
    fn remember(&mut self, number: u64) {
        self.synced_blocks.entry(number).or_insert_with(|| self.blocks.get(&number).cloned());
    }
}

/// The blocks that `len` bytes from `offset` lie in: the number of each, where in it they start, and which of the bytes.
fn parts(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % BLOCK as u64) as usize;
        let part = done..(done + BLOCK - within).min(len);
        done = part.end;
        Some((at / BLOCK as u64, within, part))
    })
}
