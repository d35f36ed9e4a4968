//! Barycentres on a support that is given.

use decalign_core::{Error, Result};

use super::log_sums::log_sums;
use super::problem::BarycenterProblem;
use super::solution::{BarycenterSolution, Ended};
use crate::schedule::{EpsilonSchedule, STAGE_SWEEPS, STAGE_TOLERANCE, UNSCALED_RANGE};
use crate::tensor_convert::read;
use crate::validate;

/// The measure b on given points that is nearest to several measures `a_k`:
///
/// ```text
/// min over b of  sum_k w_k OT(a_k, b),
/// OT(a, b) = min over P >= 0 with P 1 = a, P^T 1 = b of  <P, C> + eps KL(P | a x u)
/// ```
///
/// with u uniform of mass 1 on the support (another u of equal weights only adds a constant).
/// Entropy spreads this barycentre: with squared distances, that of a single Gaussian has its variance
/// and eps / 2 more in every direction. The debiased one minimises `sum_k w_k OT(a_k, b) - OT(b, b) / 2`
/// instead, the mean in the Sinkhorn divergence, and that of a single measure is the measure.
///
/// Solved by iterative Bregman projections with all sums in the log domain, at larger epsilons first
/// when epsilon is small beside the costs. All runs in f64 on the CPU.
///
/// Sources: Benamou, Carlier, Cuturi, Nenna and Peyré (2015); Janati, Cuturi and Gramfort (2020) for
/// the debiased one.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{BarycenterProblem, FixedSupportBarycenter};
/// // Two points, at 0 and at 2, averaged on a grid of 0, 1, 2.
/// let measure = Tensor::new(&[1f64], &Device::Cpu)?;
/// let costs = [
///     Tensor::new(&[[0f64, 1.0, 4.0]], &Device::Cpu)?,
///     Tensor::new(&[[4f64, 1.0, 0.0]], &Device::Cpu)?,
/// ];
/// let problem = BarycenterProblem::new(&[measure.clone(), measure], &costs, &[0.5, 0.5])?;
/// let mean = FixedSupportBarycenter::new(0.1)?.solve(&problem)?;
/// assert!(mean.converged && mean.weights.to_vec1::<f64>()?[1] > 0.999);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedSupportBarycenter {
    schedule: EpsilonSchedule,
    tolerance: f64,
    max_iterations: usize,
    debiased: bool,
}

impl FixedSupportBarycenter {
    /// Regularisation `epsilon`, in units of the cost; marginals within 1e-6 of the mass, or 10,000
    /// sweeps; not debiased.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        Ok(Self {
            schedule: EpsilonSchedule::new(epsilon)?,
            tolerance: 1e-6,
            max_iterations: 10_000,
            debiased: false,
        })
    }

    /// Ends when the L1 error of every plan's marginals is at most `tolerance` times the mass.
    ///
    /// # Errors
    /// When `tolerance` is not positive and finite.
    pub fn tolerance(self, tolerance: f64) -> Result<Self> {
        validate::positive("tolerance", tolerance)?;
        Ok(Self { tolerance, ..self })
    }

    /// Ends after so many sweeps over all costs, those at larger epsilons included.
    ///
    /// # Errors
    /// When it is 0.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self> {
        validate::at_least_one("max_iterations", max_iterations)?;
        Ok(Self {
            max_iterations,
            ..self
        })
    }

    /// Whether to take the entropic spread away; needs [`BarycenterProblem::support_cost`].
    pub fn debiased(self, debiased: bool) -> Self {
        Self { debiased, ..self }
    }

    /// Solves a problem. Not converging is a result, not an error: see
    /// [`BarycenterSolution::converged`].
    ///
    /// # Errors
    /// When debiased and the problem has no cost of the support, or memory runs out.
    pub fn solve(&self, problem: &BarycenterProblem) -> Result<BarycenterSolution> {
        let costs = self.costs(problem)?;
        let start = State::new(problem);
        let stages = self.schedule.stages(costs.range, UNSCALED_RANGE);
        self.run(problem, &costs, start, &stages)
    }

    /// As [`FixedSupportBarycenter::solve`], starting at the potentials of an earlier solution, of
    /// this problem or one near it.
    ///
    /// # Errors
    /// As there, and when the solution is of other sizes.
    pub fn solve_from(
        &self,
        problem: &BarycenterProblem,
        earlier: &BarycenterSolution,
    ) -> Result<BarycenterSolution> {
        let costs = self.costs(problem)?;
        let state = earlier.state.clone();
        let fits = state.g.len() == problem.measures.len() && state.h.len() == problem.points;
        if !fits {
            let expected = format!("one of {} points", problem.points);
            let got = (state.g.len(), state.h.len());
            return Err(Error::tensor("earlier solution", expected, got));
        }
        self.run(problem, &costs, state, &[self.schedule.epsilon])
    }

    fn costs(&self, problem: &BarycenterProblem) -> Result<Costs> {
        if self.debiased && problem.support_cost.is_none() {
            let remedy = "a debiased barycentre needs the costs between the support's own points";
            return Err(Error::value("support cost", "absent", remedy));
        }
        Costs::new(problem, self.debiased)
    }

    fn run(
        &self,
        problem: &BarycenterProblem,
        costs: &Costs,
        mut state: State,
        stages: &[f64],
    ) -> Result<BarycenterSolution> {
        let mut iterations = 0;
        for (stage, epsilon) in stages.iter().enumerate() {
            let left = self.max_iterations - iterations;
            let (limit, tolerance) = match stage + 1 == stages.len() {
                true => (left, self.tolerance),
                // One sweep is kept for the epsilon asked for.
                false => (STAGE_SWEEPS.min(left - 1), STAGE_TOLERANCE),
            };
            for _ in 0..limit {
                let error = state.sweep(problem, costs, *epsilon);
                iterations += 1;
                // Infinite or NaN: nothing is to be hoped for.
                if error <= tolerance || !error.is_finite() {
                    break;
                }
            }
        }
        let ended = Ended {
            epsilon: self.schedule.epsilon,
            iterations,
            tolerance: self.tolerance,
            debiased: self.debiased,
        };
        BarycenterSolution::new(problem, costs, state, ended)
    }
}

