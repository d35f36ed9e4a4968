//! Messages along an edge: products with its kernel in the log domain.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::exponentials::{Terms, exponentials};
use super::matvec::matvec_transposed;
use super::state::greatest;

/// The costs of an edge in rows padded to whole vector blocks.
pub(super) struct EdgeCosts<T> {
    cost: Vec<T>,
    stride: usize,
}

/// The length of a vector padded to whole blocks.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

impl<T: Real> EdgeCosts<T> {
    /// Pads a matrix with so many columns.
    pub(super) fn new(cost: &[T], columns: usize) -> Self {
        let stride = padded(columns);
        let mut rows = vec![T::zero(); cost.len() / columns * stride];
        for (to, from) in rows
            .chunks_exact_mut(stride)
            .zip(cost.chunks_exact(columns))
        {
            to[..columns].copy_from_slice(from);
        }
        Self { cost: rows, stride }
    }

    /// The costs from point `i`, padded.
    pub(super) fn row(&self, i: usize) -> &[T] {
        &self.cost[i * self.stride..][..self.stride]
    }
}

/// The message along an edge in one direction:
///
/// ```text
/// out_j = log sum_i exp(a_i - C_ij / eps)
/// ```
///
/// `a` changes little from sweep to sweep. So the kernel `A_ij = exp(a_i - C_ij / eps - shift_j)` of an earlier `a`, the
/// origin, is kept: the sum is `A^T exp(a - origin)`, without an exponential for each cell, until `a` is far from it.
pub(super) struct Message<'a, T> {
    costs: &'a EdgeCosts<T>,
    kernel: Vec<T>,
    origin: Vec<T>,
    shift: Vec<T>,
    /// `exp(a - origin)`.
    factors: Vec<T>,
    sums: Vec<T>,
    /// `1 / eps` of the kernel; 0 before the first.
    inverse: T,
}

/// Columns of one parallel piece.
const COLUMNS: usize = 512;

/// True if all numbers are far from underflow, so that no lost term matters beside them.
fn trusted<T: Real>(x: &[T]) -> bool {
    let (low, high) = (T::of(1e-12), T::of(1e12));
    // No early exit: the loop has no branch.
    x.iter()
        .fold(true, |all, v| all & (*v >= low) & (*v <= high))
}

impl<'a, T: Real> Message<'a, T> {
    pub(super) fn new(costs: &'a EdgeCosts<T>) -> Self {
        let points = costs.cost.len() / costs.stride;
        Self {
            costs,
            kernel: vec![T::zero(); costs.cost.len()],
            origin: vec![T::zero(); points],
            shift: vec![T::zero(); costs.stride],
            factors: vec![T::zero(); points],
            sums: vec![T::zero(); costs.stride],
            inverse: T::zero(),
        }
    }

    /// Computes the message; `a` is -inf where there is no mass. `out` holds a guess of the result, used as the shift.
    pub(super) fn send(&mut self, a: &[T], inverse: T, out: &mut [T]) {
        if inverse != self.inverse || !self.factors_are_trusted(a) {
            self.recompute_kernel(a, inverse, out);
        }
        matvec_transposed(&self.kernel, &self.factors, &mut self.sums);
        if !trusted(&self.sums) {
            largest(self.costs, a, inverse, out);
            self.recompute_kernel(a, inverse, out);
            matvec_transposed(&self.kernel, &self.factors, &mut self.sums);
        }
        simd::ln(&self.sums, out);
        out.iter_mut().zip(&self.shift).for_each(|(o, s)| *o += *s);
    }

    /// Computes the factors; returns whether they can be trusted.
    fn factors_are_trusted(&mut self, a: &[T]) -> bool {
        for ((x, a), origin) in self.factors.iter_mut().zip(a).zip(&self.origin) {
            // 1 where there is no mass: the kernel row is 0.
            *x = if *a > T::neg_infinity() {
                *a - *origin
            } else {
                T::zero()
            };
        }
        simd::exp_in_place(&mut self.factors);
        trusted(&self.factors)
    }

    /// Recomputes the kernel with `a` as the origin and its columns shifted.
    fn recompute_kernel(&mut self, a: &[T], inverse: T, shift: &[T]) {
        self.inverse = inverse;
        self.origin.copy_from_slice(a);
        self.shift.copy_from_slice(shift);
        // Rows without mass are 0.
        self.factors.fill(T::one());
        let terms = (Terms::Logarithms, inverse);
        exponentials(&self.costs.cost, (a, &self.shift), terms, &mut self.kernel);
    }
}

/// `max_i (a_i - C_ij / eps)`.
fn largest<T: Real>(costs: &EdgeCosts<T>, a: &[T], inverse: T, out: &mut [T]) {
    struct Largest<'a, T> {
        costs: &'a EdgeCosts<T>,
        start: usize,
        a: &'a [T],
        inverse: T,
        out: &'a mut [T],
    }
    impl<T: Real> Kernel for Largest<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) {
            let n = self.out.len();
            self.out.fill(T::neg_infinity());
            for (i, a) in self.a.iter().enumerate() {
                let costs = &self.costs.row(i)[self.start..][..n];
                for_blocks!(at in n, {
                    let (c, mut most) = (at.load(costs), at.load(self.out));
                    for i in 0..LANES {
                        most[i] = greatest(most[i], isa.mul_add(-self.inverse, c[i], *a));
                    }
                    at.store(most, self.out);
                });
            }
        }
    }
    let work = 4 * a.len() * out.len();
    parallel::for_each_chunk(out, COLUMNS, work, |i, out| {
        simd::dispatch(Largest {
            costs,
            start: i * COLUMNS,
            a,
            inverse,
            out,
        });
    });
}
