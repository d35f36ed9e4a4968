//! One pass over the costs: rows scaled in turn, columns summed as they go.
//!
//! With `F = f / eps + log a` and `G = g / eps + log b` the plan is `P = exp(F + G - C / eps)`. For
//! row i, `e_j = exp(F_i + G_j - C_ij / eps)`, `w = a_i / sum e`, `F_i += log w`, `col += w e`;
//! after all rows `G_j += log(b_j / col_j)`: Gauss-Seidel Sinkhorn with one exponential a cell and
//! one read of the costs. With a relaxation above 1 both steps go further in their direction.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, parallel};

use crate::geometry::Costs;

/// Rows of one piece of work.
const PIECE: usize = 64;
/// Rows whose costs are computed at once: they and the columns' sums stay in the cache.
const BLOCK: usize = 8;

/// What does not change during a solve.
pub(super) struct Scaling<'a, T> {
    pub(super) costs: &'a Costs<T>,
    pub(super) a: &'a [T],
    pub(super) b: &'a [T],
    /// `1 / eps`.
    pub(super) inverse: T,
    /// What steps are multiplied by.
    pub(super) relaxation: T,
}

/// What a piece of rows gives.
struct Piece<T> {
    columns: Vec<T>,
    /// `sum |row sum of the plan before scaling - a|`.
    error: f64,
}

impl<T: Real> Scaling<'_, T> {
    /// Scales all rows, then all columns; returns the L1 error of the columns between, and before a
    /// relaxed step, which leaves no row exact, that of the rows as well.
    pub(super) fn sweep(&self, f: &mut [T], g: &mut [T]) -> f64 {
        let m = self.b.len();
        let pieces = {
            let given: &[T] = g;
            let rows: Vec<&mut [T]> = f.chunks_mut(PIECE).collect();
            let rows: Vec<_> = rows.into_iter().map(std::sync::Mutex::new).collect();
            parallel::map(rows.len(), 8 * self.a.len() * m, |i| {
                let mut f = rows[i]
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner);
                simd::dispatch(Rows {
                    scaling: self,
                    start: i * PIECE,
                    f: &mut f,
                    g: given,
                })
            })
        };
        let mut columns = vec![T::zero(); m];
        let mut error = 0.0;
        for piece in pieces {
            error += piece.error;
            columns
                .iter_mut()
                .zip(&piece.columns)
                .for_each(|(sum, v)| *sum += *v);
        }
        let distance = |(sum, b): (&T, &T)| (sum.as_f64() - b.as_f64()).abs();
        if self.relaxation == T::one() {
            error = 0.0;
        }
        error += columns.iter().zip(self.b).map(distance).sum::<f64>();
        self.scale_columns(f, g, &columns);
        error
    }

    fn scale_columns(&self, f: &[T], g: &mut [T], columns: &[T]) {
        let mut lost = Vec::new();
        for (j, (sum, b)) in columns.iter().zip(self.b).enumerate() {
            if *b == T::zero() {
                continue;
            }
            match *sum >= T::min_positive_value() && sum.is_finite() {
                true => g[j] += self.relaxation * (*b / *sum).ln(),
                false => lost.push(j),
            }
        }
        if !lost.is_empty() {
            let shifted = self.column_logs(f, &lost);
            for (j, log) in lost.into_iter().zip(shifted) {
                g[j] = self.b[j].ln() - log;
            }
        }
    }

    /// `log sum_i exp(F_i - C_ij / eps)` of some columns, shifted by the largest term.
    fn column_logs(&self, f: &[T], columns: &[usize]) -> Vec<T> {
        struct Logs<'a, 'b, T> {
            scaling: &'a Scaling<'b, T>,
            f: &'a [T],
            columns: &'a [usize],
        }
        impl<T: Real> Kernel for Logs<'_, '_, T> {
            type Output = Vec<T>;
            #[inline(always)]
            fn run<I: Isa>(self, isa: I) -> Vec<T> {
                let Self {
                    scaling,
                    f,
                    columns,
                } = self;
                let mut running = vec![(T::neg_infinity(), T::zero()); columns.len()];
                let mut buffer = Vec::new();
                for (i, f) in f.iter().enumerate().filter(|(_, f)| f.is_finite()) {
                    let costs = scaling.costs.rows(isa, i, 1, &mut buffer);
                    for ((largest, sum), j) in running.iter_mut().zip(columns) {
                        let term = *f - costs[*j] * scaling.inverse;
                        if term > *largest {
                            *sum = *sum * (*largest - term).exp() + T::one();
                            *largest = term;
                        } else {
                            *sum += (term - *largest).exp();
                        }
                    }
                }
                running
                    .into_iter()
                    .map(|(largest, sum)| largest + sum.ln())
                    .collect()
            }
        }
        simd::dispatch(Logs {
            scaling: self,
            f,
            columns,
        })
    }
}