/// The numbers of a problem.
pub(super) struct Costs {
    /// Rows of the measures' points.
    pub(super) forward: Vec<Vec<f64>>,
    /// Rows of the support's points.
    pub(super) backward: Vec<Vec<f64>>,
    pub(super) support: Option<Vec<f64>>,
    pub(super) measures: Vec<Vec<f64>>,
    /// The largest `max C - min C`.
    range: f64,
}

impl Costs {
    fn new(problem: &BarycenterProblem, debiased: bool) -> Result<Self> {
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
pub(super) struct State {
    pub(super) f: Vec<Vec<f64>>,
    pub(super) g: Vec<Vec<f64>>,
    pub(super) h: Vec<f64>,
    /// `log b`.
    pub(super) logs: Vec<f64>,
    /// The error that the last sweep found in the plan of the barycentre with itself.
    own_error: f64,
}

/// What a state is off by.
pub(super) struct Errors {
    /// The L1 errors of the plans' rows.
    pub(super) rows: f64,
    /// `log sum_j u_j exp((h_j - C_ij) / eps)`, where debiased.
    pub(super) own: Option<Vec<f64>>,
    pub(super) own_error: f64,
}

impl State {
    fn new(problem: &BarycenterProblem) -> Self {
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

    /// All plans' rows exact in turn, then the barycentre, then all columns; returns the largest L1
    /// error there was before.
    fn sweep(&mut self, problem: &BarycenterProblem, costs: &Costs, epsilon: f64) -> f64 {
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
            // The geometric mean of before and after converges where the plain step swings.
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
        costs: &Costs,
        epsilon: f64,
    ) -> Vec<f64> {
        let shifts = shifted(&self.g[k], self.log_uniform(), epsilon);
        log_sums(&costs.forward[problem.cost_of(k)], &shifts, epsilon)
    }

    fn row_error(&self, k: usize, sums: &[f64], costs: &Costs, epsilon: f64) -> f64 {
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

    /// What the state is off by at the end.
    pub(super) fn errors(
        &self,
        problem: &BarycenterProblem,
        costs: &Costs,
        epsilon: f64,
    ) -> Errors {
        let rows = (0..self.f.len()).map(|k| {
            let sums = self.row_sums(k, problem, costs, epsilon);
            self.row_error(k, &sums, costs, epsilon)
        });
        // The barycentre has the mass of the measures, or potentials have lost their digits.
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
