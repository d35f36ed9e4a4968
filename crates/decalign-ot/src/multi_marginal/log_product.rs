//! Products with a kernel in the log domain: the messages along an edge.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::engine::greatest;

/// The costs of an edge, in rows of whole blocks.
pub(super) struct LogTable<T> {
    cost: Vec<T>,
    stride: usize,
}

/// Columns of one piece of work.
const COLUMNS: usize = 512;

impl<T: Real> LogTable<T> {
    /// Of a matrix with so many columns.
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

    /// `out_j = log sum_i exp(a_i - C_ij / eps)`.
    ///
    /// What `out` holds is taken as a guess: terms are shifted by it, and where that turns out to
    /// be far off, by the largest of them.
    pub(super) fn log_product(&self, a: &[T], inverse: T, out: &mut [T]) {
        let work = 20 * a.len() * out.len();
        parallel::for_each_chunk(out, COLUMNS, work, |i, out| {
            simd::dispatch(LogProduct {
                table: self,
                start: i * COLUMNS,
                a,
                inverse,
                out,
            });
        });
    }
}

/// The length of a vector in whole blocks.
pub(super) fn padded(n: usize) -> usize {
    n.next_multiple_of(LANES)
}

struct LogProduct<'a, T> {
    table: &'a LogTable<T>,
    start: usize,
    a: &'a [T],
    inverse: T,
    out: &'a mut [T],
}

impl<T: Real> Kernel for LogProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self {
            table,
            start,
            a,
            inverse,
            out,
        } = self;
        let n = out.len();
        let mut sums = [T::zero(); COLUMNS];
        sum_terms(isa, (table, start), a, inverse, out, &mut sums[..n]);
        // Then nothing that matters underflowed.
        let (low, high) = (T::of(1e-12), T::of(1e12));
        if !sums[..n].iter().all(|s| *s >= low && *s <= high) {
            out.fill(T::neg_infinity());
            for (i, a) in a.iter().enumerate() {
                let costs = &table.row(i)[start..][..n];
                for_blocks!(at in n, {
                    let (c, mut most) = (at.load(costs), at.load(out));
                    for i in 0..LANES {
                        let term = isa.mul_add(-inverse, c[i], *a);
                        most[i] = greatest(most[i], term);
                    }
                    at.store(most, out);
                });
            }
            sum_terms(isa, (table, start), a, inverse, out, &mut sums[..n]);
        }
        for_blocks!(at in n, {
            let (mut shift, s) = (at.load(out), at.load(&sums[..n]));
            for i in 0..LANES {
                shift[i] += simd::ln_value(isa, s[i]);
            }
            at.store(shift, out);
        });
    }
}

/// `sums_j = sum_i exp(a_i - C_ij / eps - shift_j)`.
#[inline(always)]
fn sum_terms<T: Real, I: Isa>(
    isa: I,
    (table, start): (&LogTable<T>, usize),
    a: &[T],
    inverse: T,
    shift: &[T],
    sums: &mut [T],
) {
    let n = sums.len();
    sums.fill(T::zero());
    for (i, a) in a.iter().enumerate() {
        // No mass.
        if *a == T::neg_infinity() {
            continue;
        }
        let costs = &table.row(i)[start..][..n];
        for_blocks!(at in n, {
            let (c, shift, mut sum) = (at.load(costs), at.load(shift), at.load(sums));
            for i in 0..LANES {
                let term = isa.mul_add(-inverse, c[i], *a - shift[i]);
                sum[i] += simd::exp_normal_value(isa, term);
            }
            at.store(sum, sums);
        });
    }
}
