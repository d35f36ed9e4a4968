//! Sinkhorn's iteration.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::{Error, Result, parallel};

use super::device;
use super::evaluate::SinkhornSolution;
use super::problem::{Gradient, LinearProblem, SolvedBatch, SolvedProblem};
use super::solve::{Acceleration, Settings, Update, solve};
use crate::schedule::{EpsilonSchedule, Stopping};
use crate::tensor_convert::{finite_range, read, select};
use crate::value::TransportValue;

/// Entropic transport of one measure to another, or of a batch of such pairs:
///
/// ```text
/// min over P with marginals a, b of  <P, C> + eps KL(P | a x b)
/// ```
///
/// with penalties in place of the marginals for unbalanced problems. Potentials stay in the log domain; where a row or column of the
/// plan underflows, its potential is computed by a shifted log-sum-exp. When epsilon is small relative to the costs, the solve starts at
/// a larger epsilon and lowers it (epsilon scaling), and f32 problems are solved in f64, because f32 potentials of the size of the costs
/// cannot express changes of the size of epsilon.
///
/// Sources: Cuturi (2013); Schmitzer (2019) for the log domain and epsilon scaling; Chizat and others
/// (2018) and Séjourné and others (2022) for unbalanced transport.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Geometry, LinearProblem, Sinkhorn};
/// let x = Tensor::new(&[[0.0f64], [1.0], [2.0]], &Device::Cpu)?;
/// let y = (&x + 10.0)?;
/// let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
/// let solution = Sinkhorn::new(0.01)?.solve(&problem)?;
/// // A translation by 10 costs 100.
/// assert!(solution.converged() && (solution.transport_cost.to_scalar::<f64>()? - 100.0).abs() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinkhorn {
    settings: Settings,
}

