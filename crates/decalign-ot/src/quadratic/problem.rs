//! Two measures, each with the costs within it, checked once.

use candle_core::{DType, Tensor};
use decalign_core::Result;

use crate::tensor_convert::tensor;
use crate::validate;

/// Weights and inner costs of n points and of m points that share no space.
#[derive(Clone, Debug)]
pub struct GromovProblem {
    pub(super) costs: [Tensor; 2],
    pub(super) weights: [Tensor; 2],
    pub(super) features: Option<Tensor>,
}

impl GromovProblem {
    /// Transport of `a` to `b` that keeps costs: `c1` within the first points, `c2` within the second.
    ///
    /// # Shapes
    /// `c1` (n, n) and `c2` (m, m), finite, symmetric or not; `a` (n) and `b` (m), not negative, of
    /// equal positive total; all of one type, f32 or f64.
    ///
    /// # Errors
    /// When a shape or dtype does not fit, an entry is NaN or infinite, a weight is negative, or the
    /// totals differ; the message has the numbers.
    pub fn new(c1: &Tensor, c2: &Tensor, a: &Tensor, b: &Tensor) -> Result<Self> {
        let dtype = validate::real("c1", c1)?;
        let (n, m) = (square("c1", c1, dtype)?, square("c2", c2, dtype)?);
        let totals = [
            validate::mass("a", a, n, dtype)?,
            validate::mass("b", b, m, dtype)?,
        ];
        validate::equal_totals("a", totals[0], "b", totals[1])?;
        Ok(Self {
            costs: [c1.clone(), c2.clone()],
            weights: [a.clone(), b.clone()],
            features: None,
        })
    }

    /// Points of equal weight, 1/n and 1/m.
    ///
    /// # Errors
    /// As [`GromovProblem::new`].
    pub fn uniform(c1: &Tensor, c2: &Tensor) -> Result<Self> {
        let [a, b] = [c1, c2].map(|c| {
            let n = c.dims().first().copied().unwrap_or(0);
            tensor(&vec![1.0 / n as f64; n], n, c)
        });
        Self::new(c1, c2, &a?, &b?)
    }

    /// Adds costs between points of the two sides, such as those of their features, for the fused
    /// problem.
    ///
    /// # Shapes
    /// `cost` (n, m), finite.
    ///
    /// # Errors
    /// When the shape or dtype does not fit or an entry is NaN or infinite.
    pub fn features(self, cost: &Tensor) -> Result<Self> {
        let (n, m) = self.size();
        validate::matrix("feature cost", cost, (Some(n), Some(m)), self.dtype())?;
        Ok(Self {
            features: Some(cost.clone()),
            ..self
        })
    }

    /// n and m.
    pub(super) fn size(&self) -> (usize, usize) {
        let [a, b] = &self.weights;
        (a.elem_count(), b.elem_count())
    }

    pub(super) fn dtype(&self) -> DType {
        self.costs[0].dtype()
    }

    /// a, b, c1, c2 and the cost of features: the inputs of an operation.
    pub(super) fn inputs(&self) -> Vec<&Tensor> {
        self.weights
            .iter()
            .chain(&self.costs)
            .chain(&self.features)
            .collect()
    }
}

fn square(name: &str, cost: &Tensor, dtype: DType) -> Result<usize> {
    let side = cost.dims().first().copied();
    Ok(validate::matrix(name, cost, (side, side), dtype)?.0)
}
