//! The solution of a barycentre problem on a fixed support.

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Result};

use super::bregman::{Numbers, Potentials};
use super::problem::BarycenterProblem;
use crate::convergence::{Convergence, convergence_accessors};
use crate::tensor_convert::{read, tensor};
use crate::validate;

/// The result of [`crate::FixedSupportBarycenter::solve`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BarycenterSolution {
    /// The barycentre, (m). It carries no gradients: for those see [`crate::unrolled_barycenter`].
    pub weights: Tensor,
    /// The objective, a scalar: `sum_k w_k OT(a_k, b)`, and less `OT(b, b) / 2` when debiased (the
    /// terms `OT(a_k, a_k) / 2` of the Sinkhorn divergence are left out, the barycentre does not
    /// depend on them). With measures of total t it is t times that of the measures divided by t.
    ///
    /// It carries gradients by the envelope theorem: with respect to measure k its potential times
    /// w_k, centred to mean 0 (for changes that keep the total); with respect to a cost the plan
    /// times w_k; with respect to the support's own cost minus half the plan of b with itself.
    pub value: Tensor,
    /// f, (n_k) and g, (m) of every measure. They carry no gradients.
    pub potentials: Vec<(Tensor, Tensor)>,
    convergence: Vec<Convergence>,
    pub(super) state: Potentials,
    plans: Plans,
}

convergence_accessors!(BarycenterSolution);

/// The settings and the length of a solve.
pub(super) struct Ended {
    pub(super) epsilon: f64,
    pub(super) iterations: usize,
    pub(super) tolerance: f64,
    pub(super) debiased: bool,
}

impl BarycenterSolution {
    pub(super) fn new(
        problem: &BarycenterProblem,
        numbers: &Numbers,
        state: Potentials,
        ended: Ended,
    ) -> Result<Self> {
        let (like, epsilon) = (&problem.measures[0], ended.epsilon);
        let errors = state.errors(problem, numbers, epsilon);
        let total = problem.totals[0];
        let b: Vec<f64> = state.logs.iter().map(|b| b.exp()).collect();
        let mass: f64 = b.iter().sum();
        // The columns of each plan sum to b, so it has the mass of b. Errors of the potentials change this Lagrangian in
        // second order only.
        let mut value = 0.0;
        for (k, share) in problem.shares.iter().enumerate() {
            let dual = validate::inner(&state.f[k], &numbers.measures[k])
                + validate::inner(&state.g[k], &b);
            value += share * (dual + epsilon * (1.0 - mass));
        }
        if let Some(sums) = &errors.own {
            let log_u = state.log_uniform();
            let cells = state.h.iter().zip(sums);
            let own: f64 = cells.map(|(h, s)| (log_u + h / epsilon + s).exp()).sum();
            value -= validate::inner(&state.h, &b) + 0.5 * epsilon * (1.0 - own);
        }
        let marginal_error = validate::larger(errors.rows, errors.own_error);
        let b: Vec<f64> = b.iter().map(|b| b * total).collect();
        let potentials = state.f.iter().zip(&state.g).map(|(f, g)| {
            let (n, m) = (f.len(), g.len());
            Ok((tensor(f, n, like)?, tensor(g, m, like)?))
        });
        let plans = Plans {
            problem: problem.clone(),
            state: state.clone(),
            epsilon,
            debiased: ended.debiased,
        };
        Ok(Self {
            weights: tensor(&b, b.len(), like)?,
            value: record(&plans, value * total)?,
            potentials: potentials.collect::<Result<_>>()?,
            convergence: vec![Convergence {
                iterations: ended.iterations,
                marginal_error: marginal_error * total,
                converged: value.is_finite() && marginal_error <= ended.tolerance,
            }],
            state,
            plans,
        })
    }

