//! Comparing the 64 values of a block with a constant, one bit per value, and finding the smallest and largest of them.
//!
//! Every loop here is written so that the compiler turns it into vector instructions of the baseline target:
//! comparisons give bytes of 0 and 1, then one multiplication gathers eight bytes into eight bits. The functions that
//! take longest are also compiled for AVX2 (`multiversion`), and the processor is asked once whether it has it.
//! Whatever they call must be inlined.

use multiversion::multiversion;

use crate::table::block::BLOCK;

/// Bit `i` is set where `values[i] > than`.
pub(crate) fn above(values: &[i32; BLOCK], than: i32) -> u64 {
    bits_where(values, |value| value > than)
}

/// Bit `i` is set where `values[i] >= at`. The second result is the largest value below `at`, or `i32::MIN` if none is.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn split(values: &[i32; BLOCK], at: i32) -> (u64, i32) {
    let (mut bytes, mut below) = ([0u8; BLOCK], [i32::MIN; 8]);
    for (bytes, values) in bytes.as_chunks_mut::<8>().0.iter_mut().zip(values.as_chunks::<8>().0) {
        for lane in 0..8 {
            let value = values[lane];
            bytes[lane] = u8::from(value >= at);
            let value = if value >= at { i32::MIN } else { value };
            below[lane] = larger(value, below[lane]);
        }
    }
    (gather(&bytes), reduce(below, larger))
}

/// Bit `i` is set where `values[i] > than`.
pub(crate) fn above_f32(values: &[f32; BLOCK], than: f32) -> u64 {
    bits_where(values, |value| value > than)
}

/// Bit `i` is set where `values[i] < than`.
pub(crate) fn below_f32(values: &[f32; BLOCK], than: f32) -> u64 {
    bits_where(values, |value| value < than)
}

/// Bit `i` is set where `values[i] == to`.
pub(crate) fn equal_f32(values: &[f32; BLOCK], to: f32) -> u64 {
    bits_where(values, |value| value == to)
}

/// Bit `i` is set where `values[i]` is one of two symbols.
pub(crate) fn either(values: &[u32; BLOCK], a: u32, b: u32) -> u64 {
    bits_where(values, |value| (value == a) | (value == b))
}

/// Bit `i` is set where the condition holds for `values[i]`.
#[inline(always)]
fn bits_where<T: Copy>(values: &[T; BLOCK], is_such: impl Fn(T) -> bool) -> u64 {
    let mut bytes = [0u8; BLOCK];
    for (byte, value) in bytes.iter_mut().zip(values) {
        *byte = u8::from(is_such(*value));
    }
    gather(&bytes)
}

#[inline(always)]
fn gather(bytes: &[u8; BLOCK]) -> u64 {
    // The product moves the bit of byte i to bit i of the top byte. No two terms overlap.
    const SPREAD: u64 = 0x0102_0408_1020_4080;
    let mut bits = 0;
    for (at, eight) in bytes.as_chunks::<8>().0.iter().enumerate() {
        bits |= (u64::from_le_bytes(*eight).wrapping_mul(SPREAD) >> 56) << (at * 8);
    }
    bits
}

/// The smallest and the largest of the values whose bit is set. If no bit is set, infinity and minus infinity.
pub(crate) fn min_max(values: &[f32; BLOCK], bits: u64) -> (f32, f32) {
    let (mut least, mut most) = ([f32::INFINITY; 8], [f32::NEG_INFINITY; 8]);
    for (values, byte) in values.as_chunks::<8>().0.iter().zip(bits.to_le_bytes()) {
        let unset = &UNSET[usize::from(byte)];
        for at in 0..8 {
            let value = or_nan(values[at], unset[at]);
            least[at] = smaller(value, least[at]);
            most[at] = larger(value, most[at]);
        }
    }
    (reduce(least, smaller), reduce(most, larger))
}

/// The largest of the values whose bit is set. If no bit is set, minus infinity.
pub(crate) fn max(values: &[f32; BLOCK], bits: u64) -> f32 {
    let mut most = [f32::NEG_INFINITY; 8];
    for (values, byte) in values.as_chunks::<8>().0.iter().zip(bits.to_le_bytes()) {
        let unset = &UNSET[usize::from(byte)];
        for at in 0..8 {
            most[at] = larger(or_nan(values[at], unset[at]), most[at]);
        }
    }
    reduce(most, larger)
}

/// The value, or NaN if `unset` is all ones. No comparison prefers NaN.
#[inline]
fn or_nan(value: f32, unset: u32) -> f32 {
    f32::from_bits(value.to_bits() | unset)
}

