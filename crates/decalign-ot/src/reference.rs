//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

mod linear;

pub use crate::geometry::cost;
pub use linear::{dual_value, plan, sinkhorn};

use candle_core::{D, Tensor};
use decalign_core::Result;

use crate::gaussian::ROOT_SHIFT;
use crate::multi_marginal::{
    DENOMINATOR_SHIFT, KERNEL_FLOOR, MultiMarginalProblem, PLAN_FLOOR, Structure,
};
use crate::reduction::Reduction;

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

/// The joint cost tensor of a problem, (K_1, ..., K_M) or (B, K_1, ..., K_M).
///
/// # Errors
/// When the tensor library fails.
pub fn joint_cost(problem: &MultiMarginalProblem) -> Result<Tensor> {
    let sizes = problem.sizes.iter().copied();
    let dims: Vec<usize> = problem.batch.into_iter().chain(sizes).collect();
    Ok(flat_cost(problem)?.reshape(dims)?)
}

/// The joint costs as rows, (B, K_1 ... K_M), B = 1 of a single problem: Candle's operations take
/// eight dimensions, and there may be more marginals.
pub(crate) fn flat_cost(problem: &MultiMarginalProblem) -> Result<Tensor> {
    let (batch, sizes) = (problem.batch.unwrap_or(1), &problem.sizes);
    let cells = sizes.iter().product();
    let like = &problem.marginals[0];
    let joint = Tensor::zeros((batch, cells), like.dtype(), like.device())?;
    let Structure::Edges(edges) = &problem.structure else {
        let cost = &problem.costs[0];
        return Ok(joint.broadcast_add(&cost.reshape((cost.elem_count() / cells, cells))?)?);
    };
    let mut joint = joint;
    for ((a, b), cost) in edges.iter().zip(&problem.costs) {
        let (rows, columns) = (sizes[*a], sizes[*b]);
        let mut cost = cost.reshape((cost.elem_count() / rows / columns, rows, columns))?;
        let (first, second) = (*a.min(b), *a.max(b));
        if first != *a {
            cost = cost.transpose(1, 2)?.contiguous()?;
        }
        let cells = |range: std::ops::Range<usize>| sizes[range].iter().product::<usize>();
        let between = cells(first + 1..second);
        let dims = [
            cells(0..first),
            sizes[first],
            between,
            sizes[second],
            cells(second + 1..sizes.len()),
        ];
        let cost = cost.reshape((cost.dim(0)?, 1, dims[1], 1, dims[3], 1))?;
        let view = joint.reshape((batch, dims[0], dims[1], dims[2], dims[3], dims[4]))?;
        joint = view.broadcast_add(&cost)?.flatten_from(1)?;
    }
    Ok(joint)
}

/// The marginals as (B, K_m), B = 1 of a single problem.
pub(crate) fn marginals(problem: &MultiMarginalProblem) -> Result<Vec<Tensor>> {
    let batch = problem.batch.unwrap_or(1);
    let each = problem.marginals.iter().zip(&problem.sizes);
    each.map(|(x, k)| Ok(x.broadcast_as((batch, *k))?.contiguous()?))
        .collect()
}

/// One number a problem, without the dimension that a single one was given.
fn values(problem: &MultiMarginalProblem, x: Tensor) -> Result<Tensor> {
    Ok(match problem.batch {
        Some(_) => x,
        None => x.squeeze(0)?,
    })
}

/// Joint tensors with marginal `m` in the middle: (B, K_1 ... K_{m-1}, K_m, K_{m+1} ... K_M).
fn about(joint: &Tensor, m: usize, sizes: &[usize]) -> Result<Tensor> {
    let before: usize = sizes[..m].iter().product();
    let after: usize = sizes[m + 1..].iter().product();
    Ok(joint.reshape((joint.dim(0)?, before, sizes[m], after))?)
}

/// Vectors (B, K_m) to go with [`about`].
fn along(x: &Tensor) -> Result<Tensor> {
    Ok(x.unsqueeze(1)?.unsqueeze(3)?)
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
    let sizes = &problem.sizes;
    let cost = flat_cost(problem)?;
    let marginals = marginals(problem)?;
    let kernel = floor(&(&cost / -epsilon)?.exp()?, KERNEL_FLOOR)?;
    let mut scalings = marginals
        .iter()
        .map(Tensor::ones_like)
        .collect::<candle_core::Result<Vec<_>>>()?;
    // The kernel times the scalings of all marginals but one.
    let product = |scalings: &[Tensor], without: usize| -> Result<Tensor> {
        let mut product = kernel.clone();
        for (n, u) in scalings.iter().enumerate().filter(|(n, _)| *n != without) {
            let scaled = about(&product, n, sizes)?.broadcast_mul(&along(u)?)?;
            product = scaled.flatten_from(1)?;
        }
        Ok(product)
    };
    for _ in 0..sweeps {
        for m in 0..sizes.len() {
            let sums = about(&product(&scalings, m)?, m, sizes)?.sum((1, 3))?;
            scalings[m] = (&marginals[m] / (sums + DENOMINATOR_SHIFT)?)?;
        }
    }
    let plan = product(&scalings, sizes.len())?;
    let entropy = (&plan * (floor(&plan, PLAN_FLOOR)?.log()? - 1.0)?)?.sum(1)?;
    values(problem, ((plan * cost)?.sum(1)? + (entropy * epsilon)?)?)
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
    let sizes = &problem.sizes;
    let cost = flat_cost(problem)?;
    let marginals = marginals(problem)?;
    let logs = marginals
        .iter()
        .map(Tensor::log)
        .collect::<candle_core::Result<Vec<_>>>()?;
    let mut potentials = marginals
        .iter()
        .map(Tensor::zeros_like)
        .collect::<candle_core::Result<Vec<_>>>()?;
    let exponents = |potentials: &[Tensor], without: usize| -> Result<Tensor> {
        let mut e = (&cost / -epsilon)?;
        for n in (0..sizes.len()).filter(|n| *n != without) {
            let term = ((&potentials[n] / epsilon)? + &logs[n])?;
            e = about(&e, n, sizes)?
                .broadcast_add(&along(&term)?)?
                .flatten_from(1)?;
        }
        Ok(e)
    };
    for _ in 0..sweeps {
        for m in 0..sizes.len() {
            let e = about(&exponents(&potentials, m)?, m, sizes)?;
            let rows = e.transpose(1, 2)?.contiguous()?.flatten_from(2)?;
            let largest = rows.max_keepdim(2)?.detach();
            let sum = rows.broadcast_sub(&largest)?.exp()?.sum(2)?;
            potentials[m] = ((sum.log()? + largest.squeeze(2)?)? * -epsilon)?;
        }
    }
    let mut product = marginals[0].sum(1)?;
    for nu in &marginals[1..] {
        product = (product * nu.sum(1)?)?;
    }
    let mass = exponents(&potentials, sizes.len())?.exp()?.sum(1)?;
    let mut value = ((product - mass)? * epsilon)?;
    for (nu, f) in marginals.iter().zip(&potentials) {
        value = (value + (nu * f)?.sum(1)?)?;
    }
    values(problem, value)
}
