//! One sweep: a single pass over the costs that scales every row and sums the columns, then scales the columns.
//!
//! Potentials are stored in base 2 with the weights folded in, `F = f / (eps ln 2) + log2 a` and G likewise, so that the plan is
//! `P_ij = 2^(F_i + G_j - C_ij / (eps ln 2))`. With `e_j = P_ij` of row i, the pass computes
//!
//! ```text
//! w = a_i / sum_j e_j;  F_i += log2 w;  column_j += w e_j      for every row i
//! G_j += log2(b_j / column_j)                                  after all rows
//! ```
//!
//! This is Sinkhorn's iteration in Gauss-Seidel order, with one exponential a cell and one read of the costs.
//!
//! Three generalisations. On a penalised side (unbalanced transport) the step is `l log2 w - (1 - l) (F - log2 a)` with
//! `l = rho / (rho + eps)`. A relaxation factor multiplies every step. A symmetric sweep moves both sides from the same plan, by half
//! a step each.

use std::sync::{Mutex, PoisonError};

use decalign_core::simd::{self, Aligned, Isa, Kernel, LANES};
use decalign_core::{Real, parallel};

use super::marginal::{PIECES, Side};
use crate::geometry::{Cells, Costs, Grid, PIECE, ROWS};

/// A problem at one epsilon, and the buffers of its sweeps.
pub(super) struct Scaling<'a, T> {
    pub(super) costs: &'a Costs<T>,
    pub(super) rows: Side<T>,
    /// Of padded length.
    pub(super) columns: Side<T>,
    /// `1 / (eps ln 2)`.
    pub(super) inverse: T,
    /// The factor of every step.
    pub(super) relaxation: T,
    /// Both sides move from the same plan.
    pub(super) symmetric: bool,
    /// Penalised problems: move the constant between the potentials that raises the dual most.
    pub(super) translate: bool,
    /// An upper bound on the exponents of all cells: a cell is at most the sum of its column. Infinite where none is known.
    ceiling: T,
    pieces: Vec<Mutex<Piece<T>>>,
    /// Rows of a piece.
    size: usize,
    /// Buffers of cells, one for each thread at work.
    pool: Mutex<Vec<Cells<T>>>,
    sums: Vec<T>,
}

/// The sums over a piece of rows.
#[derive(Default)]
struct Piece<T> {
    columns: Aligned<T>,
    /// The L1 error of the rows before they were scaled.
    error: f64,
}

/// Exponents up to this bound are far below the largest power of two of either type, so that one step cannot make them overflow.
const CEILING: f64 = 64.0;

/// True if a sum has kept all its terms. Outside of this range terms have underflowed or overflowed, and the sum is computed again as a
/// shifted log-sum-exp.
fn kept<T: Real>(sum: T) -> bool {
    let (low, high) = match size_of::<T>() {
        4 => (-118, 126),
        _ => (-1000, 1022),
    };
    sum >= T::of(2f64.powi(low)) && sum < T::of(2f64.powi(high))
}

impl<'a, T: Real> Scaling<'a, T> {
    pub(super) fn new(costs: &'a Costs<T>, rows: Side<T>, columns: Side<T>, epsilon: f64) -> Self {
        let n = rows.weights.len();
        let size = n.div_ceil(PIECES).next_multiple_of(ROWS).max(PIECE);
        let piece = || {
            Mutex::new(Piece {
                columns: Aligned::zeros(columns.weights.len()),
                error: 0.0,
            })
        };
        Self {
            costs,
            pieces: (0..n.div_ceil(size)).map(|_| piece()).collect(),
            size,
            pool: Mutex::default(),
            sums: vec![T::zero(); columns.weights.len()],
            rows,
            columns,
            inverse: T::of(std::f64::consts::LOG2_E / epsilon),
            relaxation: T::one(),
            symmetric: false,
            translate: true,
            ceiling: T::infinity(),
        }
    }

    /// Drops the bound on the exponents; to be called when potentials change between two sweeps.
    pub(super) fn forget(&mut self) {
        self.ceiling = T::infinity();
    }

    /// Scales all rows, then all columns. Returns the L1 error of the columns before they were scaled, plus that of the rows in relaxed
    /// and symmetric sweeps, which do not make the rows exact.
    pub(super) fn sweep(&mut self, f: &mut [T], g: &mut [T]) -> f64 {
        let error = match self.costs {
            Costs::Grid(grid) => self.separable(grid, f, g),
            _ => self.fused(f, g),
        };
        if self.translate {
            let shift = self.rows.translation(f, &self.columns, g);
            if shift != T::zero() {
                f.iter_mut().for_each(|f| *f += shift);
                g.iter_mut().for_each(|g| *g -= shift);
            }
        }
        error
    }

