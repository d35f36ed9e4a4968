//! ChaCha8 (Bernstein, 2008), many blocks side by side.
//!
//! The stream is that of [`rand_chacha::ChaCha8Rng`], which it is tested against. Dropout draws a number for every
//! weight of attention; the library's generator knows vectors of 256 bits only, and shuffles them within a block where
//! here each lane is a block of its own: 1.4 times as fast with 512 bits (docs/performance.md).

use super::{Number, Stream};
use crate::simd::{self, Isa, Kernel, Level};

/// Blocks made at once.
const BLOCKS: usize = 16;

/// 32-bit numbers of a block.
const WORDS: usize = 16;

/// A stream, from its start.
#[derive(Clone, Debug)]
pub(super) struct ChaCha {
    /// Constants, key, the number of the next block and that of the stream.
    state: [u32; WORDS],
}

impl ChaCha {
    /// Bytes made at once.
    pub(super) const BYTES: usize = BLOCKS * WORDS * size_of::<u32>();

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

    /// The next [`ChaCha::BYTES`] bytes.
    pub(super) fn fill(&mut self, numbers: &mut [Number; Self::BYTES / 2]) {
        let bytes = numbers.as_flattened_mut();
        // The state of a block is sixteen vectors, of which some registers are to be left.
        match simd::level() {
            Level::Avx512 => self.side_by_side::<16>(bytes),
            _ => self.side_by_side::<8>(bytes),
        }
    }

    fn side_by_side<const W: usize>(&mut self, bytes: &mut [u8]) {
        for bytes in bytes.chunks_exact_mut(W * WORDS * size_of::<u32>()) {
            simd::dispatch(Blocks::<W> {
                state: &self.state,
                bytes,
            });
            self.skip(W as u64);
        }
    }

    /// Which of the 16-bit numbers of the blocks from number `first` on are below a bound, at most 2^16: a bit each, 32 a
    /// block.
    pub(super) fn below(&self, first: u64, bound: u32, bits: &mut [u32]) {
        let mut from = self.clone();
        from.skip(first);
        match simd::level() {
            Level::Avx512 => from.below_side_by_side::<16>(bound, bits),
            _ => from.below_side_by_side::<8>(bound, bits),
        }
    }

    fn below_side_by_side<const W: usize>(mut self, bound: u32, bits: &mut [u32]) {
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

/// W blocks from the state on, a multiple of 8.
struct Blocks<'a, const W: usize> {
    state: &'a [u32; WORDS],
    bytes: &'a mut [u8],
}

impl<const W: usize> Kernel for Blocks<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        // Bits that go through a transpose of numbers: nothing is computed with them.
        let mut words = [[0f32; W]; WORDS];
        for i in 0..W {
            let x = block(self.state, i);
            for word in 0..WORDS {
                words[word][i] = f32::from_bits(x[word]);
            }
        }
        let (bytes, _) = self.bytes.as_chunks_mut::<4>();
        for (i, blocks) in bytes.chunks_exact_mut(8 * WORDS).enumerate() {
            for half in 0..2 {
                let mut tile = [&[0.0; 8]; 8];
                for (row, words) in tile.iter_mut().zip(&words[8 * half..]) {
                    *row = &words.as_chunks().0[i];
                }
                for (b, row) in isa.transposed(tile).iter().enumerate() {
                    let to = &mut blocks[b * WORDS + 8 * half..][..8];
                    for (to, word) in to.iter_mut().zip(row) {
                        *to = word.to_bits().to_le_bytes();
                    }
                }
            }
        }
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
    fn the_stream_is_that_of_the_library() {
        for (seed, number, block) in [
            (0, 0, 0),
            (7, 3, 0),
            (u64::MAX, u64::MAX, 0),
            (1, 2, (1 << 32) - 5),
        ] {
            let stream = Stream::new(seed, number);
            let want = library(stream, 3 * BLOCKS, u128::from(block));
            let bytes = |fill: fn(&mut ChaCha, &mut [u8])| {
                let mut ours = ChaCha::new(stream);
                ours.skip(block);
                let mut bytes = vec![0; want.len()];
                for part in bytes.chunks_exact_mut(ChaCha::BYTES) {
                    fill(&mut ours, part);
                }
                bytes
            };
            assert_eq!(bytes(ChaCha::side_by_side::<8>), want);
            assert_eq!(bytes(ChaCha::side_by_side::<16>), want);
        }
    }

    #[test]
    fn comparisons_are_those_of_the_numbers() {
        let stream = Stream::new(3, 4);
        let bytes = library(stream, 21, 2);
        for bound in [0, 1, 0x7fff, 0x8000, 0xffff, 0x1_0000] {
            let want = |i: usize| {
                let number = u16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]);
                u32::from(number) < bound
            };
            let mut bits = [[0; 21]; 2];
            let mut ours = ChaCha::new(stream);
            ours.skip(2);
            ours.clone().below_side_by_side::<8>(bound, &mut bits[0]);
            ours.clone().below_side_by_side::<16>(bound, &mut bits[1]);
            for bits in bits {
                for i in 0..21 * 32 {
                    assert_eq!(bits[i / 32] >> (i % 32) & 1 == 1, want(i), "{bound}, {i}");
                }
            }
        }
    }
}
