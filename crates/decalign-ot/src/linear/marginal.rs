//! The two marginals of a problem: what they should be, what they are of a plan, and vectors over their points.

use decalign_core::{Real, parallel, simd};

use crate::geometry::{Cells, Costs, PIECE, ROWS, padded};

/// Pieces of rows, at most, that are summed in parallel: each holds sums of all columns.
pub(super) const PIECES: usize = 32;

/// The weights of one side, and how strongly the plan's marginal is held to them.
#[derive(Clone)]
pub(super) struct Side<T> {
    pub(super) weights: Vec<T>,
    /// log2 of the weights.
    pub(super) logs: Vec<T>,
    /// `rho / (rho + eps)`: 1 when the marginal is exact.
    hold: T,
    /// `eps / rho`: 0 when the marginal is exact.
    decay: T,
}

impl<T: Real> Side<T> {
    /// Weights penalised by `rho KL(marginal | weights)`; an infinite `rho` makes them exact.
    pub(super) fn new(weights: Vec<T>, rho: f64, epsilon: f64) -> Self {
        let exact = rho.is_infinite();
        Self {
            logs: weights.iter().map(|w| w.log2()).collect(),
            weights,
            hold: T::of(if exact { 1.0 } else { rho / (rho + epsilon) }),
            decay: T::of(if exact { 0.0 } else { epsilon / rho }),
        }
    }

    /// The whole step of potential `i`, given the step that would make its marginal exact.
    #[inline(always)]
    pub(super) fn step(&self, i: usize, potential: T, exact: T) -> T {
        match self.decay == T::zero() {
            true => exact,
            false => self.hold * exact - (T::one() - self.hold) * (potential - self.logs[i]),
        }
    }

    /// Steps of all potentials from the logarithms of the kernel's sums. Returns the L1 error before.
    pub(super) fn scale(&self, relaxation: T, potential: &mut [T], logs: &[T]) -> f64 {
        let mut error = 0.0;
        for (i, (f, log)) in potential.iter_mut().zip(logs).enumerate() {
            if self.weights[i] > T::zero() {
                error += self.distance(i, *f, (*f + *log).exp2());
                *f += relaxation * self.step(i, *f, self.logs[i] - (*f + *log));
            }
        }
        error
    }

    /// The constant to move from the other side's potentials to this one's so that the dual is largest, 0 unless a side is penalised:
    /// `t = rho rho' / (rho + rho') log(<a, exp(-f / rho)> / <b, exp(-g / rho')>)`.
    ///
    /// Source: Séjourné and others (2022), translation invariant Sinkhorn.
    pub(super) fn translation(&self, f: &[T], other: &Self, g: &[T]) -> T {
        let decays = self.decay.as_f64() + other.decay.as_f64();
        if decays == 0.0 {
            return T::zero();
        }
        let asked = |side: &Self, x: &[T]| -> f64 {
            let points = side
                .weights
                .iter()
                .zip(&side.logs)
                .zip(x)
                .filter(|((w, _), _)| **w > T::zero());
            points
                .map(|((w, log), x)| {
                    w.as_f64() * (-side.decay.as_f64() * (*x - *log).as_f64()).exp2()
                })
                .sum()
        };
        let shift = (asked(self, f) / asked(other, g)).log2() / decays;
        if shift.is_finite() {
            T::of(shift)
        } else {
            T::zero()
        }
    }

    /// The distance between the sum of the plan at point `i` and its target, `a exp(-f / rho)`.
    #[inline(always)]
    pub(super) fn distance(&self, i: usize, potential: T, sum: T) -> f64 {
        let wanted = match self.decay == T::zero() {
            true => self.weights[i],
            false => self.weights[i] * (-self.decay * (potential - self.logs[i])).exp2(),
        };
        (sum.as_f64() - wanted.as_f64()).abs()
    }
}

/// `<P, C>` and the marginals of a plan.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub(super) cost: f64,
    pub(super) rows: Vec<f64>,
    pub(super) columns: Vec<f64>,
}

impl Totals {
    /// The totals of the plan `2^(f + g - inverse C)`.
    pub(super) fn of<T: Real>(costs: &Costs<T>, f: &[T], g: &[T], inverse: T) -> Self {
        if let Costs::Grid(grid) = costs {
            let sums = |f: &[T], logs: Vec<T>| {
                f.iter()
                    .zip(logs)
                    .map(|(f, l)| (*f + l).exp2().as_f64())
                    .collect()
            };
            let rows: Vec<f64> = sums(f, grid.log_sums(g, inverse, false));
            let columns = sums(g, grid.log_sums(f, inverse, true));
            let cost = grid.cost(f, g, inverse, rows.iter().sum());
            return Self {
                cost,
                rows,
                columns,
            };
        }
        let (m, mut g) = (g.len(), g.to_vec());
        g.resize(padded(m), T::neg_infinity());
        let mut totals = totals(costs, f, &g, inverse);
        totals.columns.truncate(m);
        totals
    }

