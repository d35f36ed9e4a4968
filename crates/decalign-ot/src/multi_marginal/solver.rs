//! Entropic multi-marginal transport to a tolerance.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result, parallel, with_real};

use super::engine::{Engine, Evaluation, Tables, convert, greatest, least};
use super::inputs::{Inputs, Numbers};
use super::pace::Pace;
use super::problem::MultiMarginalProblem;
use super::solution::{MultiMarginalSolution, Solved};
use crate::schedule::{
    EpsilonSchedule, GENTLE_RESTART_REDUCTION, STAGE_SWEEPS, STAGE_TOLERANCE, Stopping,
    UNSCALED_JOINT_RANGE,
};

/// Entropic transport between any number of marginals:
///
/// ```text
/// min over T with marginals nu_m of  <T, C> + eps KL(T | nu_1 x ... x nu_M)
/// T = nu_1 x ... x nu_M exp((f_1 + ... + f_M - C) / eps)
/// ```
///
/// Sinkhorn's iteration makes one marginal right after the other; a sweep is once through all of
/// them. On a joint cost it reads the cells twice a sweep; on costs between pairs that make no
/// cycle, or few, it passes messages in the log domain and never sees the joint tensor. Points of
/// weight 0 take no part. When epsilon is small beside the costs the solve starts at a larger one
/// and lowers it (epsilon scaling), steps are lengthened as errors fall slowly (overrelaxation), and
/// f32 problems are solved in f64 where f32 could not express the tolerance. The problems of a batch
/// are solved in parallel, each as if it were alone.
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
/// let solution = MultiMarginalSinkhorn::new(0.1, 1e-9, 1000)?.solve(&problem)?;
/// assert!(solution.converged() && (solution.transport_cost.to_scalar::<f64>()? - 5.0).abs() < 1e-6);
/// // The first marginal with the last.
/// assert_eq!(solution.pair_marginal(0, 2)?.dims(), [3, 3]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MultiMarginalSinkhorn {
    schedule: EpsilonSchedule,
    stopping: Stopping,
}

impl MultiMarginalSinkhorn {
    /// Regularisation `epsilon`, in units of the cost; the solve ends when the marginal error is at
    /// most `tolerance` times the mass, or after `max_iterations` sweeps.
    ///
    /// # Errors
    /// When `epsilon` or `tolerance` is not positive and finite, or there is no iteration.
    pub fn new(epsilon: f64, tolerance: f64, max_iterations: usize) -> Result<Self> {
        let schedule = EpsilonSchedule::new(epsilon)?;
        let mut stopping = Stopping::new(tolerance, max_iterations);
        stopping.set_tolerance(tolerance)?;
        stopping.set_max_iterations(max_iterations)?;
        Ok(Self { schedule, stopping })
    }

    /// Each stage of epsilon scaling multiplies epsilon by this factor, 0.5 by default; 1 is a solve at one epsilon.
    ///
    /// # Errors
    /// When it is neither in (0, 0.9] nor 1.
    pub fn epsilon_scaling(mut self, scaling: f64) -> Result<Self> {
        self.schedule.set_scaling(scaling)?;
        Ok(self)
    }

    /// Epsilon, tolerance and sweeps.
    pub(super) fn limits(&self) -> (f64, f64, usize) {
        (
            self.schedule.epsilon,
            self.stopping.tolerance,
            self.stopping.max_iterations,
        )
    }

    /// Solves a problem or a batch of them. Not converging is a result, not an error: see
    /// [`MultiMarginalSolution::converged`].
    ///
    /// # Errors
    /// When memory runs out.
    pub fn solve(&self, problem: &MultiMarginalProblem) -> Result<MultiMarginalSolution> {
        self.from(problem, None)
    }

    /// As [`MultiMarginalSinkhorn::solve`], from the potentials of a similar problem instead of
    /// from none, and without epsilon scaling.
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
            let remedy = format!(
                "there are {} marginals, one is due for each",
                problem.sizes.len()
            );
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
            let numbers = with_real!(format!("potential {m}"), f, _T => Numbers::read(f, *k))?;
            match numbers.first_infinite() {
                Some((at, v)) => {
                    let name = format!("entry {at} of potential {m}");
                    Err(Error::value(name, v, "must be finite"))
                }
                None => Ok(numbers),
            }
        });
        let start = start.collect::<Result<Vec<Numbers<f64>>>>()?;
        self.from(problem, Some(&start))
    }

    fn from(
        &self,
        problem: &MultiMarginalProblem,
        start: Option<&[Numbers<f64>]>,
    ) -> Result<MultiMarginalSolution> {
        with_real!("marginals", problem.marginals[0], T => self.run::<T>(problem, start))
    }

    fn run<D: Real>(
        &self,
        problem: &MultiMarginalProblem,
        start: Option<&[Numbers<f64>]>,
    ) -> Result<MultiMarginalSolution> {
        let inputs = Inputs::<D>::read(problem)?;
        let count = problem.count();
        let sizes: Vec<Size> = (0..count).map(|b| Size::of(&inputs, b)).collect();
        let single = |b: usize| size_of::<D>() == 4 && self.single_is_enough(&sizes[b]);
        // Tables of costs that all problems share are made once.
        let shared = inputs.costs_are_shared() && count > 1;
        let needed = |is: bool| shared && (0..count).any(|b| single(b) == is);
        let narrow = needed(true).then(|| Tables::<f32>::new(problem, &inputs.costs(0)));
        let wide = needed(false).then(|| Tables::<f64>::new(problem, &inputs.costs(0)));
        let sweeps = self.stopping.max_iterations.min(100);
        let work = count * sweeps * problem.cells();
        let solved = parallel::map(count, work, |b| {
            let job = Job {
                settings: self,
                problem,
                inputs: &inputs,
                b,
                range: sizes[b].range,
                start: start.map(|f| f.iter().map(|f| f.of(b).to_vec()).collect()),
            };
            match single(b) {
                true => job.solve(narrow.as_ref()),
                false => job.solve(wide.as_ref()),
            }
        });
        MultiMarginalSolution::new(problem, self.schedule.epsilon, solved)
    }

    /// Whether potentials in f32 can express marginals within the tolerance.
    fn single_is_enough(&self, size: &Size) -> bool {
        let rounding = 4.0 * f64::from(f32::EPSILON);
        rounding * (size.largest / self.schedule.epsilon).max(4.0) <= self.stopping.tolerance
            && size.surprise < 60.0
    }
}

