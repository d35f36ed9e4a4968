//! The nearest Q, R and g that fit together.

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::{parallel, simd};

use super::ridge;
use crate::validate::{inner, larger};

/// Rows of one piece of work.
const PIECE: usize = 256;
/// Cells are not taken below this part of the largest of their row, so that no column is lost.
const LEAST: f64 = -300.0;
/// A multiplier moves by this at most in one step.
const LONGEST: f64 = 30.0;
/// Times that a step is halved, at most.
const HALVINGS: usize = 40;

/// A matrix whose row sums are exact.
pub(super) struct Factor {
    pub(super) cells: Vec<f64>,
    /// `sum_i p_i log sum_k exp(logs_ik)` of the logarithms that came in.
    level: f64,
    /// Column sums.
    columns: Vec<f64>,
}

impl Factor {
    /// Rows of `p_i` times the softmax of `logs_ik + shifts_k`.
    fn new(logs: &[f64], shifts: &[f64], p: &[f64]) -> Self {
        let r = shifts.len();
        let (mut cells, mut levels) = (vec![0.0; logs.len()], vec![0.0; p.len()]);
        let sizes = (PIECE * r, PIECE);
        let work = 12 * logs.len();
        parallel::for_each_pair(
            (&mut cells, sizes.0),
            (&mut levels, sizes.1),
            work,
            |piece, cells, levels| {
                let (logs, p) = (&logs[piece * sizes.0..], &p[piece * PIECE..]);
                softmax(logs, shifts, p, cells, levels);
            },
        );
        Self {
            level: levels.iter().sum(),
            columns: columns(&cells, r),
            cells,
        }
    }
}

/// One piece of [`Factor::new`].
fn softmax(logs: &[f64], shifts: &[f64], p: &[f64], cells: &mut [f64], levels: &mut [f64]) {
    let r = shifts.len();
    let rows = cells.chunks_exact_mut(r).zip(logs.chunks_exact(r));
    for ((row, logs), level) in rows.zip(levels.iter_mut()) {
        for ((cell, log), shift) in row.iter_mut().zip(logs).zip(shifts) {
            *cell = log + shift;
        }
        let largest = simd::max(row);
        row.iter_mut().for_each(|v| *v -= largest);
        *level = largest;
    }
    simd::exp_in_place(cells);
    for ((row, level), p) in cells.chunks_exact_mut(r).zip(levels).zip(p) {
        let sum: f64 = row.iter().sum();
        row.iter_mut().for_each(|v| *v *= p / sum);
        *level = p * (*level + sum.ln());
    }
}

fn columns(cells: &[f64], r: usize) -> Vec<f64> {
    let pieces = parallel::map(cells.len().div_ceil(PIECE * r), cells.len(), |piece| {
        let mut sums = vec![0.0; r];
        let end = cells.len().min((piece + 1) * PIECE * r);
        for row in cells[piece * PIECE * r..end].chunks_exact(r) {
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += v);
        }
        sums
    });
    let mut sums = vec![0.0; r];
    for piece in pieces {
        sums.iter_mut().zip(piece).for_each(|(s, v)| *s += v);
    }
    sums
}

/// Rows about their largest, which changes no projection, and not too far below it.
fn settle(mut logs: Vec<f64>, r: usize) -> Vec<f64> {
    for row in logs.chunks_exact_mut(r) {
        let largest = simd::max(row);
        row.iter_mut().for_each(|v| *v = (*v - largest).max(LEAST));
    }
    logs
}

/// What a projection found.
pub(super) struct Projected {
    pub(super) factors: [Factor; 2],
    /// The logarithms of their cells, each row up to a constant.
    pub(super) logs: [Vec<f64>; 2],
    pub(super) g: Vec<f64>,
    pub(super) iterations: usize,
    /// Whether column sums are g, within the tolerance.
    pub(super) fits: bool,
}

