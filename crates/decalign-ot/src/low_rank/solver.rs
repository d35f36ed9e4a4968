//! Mirror descent on the factors of a low-rank plan.

use candle_core::Tensor;
use decalign_core::random::Stream;
use decalign_core::{Error, Result};

use super::cost::Cost;
use super::plan::LowRankPlan;
use super::projection::{Factor, Projected, project};
use super::solution::{Ended, LowRankSolution};
use crate::linear::LinearProblem;
use crate::schedule::{Stopping, stopping_settings};
use crate::tensor_convert::read;
use crate::validate;

/// Transport by a plan of rank at most r, without entropy:
///
/// ```text
/// min over Q, R >= 0, g > 0 of  <C, Q diag(1 / g) R^T>,  Q 1 = a,  R 1 = b,  Q^T 1 = R^T 1 = g
/// ```
///
/// Mirror descent on Q, R and g; each step is projected to the nearest factors that fit together, by
/// Newton's method where the paper has Dykstra's. Squared distances are applied by their factors: a
/// step takes O((n + m) (d + r) r + r^3), and no n x m matrix is ever made. The cost falls from step
/// to step, but the problem is not convex: what is found depends on the seed. All runs in f64 on the
/// CPU.
///
/// Sources: Scetbon, Cuturi and Peyré (2021); Scetbon and Cuturi (2022) for the step size and the
/// criterion of its end.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Geometry, LinearProblem, LowRankSinkhorn};
/// // Two far groups of two points each, moved by 0.5.
/// let x = Tensor::new(&[[0f64], [0.1], [9.0], [9.1]], &Device::Cpu)?;
/// let y = (&x + 0.5)?;
/// let quarter = Tensor::new(&[0.25f64; 4], &Device::Cpu)?;
/// let geometry = Geometry::squared_euclidean(&x, &y)?;
/// let problem = LinearProblem::new(geometry, &quarter, &quarter)?;
/// let solution = LowRankSinkhorn::new(2, 7)?.solve(&problem)?;
/// assert!(solution.converged() && (solution.transport_cost.to_scalar::<f64>()? - 0.255).abs() < 1e-4);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LowRankSinkhorn {
    rank: usize,
    seed: u64,
    gamma: f64,
    stopping: Stopping,
}

stopping_settings!(
    LowRankSinkhorn,
    "Ends when [`LowRankSolution::residual`] and the marginal error, relative to the mass, are at most `tolerance`; 1e-5 by\ndefault.",
    "Ends after so many steps; 2,000 by default."
);

/// Tolerance of the projections, relative to that of the descent.
const INNER_TOLERANCE: f64 = 1e-3;
/// Rounding of sums in f64: projections are not more precise.
const ROUNDING: f64 = 1e-13;
/// Maximum Newton steps of a projection.
const PROJECTION_STEPS: usize = 50;
/// Smallest step, relative to the one set.
const SMALLEST_STEP: f64 = 1e-8;
/// Growth of the step size after an accepted step, up to the one set.
const STEP_GROWTH: f64 = 1.5;
/// Lower bound of g, relative to equal shares.
const LEAST_SHARE: f64 = 1e-6;

impl LowRankSinkhorn {
    /// A plan of rank at most `rank`, from factors drawn with `seed`; step size `gamma` 10.
    ///
    /// # Errors
    /// When `rank` is 0.
    pub fn new(rank: usize, seed: u64) -> Result<Self> {
        validate::at_least_one("rank", rank)?;
        Ok(Self {
            rank,
            seed,
            gamma: 10.0,
            stopping: Stopping::new(1e-5, 2000),
        })
    }

    /// The step size: exponents move by `gamma / max|gradient|^2` times the gradient, of costs
    /// divided by the largest. It is halved whenever the cost would rise, and comes back slowly.
    ///
    /// # Errors
    /// When it is not positive and finite.
    pub fn gamma(self, gamma: f64) -> Result<Self> {
        validate::positive("gamma", gamma)?;
        Ok(Self { gamma, ..self })
    }

    /// Transport of `a` to `b`. Not converging is a result, not an error: see
    /// [`LowRankSolution::converged`].
    ///
    /// Squared Euclidean and cosine costs are never stored; others are, as a matrix. A rank above
    /// min(n, m) is taken as that.
    ///
    /// # Errors
    /// When the problem has a batch (see [`LinearProblem::get`]) or penalties, or costs overflow.
    pub fn solve(&self, problem: &LinearProblem) -> Result<LowRankSolution> {
        problem.single_and_balanced()?;
        let geometry = &problem.geometry().factored()?;
        let (a, b) = problem.marginals();
        let normal = |x: &Tensor| -> Result<(Vec<f64>, f64)> {
            let x = read::<f64>(x)?;
            let total: f64 = x.iter().sum();
            Ok((x.iter().map(|v| v / total).collect(), total))
        };
        let ((a_numbers, mass), (b_numbers, _)) = (normal(a)?, normal(b)?);
        let cost = Cost::new(geometry)?;
        if !cost.scale.is_finite() {
            let remedy = "squared distances overflow: divide the points by a common number";
            return Err(Error::value("the largest cost", cost.scale, remedy));
        }
        let descent = Descent {
            settings: self,
            cost: &cost,
            p: [&a_numbers, &b_numbers],
            rank: self.rank.min(cost.n).min(cost.m),
        };
        let (state, ended) = descent.run();
        let times = |x: Vec<f64>| x.into_iter().map(|v| v * mass).collect();
        let [q, r] = state.factors.map(|f| times(f.cells));
        let plan = LowRankPlan {
            q,
            r,
            g: times(state.g),
            like: a.clone(),
        };
        let transport_cost = state.cost * cost.scale * mass;
        LowRankSolution::new(geometry, [a, b], plan, transport_cost, ended)
    }
}