/// How large the numbers of a problem are.
struct Size {
    /// A bound on `max C - min C`.
    range: f64,
    /// A bound on `|C|`.
    largest: f64,
    /// The logarithm of how improbable the least probable point of all marginals is.
    surprise: f64,
}

impl Size {
    fn of<D: Real>(inputs: &Inputs<D>, b: usize) -> Self {
        let (mut range, mut largest, mut surprise) = (0.0, 0.0, 0.0);
        for cost in inputs.costs(b) {
            let (mut low, mut high) = (D::infinity(), D::neg_infinity());
            for c in cost {
                low = least(low, *c);
                high = greatest(high, *c);
            }
            range += high.as_f64() - low.as_f64();
            largest += low.as_f64().abs().max(high.as_f64().abs());
        }
        for weights in inputs.marginals(b) {
            let (mut smallest, mut total) = (f64::INFINITY, 0.0);
            for w in weights.iter().map(|w| w.as_f64()).filter(|w| *w > 0.0) {
                smallest = least(smallest, w);
                total += w;
            }
            surprise += (total / smallest).ln();
        }
        Self {
            range,
            largest,
            surprise,
        }
    }
}

/// One problem of a batch.
struct Job<'a, D> {
    settings: &'a MultiMarginalSinkhorn,
    problem: &'a MultiMarginalProblem,
    inputs: &'a Inputs<D>,
    b: usize,
    range: f64,
    start: Option<Vec<Vec<f64>>>,
}

impl<D: Real> Job<'_, D> {
    fn solve<T: Real>(&self, tables: Option<&Tables<T>>) -> Solved<D> {
        let own;
        let tables = match tables {
            Some(shared) => shared,
            None => {
                own = Tables::<T>::new(self.problem, &self.inputs.costs(self.b));
                &own
            }
        };
        let weights: Vec<Vec<T>> = self.inputs.marginals(self.b).map(convert).collect();
        let mut engine = tables.engine(self.problem, &weights);
        let (iterations, evaluation) = self.drive(engine.as_mut(), &weights);
        let settings = self.settings;
        let ended = (
            iterations,
            settings.schedule.epsilon,
            settings.stopping.tolerance,
        );
        Solved::new(engine.potentials(), &weights, evaluation, ended)
    }

    /// Sweeps until the plan's marginals are within the tolerance.
    fn drive<T: Real>(
        &self,
        engine: &mut dyn Engine<T>,
        weights: &[Vec<T>],
    ) -> (usize, Evaluation<T>) {
        let settings = self.settings;
        let mass: f64 = weights[0].iter().map(|v| v.as_f64()).sum();
        let stages = match self.start {
            None => settings.schedule.stages(self.range, UNSCALED_JOINT_RANGE),
            Some(_) => vec![settings.schedule.epsilon],
        };
        let Stopping {
            tolerance,
            max_iterations,
        } = settings.stopping;
        engine.start(stages[0], self.start.as_deref());
        // Larger epsilons only prepare: half of the sweeps are kept for the epsilon asked for.
        let mut left = max_iterations;
        for next in &stages[1..] {
            for _ in 0..STAGE_SWEEPS.min(left.saturating_sub(max_iterations.div_ceil(2))) {
                left -= 1;
                if engine.sweep(1.0) <= STAGE_TOLERANCE * mass {
                    break;
                }
            }
            engine.go_on(*next);
        }
        // An error is that before a marginal is made right, which puts the others a little off:
        // what counts is the error of the plan at the end.
        let (limit, mut goal) = (tolerance * mass, tolerance * mass);
        let mut pace = Pace::new();
        loop {
            left -= pace.sweeps(left, goal, |relaxation| engine.sweep(relaxation));
            let evaluation = engine.evaluate(self.problem.is_tracked());
            let error = evaluation.error(weights);
            if error <= limit || error.is_nan() || left == 0 {
                return (max_iterations - left, evaluation);
            }
            goal *= GENTLE_RESTART_REDUCTION;
        }
    }
}
