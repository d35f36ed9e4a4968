//! Multi-marginal Sinkhorn to a tolerance.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result, parallel, with_real};

use super::inputs::{BatchInputs, BatchTensor};
use super::iterate::{ProblemSolve, Scale};
use super::problem::MultiMarginalProblem;
use super::solution::MultiMarginalSolution;
use super::state::CostTables;
use crate::schedule::{EpsilonSchedule, Stopping, stopping_settings};

/// Entropic transport between any number of marginals:
///
/// ```text
/// min over T with marginals nu_m of  <T, C> + eps KL(T | nu_1 x ... x nu_M)
/// T = nu_1 x ... x nu_M exp((f_1 + ... + f_M - C) / eps)
/// ```
///
/// A sweep scales the plan to one marginal after the other. On a joint cost it reads the cells twice; on costs of
/// pairs with few cycles it passes messages in the log domain and never forms the joint tensor. Points of weight 0 do
/// not count. When epsilon is small beside the costs, the solve starts at a larger one and lowers it (epsilon scaling);
/// steps are lengthened while errors fall slowly (overrelaxation); and f32 problems are solved in f64 where f32 cannot
/// express the tolerance. The problems of a batch are solved in parallel, with the same results as alone.
///
/// The solve runs on the CPU; [`MultiMarginalSinkhorn::value`] stays on a device.
///
/// Sources: Benamou and others (2015); Haasler and others (2021) for costs on graphs.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{MultiMarginalProblem, MultiMarginalSinkhorn};
/// // Three points that move by 1 and then by 2.
/// let at = |shift: f64| Tensor::new(&[0.0 + shift, 5.0 + shift, 10.0 + shift], &Device::Cpu);
/// let cost = |x: &Tensor, y: &Tensor| x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?.sqr();
/// let (x, y, z) = (at(0.0)?, at(1.0)?, at(3.0)?);
/// let weights = vec![Tensor::full(1.0 / 3.0, 3, &Device::Cpu)?; 3];
/// let problem = MultiMarginalProblem::chain(&weights, &[cost(&x, &y)?, cost(&y, &z)?])?;
/// let solution = MultiMarginalSinkhorn::new(0.1)?.tolerance(1e-9)?.solve(&problem)?;
/// assert!(solution.converged() && (solution.transport_cost.to_scalar::<f64>()? - 5.0).abs() < 1e-6);
/// // The joint marginal of the first and the last.
/// assert_eq!(solution.pair_marginal(0, 2)?.dims(), [3, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiMarginalSinkhorn {
    pub(super) schedule: EpsilonSchedule,
    pub(super) stopping: Stopping,
}

stopping_settings!(
    MultiMarginalSinkhorn,
    "Ends when the L1 error of the marginals is at most `tolerance` times the mass; 1e-5 by default.",
    "Ends after so many sweeps, those at larger epsilons included; 10,000 by default."
);

impl MultiMarginalSinkhorn {
    /// Regularisation `epsilon`, in units of the cost.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        Ok(Self {
            schedule: EpsilonSchedule::new(epsilon)?,
            stopping: Stopping::new(1e-5, 10_000),
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

    /// Solves a problem or a batch of them. Not converging is a result, not an error: see
    /// [`MultiMarginalSolution::converged`].
    ///
    /// # Errors
    /// When memory runs out.
    pub fn solve(&self, problem: &MultiMarginalProblem) -> Result<MultiMarginalSolution> {
        self.from(problem, None)
    }

    /// Solves like [`MultiMarginalSinkhorn::solve`], from the potentials of a similar problem (a warm start) and without epsilon
    /// scaling.
    ///
    /// # Shapes
    /// One tensor a marginal, (K_m) or (B, K_m); one without a leading dimension starts every
    /// problem of a batch.
    ///
    /// # Errors
    /// When their number or a shape or dtype does not fit, or an entry is NaN or infinite.
    pub fn solve_from(
        &self,
        problem: &MultiMarginalProblem,
        potentials: &[Tensor],
    ) -> Result<MultiMarginalSolution> {
        if potentials.len() != problem.sizes.len() {
            let remedy = format!("must be {}, one for each marginal", problem.sizes.len());
            return Err(Error::value(
                "number of potentials",
                potentials.len(),
                remedy,
            ));
        }
        let each = potentials.iter().zip(&problem.sizes).enumerate();
        let start = each.map(|(m, (f, k))| {
            let fits = match (f.dims(), problem.batch) {
                ([n], _) => n == k,
                ([b, n], Some(batch)) => n == k && *b == batch,
                _ => false,
            };
            if !fits {
                let expected = match problem.batch {
                    Some(batch) => format!("shape ({k}) or ({batch}, {k})"),
                    None => format!("shape ({k})"),
                };
                return Err(Error::tensor(format!("potential {m}"), expected, f.shape()));
            }
            let numbers = with_real!(format!("potential {m}"), f, _T => BatchTensor::read(f, *k))?;
            match numbers.first_infinite() {
                Some((at, v)) => {
                    let name = format!("entry {at} of potential {m}");
                    Err(Error::value(name, v, "must be finite"))
                }
                None => Ok(numbers),
            }
        });
        let start = start.collect::<Result<Vec<BatchTensor<f64>>>>()?;
        self.from(problem, Some(&start))
    }

    fn from(
        &self,
        problem: &MultiMarginalProblem,
        start: Option<&[BatchTensor<f64>]>,
    ) -> Result<MultiMarginalSolution> {
        with_real!("marginals", problem.marginals[0], T => self.run::<T>(problem, start))
    }

    fn run<D: Real>(
        &self,
        problem: &MultiMarginalProblem,
        start: Option<&[BatchTensor<f64>]>,
    ) -> Result<MultiMarginalSolution> {
        let inputs = BatchInputs::<D>::read(problem)?;
        let count = problem.count();
        let scales: Vec<Scale> = (0..count).map(|b| Scale::of(&inputs, b)).collect();
        let single = |b: usize| size_of::<D>() == 4 && scales[b].fits_f32(self);
        // Tables of costs that all problems share are built once.
        let shared = inputs.costs_are_shared() && count > 1;
        let needed = |is: bool| shared && (0..count).any(|b| single(b) == is);
        let narrow = needed(true).then(|| CostTables::<f32>::new(problem, &inputs.costs(0)));
        let wide = needed(false).then(|| CostTables::<f64>::new(problem, &inputs.costs(0)));
        let sweeps = self.stopping.max_iterations.min(100);
        let work = count * sweeps * problem.cells();
        let solved = parallel::map(count, work, |b| {
            let solve = ProblemSolve {
                settings: self,
                problem,
                inputs: &inputs,
                b,
                range: scales[b].range,
                start: start.map(|f| f.iter().map(|f| f.of(b).to_vec()).collect()),
            };
            match single(b) {
                true => solve.run(narrow.as_ref()),
                false => solve.run(wide.as_ref()),
            }
        });
        MultiMarginalSolution::new(problem, self.schedule.epsilon, solved)
    }
}
