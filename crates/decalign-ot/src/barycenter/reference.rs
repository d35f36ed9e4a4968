//! The same in plain tensor operations: slow, obvious, differentiable by Candle itself.

use candle_core::{D, Tensor};
use decalign_core::{Error, Result};

use super::problem::BarycenterProblem;
use crate::validate;

/// A barycentre and its objective after `sweeps` sweeps, in plain tensor operations and
/// differentiable through all of them: the way to the gradient of the barycentre itself.
///
/// It is the iteration of [`crate::FixedSupportBarycenter`] at one epsilon, from potentials of 0;
/// memory grows with the number of sweeps. With too few the gradient is that of a truncated
/// iteration, not of the barycentre; compare with twice as many.
///
/// # Shapes
/// The barycentre (m) and a scalar, as there.
///
/// # Errors
/// When `epsilon` is not positive and finite, there is no sweep, a weight of a measure is 0 (its
/// logarithm has no gradient), or `debiased` without the cost of the support.
///
/// ```
/// use candle_core::{Device, Tensor, Var};
/// use decalign_ot::{BarycenterProblem, unrolled_barycenter};
/// let cost = Tensor::new(&[[0f64, 1.0], [1.0, 0.0]], &Device::Cpu)?;
/// let measure = Var::new(&[0.3f64, 0.7], &Device::Cpu)?;
/// let problem = BarycenterProblem::new(&[measure.as_tensor().clone()], &[cost], &[1.0])?;
/// let (mean, _) = unrolled_barycenter(&problem, 0.5, false, 20)?;
/// assert!(mean.get(0)?.backward()?.get(&measure).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn unrolled_barycenter(
    problem: &BarycenterProblem,
    epsilon: f64,
    debiased: bool,
    sweeps: usize,
) -> Result<(Tensor, Tensor)> {
    validate::positive("epsilon", epsilon)?;
    validate::at_least_one("number of sweeps", sweeps)?;
    let support = match (debiased, &problem.support_cost) {
        (false, _) => None,
        (true, Some(cost)) => Some(cost),
        (true, None) => {
            let remedy = "a debiased barycentre needs the costs between the support's own points";
            return Err(Error::value("support cost", "absent", remedy));
        }
    };
    let log_u = -(problem.points as f64).ln();
    let measures = measures(problem)?;
    let costs: Vec<&Tensor> = (0..measures.len())
        .map(|k| &problem.costs[problem.cost_of(k)])
        .collect();
    let zeros = costs[0].narrow(0, 0, 1)?.squeeze(0)?.zeros_like()?;
    let (mut f, mut g) = (measures.clone(), vec![zeros.clone(); measures.len()]);
    let (mut h, mut log_b) = (zeros.clone(), zeros);
    for _ in 0..sweeps {
        // log (b / u)
        log_b = (&h / epsilon)?;
        let mut columns = Vec::new();
        for (k, cost) in costs.iter().enumerate() {
            f[k] = (log_sums(cost, &((&g[k] / epsilon)? + log_u)?, epsilon)? * -epsilon)?;
            let shifts = (measures[k].log()? + (&f[k] / epsilon)?)?;
            let p = log_sums(&cost.t()?, &shifts, epsilon)?;
            log_b = (log_b + (&p * problem.shares[k])?)?;
            columns.push(p);
        }
        for (g, p) in g.iter_mut().zip(columns) {
            *g = ((&log_b - p)? * epsilon)?;
        }
        if let Some(cost) = support {
            let p = log_sums(cost, &((&h / epsilon)? + log_u)?, epsilon)?;
            h = ((h + ((&log_b - p)? * epsilon)?)? * 0.5)?;
        }
    }
    let b = (log_b + log_u)?.exp()?;
    let mut value = (&h * &b)?.sum_all()?.neg()?;
    let missing = (1.0 - b.sum_all()?)?;
    for (k, share) in problem.shares.iter().enumerate() {
        let dual = ((&f[k] * &measures[k])?.sum_all()? + (&g[k] * &b)?.sum_all()?)?;
        value = (value + ((dual + (&missing * epsilon)?)? * *share)?)?;
    }
    if let Some(cost) = support {
        let p = log_sums(cost, &((&h / epsilon)? + log_u)?, epsilon)?;
        let own = (((&h / epsilon)? + p)? + log_u)?.exp()?.sum_all()?;
        value = (value - ((1.0 - own)? * (0.5 * epsilon))?)?;
    }
    let total = problem.totals[0];
    Ok(((b * total)?, (value * total)?))
}

/// The measures divided by their totals.
fn measures(problem: &BarycenterProblem) -> Result<Vec<Tensor>> {
    let each = problem.measures.iter().enumerate().map(|(k, a)| {
        if let Some(i) = problem.measure(k)?.iter().position(|w| *w == 0.0) {
            let remedy = "must be positive here: leave the point out";
            return Err(Error::value(format!("measure {k}[{i}]"), 0, remedy));
        }
        Ok(a.broadcast_div(&a.sum_all()?)?)
    });
    each.collect()
}

/// `log sum_j exp(s_j - C_ij / eps)` of every row.
fn log_sums(cost: &Tensor, shifts: &Tensor, epsilon: f64) -> Result<Tensor> {
    let terms = (cost / -epsilon)?.broadcast_add(shifts)?.contiguous()?;
    let largest = terms.max_keepdim(D::Minus1)?.detach();
    let sum = terms.broadcast_sub(&largest)?.exp()?.sum(D::Minus1)?;
    Ok((sum.log()? + largest.squeeze(D::Minus1)?)?)
}
