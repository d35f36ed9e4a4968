//! ChaCha8 (Bernstein, 2008), many blocks side by side.
//!
//! The stream is that of [`rand_chacha::ChaCha8Rng`], which it is tested against. Dropout draws a number for every
//! weight of attention, and asks only whether it is below a bound. Here each lane is a block of its own and compares its
//! own numbers, so that 32 of them leave it as one word (docs/lab/attention.md).

use super::Stream;
use crate::simd::{self, Isa, Kernel, Level};

/// 32-bit numbers of a block.
const WORDS: usize = 16;

/// A stream, from its start.
#[derive(Clone, Debug)]
pub(super) struct ChaCha {
    /// Constants, key, the number of the next block and that of the stream.
    state: [u32; WORDS],
}

impl ChaCha {
    pub(super) fn new(stream: Stream) -> Self {
        let halves = |x: u64| [x as u32, (x >> 32) as u32];
        // "expand 32-byte k"
        let constants = [0x6170_7865, 0x3320_646e, 0x7962_2d32, 0x6b20_6574];
        let key = stream.key().map(halves);
        let rest = [[0, 0], halves(stream.number())];
        let words = constants.iter().chain(key.as_flattened());
        let mut state = [0; WORDS];
        for (to, word) in state.iter_mut().zip(words.chain(rest.as_flattened())) {
            *to = *word;
        }
        Self { state }
    }

    /// Which of the 16-bit numbers of the blocks from number `first` on are below a bound, at most 2^16: a bit each, 32 a
    /// block.
    pub(super) fn below(&self, first: u64, bound: u32, bits: &mut [u32]) {
        let mut from = self.clone();
        from.skip(first);
        match simd::level() {
            Level::Avx512 => from.side_by_side::<16>(bound, bits),
            _ => from.side_by_side::<8>(bound, bits),
        }
    }

    /// W blocks at a time. The state of one is sixteen vectors, of which some registers are to be left.
    fn side_by_side<const W: usize>(mut self, bound: u32, bits: &mut [u32]) {
        for bits in bits.chunks_mut(W) {
            let of_blocks = simd::dispatch(Below::<W> {
                state: &self.state,
                bound,
            });
            bits.copy_from_slice(&of_blocks[..bits.len()]);
            self.skip(W as u64);
        }
    }

    /// Goes on by so many blocks.
    fn skip(&mut self, blocks: u64) {
        let next = counter(&self.state).wrapping_add(blocks);
        (self.state[12], self.state[13]) = (next as u32, (next >> 32) as u32);
    }
}

/// The number of the next block.
fn counter(state: &[u32; WORDS]) -> u64 {
    u64::from(state[12]) | u64::from(state[13]) << 32
}

/// The block at a distance from the state, its words one by one: no loops in here, which would keep the compiler from
/// making a vector of the blocks.
#[inline(always)]
fn block(state: &[u32; WORDS], distance: usize) -> [u32; WORDS] {
    let mut start = *state;
    let number = counter(state).wrapping_add(distance as u64);
    (start[12], start[13]) = (number as u32, (number >> 32) as u32);
    let mut x = two_rounds(two_rounds(two_rounds(two_rounds(start))));
    for word in 0..WORDS {
        x[word] = x[word].wrapping_add(start[word]);
    }
    x
}

/// See [`ChaCha::below`]; W blocks.
struct Below<'a, const W: usize> {
    state: &'a [u32; WORDS],
    bound: u32,
}

impl<const W: usize> Kernel for Below<'_, W> {
    type Output = [u32; W];

    #[inline(always)]
    fn run<I: Isa>(self, _: I) -> [u32; W] {
        if self.bound >= 1 << 16 {
            return [u32::MAX; W];
        }
        // The upper half of a word is compared as it is, the lower half in its place.
        let bound = self.bound << 16;
        let mut bits = [0; W];
        for i in 0..W {
            let x = block(self.state, i);
            let mut of_block = 0;
            for word in 0..WORDS {
                of_block |= u32::from(x[word] << 16 < bound) << (2 * word);
                of_block |= u32::from(x[word] < bound) << (2 * word + 1);
            }
            bits[i] = of_block;
        }
        bits
    }
}

/// A round of columns and one of diagonals.
#[inline(always)]
fn two_rounds(mut x: [u32; WORDS]) -> [u32; WORDS] {
    quarter_round(&mut x, [0, 4, 8, 12]);
    quarter_round(&mut x, [1, 5, 9, 13]);
    quarter_round(&mut x, [2, 6, 10, 14]);
    quarter_round(&mut x, [3, 7, 11, 15]);
    quarter_round(&mut x, [0, 5, 10, 15]);
    quarter_round(&mut x, [1, 6, 11, 12]);
    quarter_round(&mut x, [2, 7, 8, 13]);
    quarter_round(&mut x, [3, 4, 9, 14]);
    x
}

#[inline(always)]
fn quarter_round(x: &mut [u32; WORDS], [a, b, c, d]: [usize; 4]) {
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(16);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(12);
    x[a] = x[a].wrapping_add(x[b]);
    x[d] = (x[d] ^ x[a]).rotate_left(8);
    x[c] = x[c].wrapping_add(x[d]);
    x[b] = (x[b] ^ x[c]).rotate_left(7);
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngCore;

    fn library(stream: Stream, blocks: usize, block: u128) -> Vec<u8> {
        let mut generator = stream.generator();
        generator.set_word_pos(block * WORDS as u128);
        let mut bytes = vec![0; blocks * WORDS * 4];
        generator.fill_bytes(&mut bytes);
        bytes
    }

    #[test]
    fn comparisons_are_those_of_the_librarys_numbers() {
        const N: usize = 21;
        for (seed, number, block) in [
            (0, 0, 0),
            (7, 3, 2),
            (u64::MAX, u64::MAX, 0),
            (1, 2, (1 << 32) - 5),
        ] {
            let stream = Stream::new(seed, number);
            let bytes = library(stream, N, u128::from(block));
            for bound in [0, 1, 0x7fff, 0x8000, 0xffff, 0x1_0000] {
                let want = |i: usize| {
                    let number = u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
                    u32::from(number) < bound
                };
                let mut bits = [[0; N]; 3];
                let mut ours = ChaCha::new(stream);
                ours.below(block, bound, &mut bits[0]);
                ours.skip(block);
                ours.clone().side_by_side::<8>(bound, &mut bits[1]);
                ours.side_by_side::<16>(bound, &mut bits[2]);
                for bits in bits {
                    for i in 0..N * 32 {
                        assert_eq!(bits[i / 32] >> (i % 32) & 1 == 1, want(i), "{bound}, {i}");
                    }
                }
            }
        }
    }
}
