//! True or false with a given probability, many at a time.

use std::ops::Range;

use super::Stream;
use super::chacha::ChaCha;
use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

/// Choices that [`Choices::multiply`] makes at once.
const AT_ONCE: usize = 4096;

/// See [`Stream::choices`]. A choice costs 16 random bits, so that probabilities are within 2^-17 of what was asked.
#[derive(Clone, Debug)]
pub struct Choices {
    source: ChaCha,
    below: u32,
    /// How many were drawn.
    drawn: usize,
}

impl Choices {
    pub(super) fn new(stream: Stream, probability: f64) -> Self {
        Self {
            source: ChaCha::new(stream),
            below: (probability.clamp(0.0, 1.0) * 65_536.0).round() as u32,
            drawn: 0,
        }
    }

    /// A choice is true when its number is below this, of 2^16.
    pub fn below(&self) -> u32 {
        self.below
    }

    /// The choices of such numbers in the stream as bits, wherever the drawing stands.
    pub fn bits(&self, numbers: Range<usize>, bits: &mut Bits) {
        bits.first = numbers.start / WORD * WORD;
        let words = numbers.end.saturating_sub(bits.first).div_ceil(WORD);
        // Behind the end 16 more are read.
        bits.words.resize(words + 2, 0);
        let first = (bits.first / WORD) as u64;
        self.source
            .below(first, self.below, &mut bits.words[..words]);
    }

    /// Draws as many choices as there are numbers: each is multiplied by `on` where its choice is true, else by 0.
    pub fn multiply<T: Real>(&mut self, x: &mut [T], on: T) {
        let mut bits = Bits::default();
        for x in x.chunks_mut(AT_ONCE) {
            let first = self.drawn;
            self.drawn += x.len();
            self.bits(first..self.drawn, &mut bits);
            simd::dispatch(Multiply {
                x,
                bits: &bits,
                first,
                on,
            });
        }
    }

    /// Calls `f` with the first `n` choices in order.
    #[inline]
    pub(super) fn each(&self, n: usize, mut f: impl FnMut(usize, bool)) {
        let mut bits = Bits::default();
        for first in (0..n).step_by(AT_ONCE) {
            let numbers = first..n.min(first + AT_ONCE);
            self.bits(numbers.clone(), &mut bits);
            numbers.for_each(|i| f(i, bits.from(i) & 1 == 1));
        }
    }
}

/// See [`Choices::multiply`].
struct Multiply<'a, T> {
    x: &'a mut [T],
    bits: &'a Bits,
    /// The number of the first choice.
    first: usize,
    on: T,
}

impl<T: Real> Kernel for Multiply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (whole, rest) = self.x.as_chunks_mut::<LANES>();
        let at = self.first + whole.len() * LANES;
        for (i, x) in whole.iter_mut().enumerate() {
            let bits = self.bits.from(self.first + i * LANES);
            *x = isa.kept(&isa.scaled(self.on, x), bits);
        }
        for (i, x) in rest.iter_mut().enumerate() {
            *x = T::kept(self.on * *x, self.bits.from(at + i) & 1 == 1);
        }
    }
}

/// Choices that lie in a word: those of a block of the generator.
const WORD: usize = u32::BITS as usize;

/// Choices as bits, see [`Choices::bits`].
#[derive(Clone, Debug, Default)]
pub struct Bits {
    /// The first choice's number.
    first: usize,
    words: Vec<u32>,
}

impl Bits {
    /// 16 choices from one on that was drawn, the first in the lowest bit; of any value behind the last.
    #[inline(always)]
    fn from(&self, number: usize) -> u16 {
        let (word, shift) = ((number - self.first) / WORD, (number - self.first) % WORD);
        let two = u64::from(self.words[word]) | u64::from(self.words[word + 1]) << WORD;
        (two >> shift) as u16
    }

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
            for (b, bits) in bits.iter_mut().enumerate() {
                bits[r] = self.from(first + r * length + b * LANES);
            }
        }
    }
}