/// The point nearest to matrices and weights, given by their logarithms, in the sense of Kullback and
/// Leibler, among Q of marginals `p[0]` and g, R of marginals `p[1]` and g, and g not below `least`.
///
/// With multipliers w, z of the column sums, it is the softmax of each row of `logs + w` (`+ z`) times
/// its weight and `g = max(least, exp(log g - w - z))`; w and z minimise a convex function of 2r
/// numbers, found by Newton's method with a line search. Dykstra's algorithm goes to the same point,
/// and takes thousands of sweeps once the factors are sharp.
pub(super) fn project(
    logs: [Vec<f64>; 2],
    log_g: &[f64],
    p: [&[f64]; 2],
    least: f64,
    (tolerance, limit): (f64, usize),
) -> Projected {
    let r = log_g.len();
    let mut logs = logs.map(|l| settle(l, r));
    let dual = Dual {
        logs: &logs,
        log_g,
        p,
        least,
    };
    let mut at = dual.at(vec![0.0; 2 * r]);
    let mut iterations = 0;
    while iterations < limit && at.error > tolerance {
        iterations += 1;
        match dual.step(&at) {
            Some(next) => at = next,
            // No step helps any more: rounding is reached.
            None => break,
        }
    }
    let shifts = at.multipliers.chunks_exact(r);
    for (logs, shifts) in logs.iter_mut().zip(shifts) {
        for row in logs.chunks_exact_mut(r) {
            row.iter_mut().zip(shifts).for_each(|(l, s)| *l += s);
        }
    }
    Projected {
        logs,
        fits: at.error <= tolerance,
        factors: at.factors,
        g: at.g,
        iterations,
    }
}

struct Dual<'a> {
    logs: &'a [Vec<f64>; 2],
    log_g: &'a [f64],
    p: [&'a [f64]; 2],
    least: f64,
}

/// The dual function at some multipliers.
struct At {
    multipliers: Vec<f64>,
    factors: [Factor; 2],
    g: Vec<f64>,
    /// Whether g is above its bound.
    free: Vec<bool>,
    value: f64,
    slope: Vec<f64>,
    /// The larger L1 distance of column sums from g.
    error: f64,
}

