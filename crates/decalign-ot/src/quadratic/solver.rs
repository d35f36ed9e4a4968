//! Projected mirror descent: linear transports at the energy's gradient.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::energy::{At, Energy};
use super::problem::GromovProblem;
use super::solution::{Ended, GromovSolution};
use crate::geometry::Geometry;
use crate::linear::{LinearProblem, Sinkhorn};
use crate::schedule::{Stopping, stopping_settings};
use crate::tensor_convert::read;
use crate::validate::{self, inner};

/// Gromov-Wasserstein transport, which preserves the costs within each side; the fused form adds costs between the sides:
///
/// ```text
/// min over P with marginals a, b of  (1 - alpha) <P, M> + alpha E(P) + eps KL(P | a x b)
/// E(P) = sum over i, j, k, l of (C1_ik - C2_jl)^2 P_ij P_kl
/// ```
///
/// Each step linearises the energy at the plan and solves entropic transport with that gradient as the cost; where the
/// objective would rise, a proximal term shortens the step, so the objective falls from step to step. The problem is not
/// convex: the solution is a stationary plan near the start, which is a x b or a given plan. Where all points of a side
/// have the same sum of costs, as on a ring, a x b itself is stationary: give a plan. The solver runs in f64 on the CPU;
/// memory is O(n^2 + m^2).
///
/// Sources: Peyré, Cuturi and Solomon (2016); Vayer, Chapel, Flamary, Tavenard and Courty (2019) for
/// the fused problem.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{GromovProblem, GromovWasserstein};
/// // Distances of the points 0, 1, 3 on a line, and of the same in reverse.
/// let c1 = Tensor::new(&[[0f64, 1.0, 3.0], [1.0, 0.0, 2.0], [3.0, 2.0, 0.0]], &Device::Cpu)?;
/// let c2 = Tensor::new(&[[0f64, 2.0, 3.0], [2.0, 0.0, 1.0], [3.0, 1.0, 0.0]], &Device::Cpu)?;
/// let problem = GromovProblem::uniform(&c1, &c2)?;
/// let solution = GromovWasserstein::new(0.01)?.solve(&problem)?;
/// assert!(solution.converged() && solution.energy < 1e-6);
/// assert!(solution.plan.to_vec2::<f64>()?[0][2] > 0.33);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GromovWasserstein {
    epsilon: f64,
    alpha: f64,
    stopping: Stopping,
    inner_iterations: usize,
}

stopping_settings!(
    GromovWasserstein,
    "Ends when a step moves the plan by at most `tolerance` times the mass, in L1; 1e-6 by default. The transport of each step\nis ten times as precise.",
    "Ends after so many steps; 1,000 by default."
);

/// Tolerance of the inner transports, relative to that of the descent.
const INNER_TOLERANCE: f64 = 0.1;
/// Smallest step, relative to a whole one.
const SMALLEST_STEP: f64 = 1e-6;

impl GromovWasserstein {
    /// Regularisation `epsilon`, in units of squared cost, and `alpha` 1: only the energy counts.
    ///
    /// # Errors
    /// When `epsilon` is not positive and finite.
    pub fn new(epsilon: f64) -> Result<Self> {
        validate::positive("epsilon", epsilon)?;
        Ok(Self {
            epsilon,
            alpha: 1.0,
            stopping: Stopping::new(1e-6, 1000),
            inner_iterations: 10_000,
        })
    }

    /// What the energy counts beside the cost of features, from 0 (linear transport) to 1 (features
    /// are ignored).
    ///
    /// # Errors
    /// When it is not in [0, 1].
    pub fn alpha(self, alpha: f64) -> Result<Self> {
        match (0.0..=1.0).contains(&alpha) {
            true => Ok(Self { alpha, ..self }),
            false => Err(Error::value("alpha", alpha, "must be in [0, 1]")),
        }
    }

