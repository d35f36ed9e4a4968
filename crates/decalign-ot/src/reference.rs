//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

mod linear;

pub use crate::geometry::cost;
pub use linear::{dual_value, plan, sinkhorn};

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use crate::geometry::Reduction;
use crate::multi_marginal::MultiMarginalProblem;

/// Added under the root of a product of variances, so that its gradient is finite at 0.
pub const ROOT_SHIFT: f64 = 1e-8;

/// The kernel is not taken below this; at small epsilon mass is lost.
pub(crate) const KERNEL_FLOOR: f64 = 1e-30;

/// Added to every denominator.
pub(crate) const DENOMINATOR_SHIFT: f64 = 1e-8;

/// The plan is not taken below this in logarithms.
pub(crate) const PLAN_FLOOR: f64 = 1e-8;

fn reduce(x: &Tensor, reduction: Reduction) -> Result<Tensor> {
    Ok(match reduction {
        Reduction::Mean => x.mean(D::Minus1)?,
        Reduction::Sum => x.sum(D::Minus1)?,
    })
}

/// `max(x, bound)` whose gradient passes where `x >= bound`.
fn floor(x: &Tensor, bound: f64) -> Result<Tensor> {
    let bound = Tensor::full(bound, x.shape(), x.device())?.to_dtype(x.dtype())?;
    Ok(x.ge(&bound)?.where_cond(x, &bound)?)
}

/// See [`crate::bures_wasserstein_diagonal`].
///
/// # Errors
/// When shapes do not fit.
pub fn bures_wasserstein_diagonal(
    (mean, variance): (&Tensor, &Tensor),
    (mean2, variance2): (&Tensor, &Tensor),
    reduction: Reduction,
) -> Result<Tensor> {
    let (v, v2) = (variance.unsqueeze(1)?, variance2.unsqueeze(0)?);
    let squares = mean
        .unsqueeze(1)?
        .broadcast_sub(&mean2.unsqueeze(0)?)?
        .sqr()?;
    let roots = ((v.broadcast_mul(&v2)? + ROOT_SHIFT)?.sqrt()? * 2.0)?;
    let spread = (v.broadcast_add(&v2)? - roots)?;
    Ok((reduce(&squares, reduction)? + reduce(&spread, reduction)?)?)
}

/// See [`crate::coupling_cost`].
///
/// # Errors
/// When shapes do not fit.
pub fn coupling_cost(
    points: &Tensor,
    responsibilities: &Tensor,
    means: &Tensor,
    variances: Option<(&Tensor, f64)>,
    reduction: Reduction,
) -> Result<Tensor> {
    let mut squares = points
        .unsqueeze(1)?
        .broadcast_sub(&means.unsqueeze(0)?)?
        .sqr()?;
    if let Some((variances, bound)) = variances {
        squares = squares.broadcast_div(&floor(variances, bound)?.unsqueeze(0)?)?;
    }
    Ok((responsibilities * reduce(&squares, reduction)?)?
        .sum(1)?
        .mean(0)?)
}

/// The energy of a coupling between points of different spaces,
/// `sum_ijkl (C1_ik - C2_jl)^2 P_ij P_kl`, with all terms at once.
///
/// # Errors
/// When shapes do not fit.
pub fn gromov_energy(c1: &Tensor, c2: &Tensor, plan: &Tensor) -> Result<Tensor> {
    // In the order i, j, k, l.
    let first = c1.unsqueeze(1)?.unsqueeze(3)?;
    let second = c2.unsqueeze(0)?.unsqueeze(2)?;
    let squares = first.broadcast_sub(&second)?.sqr()?;
    let masses = plan
        .unsqueeze(2)?
        .unsqueeze(3)?
        .broadcast_mul(&plan.unsqueeze(0)?.unsqueeze(0)?)?;
    Ok((squares * masses)?.sum_all()?)
}

/// The joint cost tensor of a problem, (K_1, ..., K_M).
///
/// # Errors
/// When the tensor library fails.
pub fn joint_cost(problem: &MultiMarginalProblem) -> Result<Tensor> {
    let mut joint: Option<Tensor> = None;
    for ((a, b), cost) in problem.pairs().zip(&problem.costs) {
        let mut dims = vec![1; problem.sizes.len()];
        dims[a] = problem.sizes[a];
        dims[b] = problem.sizes[b];
        let cost = cost.reshape(dims)?.broadcast_as(&problem.sizes[..])?;
        joint = Some(match joint {
            None => cost,
            Some(sum) => (sum + cost)?,
        });
    }
    joint.ok_or_else(|| Error::value("number of costs", 0, "at least one is needed"))
}

