//! Tables on a few marginals: adding to them, and summing out.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks};

use super::graph::Bucket;
use super::state::greatest;

/// A tensor with rows along its last marginal.
pub(super) struct Table<T> {
    pub(super) cells: Vec<T>,
    sizes: Vec<usize>,
}

/// The strides, for each marginal of `scope`, of a row-major tensor on `part`; 0 for marginals that it does not depend
/// on.
pub(super) fn strides(scope: &[usize], part: &[usize], sizes: &[usize]) -> Vec<usize> {
    let stride = |m: &usize| match part.iter().position(|p| p == m) {
        Some(at) => part[at + 1..].iter().map(|p| sizes[*p]).product(),
        None => 0,
    };
    scope.iter().map(stride).collect()
}

impl<T: Real> Table<T> {
    /// A table of zeros.
    pub(super) fn new(bucket: &Bucket, sizes: &[usize]) -> Self {
        let sizes: Vec<usize> = bucket.scope.iter().map(|m| sizes[*m]).collect();
        Self {
            cells: vec![T::zero(); sizes.iter().product()],
            sizes,
        }
    }

    fn row(&self) -> usize {
        self.sizes[self.sizes.len() - 1]
    }

    /// The offset of each row in a tensor of these strides, and its stride along rows.
    fn places(&self, strides: &[usize]) -> (Vec<usize>, usize) {
        let mut places = vec![0];
        let last = self.sizes.len() - 1;
        for (size, stride) in self.sizes[..last].iter().zip(strides) {
            let next = |at: &usize| (0..*size).map(move |i| at + i * stride).collect::<Vec<_>>();
            places = places.iter().flat_map(next).collect();
        }
        (places, strides[last])
    }

    /// Adds a tensor of these strides, broadcast over the others.
    pub(super) fn add(&mut self, x: &[T], strides: &[usize]) {
        let (places, step) = self.places(strides);
        let n = self.row();
        for (row, place) in self.cells.chunks_exact_mut(n).zip(places) {
            match step {
                0 => row.iter_mut().for_each(|v| *v += x[place]),
                1 => row.iter_mut().zip(&x[place..]).for_each(|(v, x)| *v += *x),
                _ => {
                    let x = x[place..].iter().step_by(step);
                    row.iter_mut().zip(x).for_each(|(v, x)| *v += *x);
                }
            }
        }
    }

    /// The sums over all marginals that a tensor of these strides does not depend on.
    pub(super) fn sums(&self, strides: &[usize]) -> Vec<T> {
        let (places, step) = self.places(strides);
        let kept = self.sizes.iter().zip(strides).filter(|(_, s)| **s > 0);
        let mut sums = vec![T::zero(); kept.map(|(n, _)| n).product()];
        for (row, place) in self.cells.chunks_exact(self.row()).zip(places) {
            match step {
                0 => sums[place] += row.iter().copied().sum(),
                _ => {
                    let to = sums[place..].iter_mut().step_by(step);
                    to.zip(row).for_each(|(s, v)| *s += *v);
                }
            }
        }
        sums
    }

    /// Replaces every cell by its exponential.
    pub(super) fn exponentiate(&mut self) {
        simd::exp_in_place(&mut self.cells);
    }

    /// `log sum exp` over all marginals that `out`, a tensor of these strides, does not depend on.
    pub(super) fn log_sums(&self, strides: &[usize], out: &mut [T]) {
        let (places, step) = self.places(strides);
        out.fill(T::neg_infinity());
        let mut sums = vec![T::zero(); out.len()];
        simd::dispatch(LogSums {
            cells: &self.cells,
            n: self.row(),
            places: &places,
            along: step > 0,
            largest: out,
            sums: &mut sums,
        });
    }
}

/// Log-sum-exp, shifted by the largest term; `largest` receives the result.
struct LogSums<'a, T> {
    cells: &'a [T],
    n: usize,
    places: &'a [usize],
    /// True if rows are added to one another; else each row is summed.
    along: bool,
    largest: &'a mut [T],
    sums: &'a mut [T],
}

impl<T: Real> Kernel for LogSums<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self {
            cells,
            n,
            places,
            along,
            largest,
            sums,
        } = self;
        let rows = || cells.chunks_exact(n).zip(places);
        for (row, place) in rows() {
            match along {
                true => add_largest(row, &mut largest[*place..][..n]),
                false => {
                    let most = row.iter().copied().fold(T::neg_infinity(), greatest);
                    largest[*place] = greatest(largest[*place], most);
                }
            }
        }
        // Without any mass the shift is 0, because -inf - -inf is NaN.
        for most in largest.iter_mut().filter(|v| **v == T::neg_infinity()) {
            *most = T::zero();
        }
        for (row, place) in rows() {
            match along {
                true => {
                    let (shift, sums) = (&largest[*place..][..n], &mut sums[*place..][..n]);
                    add_exponentials(isa, row, shift, sums);
                }
                false => sums[*place] += sum_exponentials(isa, row, largest[*place]),
            }
        }
        for_blocks!(at in largest.len(), {
            let (mut shift, s) = (at.load(largest), at.load(sums));
            for i in 0..LANES {
                shift[i] += simd::ln_value(isa, s[i]);
            }
            at.store(shift, largest);
        });
    }
}

#[inline(always)]
fn add_largest<T: Real>(row: &[T], largest: &mut [T]) {
    let n = row.len();
    for_blocks!(at in n, {
        let (x, mut most) = (at.load(row), at.load(largest));
        for i in 0..LANES {
            most[i] = greatest(most[i], x[i]);
        }
        at.store(most, largest);
    });
}

#[inline(always)]
fn add_exponentials<T: Real, I: Isa>(isa: I, row: &[T], shift: &[T], sums: &mut [T]) {
    let n = row.len();
    for_blocks!(at in n, {
        let (x, shift, mut sum) = (at.load(row), at.load(shift), at.load(sums));
        for i in 0..LANES {
            sum[i] += simd::exp_normal_value(isa, x[i] - shift[i]);
        }
        at.store(sum, sums);
    });
}

#[inline(always)]
fn sum_exponentials<T: Real, I: Isa>(isa: I, row: &[T], shift: T) -> T {
    let mut sums = [T::zero(); LANES];
    for_blocks!(at in row.len(), {
        let mut x = at.load(row);
        for v in &mut x {
            *v = simd::exp_normal_value(isa, *v - shift);
        }
        let x = at.within(x);
        for i in 0..LANES {
            sums[i] += x[i];
        }
    });
    simd::total(sums)
}