    /// Maximum sweeps of the transport of one step; 10,000 by default.
    ///
    /// # Errors
    /// When it is 0.
    pub fn inner_iterations(self, inner_iterations: usize) -> Result<Self> {
        validate::at_least_one("inner_iterations", inner_iterations)?;
        Ok(Self {
            inner_iterations,
            ..self
        })
    }

    /// Solves a problem from the plan a x b. Not converging is a result, not an error: see
    /// [`GromovSolution::converged`].
    ///
    /// # Errors
    /// When `alpha` is below 1 and the problem has no features, or the energy overflows.
    pub fn solve(&self, problem: &GromovProblem) -> Result<GromovSolution> {
        let [a, b] = &problem.weights;
        let (a, b) = (read::<f64>(a)?, read::<f64>(b)?);
        let total: f64 = b.iter().sum();
        let plan = a.iter().flat_map(|a| b.iter().map(move |b| a * b / total));
        self.run(problem, plan.collect())
    }

    /// As [`GromovWasserstein::solve`], from a plan.
    ///
    /// # Shapes
    /// `plan` (n, m), not negative; its marginals need not be exact.
    ///
    /// # Errors
    /// As there, and when the plan's shape or dtype does not fit or an entry is negative, NaN or
    /// infinite.
    pub fn solve_from(&self, problem: &GromovProblem, plan: &Tensor) -> Result<GromovSolution> {
        let (n, m) = problem.size();
        validate::matrix("plan", plan, (Some(n), Some(m)), problem.dtype())?;
        let plan = read::<f64>(plan)?;
        match plan.iter().position(|p| *p < 0.0) {
            None => self.run(problem, plan),
            Some(at) => {
                let name = format!("plan at ({}, {})", at / m, at % m);
                Err(Error::value(name, plan[at], "must not be negative"))
            }
        }
    }

    fn run(&self, problem: &GromovProblem, plan: Vec<f64>) -> Result<GromovSolution> {
        if self.alpha < 1.0 && problem.features.is_none() {
            let remedy = "without a cost of features it must be 1: add GromovProblem::features";
            return Err(Error::value("alpha", self.alpha, remedy));
        }
        let energy = Energy::new(problem, self.alpha)?;
        let [a, b] = problem.weights.each_ref().map(read::<f64>);
        let descent = Descent {
            settings: self,
            energy: &energy,
            weights: [a?, b?],
        };
        let (state, ended) = descent.run(plan)?;
        GromovSolution::new(problem, energy, state, ended)
    }
}

/// A plan, its energy and the potentials of its transport.
pub(super) struct State {
    pub(super) plan: Vec<f64>,
    /// `log(P / (a x b))`, once a step was taken.
    logs: Vec<f64>,
    pub(super) at: At,
    /// The Lagrangian of the whole objective.
    pub(super) value: f64,
    pub(super) potentials: [Vec<f64>; 2],
    pub(super) marginal_error: f64,
    inner_converged: bool,
}

struct Descent<'a> {
    settings: &'a GromovWasserstein,
    energy: &'a Energy,
    weights: [Vec<f64>; 2],
}