/// The largest of the values.
pub(crate) fn max_of_all(values: &[f32; BLOCK]) -> f32 {
    let mut most = [f32::NEG_INFINITY; 8];
    for values in values.as_chunks::<8>().0 {
        for at in 0..8 {
            most[at] = larger(values[at], most[at]);
        }
    }
    reduce(most, larger)
}

/// The smaller of two numbers, or `b` if `a` is NaN. `b` must not be NaN; that makes this one instruction, where
/// `f32::min` takes five.
#[inline(always)]
pub(crate) fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if a < b { a } else { b }
}

/// The larger of two numbers, or `b` if `a` is NaN. `b` must not be NaN.
#[inline(always)]
pub(crate) fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if a > b { a } else { b }
}

/// Reduces eight lanes to one value by picking between the two halves, three times.
#[inline(always)]
pub(crate) fn reduce<T: Copy>(lanes: [T; 8], pick: fn(T, T) -> T) -> T {
    let [a, b, c, d, e, f, g, h] = lanes;
    pick(pick(pick(a, e), pick(c, g)), pick(pick(b, f), pick(d, h)))
}

/// The first index of the largest value whose bit is set, and that value. At least one bit must be set.
#[multiversion(targets("x86_64+avx2"))]
pub(crate) fn largest(values: &[i32; BLOCK], bits: u64) -> (usize, i32) {
    let mut lanes = [i32::MIN; 8];
    for (values, byte) in values.as_chunks::<8>().0.iter().zip(bits.to_le_bytes()) {
        let unset = &UNSET[usize::from(byte)];
        for at in 0..8 {
            let value = (values[at] & !unset[at] as i32) | (i32::MIN & unset[at] as i32);
            lanes[at] = larger(value, lanes[at]);
        }
    }
    let most = reduce(lanes, larger);
    let equal = bits_where(values, |value| value == most);
    ((equal & bits).trailing_zeros() as usize, most)
}

/// For each byte, eight lanes: all ones where the byte's bit is not set, and zero where it is.
static UNSET: [[u32; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut lane = 0;
        while lane < 8 {
            table[byte][lane] = if byte >> lane & 1 == 0 { u32::MAX } else { 0 };
            lane += 1;
        }
        byte += 1;
    }
    table
};

/// The indices of the set bits, lowest first.
pub(crate) fn bits(words: &[u64]) -> impl Iterator<Item = usize> {
    words.iter().enumerate().flat_map(|(at, &word)| word_bits(word).map(move |bit| at * BLOCK + bit))
}

/// The indices of the set bits of one word, lowest first.
pub(crate) fn word_bits(mut word: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        (word != 0).then(|| {
            let bit = word.trailing_zeros() as usize;
            word &= word - 1;
            bit
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_say_what_the_comparison_says(seed in prop::collection::vec(-5i32..5, BLOCK), than in -6i32..6, alive: u64) {
            let values: [i32; BLOCK] = seed.try_into().unwrap();
            let floats = values.map(|v| v as f32);
            let symbols = values.map(|v| v as u32);
            for (at, &value) in values.iter().enumerate() {
                prop_assert_eq!(above(&values, than) >> at & 1 == 1, value > than);
                prop_assert_eq!(split(&values, than).0 >> at & 1 == 1, value >= than);
                prop_assert_eq!(above_f32(&floats, than as f32) >> at & 1 == 1, value > than);
                prop_assert_eq!(below_f32(&floats, than as f32) >> at & 1 == 1, value < than);
                prop_assert_eq!(equal_f32(&floats, than as f32) >> at & 1 == 1, value == than);
                prop_assert_eq!(either(&symbols, than as u32, 3) >> at & 1 == 1, value == than || value == 3);
            }
            let below = values.into_iter().filter(|value| *value < than).max();
            prop_assert_eq!(split(&values, than).1, below.unwrap_or(i32::MIN));
            if alive != 0 {
                let most = word_bits(alive).map(|at| values[at]).max().unwrap();
                let first = word_bits(alive).find(|at| values[*at] == most).unwrap();
                prop_assert_eq!(largest(&values, alive), (first, most));
            }
            let among = || word_bits(alive).map(|at| floats[at]);
            let bounds = (among().fold(f32::INFINITY, f32::min), among().fold(f32::NEG_INFINITY, f32::max));
            prop_assert_eq!(min_max(&floats, alive), bounds);
            prop_assert_eq!(max(&floats, alive), bounds.1);
            prop_assert_eq!(max_of_all(&floats), max(&floats, u64::MAX));
        }
    }
}
