//! Iterative Bregman projections of the plans of a barycentre on a fixed support.

use decalign_core::Result;

use super::log_sums::log_sums;
use super::problem::BarycenterProblem;
use crate::tensor_convert::read;
use crate::validate;

/// Costs and weights of a problem in f64.
pub(super) struct Numbers {
    /// Costs with the points of a measure as rows.
    pub(super) forward: Vec<Vec<f64>>,
    /// Costs with the points of the support as rows.
    pub(super) backward: Vec<Vec<f64>>,
    pub(super) support: Option<Vec<f64>>,
    pub(super) measures: Vec<Vec<f64>>,
    /// The largest `max C - min C`.
    pub(super) range: f64,
}

impl Numbers {
    pub(super) fn new(problem: &BarycenterProblem, debiased: bool) -> Result<Self> {
        let m = problem.points;
        let forward = problem
            .costs
            .iter()
            .map(read::<f64>)
            .collect::<Result<Vec<_>>>()?;
        let backward = forward
            .iter()
            .map(|c| {
                let n = c.len() / m;
                (0..c.len()).map(|at| c[(at % n) * m + at / n]).collect()
            })
            .collect();
        let support = problem
            .support_cost
            .iter()
            .filter(|_| debiased)
            .map(read::<f64>)
            .next()
            .transpose()?;
        let range = forward.iter().chain(&support).map(|c| {
            let least = c.iter().fold(f64::INFINITY, |a, v| a.min(*v));
            c.iter().fold(f64::NEG_INFINITY, |a, v| a.max(*v)) - least
        });
        Ok(Self {
            range: range.fold(0.0, f64::max),
            measures: (0..problem.measures.len())
                .map(|k| problem.measure(k))
                .collect::<Result<_>>()?,
            forward,
            backward,
            support,
        })
    }
}

/// Potentials in units of the cost: the plans are `a_i u_j exp((f_i + g_j - C_ij) / eps)`, that of
/// the barycentre with itself `u_i u_j exp((h_i + h_j - C_ij) / eps)`.
#[derive(Clone, Debug)]
pub(super) struct Potentials {
    pub(super) f: Vec<Vec<f64>>,
    pub(super) g: Vec<Vec<f64>>,
    pub(super) h: Vec<f64>,
    /// `log b`.
    pub(super) logs: Vec<f64>,
    /// The error of the plan of the barycentre with itself, of the last sweep.
    own_error: f64,
}

/// The errors of the plans of some potentials.
pub(super) struct Errors {
    /// The L1 errors of the plans' rows.
    pub(super) rows: f64,
    /// `log sum_j u_j exp((h_j - C_ij) / eps)`, where debiased.
    pub(super) own: Option<Vec<f64>>,
    pub(super) own_error: f64,
}

impl Potentials {
    pub(super) fn new(problem: &BarycenterProblem) -> Self {
        let (n, m) = (problem.measures.len(), problem.points);
        let rows = |k: usize| vec![0.0; problem.measures[k].elem_count()];
        Self {
            f: (0..n).map(rows).collect(),
            g: vec![vec![0.0; m]; n],
            h: vec![0.0; m],
            logs: vec![-(m as f64).ln(); m],
            own_error: 0.0,
        }
    }

    /// `log u`.
    pub(super) fn log_uniform(&self) -> f64 {
        -(self.h.len() as f64).ln()
    }

    /// Projects every plan on its measure, then all plans on their common barycentre. Returns the largest L1 error
    /// before.
    pub(super) fn sweep(
        &mut self,
        problem: &BarycenterProblem,
        costs: &Numbers,
        epsilon: f64,
    ) -> f64 {
        let mut error = self.own_error;
        let log_u = self.log_uniform();
        // log b = log u + h / eps + sum_k w_k p_k, p the log sums of columns without g.
        let mut logs: Vec<f64> = self.h.iter().map(|h| log_u + h / epsilon).collect();
        let mut columns = Vec::with_capacity(self.g.len());
        for (k, share) in problem.shares.iter().enumerate() {
            let sums = self.row_sums(k, problem, costs, epsilon);
            error = validate::larger(error, self.row_error(k, &sums, costs, epsilon));
            self.f[k] = sums.iter().map(|s| -epsilon * s).collect();
            let shifts: Vec<f64> = self.f[k]
                .iter()
                .zip(&costs.measures[k])
                .map(|(f, a)| a.ln() + f / epsilon)
                .collect();
            let p = log_sums(&costs.backward[problem.cost_of(k)], &shifts, epsilon);
            logs.iter_mut().zip(&p).for_each(|(b, p)| *b += share * p);
            columns.push(p);
        }
        for (g, p) in self.g.iter_mut().zip(columns) {
            for ((g, p), b) in g.iter_mut().zip(p).zip(&logs) {
                *g = epsilon * (b - log_u - p);
            }
        }
        self.logs = logs;
        if let Some(cost) = &costs.support {
            let sums = self.own_sums(cost, epsilon);
            self.own_error = self.own_plan_error(&sums, epsilon);
            // Half a step: the plain one oscillates.
            for ((h, b), s) in self.h.iter_mut().zip(&self.logs).zip(&sums) {
                *h = 0.5 * (*h + epsilon * (b - log_u - s));
            }
        }
        error
    }

    /// `log sum_j u_j exp((g_j - C_ij) / eps)` of plan `k`.
    fn row_sums(
        &self,
        k: usize,
        problem: &BarycenterProblem,
        costs: &Numbers,
        epsilon: f64,
    ) -> Vec<f64> {
        let shifts = shifted(&self.g[k], self.log_uniform(), epsilon);
        log_sums(&costs.forward[problem.cost_of(k)], &shifts, epsilon)
    }

    fn row_error(&self, k: usize, sums: &[f64], costs: &Numbers, epsilon: f64) -> f64 {
        let rows = self.f[k].iter().zip(sums).zip(&costs.measures[k]);
        rows.filter(|(_, a)| **a > 0.0)
            .map(|((f, s), a)| a * ((f / epsilon + s).exp() - 1.0).abs())
            .sum()
    }

    fn own_sums(&self, cost: &[f64], epsilon: f64) -> Vec<f64> {
        log_sums(
            cost,
            &shifted(&self.h, self.log_uniform(), epsilon),
            epsilon,
        )
    }

    fn own_plan_error(&self, sums: &[f64], epsilon: f64) -> f64 {
        let log_u = self.log_uniform();
        let cells = self.h.iter().zip(sums).zip(&self.logs);
        cells
            .map(|((h, s), b)| ((log_u + h / epsilon + s).exp() - b.exp()).abs())
            .sum()
    }

    /// The errors of the plans of these potentials.
    pub(super) fn errors(
        &self,
        problem: &BarycenterProblem,
        costs: &Numbers,
        epsilon: f64,
    ) -> Errors {
        let rows = (0..self.f.len()).map(|k| {
            let sums = self.row_sums(k, problem, costs, epsilon);
            self.row_error(k, &sums, costs, epsilon)
        });
        // A barycentre of another mass than the measures means that potentials have lost their digits.
        let total: f64 = self.logs.iter().map(|b| b.exp()).sum();
        let rows = rows.fold((total - 1.0).abs(), validate::larger);
        let own = costs.support.as_ref().map(|c| self.own_sums(c, epsilon));
        let own_error = own
            .as_ref()
            .map_or(0.0, |s| self.own_plan_error(s, epsilon));
        Errors {
            rows,
            own,
            own_error,
        }
    }
}

fn shifted(potential: &[f64], log_u: f64, epsilon: f64) -> Vec<f64> {
    potential.iter().map(|g| log_u + g / epsilon).collect()
}