impl Dual<'_> {
    fn at(&self, multipliers: Vec<f64>) -> At {
        let r = self.log_g.len();
        let (w, z) = multipliers.split_at(r);
        let factors = [
            Factor::new(&self.logs[0], w, self.p[0]),
            Factor::new(&self.logs[1], z, self.p[1]),
        ];
        let log_least = self.least.ln();
        let exponents: Vec<f64> = (0..r).map(|k| self.log_g[k] - w[k] - z[k]).collect();
        let g: Vec<f64> = exponents.iter().map(|e| e.max(log_least).exp()).collect();
        // Beyond the bound the function goes on straight.
        let beyond = exponents.iter().map(|e| (e - log_least).min(0.0));
        let value = g.iter().sum::<f64>() + self.least * beyond.sum::<f64>();
        let slopes = factors.each_ref().map(|f| {
            let each = f.columns.iter().zip(&g).map(|(c, g)| c - g);
            each.collect::<Vec<f64>>()
        });
        let errors = slopes
            .each_ref()
            .map(|s| s.iter().map(|v| v.abs()).sum::<f64>());
        At {
            value: value + factors[0].level + factors[1].level,
            slope: slopes.concat(),
            error: larger(errors[0], errors[1]),
            free: exponents.iter().map(|e| *e >= log_least).collect(),
            multipliers,
            factors,
            g,
        }
    }

    /// A step of Newton's method, halved until the function falls; none where it does not.
    fn step(&self, at: &At) -> Option<At> {
        let mut direction: Vec<f64> = at.slope.iter().map(|s| -s).collect();
        ridge::solve(&self.curvature(at), &mut direction);
        let longest = direction.iter().fold(0.0, |a, v| larger(a, v.abs()));
        if !longest.is_finite() {
            return None;
        }
        let mut size = (LONGEST / longest).min(1.0);
        let fall = inner(&direction, &at.slope);
        for _ in 0..HALVINGS {
            let moved = at.multipliers.iter().zip(&direction);
            let next = self.at(moved.map(|(w, d)| w + size * d).collect());
            // Near the end values no longer tell, but slopes do.
            let falls = next.value <= at.value + 1e-4 * size * fall;
            if falls || next.error <= 0.5 * at.error {
                return Some(next);
            }
            size *= 0.5;
        }
        None
    }

    fn curvature(&self, at: &At) -> Vec<f64> {
        let r = self.log_g.len();
        let side = 2 * r;
        let mut h = vec![0.0; side * side];
        for (i, (factor, p)) in at.factors.iter().zip(self.p).enumerate() {
            // diag(columns) - Q^T diag(1 / p) Q.
            let rows = factor.cells.chunks_exact(r).zip(p);
            let shares: Vec<f64> = rows
                .flat_map(|(row, p)| row.iter().map(move |q| if *p > 0.0 { q / p } else { 0.0 }))
                .collect();
            let mut moved = vec![0.0; r * r];
            let n = p.len();
            let (shares, cells) = (Matrix::new(&shares, n, r), Matrix::new(&factor.cells, n, r));
            matmul(&mut moved, r, shares.t(), cells, Store::Write);
            for k in 0..r {
                for l in 0..r {
                    h[(i * r + k) * side + i * r + l] -= moved[k * r + l];
                }
                h[(i * r + k) * (side + 1)] += factor.columns[k];
            }
        }
        let mass: f64 = at.g.iter().sum();
        for k in 0..side {
            for l in 0..side {
                if k % r == l % r && at.free[k % r] {
                    h[k * side + l] += at.g[k % r];
                }
                // w + c and z - c are the same point: curvature there, where there is none, costs
                // nothing.
                let sign = if (k < r) == (l < r) { 1.0 } else { -1.0 };
                h[k * side + l] += sign * mass / (side * side) as f64;
            }
        }
        h
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use decalign_core::random::Stream;

    /// Dykstra's algorithm as Scetbon, Cuturi and Peyré (2021) give it (algorithm 2), on plain
    /// numbers.
    fn dykstra(
        kernels: [&[f64]; 2],
        start: &[f64],
        p: [&[f64]; 2],
        least: f64,
        sweeps: usize,
    ) -> ([Vec<f64>; 2], Vec<f64>) {
        let r = start.len();
        let ones = || vec![1.0; r];
        let (mut v, mut q) = ([ones(), ones()], [ones(), ones()]);
        let (mut q3, mut g) = ([ones(), ones()], start.to_vec());
        let mut u = p.map(|p| vec![0.0; p.len()]);
        for _ in 0..sweeps {
            let mut columns = [ones(), ones()];
            for i in 0..2 {
                for (row, u) in u[i].iter_mut().enumerate() {
                    *u = p[i][row] / inner(&kernels[i][row * r..][..r], &v[i]);
                }
                for (k, c) in columns[i].iter_mut().enumerate() {
                    let rows = u[i].iter().enumerate();
                    *c = rows.map(|(row, u)| u * kernels[i][row * r + k]).sum();
                }
            }
            for k in 0..r {
                let held = (g[k] * q3[0][k]).max(least);
                q3[0][k] *= g[k] / held;
                let terms = [0, 1].map(|i| v[i][k] * q[i][k] * columns[i][k]);
                g[k] = (held * q3[1][k] * terms[0] * terms[1]).cbrt();
                for i in 0..2 {
                    let next = g[k] / columns[i][k];
                    q[i][k] *= v[i][k] / next;
                    v[i][k] = next;
                }
                q3[1][k] *= held / g[k];
            }
        }
        let cells = [0, 1].map(|i| {
            let cells = kernels[i].iter().enumerate();
            cells
                .map(|(at, k)| u[i][at / r] * k * v[i][at % r])
                .collect()
        });
        (cells, g)
    }

    #[test]
    fn newton_and_dykstra_meet() {
        let (n, m, r) = (7, 5, 3);
        let draw = |k: u64, n: usize| Stream::new(2, k).normal(n);
        let weights = |k: u64, n: usize| -> Vec<f64> {
            let w: Vec<f64> = draw(k, n).iter().map(|v| v.exp()).collect();
            let total: f64 = w.iter().sum();
            w.iter().map(|v| v / total).collect()
        };
        let (a, b) = (weights(0, n), weights(1, m));
        // The bound holds nothing, and something.
        for least in [1e-9, 0.3] {
            let log_g = [-1.0, -4.0, 0.2];
            let logs = [draw(3, n * r), draw(4, m * r)];
            let plain = |x: &[f64]| x.iter().map(|v| v.exp()).collect::<Vec<f64>>();
            let kernels = logs.each_ref().map(|l| plain(l));
            let (cells, g) = dykstra(
                [&kernels[0], &kernels[1]],
                &plain(&log_g),
                [&a, &b],
                least,
                20_000,
            );
            let got = project(logs, &log_g, [&a, &b], least, (1e-13, 50));
            assert!(got.iterations < 20, "{}", got.iterations);
            let close = |x: &[f64], y: &[f64]| {
                let pairs = x.iter().zip(y);
                let off = pairs.fold(0.0, |a: f64, (x, y)| a.max((x - y).abs()));
                assert!(
                    x.len() == y.len() && off < 1e-9,
                    "{least}: {off} {x:?} {y:?}"
                );
            };
            close(&got.g, &g);
            close(&got.factors[0].cells, &cells[0]);
            close(&got.factors[1].cells, &cells[1]);
            close(&got.factors[0].columns, &got.g);
            assert_eq!(got.g.iter().any(|g| (g - 0.3).abs() < 1e-9), least == 0.3);
        }
    }
}
