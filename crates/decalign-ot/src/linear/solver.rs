//! Sinkhorn's iteration to a tolerance.

use candle_core::DType;
use decalign_core::{Error, Real, Result};

use super::plan::Plan;
use super::problem::LinearProblem;
use super::solution::{Ended, SinkhornSolution};
use super::sweep::Scaling;
use crate::geometry::{padded, read};

/// Entropic transport of one measure to another:
///
/// ```text
/// min over P with marginals a, b of  <P, C> + eps KL(P | a x b)
/// ```
///
/// Potentials stay in the log domain; where a row or column of the plan underflows, its potential
/// is found by a shifted log-sum-exp. When epsilon is small beside the costs, the solve starts at a
/// larger one and lowers it (epsilon scaling), and f32 problems are solved in f64: f32 potentials
/// of size 1 cannot express changes of size epsilon.
///
/// Sources: Cuturi (2013); Schmitzer (2019) for the log domain and epsilon scaling.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Geometry, LinearProblem, Sinkhorn};
/// let x = Tensor::new(&[[0.0f64], [1.0], [2.0]], &Device::Cpu)?;
/// let y = (&x + 10.0)?;
/// let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
/// let solution = Sinkhorn::new(0.01)?.solve(&problem)?;
/// // A translation by 10 costs 100.
/// assert!(solution.converged && (solution.transport_cost - 100.0).abs() < 0.1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sinkhorn {
    epsilon: f64,
    tolerance: f64,
    max_iterations: usize,
    scaling: f64,
}

/// Costs above this many epsilons: f32 is not enough.
const SINGLE_LIMIT: f64 = 1e3;

impl Sinkhorn {
    /// Regularisation `epsilon`, in units of the cost; marginals within 1e-5 of the mass, or 10,000
    /// sweeps.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        positive("epsilon", epsilon)?;
        Ok(Self {
            epsilon,
            tolerance: 1e-5,
            max_iterations: 10_000,
            scaling: 0.5,
        })
    }

    /// Ends when the L1 error of the marginals is at most `tolerance` times the mass.
    ///
    /// # Errors
    /// When `tolerance` is not positive and finite.
    pub fn tolerance(self, tolerance: f64) -> Result<Self> {
        positive("tolerance", tolerance)?;
        Ok(Self { tolerance, ..self })
    }

    /// Ends after so many sweeps, those at larger epsilons included.
    ///
    /// # Errors
    /// When it is 0.
    pub fn max_iterations(self, max_iterations: usize) -> Result<Self> {
        match max_iterations {
            0 => Err(Error::value("max_iterations", 0, "must be at least 1")),
            _ => Ok(Self {
                max_iterations,
                ..self
            }),
        }
    }

    /// Each stage of epsilon scaling multiplies epsilon by this, below 1; 1 is a solve at one
    /// epsilon.
    ///
    /// # Errors
    /// When it is not in (0, 1].
    pub fn epsilon_scaling(self, scaling: f64) -> Result<Self> {
        match scaling > 0.0 && scaling <= 1.0 {
            true => Ok(Self { scaling, ..self }),
            false => Err(Error::value(
                "epsilon scaling",
                scaling,
                "must be in (0, 1]",
            )),
        }
    }

    /// Solves a problem. Not converging is a result, not an error: see
    /// [`SinkhornSolution::converged`].
    ///
    /// # Errors
    /// When memory runs out.
    pub fn solve(&self, problem: &LinearProblem) -> Result<SinkhornSolution> {
        let single = problem.geometry.dtype() == DType::F32;
        let range = problem.geometry.range()?;
        match single && range <= SINGLE_LIMIT * self.epsilon {
            true => self.run::<f32>(problem, range),
            false => self.run::<f64>(problem, range),
        }
    }

    fn run<T: Real>(&self, problem: &LinearProblem, range: f64) -> Result<SinkhornSolution> {
        let costs = problem.geometry.read::<T>()?;
        let (a, mut b) = (read::<T>(&problem.a)?, read::<T>(&problem.b)?);
        let m = b.len();
        b.resize(padded(m), T::zero());
        let mass: f64 = a.iter().map(|v| v.as_f64()).sum();
        let log = |x: &[T]| x.iter().map(|v| v.ln()).collect::<Vec<T>>();
        let (log_a, log_b) = (log(&a), log(&b));
        let (mut f, mut g) = (log_a.clone(), log_b.clone());
        let mut iterations = 0;
        for (stage, epsilon) in self.stages(range).into_iter().enumerate() {
            if stage > 0 {
                let ratio = T::of(1.0 / self.scaling);
                rescale(&mut f, &log_a, ratio);
                rescale(&mut g, &log_b, ratio);
            }
            let left = self.max_iterations - iterations;
            let mut scaling = Scaling {
                costs: &costs,
                a: &a,
                b: &b,
                inverse: T::of(1.0 / epsilon),
                relaxation: T::one(),
            };
            if epsilon == self.epsilon {
                iterations += relaxed(&mut scaling, &mut f, &mut g, left, self.tolerance * mass);
                continue;
            }
            // Larger epsilons only prepare; one sweep is kept for the epsilon asked for.
            for _ in 0..STAGE.min(left - 1) {
                iterations += 1;
                if scaling.sweep(&mut f, &mut g) <= STAGE_TOLERANCE * mass {
                    break;
                }
            }
        }
        let (g, log_b) = (&g[..m], &log_b[..m]);
        let plan = Plan::new(&problem.geometry, &f, g, self.epsilon);
        let ended = Ended {
            iterations,
            tolerance: self.tolerance * mass,
        };
        let costs = (&costs, self.epsilon);
        SinkhornSolution::new(problem, plan, costs, [&f, g], [&log_a, log_b], ended)
    }

    /// The epsilons to solve at, the last being the one asked for.
    fn stages(&self, range: f64) -> Vec<f64> {
        let mut stages = vec![self.epsilon];
        if self.scaling < 1.0 && range > MILD * self.epsilon {
            while stages[stages.len() - 1] < range {
                stages.push(stages[stages.len() - 1] / self.scaling);
            }
        }
        stages.reverse();
        stages
    }
}

