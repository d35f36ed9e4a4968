//! True or false with a given probability, many at a time.

use super::Stream;
use super::chacha::ChaCha;
use crate::Real;
use crate::simd::{self, Isa, Kernel, LANES};

/// 16 random bits, in the order of bytes of the stream.
pub type Number = [u8; 2];

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

    /// The next numbers of the stream, one a choice: the same however many are drawn at once.
    fn draw(&mut self, mut numbers: &mut [Number]) {
        while !numbers.is_empty() {
            let ready = self.next(numbers.len());
            let (now, later) = numbers.split_at_mut(ready.len());
            now.copy_from_slice(ready);
            numbers = later;
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

    /// The next choices as bits, for each row of so many [`LANES`] after LANES: bit i is of choice i. Bits behind a row's end
    /// are of any value.
    pub fn draw_rows<const R: usize>(
        &mut self,
        (rows, length): (usize, usize),
        room: &mut Vec<Number>,
        bits: &mut Vec<[u16; R]>,
    ) {
        // The last row is read behind its end.
        room.resize(R * length + LANES, [0; 2]);
        bits.resize(length.div_ceil(LANES), [0; R]);
        self.draw(&mut room[..rows.min(R) * length]);
        simd::dispatch(Bits {
            numbers: room,
            length,
            below: self.below,
            bits,
        });
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

/// See [`Choices::draw_rows`].
struct Bits<'a, const R: usize> {
    numbers: &'a [Number],
    length: usize,
    below: u32,
    bits: &'a mut [[u16; R]],
}

impl<const R: usize> Kernel for Bits<'_, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (b, bits) in self.bits.iter_mut().enumerate() {
            for (r, bits) in bits.iter_mut().enumerate() {
                let numbers = &self.numbers[r * self.length + b * LANES..];
                if let Some(numbers) = numbers.first_chunk() {
                    *bits = isa.below(numbers, self.below);
                }
            }
        }
    }
}