impl Descent<'_> {
    fn run(&self, plan: Vec<f64>) -> Result<(State, Ended)> {
        let settings = self.settings;
        let mass: f64 = self.weights[0].iter().sum();
        let mut state = self.start(plan);
        let mut ended = Ended::default();
        let mut strength = settings.epsilon;
        while ended.iterations < settings.stopping.max_iterations {
            ended.iterations += 1;
            let (next, sweeps) = self.step(&state, strength)?;
            ended.inner_iterations += sweeps;
            // Values are as precise as the marginals of the plans.
            let slack =
                settings.stopping.tolerance * settings.epsilon * mass + 1e-12 * state.value.abs();
            let rises = next.value > state.value + slack;
            if rises && strength * SMALLEST_STEP < settings.epsilon {
                strength *= 2.0;
                continue;
            }
            let moved = state.plan.iter().zip(&next.plan);
            let moved = moved.map(|(p, q)| (p - q).abs()).sum::<f64>() / mass;
            // Scale the movement of a short step to that of a whole one.
            ended.movement = moved * strength / settings.epsilon;
            state = next;
            let settled = ended.movement <= settings.stopping.tolerance;
            if settled || !state.value.is_finite() {
                ended.converged = settled && state.value.is_finite() && state.inner_converged;
                break;
            }
        }
        Ok((state, ended))
    }

    fn start(&self, plan: Vec<f64>) -> State {
        let [a, b] = &self.weights;
        let at = self.energy.at(&plan);
        State {
            // The first step is always accepted, because a given plan need not have the marginals.
            value: f64::INFINITY,
            logs: Vec::new(),
            potentials: [vec![0.0; a.len()], vec![0.0; b.len()]],
            marginal_error: f64::INFINITY,
            inner_converged: false,
            plan,
            at,
        }
    }

    /// The plan of least `<grad F, P> + eps KL(P | a x b) + (strength - eps) KL(P | plan before)`,
    /// and the sweeps it took.
    fn step(&self, state: &State, strength: f64) -> Result<(State, usize)> {
        let (epsilon, [a, b]) = (self.settings.epsilon, &self.weights);
        let mut cost = self.energy.gradient(&state.at);
        let near = strength - epsilon;
        if near > 0.0 {
            let cells = cost.iter_mut().zip(&state.logs);
            cells.for_each(|(c, log)| *c -= near * log);
        }
        if cost.iter().any(|c| !c.is_finite()) {
            let remedy = "costs are too large or too far apart: divide them by a common number";
            return Err(Error::value("the energy's gradient", "not finite", remedy));
        }
        let cpu = &candle_core::Device::Cpu;
        let vector = |x: &[f64]| Tensor::from_slice(x, x.len(), cpu);
        let geometry = Geometry::dense(&Tensor::from_slice(&cost, (a.len(), b.len()), cpu)?)?;
        let step = Sinkhorn::new(strength)?
            .tolerance(INNER_TOLERANCE * self.settings.stopping.tolerance)?
            .max_iterations(self.settings.inner_iterations)?
            .solve(&LinearProblem::new(geometry, &vector(a)?, &vector(b)?)?)?;
        let (f, g) = (read(&step.potentials.0)?, read(&step.potentials.1)?);
        // log(P / (a x b)) = (f + g - cost) / strength.
        let mut logs = cost;
        for (f, row) in f.iter().zip(logs.chunks_exact_mut(b.len())) {
            let cells = row.iter_mut().zip(&g);
            cells.for_each(|(v, g): (&mut f64, &f64)| *v = (f + g - *v) / strength);
        }
        let plan = read::<f64>(&step.plan.to_tensor()?)?;
        let next = self.state(
            plan,
            logs,
            [f, g],
            (step.marginal_error(), step.converged()),
        );
        Ok((next, step.iterations()))
    }

    fn state(
        &self,
        plan: Vec<f64>,
        logs: Vec<f64>,
        potentials: [Vec<f64>; 2],
        (marginal_error, inner_converged): (f64, bool),
    ) -> State {
        let (at, [a, b]) = (self.energy.at(&plan), &self.weights);
        let total = |x: &[f64]| x.iter().sum::<f64>();
        let divergence = inner(&plan, &logs) - total(&plan) + total(a) * total(b);
        // The Lagrangian: errors of the marginals change it in second order only.
        let missing: f64 = [
            (&potentials[0], a, &at.rows),
            (&potentials[1], b, &at.columns),
        ]
        .iter()
        .map(|(f, want, got)| inner(f, want) - inner(f, got))
        .sum();
        State {
            value: at.total + self.settings.epsilon * divergence + missing,
            plan,
            logs,
            at,
            potentials,
            marginal_error,
            inner_converged,
        }
    }
}