    /// The plan from measure `k` to the barycentre, (n_k, m). It carries no gradients.
    ///
    /// # Errors
    /// When there is no such measure.
    pub fn plan(&self, k: usize) -> Result<Tensor> {
        let n = self.potentials.len();
        if k >= n {
            let remedy = format!("there are {n}, counted from 0");
            return Err(decalign_core::Error::value(
                "number of the measure",
                k,
                remedy,
            ));
        }
        let problem = &self.plans.problem;
        let shape = (problem.measures[k].elem_count(), problem.points);
        tensor(&self.plans.plan(k)?, shape, &problem.measures[k])
    }
}

/// The numbers that the plans are computed from.
#[derive(Clone, Debug)]
struct Plans {
    problem: BarycenterProblem,
    state: Potentials,
    epsilon: f64,
    debiased: bool,
}

impl Plans {
    fn plan(&self, k: usize) -> Result<Vec<f64>> {
        let (state, problem) = (&self.state, &self.problem);
        let total = problem.totals[0];
        let rows = problem.measure(k)?;
        let rows = rows.iter().map(|a| (total * a).ln()).collect::<Vec<f64>>();
        let cost = &problem.costs[problem.cost_of(k)];
        self.cells(cost, (&state.f[k], &rows), &state.g[k])
    }

    /// The plan of the barycentre with itself.
    fn own(&self, cost: &Tensor) -> Result<Vec<f64>> {
        let h = &self.state.h;
        let log = self.problem.totals[0].ln() + self.state.log_uniform();
        self.cells(cost, (h, &vec![log; h.len()]), h)
    }

    fn cells(&self, cost: &Tensor, (f, rows): (&[f64], &[f64]), g: &[f64]) -> Result<Vec<f64>> {
        let mut cells = read::<f64>(cost)?;
        let log_u = self.state.log_uniform();
        for ((cells, f), log) in cells.chunks_exact_mut(g.len()).zip(f).zip(rows) {
            for (cell, g) in cells.iter_mut().zip(g) {
                *cell = (log + log_u + (f + g - *cell) / self.epsilon).exp();
            }
        }
        Ok(cells)
    }
}

/// The value with its gradients with respect to measures and costs.
fn record(plans: &Plans, value: f64) -> Result<Tensor> {
    let problem = &plans.problem;
    let like = &problem.measures[0];
    let output = match like.dtype() {
        candle_core::DType::F32 => Output::new(vec![value as f32], ()),
        _ => Output::new(vec![value], ()),
    };
    let inputs = problem.inputs(plans.debiased);
    let held = plans.clone();
    let value = record_one("barycenter", &inputs, output, move |b| backward(b, &held))?;
    Ok(value.to_device(like.device())?)
}

fn backward(b: &Backward, plans: &Plans) -> Result<InputGradients> {
    let outer = b.gradient(0)?.to_dtype(candle_core::DType::F64)?;
    let outer = Elements::<f64>::new(&outer)?[0];
    let problem = &plans.problem;
    let n = problem.measures.len();
    let scaled = |x: Vec<f64>, factor: f64| -> Vec<f64> {
        x.into_iter().map(|v| v * factor * outer).collect()
    };
    let mut gradients = Vec::with_capacity(b.inputs.len());
    for (k, share) in problem.shares.iter().enumerate() {
        gradients.push(scaled(validate::centred(&plans.state.f[k]), *share));
    }
    for (at, cost) in problem.costs.iter().enumerate() {
        let mut sum = vec![0.0; cost.elem_count()];
        let own = (0..n).filter(|k| b.needed[n + at] && problem.cost_of(*k) == at);
        for k in own {
            let plan = plans.plan(k)?;
            let share = problem.shares[k];
            sum.iter_mut().zip(plan).for_each(|(s, p)| *s += share * p);
        }
        gradients.push(scaled(sum, 1.0));
    }
    if let Some(cost) = b.inputs.get(gradients.len()) {
        gradients.push(scaled(plans.own(cost)?, -0.5));
    }
    let tensors = gradients
        .iter()
        .zip(b.inputs)
        .map(|(g, x)| Ok(Some(tensor(g, x.dims(), x)?)));
    tensors.collect()
}