    fn fused(&mut self, f: &mut [T], g: &mut [T]) -> f64 {
        let before = self.symmetric.then(|| f.to_vec());
        let mut error = self.scale_rows(f, g);
        if self.relaxation == T::one() && !self.symmetric {
            error = 0.0;
        }
        let mut lost = Vec::new();
        let (columns, ceiling) = simd::dispatch(Columns {
            side: &self.columns,
            relaxation: self.relaxation,
            sums: &self.sums,
            g,
            lost: &mut lost,
        });
        error += columns;
        // A symmetric sweep moved the rows after the columns were summed, so that the bound does not hold.
        self.ceiling = match lost.is_empty() && !self.symmetric {
            true => ceiling,
            false => T::infinity(),
        };
        if !lost.is_empty() {
            let logs = self.column_logs(before.as_deref().unwrap_or(f), &lost);
            for (j, log) in lost.into_iter().zip(logs) {
                g[j] += self.reach()
                    * self
                        .columns
                        .step(j, g[j], self.columns.logs[j] - (g[j] + log));
            }
        }
        error
    }

    /// The factor of the steps of points whose sum lost terms: they are not lengthened.
    fn reach(&self) -> T {
        if self.symmetric {
            self.relaxation
        } else {
            T::one()
        }
    }

    /// [`Scaling::sweep`] of separable costs, by sums of logarithms.
    fn separable(&self, grid: &Grid<T>, f: &mut [T], g: &mut [T]) -> f64 {
        // Grids have no padding.
        let g = &mut g[..grid.size().1];
        let before = self.symmetric.then(|| f.to_vec());
        let logs = grid.log_sums(g, self.inverse, false);
        let rows = self.rows.scale(self.relaxation, f, &logs);
        let logs = grid.log_sums(before.as_deref().unwrap_or(f), self.inverse, true);
        let columns = self.columns.scale(self.relaxation, g, &logs);
        match self.relaxation == T::one() && !self.symmetric {
            true => columns,
            false => rows + columns,
        }
    }

    /// Scales all rows and sums the columns; returns the error of the rows before.
    fn scale_rows(&mut self, f: &mut [T], g: &[T]) -> f64 {
        let work = 8 * f.len() * g.len();
        let rows: Vec<_> = f.chunks_mut(self.size).map(Mutex::new).collect();
        let this = &*self;
        parallel::map(rows.len(), work, |i| {
            let mut cells = lock(&this.pool).pop().unwrap_or_default();
            simd::dispatch(Rows {
                scaling: this,
                start: i * this.size,
                f: &mut lock(&rows[i]),
                g,
                piece: &mut lock(&this.pieces[i]),
                cells: &mut cells,
            });
            lock(&this.pool).push(cells);
        });
        let mut error = 0.0;
        self.sums.fill(T::zero());
        for piece in &self.pieces {
            let piece = lock(piece);
            error += piece.error;
            self.sums
                .iter_mut()
                .zip(piece.columns.iter())
                .for_each(|(sum, v)| *sum += *v);
        }
        error
    }

    /// `log2 sum_i 2^(F_i - C_ij / (eps ln 2))` of some columns, shifted by the largest term.
    fn column_logs(&self, f: &[T], columns: &[usize]) -> Vec<T> {
        let m = self.columns.weights.len();
        let mut running = vec![(T::neg_infinity(), T::zero()); columns.len()];
        let mut cells = Cells::default();
        for (block, f) in f.chunks(ROWS).enumerate() {
            self.costs.rows(block * ROWS, f.len(), m, &mut cells);
            for (r, f) in f.iter().enumerate().filter(|(_, f)| f.is_finite()) {
                let costs = cells.row(r);
                for ((largest, sum), j) in running.iter_mut().zip(columns) {
                    let term = *f - costs[*j] * self.inverse;
                    if term > *largest {
                        *sum = *sum * (*largest - term).exp2() + T::one();
                        *largest = term;
                    } else {
                        *sum += (term - *largest).exp2();
                    }
                }
            }
        }
        running
            .into_iter()
            .map(|(largest, sum)| largest + sum.log2())
            .collect()
    }

    /// `log2 sum_j 2^(G_j - C_ij / (eps ln 2))` of one row, shifted by the largest term.
    #[cold]
    #[inline(never)]
    fn row_log(&self, i: usize, g: &[T]) -> T {
        let mut cells = Cells::default();
        let (block, r) = (i / ROWS * ROWS, i % ROWS);
        self.costs.rows(block, r + 1, g.len(), &mut cells);
        let terms: Vec<T> = g
            .iter()
            .zip(cells.row(r))
            .map(|(g, c)| *g - *c * self.inverse)
            .collect();
        let largest = simd::max(&terms);
        match largest.is_finite() {
            true => {
                largest
                    + terms
                        .iter()
                        .map(|t| (*t - largest).exp2())
                        .sum::<T>()
                        .log2()
            }
            false => largest,
        }
    }
}

