//! The forward tile: an online softmax and the sums of values.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::super::layout::SLAB;
use super::{Block, Slab, Tile, add_over_keys, keep};

/// The running softmax of R queries over their keys (Milakov and Gimelshein, 2018).
#[derive(Clone, Copy)]
pub(in crate::op::attention) struct OnlineSoftmax<T, const R: usize> {
    /// The largest logits so far, or 0 where logits are small.
    largest: [T; SLAB],
    /// Sums of `2^(logit - largest)`, lane by lane.
    sums: Block<T, R>,
}

impl<T: Real, const R: usize> OnlineSoftmax<T, R> {
    /// Before the first key.
    pub(in crate::op::attention) fn new() -> Self {
        Self {
            largest: [T::neg_infinity(); SLAB],
            sums: [[T::zero(); LANES]; R],
        }
    }

    /// For each query the reciprocal of its sum of weights, and the logarithm (base 2) of that sum.
    #[inline(always)]
    pub(in crate::op::attention) fn finish<I: Isa>(&self, isa: I) -> ([T; SLAB], [T; SLAB]) {
        let mut halves = [[T::zero(); SLAB]; SLAB];
        for r in 0..R {
            for i in 0..SLAB {
                halves[r][i] = self.sums[r][i] + self.sums[r][i + SLAB];
            }
        }
        let mut totals = [T::zero(); SLAB];
        for column in &isa.transposed(halves.each_ref()) {
            for i in 0..SLAB {
                totals[i] += column[i];
            }
        }
        let (mut scale, mut logs) = ([T::zero(); SLAB], [T::zero(); SLAB]);
        for i in 0..SLAB {
            let sum = totals[i];
            let log = simd::ln_value(isa, sum) * T::of(std::f64::consts::LOG2_E);
            // A query that sees no key gets weights of 0, not NaN.
            let seen = sum != T::zero();
            scale[i] = if seen { sum.recip() } else { sum };
            logs[i] = if seen {
                shift(self.largest[i]) + log
            } else {
                T::infinity()
            };
        }
        (scale, logs)
    }
}

/// The subtracted logit: the largest, or 0 if no key was seen.
#[inline(always)]
fn shift<T: Real>(largest: T) -> T {
    if largest == T::neg_infinity() {
        T::zero()
    } else {
        largest
    }
}

/// Adds some blocks of keys to the results of R queries, which are not divided by the sums of weights yet.
pub(in crate::op::attention) struct Forward<'a, T, const R: usize> {
    pub(in crate::op::attention) tile: Tile<'a, T, R>,
    /// Multiplied by `1 / (1 - p)` if weights are dropped; and the number of coordinates.
    pub(in crate::op::attention) values: (&'a [[T; SLAB]], usize),
    /// The weights that dropout keeps, block after block.
    pub(in crate::op::attention) kept: Option<&'a [[u16; R]]>,
    /// Buffer for the weights of the blocks.
    pub(in crate::op::attention) weights: &'a mut [Block<T, R>],
    pub(in crate::op::attention) softmax: &'a mut OnlineSoftmax<T, R>,
    /// Slab after slab.
    pub(in crate::op::attention) out: &'a mut [Slab<T, R>],
}

impl<T: Real, const R: usize> Forward<'_, T, R> {
    /// Computes logits and, unless they are small, the largest so far.
    #[inline(always)]
    fn logits<I: Isa, const OWN: bool>(&mut self, isa: I) {
        if !OWN && self.tile.small {
            for b in 0..self.tile.blocks {
                self.weights[b] = self.tile.logits::<I, false>(isa, b);
            }
            self.softmax.largest = [T::zero(); SLAB];
            return;
        }
        let mut most = [[T::neg_infinity(); LANES]; R];
        for b in 0..self.tile.blocks {
            let x = self.tile.logits::<I, OWN>(isa, b);
            for r in 0..R {
                larger(&mut most[r], &x[r]);
            }
            self.weights[b] = x;
        }
        let before = self.softmax.largest;
        let most = largest(isa, &most, before);
        rescale(isa, (&before, &most), &mut self.softmax.sums, self.out);
        self.softmax.largest = most;
    }

    /// Turns logits into weights and drops some of them.
    #[inline(always)]
    fn weigh<I: Isa>(&mut self, isa: I) {
        let (mut sums, mut shifts) = (self.softmax.sums, [T::zero(); R]);
        for r in 0..R {
            shifts[r] = shift(self.softmax.largest[r]);
        }
        for (b, w) in self.weights[..self.tile.blocks].iter_mut().enumerate() {
            for r in 0..R {
                for i in 0..LANES {
                    w[r][i] = simd::exp2_below_value(isa, w[r][i] - shifts[r]);
                }
                for i in 0..LANES {
                    sums[r][i] += w[r][i];
                }
            }
            if let Some(kept) = &self.kept {
                keep(isa, &kept[b], w);
            }
        }
        self.softmax.sums = sums;
    }
}

impl<T: Real, const R: usize> Kernel for Forward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        match self.tile.query_logits {
            Some(_) => self.logits::<I, true>(isa),
            None => self.logits::<I, false>(isa),
        }
        self.weigh(isa);
        let weights = &self.weights[..self.tile.blocks];
        add_over_keys(isa, weights, self.values, self.out);
    }
}

/// The larger of two values, element by element.
#[inline(always)]
fn larger<T: Real, const N: usize>(a: &mut [T; N], b: &[T; N]) {
    for i in 0..N {
        a[i] = if a[i] >= b[i] { a[i] } else { b[i] };
    }
}

/// The largest value of each row and of `before`.
#[inline(always)]
fn largest<T: Real, I: Isa, const R: usize>(
    isa: I,
    rows: &Block<T, R>,
    mut before: [T; SLAB],
) -> [T; SLAB] {
    let mut halves = [[T::neg_infinity(); SLAB]; SLAB];
    for r in 0..R {
        for i in 0..SLAB {
            let (a, b) = (rows[r][i], rows[r][i + SLAB]);
            halves[r][i] = if a >= b { a } else { b };
        }
    }
    for column in &isa.transposed(halves.each_ref()) {
        larger(&mut before, column);
    }
    before
}

/// Rescales the sums so far to new largest logits.
#[inline(always)]
fn rescale<T: Real, I: Isa, const R: usize>(
    isa: I,
    (before, now): (&[T; SLAB], &[T; SLAB]),
    sums: &mut Block<T, R>,
    out: &mut [Slab<T, R>],
) {
    let mut factors = [T::zero(); SLAB];
    let mut same = true;
    for r in 0..R {
        // Sums over no keys are 0 and need no factor.
        if before[r] != now[r] && before[r] != T::neg_infinity() {
            factors[r] = before[r] - now[r];
            same = false;
        }
    }
    if same {
        return;
    }
    for factor in &mut factors {
        *factor = simd::exp2_below_value(isa, *factor);
    }
    for r in 0..R {
        sums[r] = isa.scaled(factors[r], &sums[r]);
        for out in &mut *out {
            out[r] = isa.scaled(factors[r], &out[r]);
        }
    }
}