/// A vector along dimension `m` of a joint tensor.
fn along(x: &Tensor, m: usize, rank: usize) -> Result<Tensor> {
    let mut dims = vec![1; rank];
    dims[m] = x.elem_count();
    Ok(x.reshape(dims)?)
}

/// The sum over all dimensions but `m`.
fn all_but(x: &Tensor, m: usize) -> Result<Tensor> {
    let others: Vec<usize> = (0..x.rank()).filter(|i| *i != m).collect();
    Ok(x.sum(others)?)
}

/// See [`crate::KernelSinkhorn::loss`].
///
/// # Errors
/// When the tensor library fails.
pub fn kernel_sinkhorn(
    problem: &MultiMarginalProblem,
    epsilon: f64,
    sweeps: usize,
) -> Result<Tensor> {
    let rank = problem.sizes.len();
    let cost = joint_cost(problem)?;
    let kernel = floor(&(&cost / -epsilon)?.exp()?, KERNEL_FLOOR)?;
    let mut scalings = problem
        .marginals
        .iter()
        .map(Tensor::ones_like)
        .collect::<candle_core::Result<Vec<_>>>()?;
    for _ in 0..sweeps {
        for m in 0..rank {
            let mut product = kernel.clone();
            for (n, u) in scalings.iter().enumerate().filter(|(n, _)| *n != m) {
                product = product.broadcast_mul(&along(u, n, rank)?)?;
            }
            let sums = (all_but(&product, m)? + DENOMINATOR_SHIFT)?;
            scalings[m] = (&problem.marginals[m] / sums)?;
        }
    }
    let mut plan = kernel;
    for (m, u) in scalings.iter().enumerate() {
        plan = plan.broadcast_mul(&along(u, m, rank)?)?;
    }
    let entropy = (&plan * (floor(&plan, PLAN_FLOOR)?.log()? - 1.0)?)?.sum_all()?;
    Ok(((plan * cost)?.sum_all()? + (entropy * epsilon)?)?)
}

/// The regularised value of [`crate::MultiMarginalSinkhorn`] after `sweeps` sweeps in the log
/// domain, differentiable through all of them.
///
/// # Errors
/// When the tensor library fails.
pub fn multi_marginal_value(
    problem: &MultiMarginalProblem,
    epsilon: f64,
    sweeps: usize,
) -> Result<Tensor> {
    let rank = problem.sizes.len();
    let cost = joint_cost(problem)?;
    let logs = problem
        .marginals
        .iter()
        .map(Tensor::log)
        .collect::<candle_core::Result<Vec<_>>>()?;
    let mut potentials = problem
        .marginals
        .iter()
        .map(Tensor::zeros_like)
        .collect::<candle_core::Result<Vec<_>>>()?;
    let exponents = |potentials: &[Tensor], without: usize| -> Result<Tensor> {
        let mut e = (&cost / -epsilon)?;
        for n in (0..rank).filter(|n| *n != without) {
            let term = ((&potentials[n] / epsilon)? + &logs[n])?;
            e = e.broadcast_add(&along(&term, n, rank)?)?;
        }
        Ok(e)
    };
    for _ in 0..sweeps {
        for m in 0..rank {
            let e = exponents(&potentials, m)?;
            let rows = e.transpose(0, m)?.contiguous()?.flatten_from(1)?;
            let largest = rows.max_keepdim(1)?.detach();
            let sum = rows.broadcast_sub(&largest)?.exp()?.sum(1)?;
            potentials[m] = ((sum.log()? + largest.squeeze(1)?)? * -epsilon)?;
        }
    }
    let mass = exponents(&potentials, rank)?.exp()?.sum_all()?;
    let mut value = ((problem.marginals[0].sum_all()? - mass)? * epsilon)?;
    for (nu, f) in problem.marginals.iter().zip(&potentials) {
        value = (value + (nu * f)?.sum_all()?)?;
    }
    Ok(value)
}