/// Factors, and the costs and slopes at them.
struct State {
    factors: [Factor; 2],
    logs: [Vec<f64>; 2],
    g: Vec<f64>,
    /// `<C, P>` of normalised costs and masses.
    cost: f64,
    /// `C R diag(1 / g)`, `C^T Q diag(1 / g)`.
    slopes: [Vec<f64>; 2],
    /// `diag(Q^T C R) / g^2`.
    gains: Vec<f64>,
    /// Whether the projection ended.
    fits: bool,
}

struct Descent<'a> {
    settings: &'a LowRankSinkhorn,
    cost: &'a Cost,
    p: [&'a [f64]; 2],
    rank: usize,
}

impl Descent<'_> {
    fn run(&self) -> (State, Ended) {
        let settings = self.settings;
        let mut ended = Ended {
            tolerance: settings.stopping.tolerance,
            ..Ended::default()
        };
        let mut state = self.start(&mut ended);
        let mut gamma = settings.gamma;
        while ended.iterations < settings.stopping.max_iterations {
            ended.iterations += 1;
            let steepest = state.slopes.iter().chain([&state.gains]).flatten();
            let steepest = steepest.fold(0.0, |a: f64, v| a.max(v.abs()));
            if steepest == 0.0 {
                // All costs are 0: any plan is optimal.
                ended.residual = 0.0;
                break;
            }
            let step = gamma / (steepest * steepest);
            let next = self.step(&state, step, &mut ended);
            // Costs are as precise as the projections.
            let rises = next.cost > state.cost + INNER_TOLERANCE * settings.stopping.tolerance;
            if (rises || !next.fits) && gamma > SMALLEST_STEP * settings.gamma {
                gamma *= 0.5;
                continue;
            }
            ended.residual = distance(&state, &next).sqrt() / step;
            state = next;
            gamma = (STEP_GROWTH * gamma).min(settings.gamma);
            if ended.residual <= settings.stopping.tolerance || !state.cost.is_finite() {
                break;
            }
        }
        (state, ended)
    }

    /// Near the plan a x b, each factor another way.
    fn start(&self, ended: &mut Ended) -> State {
        let r = self.rank;
        let logs = |i: usize| {
            let stream = Stream::new(self.settings.seed, i as u64);
            stream.normal(self.p[i].len() * r)
        };
        let equal = vec![-(r as f64).ln(); r];
        self.project([logs(0), logs(1)], &equal, ended)
    }

    fn step(&self, state: &State, step: f64, ended: &mut Ended) -> State {
        let logs = |i: usize| {
            let cells = state.logs[i].iter().zip(&state.slopes[i]);
            cells.map(|(log, slope)| log - step * slope).collect()
        };
        let log_g = state.g.iter().zip(&state.gains);
        let log_g: Vec<f64> = log_g.map(|(g, gain)| g.ln() + step * gain).collect();
        self.project([logs(0), logs(1)], &log_g, ended)
    }

    fn project(&self, logs: [Vec<f64>; 2], log_g: &[f64], ended: &mut Ended) -> State {
        let least = LEAST_SHARE / self.rank as f64;
        let sharp = (INNER_TOLERANCE * self.settings.stopping.tolerance).max(ROUNDING);
        let projected = project(logs, log_g, self.p, least, (sharp, PROJECTION_STEPS));
        ended.inner_iterations += projected.iterations;
        self.state(projected)
    }

    fn state(&self, projected: Projected) -> State {
        let Projected {
            factors,
            logs,
            g,
            fits,
            ..
        } = projected;
        let r = self.rank;
        let mut slopes = [
            self.cost.apply(&factors[1].cells, r),
            self.cost.apply_transposed(&factors[0].cells, r),
        ];
        let mut gains = vec![0.0; r];
        for (q, c) in factors[0]
            .cells
            .chunks_exact(r)
            .zip(slopes[0].chunks_exact(r))
        {
            for ((gain, q), c) in gains.iter_mut().zip(q).zip(c) {
                *gain += q * c;
            }
        }
        let cost = gains.iter().zip(&g).map(|(w, g)| w / g).sum();
        gains.iter_mut().zip(&g).for_each(|(w, g)| *w /= g * g);
        for slopes in &mut slopes {
            for row in slopes.chunks_exact_mut(r) {
                row.iter_mut().zip(&g).for_each(|(v, g)| *v /= g);
            }
        }
        State {
            factors,
            logs,
            g,
            cost,
            slopes,
            gains,
            fits,
        }
    }
}

/// The divergences of Kullback and Leibler both ways, of both factors and g.
fn distance(from: &State, to: &State) -> f64 {
    let one = |p: f64, q: f64| match p > 0.0 && q > 0.0 {
        true => (p - q) * (p / q).ln(),
        false => 0.0,
    };
    let mut sum = 0.0;
    for (from, to) in from.factors.iter().zip(&to.factors) {
        let cells = from.cells.iter().zip(&to.cells);
        sum += cells.map(|(p, q)| one(*p, *q)).sum::<f64>();
    }
    let parts = from.g.iter().zip(&to.g);
    sum + parts.map(|(p, q)| one(*p, *q)).sum::<f64>()
}
