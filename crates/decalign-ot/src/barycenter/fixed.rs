//! Barycentres on a fixed support.

use decalign_core::{Error, Result};

use super::bregman::{Numbers, Potentials};
use super::problem::BarycenterProblem;
use super::solution::{BarycenterSolution, Ended};
use crate::schedule::{
    EpsilonSchedule, STAGE_SWEEPS, STAGE_TOLERANCE, Stopping, UNSCALED_RANGE, stopping_settings,
};

/// The barycentre b on given points of several measures `a_k`:
///
/// ```text
/// min over b of  sum_k w_k OT(a_k, b),
/// OT(a, b) = min over P >= 0 with P 1 = a, P^T 1 = b of  <P, C> + eps KL(P | a x u)
/// ```
///
/// with u uniform of mass 1 on the support (another u of equal weights only adds a constant).
/// Entropy blurs this barycentre: with squared distances, the barycentre of a single Gaussian has eps / 2 more variance
/// in every direction. The debiased barycentre minimises `sum_k w_k OT(a_k, b) - OT(b, b) / 2`, the mean in the Sinkhorn
/// divergence; for a single measure it is that measure.
///
/// The solver is iterative Bregman projections with all sums in the log domain, and epsilon scaling where epsilon is
/// small beside the costs. It runs in f64 on the CPU.
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
/// assert!(mean.converged() && mean.weights.to_vec1::<f64>()?[1] > 0.999);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FixedSupportBarycenter {
    schedule: EpsilonSchedule,
    stopping: Stopping,
    debiased: bool,
}

stopping_settings!(
    FixedSupportBarycenter,
    "Ends when the L1 error of every plan's marginals is at most `tolerance` times the mass; 1e-6 by default.",
    "Ends after so many sweeps over all costs, those at larger epsilons included; 10,000 by default."
);

impl FixedSupportBarycenter {
    /// Regularisation `epsilon`, in units of the cost; not debiased.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        Ok(Self {
            schedule: EpsilonSchedule::new(epsilon)?,
            stopping: Stopping::new(1e-6, 10_000),
            debiased: false,
        })
    }

    /// Each stage of epsilon scaling multiplies epsilon by `scaling`, 0.5 by default; 1 solves at one epsilon.
    ///
    /// # Errors
    /// When it is neither in (0, 0.9] nor 1.
    pub fn epsilon_scaling(mut self, scaling: f64) -> Result<Self> {
        self.schedule.set_scaling(scaling)?;
        Ok(self)
    }

    /// Removes the entropic blur if true; needs [`BarycenterProblem::support_cost`].
    pub fn debiased(self, debiased: bool) -> Self {
        Self { debiased, ..self }
    }

    /// Solves a problem. Not converging is a result, not an error: see
    /// [`BarycenterSolution::converged`].
    ///
    /// # Errors
    /// When debiased and the problem has no cost of the support, or memory runs out.
    pub fn solve(&self, problem: &BarycenterProblem) -> Result<BarycenterSolution> {
        let numbers = self.numbers(problem)?;
        let stages = self.schedule.stages(numbers.range, UNSCALED_RANGE);
        self.run(problem, &numbers, Potentials::new(problem), &stages)
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
        let numbers = self.numbers(problem)?;
        let start = earlier.state.clone();
        let size = (problem.measures.len(), problem.points);
        let got = (start.g.len(), start.h.len());
        if got != size {
            let expected = format!("{} measures and {} support points", size.0, size.1);
            return Err(Error::tensor("earlier solution", expected, got));
        }
        self.run(problem, &numbers, start, &[self.schedule.epsilon])
    }

    fn numbers(&self, problem: &BarycenterProblem) -> Result<Numbers> {
        if self.debiased && problem.support_cost.is_none() {
            let remedy = "a debiased barycentre needs the costs between the support's own points";
            return Err(Error::value("support cost", "absent", remedy));
        }
        Numbers::new(problem, self.debiased)
    }

    fn run(
        &self,
        problem: &BarycenterProblem,
        numbers: &Numbers,
        mut state: Potentials,
        stages: &[f64],
    ) -> Result<BarycenterSolution> {
        let mut iterations = 0;
        for (stage, epsilon) in stages.iter().enumerate() {
            let left = self.stopping.max_iterations - iterations;
            let (limit, tolerance) = match stage + 1 == stages.len() {
                true => (left, self.stopping.tolerance),
                // One sweep is reserved for the last epsilon.
                false => (STAGE_SWEEPS.min(left - 1), STAGE_TOLERANCE),
            };
            for _ in 0..limit {
                let error = state.sweep(problem, numbers, *epsilon);
                iterations += 1;
                // An infinite error or NaN does not recover.
                if error <= tolerance || !error.is_finite() {
                    break;
                }
            }
        }
        let ended = Ended {
            epsilon: self.schedule.epsilon,
            iterations,
            tolerance: self.stopping.tolerance,
            debiased: self.debiased,
        };
        BarycenterSolution::new(problem, numbers, state, ended)
    }
}
