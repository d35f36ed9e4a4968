//! The solution of low-rank transport.

use candle_core::{DType, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Result};

use super::plan::LowRankPlan;
use crate::convergence::{Convergence, convergence_accessors};
use crate::geometry::Geometry;
use crate::tensor_convert::read;
use crate::validate;

/// The result of [`crate::LowRankSinkhorn::solve`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LowRankSolution {
    /// `<P, C>`, a scalar. It carries gradients with respect to costs, or the points they come from,
    /// at the plan held fixed: those of the whole as far as the plan is a local minimum. It carries
    /// none with respect to weights.
    pub value: Tensor,
    /// `<P, C>`, a scalar. It carries no gradients.
    pub transport_cost: Tensor,
    /// The plan, as its factors.
    pub plan: LowRankPlan,
    /// The length of the last step divided by its size: the slope of the cost, relative to the largest cost, in the
    /// geometry of the descent. The solve converges when this and the marginal error, relative to the mass, are within the
    /// tolerance; its iterations are steps, those taken back included.
    pub residual: f64,
    /// Newton steps of the projections of all steps.
    pub inner_iterations: usize,
    convergence: Vec<Convergence>,
}

convergence_accessors!(LowRankSolution);

/// How the descent ended.
#[derive(Default)]
pub(super) struct Ended {
    pub(super) tolerance: f64,
    pub(super) iterations: usize,
    pub(super) inner_iterations: usize,
    pub(super) residual: f64,
}

impl LowRankSolution {
    pub(super) fn new(
        geometry: &Geometry,
        weights: [&Tensor; 2],
        plan: LowRankPlan,
        transport_cost: f64,
        ended: Ended,
    ) -> Result<Self> {
        let (rows, columns) = plan.sums();
        let (mut marginal_error, mut mass): (f64, f64) = (0.0, 0.0);
        for (got, want) in [rows, columns].iter().zip(weights) {
            let want = read::<f64>(want)?;
            let error = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).sum();
            marginal_error = validate::larger(marginal_error, error);
            mass = want.iter().sum();
        }
        let finite = transport_cost.is_finite();
        let within = marginal_error <= ended.tolerance * mass && ended.residual <= ended.tolerance;
        let value = record(geometry, plan.clone(), transport_cost)?;
        Ok(Self {
            transport_cost: value.detach(),
            value,
            plan,
            residual: ended.residual,
            inner_iterations: ended.inner_iterations,
            convergence: vec![Convergence {
                iterations: ended.iterations,
                marginal_error,
                converged: finite && within,
            }],
        })
    }
}

/// The value with its gradients with respect to whatever the costs come from.
fn record(geometry: &Geometry, plan: LowRankPlan, value: f64) -> Result<Tensor> {
    let inputs = geometry.inputs();
    let output = match inputs[0].dtype() {
        DType::F32 => Output::new(vec![value as f32], ()),
        _ => Output::new(vec![value], ()),
    };
    let like = inputs[0].device().clone();
    let value = record_one("low_rank", &inputs, output, move |b| backward(b, &plan))?;
    Ok(value.to_device(&like)?)
}

fn backward(b: &Backward, plan: &LowRankPlan) -> Result<InputGradients> {
    let outer = b.gradient(0)?.to_dtype(DType::F64)?;
    let outer = Elements::<f64>::new(&outer)?[0];
    match b.inputs {
        [cost] => {
            let plan = plan.to_tensor()?.to_device(cost.device())?;
            Ok(vec![Some((plan * outer)?)])
        }
        inputs => {
            let (x, y) = (&inputs[0], &inputs[1]);
            Ok(vec![
                Some(points_backward(x, y, |v| plan.apply(v), outer)?),
                Some(points_backward(y, x, |v| plan.apply_transposed(v), outer)?),
            ])
        }
    }
}

/// The gradient of `sum P_ij |x_i - y_j|^2` with respect to x: `2 (r_i x_i - sum_j P_ij y_j)`, r the
/// row sums.
fn points_backward(
    x: &Tensor,
    y: &Tensor,
    apply: impl Fn(&Tensor) -> Result<Tensor>,
    outer: f64,
) -> Result<Tensor> {
    // About the mean of the targets, so that far points keep their digits.
    let mean = y.mean_keepdim(0)?;
    let mass = apply(&Tensor::ones((y.dim(0)?, 1), y.dtype(), y.device())?)?;
    let moved = x.broadcast_sub(&mean)?.broadcast_mul(&mass)?;
    Ok(((moved - apply(&y.broadcast_sub(&mean)?)?)? * (2.0 * outer))?)
}
