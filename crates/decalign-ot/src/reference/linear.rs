//! Transport of one measure to another in plain tensor operations.

use candle_core::{D, Tensor};
use decalign_core::Result;

use crate::geometry::cost;
use crate::linear::LinearProblem;

/// `-eps log sum_j exp((log w_j + (h_j - C_ij) / eps))` over the last dimension of the cost.
fn soft_minimum(cost: &Tensor, h: &Tensor, weights: &Tensor, epsilon: f64) -> Result<Tensor> {
    let terms = (weights.log()?.broadcast_add(&(h / epsilon)?)?).unsqueeze(D::Minus2)?;
    let exponents = terms.broadcast_sub(&(cost / epsilon)?)?;
    let largest = exponents.max_keepdim(D::Minus1)?.detach();
    let sum = exponents.broadcast_sub(&largest)?.exp()?.sum(D::Minus1)?;
    Ok(((sum.log()? + largest.squeeze(D::Minus1)?)? * -epsilon)?)
}

/// The potentials f and g after `sweeps` plain sweeps of [`crate::Sinkhorn`] from zero, differentiable
/// through all of them; weights must be positive.
///
/// # Errors
/// When the tensor library fails.
pub fn sinkhorn(problem: &LinearProblem, epsilon: f64, sweeps: usize) -> Result<(Tensor, Tensor)> {
    let cost = cost(problem.geometry())?;
    let turned = cost.transpose(D::Minus1, D::Minus2)?.contiguous()?;
    let (a, b) = problem.marginals();
    let hold = |rho: f64| {
        if rho.is_infinite() {
            1.0
        } else {
            rho / (rho + epsilon)
        }
    };
    let (rho_a, rho_b) = problem.penalties;
    let mut g = Tensor::zeros(
        problem.shape(&[problem.geometry().size().1]),
        b.dtype(),
        b.device(),
    )?;
    let mut f = Tensor::zeros(
        problem.shape(&[problem.geometry().size().0]),
        a.dtype(),
        a.device(),
    )?;
    for _ in 0..sweeps {
        f = (soft_minimum(&cost, &g, b, epsilon)? * hold(rho_a))?;
        g = (soft_minimum(&turned, &f, a, epsilon)? * hold(rho_b))?;
    }
    if problem.balanced() {
        let shift = ((f.mean_keepdim(D::Minus1)? - g.mean_keepdim(D::Minus1)?)? * 0.5)?;
        return Ok((f.broadcast_sub(&shift)?, g.broadcast_add(&shift)?));
    }
    Ok((f, g))
}

/// The plan `exp((f + g - C) / eps) a b` of potentials.
///
/// # Errors
/// When shapes do not fit.
pub fn plan(problem: &LinearProblem, epsilon: f64, (f, g): (&Tensor, &Tensor)) -> Result<Tensor> {
    let (a, b) = problem.marginals();
    let sums = f
        .unsqueeze(D::Minus1)?
        .broadcast_add(&g.unsqueeze(D::Minus2)?)?;
    let density = (sums.broadcast_sub(&cost(problem.geometry())?)? / epsilon)?.exp()?;
    Ok(density
        .broadcast_mul(&a.unsqueeze(D::Minus1)?)?
        .broadcast_mul(&b.unsqueeze(D::Minus2)?)?)
}

/// The dual value of potentials, see [`crate::SinkhornSolution::value`].
///
/// # Errors
/// When shapes do not fit.
pub fn dual_value(
    problem: &LinearProblem,
    epsilon: f64,
    (f, g): (&Tensor, &Tensor),
) -> Result<Tensor> {
    let (a, b) = problem.marginals();
    let side = |f: &Tensor, w: &Tensor, rho: f64| -> Result<Tensor> {
        let gain = match rho.is_infinite() {
            true => f.clone(),
            false => ((1.0 - (f / -rho)?.exp()?)? * rho)?,
        };
        Ok(gain.broadcast_mul(w)?.sum(D::Minus1)?)
    };
    let (rho_a, rho_b) = problem.penalties;
    let mass = plan(problem, epsilon, (f, g))?
        .sum(D::Minus1)?
        .sum(D::Minus1)?;
    let total = a.sum(D::Minus1)?.broadcast_mul(&b.sum(D::Minus1)?)?;
    let rest = (total.broadcast_sub(&mass)? * epsilon)?;
    Ok(((side(f, a, rho_a)? + side(g, b, rho_b)?)? + rest)?)
}