/// Locks a mutex, also after a panic of a thread that held it.
fn lock<V>(mutex: &Mutex<V>) -> std::sync::MutexGuard<'_, V> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The rows' half of a sweep, for the rows from `start` that `f` holds.
struct Rows<'a, 'b, T> {
    scaling: &'a Scaling<'b, T>,
    start: usize,
    f: &'a mut [T],
    g: &'a [T],
    piece: &'a mut Piece<T>,
    cells: &'a mut Cells<T>,
}

impl<T: Real> Kernel for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Self {
            scaling,
            start,
            f,
            g,
            piece,
            cells,
        } = self;
        let (side, inverse) = (&scaling.rows, scaling.inverse);
        piece.columns.fill(T::zero());
        piece.error = 0.0;
        // False of a NaN ceiling.
        let exponentials = match scaling.ceiling < T::of(CEILING) {
            true => Costs::bounded_exponentials,
            false => Costs::exponentials,
        };
        for (block, f) in f.chunks_mut(ROWS).enumerate() {
            let first = start + block * ROWS;
            exponentials(scaling.costs, (first, f), g, inverse, cells);
            let (mut scale, mut lost) = ([T::zero(); ROWS], false);
            let mut ratios = [T::one(); 8];
            for (r, ratio) in ratios.iter_mut().enumerate().take(f.len()) {
                *ratio = side.weights[first + r] / cells.sum(r);
            }
            let mut logs = ratios;
            for log in &mut logs {
                *log = simd::ln_value(isa, *log) * T::of(std::f64::consts::LOG2_E);
            }
            for (r, f) in f.iter_mut().enumerate() {
                let (i, sum) = (first + r, cells.sum(r));
                if side.weights[i] == T::zero() {
                    continue;
                }
                piece.error += side.distance(i, *f, sum);
                let (mut log, mut reach) = (logs[r], scaling.relaxation);
                if !kept(sum) {
                    (lost, reach) = (true, scaling.reach());
                    log = side.logs[i] - (*f + scaling.row_log(i, g));
                }
                let step = reach * side.step(i, *f, log);
                *f += step;
                scale[r] = match scaling.symmetric {
                    true => T::one(),
                    false if step == log => ratios[r],
                    false => simd::exp2_value(isa, step),
                };
            }
            if lost && !scaling.symmetric {
                scaling.costs.exponentials((first, f), g, inverse, cells);
                scale = [T::one(); ROWS];
                scale[f.len()..].fill(T::zero());
            }
            add_rows(isa, cells, scale, &mut piece.columns);
        }
    }
}

/// `columns += sum_r scale_r cells_r`.
#[inline(always)]
fn add_rows<T: Real, I: Isa>(isa: I, cells: &Cells<T>, scale: [T; ROWS], columns: &mut [T]) {
    let rows: [&[[T; LANES]]; ROWS] = std::array::from_fn(|r| cells.row(r).as_chunks::<LANES>().0);
    for (block, sums) in columns.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        let mut lanes = *sums;
        for r in 0..ROWS {
            let e = &rows[r][block];
            for i in 0..LANES {
                lanes[i] = isa.mul_add(scale[r], e[i], lanes[i]);
            }
        }
        *sums = lanes;
    }
}

/// The columns' half of a sweep, from their sums. Columns whose sum has lost terms keep their potential and are listed in `lost`.
struct Columns<'a, T> {
    side: &'a Side<T>,
    relaxation: T,
    sums: &'a [T],
    g: &'a mut [T],
    lost: &'a mut Vec<usize>,
}

impl<T: Real> Kernel for Columns<'_, T> {
    /// The L1 error of the columns before, and the largest logarithm of a column's sum after.
    type Output = (f64, T);

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> (f64, T) {
        let Self {
            side,
            relaxation,
            sums,
            g,
            lost,
        } = self;
        let (mut error, mut ceiling) = (0.0, T::neg_infinity());
        for (block, g) in g.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            let at = block * LANES;
            let (sums, weights) = (&sums[at..][..LANES], &side.weights[at..][..LANES]);
            let mut logs = [T::zero(); LANES];
            for i in 0..LANES {
                logs[i] =
                    simd::ln_value(isa, weights[i] / sums[i]) * T::of(std::f64::consts::LOG2_E);
            }
            for i in 0..LANES {
                if weights[i] == T::zero() {
                    continue;
                }
                error += side.distance(at + i, g[i], sums[i]);
                if !kept(sums[i]) {
                    lost.push(at + i);
                    continue;
                }
                let step = relaxation * side.step(at + i, g[i], logs[i]);
                g[i] += step;
                let after = side.logs[at + i] - logs[i] + step;
                // A NaN ceiling stays NaN, so that bounded exponentials are not used.
                let stays = ceiling >= after || ceiling.is_nan();
                ceiling = if stays { ceiling } else { after };
            }
        }
        (error, ceiling)
    }
}
