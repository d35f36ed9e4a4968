//! The energy of a plan and its slopes, by matrix products instead of four sums.

use decalign_core::Result;
use decalign_core::gemm::{Matrix, Store, matmul};

use super::problem::GromovProblem;
use crate::tensor_convert::read;
use crate::validate::inner;

/// The numbers of a problem: `F(P) = (1 - alpha) <P, M> + alpha E(P)`.
pub(super) struct Energy {
    n: usize,
    m: usize,
    costs: [Vec<f64>; 2],
    /// Whether both costs equal their transposes, bit for bit.
    symmetric: bool,
    features: Option<Vec<f64>>,
    alpha: f64,
}

/// What the energy at a plan is made of.
pub(super) struct At {
    /// `E(P) = sum (C1_ik - C2_jl)^2 P_ij P_kl`.
    pub(super) energy: f64,
    /// `<P, M>`, 0 without features.
    pub(super) linear: f64,
    /// F.
    pub(super) total: f64,
    pub(super) rows: Vec<f64>,
    pub(super) columns: Vec<f64>,
    /// `C1 P C2^T + C1^T P C2`.
    cross: Vec<f64>,
}

impl Energy {
    pub(super) fn new(problem: &GromovProblem, alpha: f64) -> Result<Self> {
        let (n, m) = problem.size();
        let costs = [read::<f64>(&problem.costs[0])?, read(&problem.costs[1])?];
        let symmetric = |c: &[f64], n: usize| (0..n * n).all(|at| c[at] == c[at % n * n + at / n]);
        let features = problem.features.as_ref().map(read::<f64>).transpose()?;
        Ok(Self {
            n,
            m,
            symmetric: symmetric(&costs[0], n) && symmetric(&costs[1], m),
            costs,
            features,
            alpha,
        })
    }

    /// The energy at a plan: O(n^2 m + n m^2).
    ///
    /// With row sums r and column sums c it is
    /// `sum C1_ik^2 r_i r_k + sum C2_jl^2 c_j c_l - 2 <C1 P C2^T, P>`.
    pub(super) fn at(&self, plan: &[f64]) -> At {
        let (n, m) = (self.n, self.m);
        let (mut rows, mut columns) = (vec![0.0; n], vec![0.0; m]);
        for (row, plan) in rows.iter_mut().zip(plan.chunks_exact(m)) {
            *row = plan.iter().sum();
            columns.iter_mut().zip(plan).for_each(|(c, p)| *c += p);
        }
        let cross = self.cross(plan);
        let own = |cost: &[f64], r: &[f64]| -> f64 {
            let each = cost.chunks_exact(r.len()).zip(r);
            each.map(|(c, ri)| ri * c.iter().zip(r).map(|(c, rk)| c * c * rk).sum::<f64>())
                .sum()
        };
        let energy =
            own(&self.costs[0], &rows) + own(&self.costs[1], &columns) - inner(&cross, plan);
        let linear = self.features.as_ref().map_or(0.0, |m| inner(m, plan));
        At {
            energy,
            linear,
            total: (1.0 - self.alpha) * linear + self.alpha * energy,
            rows,
            columns,
            cross,
        }
    }

    /// `C1 P C2^T + C1^T P C2`.
    fn cross(&self, plan: &[f64]) -> Vec<f64> {
        let (n, m) = (self.n, self.m);
        let [c1, c2] = [
            Matrix::new(&self.costs[0], n, n),
            Matrix::new(&self.costs[1], m, m),
        ];
        let (mut half, mut cross) = (vec![0.0; n * m], vec![0.0; n * m]);
        matmul(&mut half, m, c1, Matrix::new(plan, n, m), Store::Write);
        matmul(
            &mut cross,
            m,
            Matrix::new(&half, n, m),
            c2.t(),
            Store::Write,
        );
        if self.symmetric {
            cross.iter_mut().for_each(|v| *v *= 2.0);
        } else {
            matmul(&mut half, m, c1.t(), Matrix::new(plan, n, m), Store::Write);
            matmul(&mut cross, m, Matrix::new(&half, n, m), c2, Store::Add);
        }
        cross
    }

    /// The gradient of F with respect to the plan.
    pub(super) fn gradient(&self, at: &At) -> Vec<f64> {
        let side = |cost: &[f64], r: &[f64]| -> Vec<f64> {
            let mut sums = vec![0.0; r.len()];
            for (i, cost) in cost.chunks_exact(r.len()).enumerate() {
                for (k, c) in cost.iter().enumerate() {
                    sums[i] += c * c * r[k];
                    sums[k] += c * c * r[i];
                }
            }
            sums
        };
        let rows = side(&self.costs[0], &at.rows);
        let columns = side(&self.costs[1], &at.columns);
        let mut gradient = Vec::with_capacity(at.cross.len());
        for (row, cross) in rows.iter().zip(at.cross.chunks_exact(self.m)) {
            let cells = columns.iter().zip(cross);
            gradient.extend(cells.map(|(column, cross)| self.alpha * (row + column - 2.0 * cross)));
        }
        if let Some(features) = &self.features {
            let cells = gradient.iter_mut().zip(features);
            cells.for_each(|(g, m)| *g += (1.0 - self.alpha) * m);
        }
        gradient
    }

    /// The gradients of F with respect to C1, C2 and M at a plan that stays.
    pub(super) fn of_costs(&self, plan: &[f64]) -> [Vec<f64>; 3] {
        let (n, m) = (self.n, self.m);
        let at = self.at(plan);
        let p = Matrix::new(plan, n, m);
        let [c1, c2] = [
            Matrix::new(&self.costs[0], n, n),
            Matrix::new(&self.costs[1], m, m),
        ];
        // 2 C1_ik r_i r_k - 2 (P C2 P^T)_ik, and the same with the sides exchanged.
        let (mut half, mut first, mut second) =
            (vec![0.0; n * m], vec![0.0; n * n], vec![0.0; m * m]);
        matmul(&mut half, m, p, c2, Store::Write);
        matmul(&mut first, n, Matrix::new(&half, n, m), p.t(), Store::Write);
        let mut half = vec![0.0; n * m];
        matmul(&mut half, n, p.t(), c1, Store::Write);
        matmul(&mut second, m, Matrix::new(&half, m, n), p, Store::Write);
        let finish = |moved: &mut [f64], cost: &[f64], r: &[f64]| {
            for (at, v) in moved.iter_mut().enumerate() {
                let mass = r[at / r.len()] * r[at % r.len()];
                *v = 2.0 * self.alpha * (cost[at] * mass - *v);
            }
        };
        finish(&mut first, &self.costs[0], &at.rows);
        finish(&mut second, &self.costs[1], &at.columns);
        let features = plan.iter().map(|p| (1.0 - self.alpha) * p).collect();
        [first, second, features]
    }
}