    /// The larger L1 distance of a marginal from its target, `a exp(-f / rho)`; NaN if one is NaN.
    pub(super) fn error(
        &self,
        (f, g): (&[f64], &[f64]),
        (a, b): (&[f64], &[f64]),
        (rho_a, rho_b): (f64, f64),
    ) -> f64 {
        let rows = distance(&self.rows, f, a, rho_a);
        let columns = distance(&self.columns, g, b, rho_b);
        match rows > columns || rows.is_nan() {
            true => rows,
            false => columns,
        }
    }
}

fn distance(sums: &[f64], f: &[f64], weights: &[f64], rho: f64) -> f64 {
    let each = sums.iter().zip(f).zip(weights);
    each.map(|((sum, f), w)| (sum - w * (-f / rho).exp()).abs())
        .sum()
}

/// Rows in at most [`PIECES`] pieces, as each holds sums of all columns; `g` is of padded length.
fn totals<T: Real>(costs: &Costs<T>, f: &[T], g: &[T], inverse: T) -> Totals {
    let (n, m) = (f.len(), g.len());
    let size = n.div_ceil(PIECES).next_multiple_of(ROWS).max(PIECE);
    let pieces = parallel::map(n.div_ceil(size), 12 * n * m, |piece| {
        let rows = piece * size..n.min((piece + 1) * size);
        sums(costs, (rows.start, &f[rows]), g, inverse)
    });
    let mut all = Totals {
        cost: 0.0,
        rows: Vec::with_capacity(n),
        columns: vec![0.0; m],
    };
    for piece in pieces {
        all.cost += piece.cost;
        all.rows.extend(piece.rows);
        all.columns
            .iter_mut()
            .zip(piece.columns)
            .for_each(|(sum, v)| *sum += v);
    }
    all
}

/// The totals of a piece of rows.
fn sums<T: Real>(costs: &Costs<T>, (start, f): (usize, &[T]), g: &[T], inverse: T) -> Totals {
    let m = g.len();
    let mut totals = Totals {
        columns: vec![0.0; m],
        ..Totals::default()
    };
    let (mut cells, mut raw) = (Cells::default(), Cells::default());
    for (block, f) in f.chunks(ROWS).enumerate() {
        let first = start + block * ROWS;
        costs.exponentials((first, f), g, inverse, &mut cells);
        costs.rows(first, f.len(), m, &mut raw);
        for r in 0..f.len() {
            let row = cells.row(r);
            totals.rows.push(cells.sum(r).as_f64());
            totals.cost += simd::dot(row, raw.row(r)).as_f64();
            totals
                .columns
                .iter_mut()
                .zip(row)
                .for_each(|(sum, v)| *sum += v.as_f64());
        }
    }
    totals
}

/// `log2` of the weights.
pub(super) fn logs(weights: &[f64]) -> Vec<f64> {
    weights.iter().map(|w| w.log2()).collect()
}

/// `F = f / (eps ln 2) + log2 a`.
pub(super) fn scaled(potential: &[f64], weights: &[f64], epsilon: f64) -> Vec<f64> {
    let factor = std::f64::consts::LOG2_E / epsilon;
    potential
        .iter()
        .zip(weights)
        .map(|(f, w)| f * factor + w.log2())
        .collect()
}

/// f from F, given `log2 a`; 0 where there is no mass.
pub(super) fn unscaled<T: Real>(scaled: &[T], logs: &[T], epsilon: f64) -> Vec<f64> {
    let factor = epsilon * std::f64::consts::LN_2;
    let each = scaled
        .iter()
        .zip(logs)
        .map(|(v, log)| match log.is_finite() {
            true => factor * (v.as_f64() - log.as_f64()),
            false => 0.0,
        });
    each.collect()
}

/// `x / w`, 0 where there is no weight; moved to a weighted mean of 0 if `centre`.
pub(super) fn divided(x: &[f64], weights: &[f64], centre: bool) -> Vec<f64> {
    let mut out: Vec<f64> = x
        .iter()
        .zip(weights)
        .map(|(x, w)| if *w > 0.0 { x / w } else { 0.0 })
        .collect();
    if centre {
        centred(&mut out, weights);
    }
    out
}

/// Moves the entries that have weight to a weighted mean of 0: gradients of weights with a fixed total are known up to a constant.
/// The mean is weighted so that a point of hardly any weight, whose entry may be huge, takes no digits from the others.
pub(super) fn centred(x: &mut [f64], weights: &[f64]) {
    let inner: f64 = x.iter().zip(weights).map(|(x, w)| x * w).sum();
    let mean = inner / weights.iter().sum::<f64>();
    for (x, w) in x.iter_mut().zip(weights) {
        *x = if *w > 0.0 { *x - mean } else { 0.0 };
    }
}
