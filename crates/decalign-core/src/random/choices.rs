//! True or false with a given probability, many at a time.

use std::ops::Range;

use super::Stream;
use super::chacha::ChaCha;
use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

/// 16 random bits, in the order of bytes of the stream.
pub(super) type Number = [u8; 2];

/// Whether a number is below a bound.
#[inline(always)]
fn is_below(number: Number, bound: u32) -> bool {
    u32::from(u16::from_le_bytes(number)) < bound
}

/// See [`Stream::choices`]. A choice costs 16 random bits, so that probabilities are within 2^-17 of what was asked.
#[derive(Clone, Debug)]
pub struct Choices {
    source: ChaCha,
    below: u32,
    /// What was made of the stream, and how much of it was drawn.
    ready: [Number; READY],
    drawn: usize,
}

/// Numbers that the generator makes at once.
const READY: usize = ChaCha::BYTES / size_of::<Number>();

impl Choices {
    pub(super) fn new(stream: Stream, probability: f64) -> Self {
        Self {
            source: ChaCha::new(stream),
            below: (probability.clamp(0.0, 1.0) * 65_536.0).round() as u32,
            ready: [[0; 2]; READY],
            drawn: READY,
        }
    }

    /// The next numbers, at least one and at most so many.
    fn next(&mut self, most: usize) -> &[Number] {
        if self.drawn == READY {
            self.source.fill(&mut self.ready);
            self.drawn = 0;
        }
        let first = self.drawn;
        self.drawn = READY.min(first + most);
        &self.ready[first..self.drawn]
    }

    /// A choice is true when its number is below this, of 2^16.
    pub fn below(&self) -> u32 {
        self.below
    }

    /// The choices of such numbers in the stream as bits, wherever the drawing stands.
    pub fn bits(&self, numbers: Range<usize>, bits: &mut Bits) {
        bits.first = numbers.start / Bits::AT_ONCE * Bits::AT_ONCE;
        let words = numbers
            .end
            .saturating_sub(bits.first)
            .div_ceil(Bits::AT_ONCE);
        // Behind the end 16 more are read.
        bits.words.resize(words + 2, 0);
        let first = bits.first / Bits::AT_ONCE;
        self.source
            .below(first as u64, self.below, &mut bits.words[..words]);
    }

    /// Draws as many choices as there are numbers: each is multiplied by `on` where its choice is true, else by 0.
    pub fn multiply<T: Real>(&mut self, mut x: &mut [T], on: T) {
        while !x.is_empty() {
            let below = self.below;
            let numbers = self.next(x.len());
            let (now, later) = x.split_at_mut(numbers.len());
            simd::dispatch(Multiply {
                x: now,
                numbers,
                below,
                on,
            });
            x = later;
        }
    }

    /// Calls `f` with the next `n` choices in order.
    #[inline]
    pub(super) fn each(mut self, n: usize, mut f: impl FnMut(usize, bool)) {
        let mut i = 0;
        while i < n {
            let below = self.below;
            for number in self.next(n - i) {
                f(i, is_below(*number, below));
                i += 1;
            }
        }
    }
}

/// See [`Choices::multiply`].
struct Multiply<'a, T> {
    x: &'a mut [T],
    numbers: &'a [Number],
    below: u32,
    on: T,
}

impl<T: Real> Kernel for Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        for (x, number) in self.x.iter_mut().zip(self.numbers) {
            *x *= T::kept(self.on, is_below(*number, self.below));
        }
    }
}

/// Choices as bits, see [`Choices::bits`].
#[derive(Clone, Debug, Default)]
pub struct Bits {
    /// The first choice's number.
    first: usize,
    words: Vec<u32>,
}

impl Bits {
    const AT_ONCE: usize = u32::BITS as usize;

    /// Choices of rows of one length, the first of which starts with choice number `first`: of each row so many
    /// [`LANES`] after LANES, bit i is of choice i. Bits behind a row's end are of any value.
    ///
    /// # Panics
    /// When choices were not drawn.
    pub fn rows<const R: usize>(
        &self,
        first: usize,
        (rows, length): (usize, usize),
        bits: &mut Vec<[u16; R]>,
    ) {
        bits.resize(length.div_ceil(LANES), [0; R]);
        for r in 0..rows.min(R) {
            let mut at = first + r * length - self.first;
            for bits in bits.iter_mut() {
                let (word, shift) = (at / Self::AT_ONCE, at % Self::AT_ONCE);
                let two = u64::from(self.words[word]) | u64::from(self.words[word + 1]) << 32;
                bits[r] = (two >> shift) as u16;
                at += LANES;
            }
        }
    }
}
