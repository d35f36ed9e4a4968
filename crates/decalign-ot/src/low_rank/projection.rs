//! Dykstra's algorithm: the nearest Q, R and g that fit together.

use decalign_core::{parallel, simd};

/// Rows of one piece of work.
const PIECE: usize = 256;

/// A kernel matrix of r columns whose rows may be multiplied by anything: its logarithms, and what
/// their exponentials become when the largest of a row is 1.
pub(super) struct Kernel {
    /// Logarithms, (rows, r), each row up to a constant.
    pub(super) logs: Vec<f64>,
    cells: Vec<f64>,
    r: usize,
}

/// Cells are not taken below this part of the largest of their row, so that no column is lost.
const LEAST: f64 = -300.0;

impl Kernel {
    pub(super) fn new(mut logs: Vec<f64>, r: usize) -> Self {
        let work = 12 * logs.len();
        parallel::for_each_chunk(&mut logs, PIECE * r, work, |_, logs| {
            for row in logs.chunks_exact_mut(r) {
                let largest = simd::max(row);
                row.iter_mut().for_each(|v| *v = (*v - largest).max(LEAST));
            }
        });
        let mut cells = logs.clone();
        parallel::for_each_chunk(&mut cells, PIECE * r, work, |_, cells| {
            simd::exp_in_place(cells);
        });
        Self { logs, cells, r }
    }

    /// `p_i / sum_k K_ik v_k` of every row, and `sum_i |factor u_i (K v)_i - p_i|` of the `u` before.
    fn rows(&self, p: &[f64], v: &[f64], u: &mut [f64], factor: f64) -> f64 {
        let mut errors = vec![0.0; p.len()];
        let work = 4 * self.cells.len();
        let (cells, r) = (&self.cells, self.r);
        parallel::for_each_pair(
            (u, PIECE),
            (&mut errors, PIECE),
            work,
            |piece, u, errors| {
                let start = piece * PIECE;
                let rows = cells[start * r..].chunks_exact(r).zip(&p[start..]);
                for ((u, error), (row, p)) in u.iter_mut().zip(errors).zip(rows) {
                    let sum: f64 = row.iter().zip(v).map(|(k, v)| k * v).sum();
                    *error = (factor * *u * sum - p).abs();
                    *u = p / sum;
                }
            },
        );
        errors.iter().sum()
    }

    /// `log sum_i K_ik u_i` of every column.
    fn columns(&self, u: &[f64]) -> Vec<f64> {
        let r = self.r;
        let pieces = parallel::map(u.len().div_ceil(PIECE), 2 * self.cells.len(), |piece| {
            let mut sums = vec![0.0; r];
            let rows = self.cells[piece * PIECE * r..].chunks_exact(r);
            for (row, u) in rows.zip(&u[piece * PIECE..]).take(PIECE) {
                sums.iter_mut().zip(row).for_each(|(s, k)| *s += u * k);
            }
            sums
        });
        let mut sums = vec![0.0; r];
        for piece in pieces {
            sums.iter_mut().zip(piece).for_each(|(s, v)| *s += v);
        }
        sums.iter().map(|s| s.ln()).collect()
    }

    /// The logarithms of `K diag(v)`, up to a constant of each row.
    fn scaled(&self, log_v: &[f64]) -> Vec<f64> {
        let cells = self.logs.iter().enumerate();
        cells.map(|(at, k)| k + log_v[at % self.r]).collect()
    }
}

/// A matrix with its row sums exact and its column sums nearly g.
pub(super) struct Factor {
    pub(super) logs: Vec<f64>,
    pub(super) cells: Vec<f64>,
}

impl Factor {
    /// Rows of `p_i` times the softmax of logarithms.
    pub(super) fn new(logs: Vec<f64>, p: &[f64], r: usize) -> Self {
        let kernel = Kernel::new(logs, r);
        let mut cells = kernel.cells;
        for (row, p) in cells.chunks_exact_mut(r).zip(p) {
            let sum: f64 = row.iter().sum();
            row.iter_mut().for_each(|v| *v *= p / sum);
        }
        Self {
            logs: kernel.logs,
            cells,
        }
    }
}

/// What a projection found: both factors and the logarithms of g.
pub(super) struct Projected {
    pub(super) factors: [Factor; 2],
    pub(super) log_g: Vec<f64>,
    pub(super) iterations: usize,
}

/// The point nearest to two kernels and `g`, in the sense of Kullback and Leibler, among Q with
/// marginals p1 and g, R with p2 and g, and g not below a bound.
///
/// Source: Scetbon, Cuturi and Peyré (2021), algorithm 2; here vectors of length r are logarithms.
pub(super) fn project(
    kernels: [Kernel; 2],
    mut log_g: Vec<f64>,
    p: [&[f64]; 2],
    least: f64,
    (tolerance, limit): (f64, usize),
) -> Projected {
    let r = log_g.len();
    let zeros = || -> Vec<f64> { vec![0.0; r] };
    let (mut log_v, mut log_q) = ([zeros(), zeros()], [zeros(), zeros()]);
    let (mut bound, mut meet) = (zeros(), zeros());
    let mut u = p.map(|p| vec![0.0; p.len()]);
    let mut iterations = 0;
    loop {
        let mut error: f64 = 0.0;
        let mut columns = Vec::with_capacity(2);
        for i in 0..2 {
            // The largest v is 1; u makes up for it.
            let largest = simd::max(&log_v[i]);
            log_v[i].iter_mut().for_each(|v| *v -= largest);
            let v: Vec<f64> = log_v[i].iter().map(|v| v.exp()).collect();
            error = error.max(kernels[i].rows(p[i], &v, &mut u[i], largest.exp()));
            columns.push(kernels[i].columns(&u[i]));
        }
        // The first comparison is with u = 0.
        if iterations > 0 && error <= tolerance || iterations == limit || !error.is_finite() {
            break;
        }
        iterations += 1;
        for k in 0..r {
            let free = log_g[k] + bound[k];
            let held = free.max(least);
            bound[k] = free - held;
            let terms = [0, 1].map(|i| log_v[i][k] + log_q[i][k] + columns[i][k]);
            let next = (held + meet[k] + terms[0] + terms[1]) / 3.0;
            for i in 0..2 {
                let v = next - columns[i][k];
                log_q[i][k] += log_v[i][k] - v;
                log_v[i][k] = v;
            }
            meet[k] += held - next;
            log_g[k] = next;
        }
    }
    let factor = |i: usize| Factor::new(kernels[i].scaled(&log_v[i]), p[i], r);
    Projected {
        factors: [factor(0), factor(1)],
        log_g,
        iterations,
    }
}
