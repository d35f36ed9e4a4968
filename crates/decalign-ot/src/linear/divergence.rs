//! The debiased value.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::evaluate::SinkhornSolution;
use super::problem::LinearProblem;
use super::solve::Update;
use super::solver::Sinkhorn;
use crate::tensor_convert::read;

/// The Sinkhorn divergence: a distance between measures that entropic values are not, as those of a
/// measure to itself are not zero.
///
/// ```text
/// S(a, b) = OT(a, b) - OT(a, a) / 2 - OT(b, b) / 2 + eps (|a| - |b|)^2 / 2
/// ```
///
/// It is not negative, and 0 only at equality, for costs whose kernel `exp(-C / eps)` is positive
/// definite (distances and squared Euclidean ones among them); balanced and unbalanced.
///
/// Sources: Feydy and others (2019); Séjourné and others (2019) for unbalanced measures.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Geometry, LinearProblem, Sinkhorn, SinkhornDivergence};
/// let x = Tensor::new(&[[0.0f64], [1.0]], &Device::Cpu)?;
/// let solver = SinkhornDivergence::new(Sinkhorn::new(0.1)?);
/// let same = LinearProblem::uniform(Geometry::squared_euclidean(&x, &x)?)?;
/// assert!(solver.solve(&same)?.value.to_scalar::<f64>()? < 1e-9);
/// let moved = LinearProblem::uniform(Geometry::squared_euclidean(&x, &(&x + 3.0)?)?)?;
/// assert!((solver.solve(&moved)?.value.to_scalar::<f64>()? - 9.0).abs() < 1e-3);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SinkhornDivergence {
    solver: Sinkhorn,
}

/// A divergence and the three solves it is made of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Divergence {
    /// S(a, b), () or (B). Gradients as those of the three values.
    pub value: Tensor,
    /// The transport of a to b.
    pub between: SinkhornSolution,
    /// Of a to itself.
    pub first: SinkhornSolution,
    /// Of b to itself.
    pub second: SinkhornSolution,
}

impl Divergence {
    /// Whether all three solves converged.
    pub fn converged(&self) -> bool {
        [&self.between, &self.first, &self.second]
            .iter()
            .all(|s| s.converged())
    }
}

impl SinkhornDivergence {
    /// Divergences by three solves with these settings; those of a measure to itself use symmetric
    /// updates.
    pub fn new(solver: Sinkhorn) -> Self {
        Self { solver }
    }

    /// The divergence of a problem between points.
    ///
    /// # Errors
    /// When the costs are stored or a grid's, as those of each side to itself are not known then: use
    /// [`SinkhornDivergence::solve_with`]; when memory runs out.
    pub fn solve(&self, problem: &LinearProblem) -> Result<Divergence> {
        let Some((xx, yy)) = problem.geometry.own() else {
            return Err(Error::value(
                "geometry",
                "not made of points",
                "the costs of each side to itself are needed: call solve_with",
            ));
        };
        let (rho_a, rho_b) = problem.penalties;
        let first = problem.with(xx, (&problem.a, &problem.a), (rho_a, rho_a));
        let second = problem.with(yy, (&problem.b, &problem.b), (rho_b, rho_b));
        self.of(problem, &first, &second)
    }

    /// The divergence of a problem, given those of each side to itself.
    ///
    /// # Errors
    /// When the problems of the sides are not square with the weights' sizes and symmetric costs, or
    /// batches differ; when memory runs out.
    pub fn solve_with(
        &self,
        problem: &LinearProblem,
        first: &LinearProblem,
        second: &LinearProblem,
    ) -> Result<Divergence> {
        let (n, m) = problem.geometry.size();
        let sides = [
            ("first", first, n, &problem.a, problem.penalties.0),
            ("second", second, m, &problem.b, problem.penalties.1),
        ];
        for (name, own, k, weights, rho) in sides {
            if own.geometry.size() != (k, k) || own.batch() != problem.batch() {
                let expected = format!("{k} x {k} costs, batch {:?}", problem.batch());
                return Err(Error::tensor(
                    name,
                    expected,
                    (own.geometry.size(), own.batch()),
                ));
            }
            own_side(name, own, weights, rho)?;
        }
        self.of(problem, first, second)
    }

    fn of(
        &self,
        problem: &LinearProblem,
        first: &LinearProblem,
        second: &LinearProblem,
    ) -> Result<Divergence> {
        let between = self.solver.solve(problem)?;
        let symmetric = self.solver.update(Update::Symmetric);
        let (first, second) = (symmetric.solve(first)?, symmetric.solve(second)?);
        let mut value = (&between.value - ((&first.value + &second.value)? * 0.5)?)?;
        if !problem.balanced() {
            let total = |x: &Tensor| x.sum(candle_core::D::Minus1);
            let gap = total(&problem.a)?.broadcast_sub(&total(&problem.b)?)?;
            value = value.broadcast_add(&(gap.sqr()? * (0.5 * self.solver.epsilon()))?)?;
        }
        // A little below 0 is rounding, and the gradient at 0 is 0.
        let sizes = ((between.value.abs()? + first.value.abs()?)? + second.value.abs()?)?.detach();
        let slack = (sizes * (10.0 * self.solver.tolerance_of()))?;
        let below = (value.lt(0.0)? * (&value + slack)?.ge(0.0)?)?;
        let value = below.where_cond(&value.zeros_like()?, &value)?;
        Ok(Divergence {
            value,
            between,
            first,
            second,
        })
    }
}

/// Checks that a problem is of a measure to itself, by the measure and the penalty of the problem.
fn own_side(name: &str, own: &LinearProblem, weights: &Tensor, rho: f64) -> Result<()> {
    if own.a.dtype() != weights.dtype() {
        return Err(Error::tensor(
            name,
            format!("dtype {:?}, as the problem", weights.dtype()),
            own.a.dtype(),
        ));
    }
    if own.penalties != (rho, rho) {
        let remedy = format!("the problem's side has rho {rho}, its own must have it twice");
        return Err(Error::value(
            format!("the penalties of {name}"),
            format!("{:?}", own.penalties),
            remedy,
        ));
    }
    let numbers = read::<f64>(weights)?;
    for (side, x) in [("a", &own.a), ("b", &own.b)] {
        if read::<f64>(x)? != numbers {
            let remedy = "must be the weights of the problem's side";
            return Err(Error::value(
                format!("{side} of {name}"),
                "other weights",
                remedy,
            ));
        }
    }
    let cost = own.geometry.to_tensor()?.detach();
    let turned = cost.transpose(candle_core::D::Minus1, candle_core::D::Minus2)?;
    let most = |x: Tensor| -> Result<f64> {
        Ok(x.abs()?
            .flatten_all()?
            .max(0)?
            .to_dtype(candle_core::DType::F64)?
            .to_scalar()?)
    };
    let off = most((&cost - turned)?)?;
    match off > 1e-5 * most(cost)? {
        true => Err(Error::value(
            format!("the asymmetry of the costs of {name}"),
            off,
            "must be 0",
        )),
        false => Ok(()),
    }
}
