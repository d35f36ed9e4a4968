//! Kernels `exp(-C / eps)` of a matrix of costs with a number added to each row and to each column.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::joint::piece_rows;

/// How the terms are added up before the exponential: scaling late keeps the digits of potentials that cancel the costs.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Terms {
    /// `exp((r_i + c_j - C_ij) / eps)`, of potentials.
    Potentials,
    /// `exp(r_i - c_j - C_ij / eps)`, of logarithms.
    Logarithms,
}

/// The kernel of costs whose rows have the length of `columns`, in pieces of whole rows; `inverse` is `1 / eps`.
pub(super) fn exponentials<T: Real>(
    cost: &[T],
    (rows, columns): (&[T], &[T]),
    (terms, inverse): (Terms, T),
    kernel: &mut [T],
) {
    let n = columns.len();
    let piece = piece_rows(n);
    parallel::for_each_chunk(kernel, piece * n, 20 * cost.len(), |i, kernel| {
        let (cost, rows) = (&cost[i * piece * n..], &rows[i * piece..]);
        match terms {
            Terms::Potentials => simd::dispatch(Exponentials::<T, true> {
                cost,
                rows,
                columns,
                inverse,
                kernel,
            }),
            Terms::Logarithms => simd::dispatch(Exponentials::<T, false> {
                cost,
                rows,
                columns,
                inverse,
                kernel,
            }),
        }
    });
}

struct Exponentials<'a, T, const POTENTIALS: bool> {
    cost: &'a [T],
    rows: &'a [T],
    columns: &'a [T],
    inverse: T,
    kernel: &'a mut [T],
}

impl<T: Real, const POTENTIALS: bool> Kernel for Exponentials<'_, T, POTENTIALS> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.columns.len();
        let rows = self.cost.chunks_exact(n).zip(self.rows);
        for ((cost, row), kernel) in rows.zip(self.kernel.chunks_exact_mut(n)) {
            for_blocks!(at in n, {
                let (mut c, column) = (at.load(cost), at.load(self.columns));
                for i in 0..LANES {
                    let term = match POTENTIALS {
                        true => (*row + column[i] - c[i]) * self.inverse,
                        false => isa.mul_add(-self.inverse, c[i], *row - column[i]),
                    };
                    c[i] = simd::exp_normal_value(isa, term);
                }
                at.store(c, kernel);
            });
        }
    }
}