/// The rows from `start` that `f` holds.
struct Rows<'a, 'b, T> {
    scaling: &'a Scaling<'b, T>,
    start: usize,
    f: &'a mut [T],
    g: &'a [T],
}

impl<T: Real> Kernel for Rows<'_, '_, T> {
    type Output = Piece<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Piece<T> {
        let Self {
            scaling,
            start,
            f,
            g,
        } = self;
        let m = g.len();
        let mut piece = Piece {
            columns: vec![T::zero(); m],
            error: 0.0,
        };
        let (mut buffer, mut e) = (Vec::new(), vec![T::zero(); m]);
        for (block, f) in f.chunks_mut(BLOCK).enumerate() {
            let first = start + block * BLOCK;
            let costs = scaling.costs.rows(isa, first, f.len(), &mut buffer);
            for ((f, costs), a) in f
                .iter_mut()
                .zip(costs.chunks_exact(m))
                .zip(&scaling.a[first..])
            {
                if *a == T::zero() {
                    continue;
                }
                let sum = exponentials(isa, *f, g, costs, scaling.inverse, &mut e);
                piece.error += (sum.as_f64() - a.as_f64()).abs();
                let mut w = *a / sum;
                if sum >= T::min_positive_value() && w.is_finite() && w > T::zero() {
                    let step = scaling.relaxation * w.ln();
                    *f += step;
                    if scaling.relaxation != T::one() {
                        w = step.exp();
                    }
                } else {
                    *f = a.ln() - shifted_log(isa, g, costs, scaling.inverse, &mut e);
                    exponentials(isa, *f, g, costs, scaling.inverse, &mut e);
                    w = T::one();
                }
                let columns = piece.columns.as_chunks_mut::<LANES>().0.iter_mut();
                for (sums, e) in columns.zip(e.as_chunks::<LANES>().0) {
                    for i in 0..LANES {
                        sums[i] = isa.mul_add(w, e[i], sums[i]);
                    }
                }
            }
        }
        piece
    }
}

/// `e_j = exp(F + G_j - C_j / eps)`; returns their sum. Slices are of padded length.
#[inline(always)]
pub(super) fn exponentials<T: Real, I: Isa>(
    isa: I,
    f: T,
    g: &[T],
    costs: &[T],
    inverse: T,
    e: &mut [T],
) -> T {
    let mut sums = [T::zero(); LANES];
    let given = g
        .as_chunks::<LANES>()
        .0
        .iter()
        .zip(costs.as_chunks::<LANES>().0);
    for (e, (g, c)) in e.as_chunks_mut::<LANES>().0.iter_mut().zip(given) {
        let mut out = [T::zero(); LANES];
        for i in 0..LANES {
            out[i] = simd::exp_normal_value(isa, isa.mul_add(-inverse, c[i], f + g[i]));
        }
        for i in 0..LANES {
            sums[i] += out[i];
        }
        *e = out;
    }
    simd::total(sums)
}

/// `log sum_j exp(G_j - C_j / eps)`, shifted by the largest term.
#[inline(always)]
fn shifted_log<T: Real, I: Isa>(isa: I, g: &[T], costs: &[T], inverse: T, e: &mut [T]) -> T {
    for ((e, g), c) in e.iter_mut().zip(g).zip(costs) {
        *e = isa.mul_add(-inverse, *c, *g);
    }
    let largest = simd::max(e);
    if largest == T::neg_infinity() {
        return largest;
    }
    for e in e.iter_mut() {
        *e = simd::exp_normal_value(isa, *e - largest);
    }
    largest + simd::sum(e).ln()
}