impl Sinkhorn {
    /// Regularisation `epsilon`, in units of the cost; marginals within 1e-5 of the mass, or 10,000
    /// sweeps.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        let settings = Settings {
            schedule: EpsilonSchedule::new(epsilon)?,
            stopping: Stopping::new(1e-5, 10_000),
            acceleration: Acceleration::default(),
            update: Update::default(),
            gradient: Gradient::default(),
        };
        Ok(Self { settings })
    }

    /// Stops when the L1 error of the marginals is at most `tolerance` times the mass.
    ///
    /// # Errors
    /// When `tolerance` is not positive and finite.
    pub fn tolerance(mut self, tolerance: f64) -> Result<Self> {
        self.settings.stopping.set_tolerance(tolerance)?;
        Ok(self)
    }

    /// Stops after this many sweeps, those at larger epsilons included.
    ///
    /// # Errors
    /// When it is 0.
    pub fn max_iterations(mut self, max_iterations: usize) -> Result<Self> {
        self.settings.stopping.set_max_iterations(max_iterations)?;
        Ok(self)
    }

    /// Each stage of epsilon scaling multiplies epsilon by this, 0.5 by default; 1 is a solve at one epsilon.
    ///
    /// # Errors
    /// When it is neither in (0, 0.9] nor 1.
    pub fn epsilon_scaling(mut self, scaling: f64) -> Result<Self> {
        self.settings.schedule.set_scaling(scaling)?;
        Ok(self)
    }

    /// How steps are lengthened; adaptively by default.
    ///
    /// # Errors
    /// When a momentum is not in (0, 2) or a memory not between 1 and 50.
    pub fn acceleration(mut self, acceleration: Acceleration) -> Result<Self> {
        match acceleration {
            Acceleration::Momentum(w) if !(w > 0.0 && w < 2.0) => {
                let remedy = "must be between 0 and 2, both excluded";
                return Err(Error::value("momentum", w, remedy));
            }
            Acceleration::Anderson(k) if !(1..=50).contains(&k) => {
                return Err(Error::value(
                    "memory",
                    k,
                    "must be between 1 and 50 iterates",
                ));
            }
            _ => self.settings.acceleration = acceleration,
        }
        Ok(self)
    }

    /// In which order the two sides are scaled. Symmetric updates are not lengthened.
    #[must_use]
    pub fn update(mut self, update: Update) -> Self {
        self.settings.update = update;
        self
    }

    /// The results that carry gradients; the value only by default.
    #[must_use]
    pub fn gradient(mut self, gradient: Gradient) -> Self {
        self.settings.gradient = gradient;
        self
    }

    pub(super) fn tolerance_of(&self) -> f64 {
        self.settings.stopping.tolerance
    }

    /// The regularisation.
    pub fn epsilon(&self) -> f64 {
        self.settings.schedule.epsilon
    }

    /// Solves a problem, or every problem of a batch. Not converging is a result, not an error: see
    /// [`SinkhornSolution::converged`].
    ///
    /// On a device the sweeps run there where [`Sinkhorn::value`] says so; the potentials come back, as plans are computed by the host.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn solve(&self, problem: &LinearProblem) -> Result<SinkhornSolution> {
        if let Some(backend) = Backend::of(&problem.a)?
            && let Some(found) = device::solve(&backend, &self.settings, problem)?
            && let Some(solved) = found.solved(problem)?
        {
            let mut solution = self.evaluate(problem, solved)?;
            let shape = problem.shape(&[]);
            solution.value = found.value.to_dtype(problem.a.dtype())?.reshape(shape)?;
            return Ok(solution);
        }
        self.run(problem, |_| Ok(None))
    }

    /// The value alone, of every problem of a batch. On a device it does not come back to the host where the problem is balanced,
    /// gradients are [`Gradient::Envelope`], and costs are squared distances between points or fit a group's memory (some
    /// thousand cells): there all sweeps of a batch are one launch, and of points up to 10 sweeps start before the host waits for one number. Sweeps
    /// are plain there, after epsilon scaling; else this is [`Sinkhorn::solve`].
    ///
    /// # Errors
    /// As [`Sinkhorn::solve`].
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_ot::{Geometry, LinearProblem, Sinkhorn};
    /// let cost = Tensor::new(&[[[0f64, 1.0], [1.0, 0.0]], [[0.5, 1.0], [0.0, 2.0]]], &Device::Cpu)?;
    /// let problem = LinearProblem::uniform(Geometry::dense(&cost)?)?;
    /// let found = Sinkhorn::new(0.1)?.value(&problem)?;
    /// assert_eq!(found.value.dims(), [2]);
    /// assert!(found.marginal_errors.max(0)?.to_scalar::<f64>()? < 1e-5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn value(&self, problem: &LinearProblem) -> Result<TransportValue> {
        let (batch, dtype) = (problem.batch(), problem.a.dtype());
        let found = match Backend::of(&problem.a)? {
            Some(backend) => device::solve(&backend, &self.settings, problem)?,
            None => None,
        };
        match found {
            Some(found) => TransportValue::from_report(found.value, &found.report, batch, dtype),
            None => {
                let solution = self.solve(problem)?;
                let (value, cost) = (solution.value.clone(), solution.transport_cost.clone());
                TransportValue::from_convergence(value, cost, solution.convergence())
            }
        }
    }

    /// As [`Sinkhorn::solve`], from the potentials of a similar problem (a warm start); epsilon is not
    /// scaled then.
    ///
    /// # Shapes
    /// f (n) and g (m), or with a batch as in [`SinkhornSolution::potentials`].
    ///
    /// # Errors
    /// When shapes do not fit or a potential is not finite.
    pub fn solve_from(
        &self,
        problem: &LinearProblem,
        (f, g): (&Tensor, &Tensor),
    ) -> Result<SinkhornSolution> {
        let (n, m) = problem.geometry().size();
        for (name, x, k) in [("f", f, n), ("g", g, m)] {
            if x.dims() != problem.shape(&[k]) && x.dims() != [k] {
                return Err(Error::tensor(
                    name,
                    format!("shape {:?}", problem.shape(&[k])),
                    x.shape(),
                ));
            }
            finite_range(name, x)?;
        }
        self.run(problem, |i| {
            Ok(Some((read(&select(f, 1, i)?)?, read(&select(g, 1, i)?)?)))
        })
    }

    fn run(
        &self,
        problem: &LinearProblem,
        start: impl Fn(usize) -> Result<Option<(Vec<f64>, Vec<f64>)>> + Sync + Send,
    ) -> Result<SinkhornSolution> {
        let (n, m) = problem.geometry().size();
        let work = problem
            .count()
            .saturating_mul(n)
            .saturating_mul(m)
            .saturating_mul(200);
        let solved = parallel::map(problem.count(), work, |i| {
            solve(&self.settings, problem, i, start(i)?)
        });
        self.evaluate(problem, solved.into_iter().collect::<Result<_>>()?)
    }

    fn evaluate(
        &self,
        problem: &LinearProblem,
        each: Vec<SolvedProblem>,
    ) -> Result<SinkhornSolution> {
        let solved = SolvedBatch {
            problem: problem.clone(),
            each,
            epsilon: self.settings.schedule.epsilon,
            gradient: self.settings.gradient,
        };
        SinkhornSolution::new(solved, self.settings.stopping.tolerance)
    }
}
