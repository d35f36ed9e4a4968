//! What a solve found and how it ended.

use candle_core::{Device, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Real, Result};

use super::plan::{Cells, Plan};
use super::problem::LinearProblem;
use crate::geometry::{Costs, read};

/// The result of [`crate::Sinkhorn::solve`].
#[derive(Clone, Debug)]
pub struct SinkhornSolution {
    /// The regularised value `<f, a> + <g, b> + eps (|a| |b| - |P|)`, a scalar: the dual, equal to
    /// `<P, C> + eps KL(P | a x b)` at convergence. It carries gradients by the envelope theorem:
    /// the plan with respect to costs, and through the costs to points; the potentials, centred to
    /// mean 0, with respect to weights.
    pub value: Tensor,
    /// `<P, C>`, without regularisation.
    pub transport_cost: f64,
    /// f, (n) and g, (m), 0 where a weight is 0. They carry no gradients.
    pub potentials: (Tensor, Tensor),
    /// The larger of the L1 distances of the plan's two marginals from a and b.
    pub marginal_error: f64,
    /// Sweeps over the costs, those at larger epsilons included.
    pub iterations: usize,
    /// Whether the marginal error is within the tolerance. Never true of NaN or infinity.
    pub converged: bool,
    /// The plan, computed as it is needed.
    pub plan: Plan,
}

/// How a solve ended.
pub(super) struct Ended {
    pub(super) iterations: usize,
    /// The marginal error to be called converged.
    pub(super) tolerance: f64,
}

impl SinkhornSolution {
    pub(super) fn new<T: Real>(
        problem: &LinearProblem,
        plan: Plan,
        (costs, epsilon): (&Costs<T>, f64),
        scaled: [&[T]; 2],
        logs: [&[T]; 2],
        ended: Ended,
    ) -> Result<Self> {
        let (a, b) = (read::<f64>(&problem.a)?, read::<f64>(&problem.b)?);
        let inverse = T::of(1.0 / epsilon);
        let totals = Cells::new(costs, scaled[0], scaled[1], inverse).totals();
        let [f, g] = [0, 1].map(|i| potential(scaled[i], logs[i], epsilon));
        let inner = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
        let total = |x: &[f64]| x.iter().sum::<f64>();
        let mass: f64 = totals.rows.iter().map(|v| v.as_f64()).sum();
        let value = inner(&f, &a) + inner(&g, &b) + epsilon * (total(&a) * total(&b) - mass);
        let distance = |got: &[T], want: &[f64]| {
            got.iter()
                .zip(want)
                .map(|(g, w)| (g.as_f64() - w).abs())
                .sum::<f64>()
        };
        let marginal_error = distance(&totals.rows, &a).max(distance(&totals.columns, &b));
        let finite = value.is_finite() && totals.cost.is_finite();
        let tensor = |x: &[f64]| -> Result<Tensor> {
            let x = Tensor::from_slice(x, x.len(), &Device::Cpu)?;
            Ok(x.to_dtype(problem.a.dtype())?
                .to_device(problem.a.device())?)
        };
        Ok(Self {
            value: record(problem, &plan, value, [centred(&f), centred(&g)])?,
            transport_cost: totals.cost,
            potentials: (tensor(&f)?, tensor(&g)?),
            marginal_error,
            iterations: ended.iterations,
            converged: finite && marginal_error <= ended.tolerance,
            plan,
        })
    }
}

/// `f = eps (F - log a)`, 0 where there is no mass.
fn potential<T: Real>(scaled: &[T], logs: &[T], epsilon: f64) -> Vec<f64> {
    let each = scaled
        .iter()
        .zip(logs)
        .map(|(v, log)| match log.is_finite() {
            true => epsilon * (v.as_f64() - log.as_f64()),
            false => 0.0,
        });
    each.collect()
}

fn centred(x: &[f64]) -> Vec<f64> {
    let mean = x.iter().sum::<f64>() / x.len() as f64;
    x.iter().map(|v| v - mean).collect()
}

/// The value with its gradients with respect to weights and whatever the costs come from.
fn record(
    problem: &LinearProblem,
    plan: &Plan,
    value: f64,
    potentials: [Vec<f64>; 2],
) -> Result<Tensor> {
    let LinearProblem { geometry, a, b } = problem;
    let inputs: Vec<&Tensor> = [a, b].into_iter().chain(geometry.inputs()).collect();
    let output = match a.dtype() {
        candle_core::DType::F32 => Output::new(vec![value as f32], ()),
        _ => Output::new(vec![value], ()),
    };
    let plan = plan.clone();
    let value = record_one("sinkhorn", &inputs, output, move |b| {
        backward(b, &plan, &potentials)
    })?;
    Ok(value.to_device(a.device())?)
}

fn backward(b: &Backward, plan: &Plan, potentials: &[Vec<f64>; 2]) -> Result<InputGradients> {
    let outer = b.gradient(0)?.to_dtype(candle_core::DType::F64)?;
    let outer = Elements::<f64>::new(&outer)?[0];
    let weights = potentials
        .iter()
        .zip(b.inputs)
        .map(|(f, x)| -> Result<Option<Tensor>> {
            let f = Tensor::from_slice(f, f.len(), &Device::Cpu)?;
            Ok(Some(
                (f * outer)?.to_dtype(x.dtype())?.to_device(x.device())?,
            ))
        });
    let mut gradients = weights.collect::<Result<Vec<_>>>()?;
    match &b.inputs[2..] {
        [cost] => {
            let wanted = b.needed[2].then(|| plan.to_tensor()?.to_device(cost.device()));
            let wanted = wanted.transpose()?;
            gradients.push(wanted.map(|p| p * outer).transpose()?);
        }
        points => {
            let (x, y) = (&points[0], &points[1]);
            gradients.push(pull(x, y, |v| plan.apply(v), outer)?);
            gradients.push(pull(y, x, |v| plan.apply_transposed(v), outer)?);
        }
    }
    Ok(gradients)
}

/// The gradient of `sum P_ij |x_i - y_j|^2` with respect to x: `2 (r_i x_i - sum_j P_ij y_j)`, r the
/// row sums.
fn pull(
    x: &Tensor,
    y: &Tensor,
    apply: impl Fn(&Tensor) -> Result<Tensor>,
    outer: f64,
) -> Result<Option<Tensor>> {
    // About the mean of the targets, so that far points keep their digits.
    let mean = y.mean_keepdim(0)?;
    let centred = y.broadcast_sub(&mean)?;
    let mass = apply(&Tensor::ones((y.dim(0)?, 1), y.dtype(), y.device())?)?;
    let moved = x.broadcast_sub(&mean)?.broadcast_mul(&mass)?;
    Ok(Some(((moved - apply(&centred)?)? * (2.0 * outer))?))
}