/// Sweeps until the error is at most `tolerance`, at most `limit` of them; returns how many.
///
/// Steps are lengthened as errors fall slowly, see [`longer`]; the last sweep is a plain one.
fn relaxed<T: Real>(
    scaling: &mut Scaling<T>,
    f: &mut [T],
    g: &mut [T],
    limit: usize,
    tolerance: f64,
) -> usize {
    let (mut reference, mut done) = (f64::INFINITY, 0);
    let (mut relaxation, mut look, mut trial) = (1.0, WINDOW, tolerance);
    while done < limit {
        scaling.relaxation = T::of(if done + 1 == limit { 1.0 } else { relaxation });
        let error = scaling.sweep(f, g);
        done += 1;
        // A long step leaves an error of its own behind, which a plain one takes away.
        if error * (2.0 - relaxation) <= trial && relaxation > 1.0 && done < limit {
            scaling.relaxation = T::one();
            done += 1;
            if scaling.sweep(f, g) <= tolerance {
                break;
            }
            // It also takes the swing away: next time not so soon.
            trial *= 0.5;
        } else if error <= tolerance {
            break;
        }
        if done >= look {
            look = done + WINDOW;
            let next = longer(relaxation, (error / reference).powf(1.0 / WINDOW as f64));
            // Errors at one relaxation say nothing of those at another.
            reference = if next == relaxation {
                error
            } else {
                f64::INFINITY
            };
            relaxation = next;
        }
    }
    done
}

/// The relaxation to go on with, after errors fell by `rate` a sweep at the present one.
///
/// Near the solution the sweep is successive overrelaxation of a linear iteration whose plain rate
/// t follows from `(rate + w - 1)^2 = rate w^2 t` (Young, 1971), and `2 / (1 + sqrt(1 - t))` is best.
/// When errors rise, plain sweeps come back. Source: Thibault and others (2021), overrelaxed
/// Sinkhorn.
fn longer(relaxation: f64, rate: f64) -> f64 {
    if rate.is_nan() || rate >= 1.0 {
        return 1.0;
    }
    let plain = (rate + relaxation - 1.0).powi(2) / (rate * relaxation * relaxation);
    match plain > 0.25 && plain < 1.0 {
        true => (2.0 / (1.0 + (1.0 - plain).sqrt())).clamp(relaxation, LONGEST),
        false => relaxation,
    }
}

/// Steps are not lengthened beyond this.
const LONGEST: f64 = 1.98;
/// Sweeps between looks at how fast errors fall.
const WINDOW: usize = 30;
/// Costs below this many epsilons need no preparation.
const MILD: f64 = 50.0;
/// Sweeps of a stage that prepares, at most.
const STAGE: usize = 10;
/// The error at which it ends.
const STAGE_TOLERANCE: f64 = 1e-2;

/// `F = f / eps + log a` at another epsilon.
fn rescale<T: Real>(potential: &mut [T], logs: &[T], ratio: T) {
    for (v, log) in potential.iter_mut().zip(logs) {
        if log.is_finite() {
            *v = (*v - *log) * ratio + *log;
        }
    }
}

fn positive(name: &str, value: f64) -> Result<()> {
    match value > 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::value(name, value, "must be positive and finite")),
    }
}
