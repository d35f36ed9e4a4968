//! A problem, two measures and the costs between their points, checked once; and a solved problem, with its potentials.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::marginal::Totals;
use crate::geometry::{Geometry, Weights};
use crate::tensor_convert::{finite_range, read, select};
use crate::validate::MASS_TOLERANCE;

/// Weights `a` on n points and `b` on m points, and the costs between them; or a batch of such problems.
#[derive(Clone, Debug)]
pub struct LinearProblem {
    pub(crate) geometry: Geometry,
    pub(crate) a: Tensor,
    pub(crate) b: Tensor,
    /// Strengths of the two sides, infinite where they are exact.
    pub(crate) penalties: (f64, f64),
    batch: Option<usize>,
}

impl LinearProblem {
    /// Transport of all of `a` to all of `b`:
    ///
    /// ```text
    /// min over P >= 0 with P 1 = a, P^T 1 = b of <P, C>
    /// ```
    ///
    /// # Shapes
    /// `a` (n) and `b` (m) of the geometry's type, or (B, n) and (B, m) of a batch (what has no batch
    /// dimension is shared by all problems); non-negative, of equal positive total. A point of weight
    /// 0 takes no part, as if it were not there: masks are weights of 0.
    ///
    /// # Errors
    /// When a shape or dtype does not fit, a weight is negative, NaN or infinite, or the totals
    /// differ by more than a ten-thousandth (within that, b is scaled); the message has the numbers.
    pub fn new(geometry: Geometry, a: &Tensor, b: &Tensor) -> Result<Self> {
        Self::unbalanced(geometry, a, b, (f64::INFINITY, f64::INFINITY))
    }

    /// Transport that may destroy and create mass, at a price:
    ///
    /// ```text
    /// min over P >= 0 of <P, C> + rho_a KL(P 1 | a) + rho_b KL(P^T 1 | b)
    /// KL(p | q) = sum p log(p / q) - p + q
    /// ```
    ///
    /// An infinite strength makes its side exact (semi-unbalanced; both: balanced).
    ///
    /// # Shapes
    /// As [`LinearProblem::new`]; totals may differ unless both sides are exact.
    ///
    /// # Errors
    /// As [`LinearProblem::new`], and when a strength is not positive.
    ///
    /// Source: Chizat and others (2018), scaling algorithms for unbalanced transport.
    pub fn unbalanced(
        geometry: Geometry,
        a: &Tensor,
        b: &Tensor,
        (rho_a, rho_b): (f64, f64),
    ) -> Result<Self> {
        for (name, rho) in [("rho of a", rho_a), ("rho of b", rho_b)] {
            if rho.is_nan() || rho <= 0.0 {
                return Err(Error::value(
                    name,
                    rho,
                    "must be positive; infinity makes the side exact",
                ));
            }
        }
        let (n, m) = geometry.size();
        let mut batch = geometry.batch();
        check("a", a, n, &geometry, &mut batch)?;
        check("b", b, m, &geometry, &mut batch)?;
        let problem = Self {
            geometry,
            a: a.clone(),
            b: b.clone(),
            penalties: (rho_a, rho_b),
            batch,
        };
        problem.check_totals()?;
        Ok(problem)
    }

    /// Transport between points of equal weight, 1/n and 1/m.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn uniform(geometry: Geometry) -> Result<Self> {
        let (n, m) = geometry.size();
        let (dtype, device) = (geometry.dtype(), geometry.inputs()[0].device().clone());
        let weights = |n: usize| Tensor::full(1.0 / n as f64, n, &device)?.to_dtype(dtype);
        let (a, b) = (weights(n)?, weights(m)?);
        Self::new(geometry, &a, &b)
    }

    fn check_totals(&self) -> Result<()> {
        let (n, m) = self.geometry.size();
        // Read all weights at once, as each copy from a device waits for it.
        let (a, b) = (read::<f64>(&self.a)?, read::<f64>(&self.b)?);
        let total = |x: &[f64], n: usize, i: usize| -> f64 {
            x[if x.len() > n { i * n } else { 0 }..][..n].iter().sum()
        };
        (0..self.count()).try_for_each(|i| self.check_total(i, total(&a, n, i), total(&b, m, i)))
    }

    fn check_total(&self, i: usize, a: f64, b: f64) -> Result<()> {
        let place = self
            .batch
            .map_or(String::new(), |_| format!(" of problem {i}"));
        for (name, total) in [("a", a), ("b", b)] {
            if !(total > 0.0 && total.is_finite()) {
                return Err(Error::value(
                    format!("the total of {name}{place}"),
                    total,
                    "must be positive",
                ));
            }
        }
        if self.balanced() && (a - b).abs() > MASS_TOLERANCE * a.max(b) {
            let remedy = format!(
                "must equal the total of b, {b}; or give the problem penalties (unbalanced)"
            );
            return Err(Error::value(format!("the total of a{place}"), a, remedy));
        }
        Ok(())
    }

    /// The costs.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The weights a and b.
    pub fn marginals(&self) -> (&Tensor, &Tensor) {
        (&self.a, &self.b)
    }

    /// How many problems there are, `None` without a batch dimension.
    pub fn batch(&self) -> Option<usize> {
        self.batch
    }

    /// Problem `i` of a batch, with gradients; without a batch there is one.
    ///
    /// # Errors
    /// When there are not as many.
    pub fn get(&self, i: usize) -> Result<Self> {
        let count = self.count();
        if i >= count {
            return Err(Error::value(
                "problem",
                i,
                format!("must be below the batch, {count}"),
            ));
        }
        let geometry = match self.geometry.batch() {
            Some(_) => self.geometry.get(i)?,
            None => self.geometry.clone(),
        };
        let (a, b) = (select(&self.a, 1, i)?, select(&self.b, 1, i)?);
        Ok(Self {
            geometry,
            a,
            b,
            penalties: self.penalties,
            batch: None,
        })
    }

    pub(crate) fn count(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    /// For solvers of one problem with exact marginals.
    pub(crate) fn single_and_balanced(&self) -> Result<()> {
        if let Some(batch) = self.batch {
            let remedy = "this solver takes one problem at a time: problem.get(i)";
            return Err(Error::value("batch", batch, remedy));
        }
        match self.balanced() {
            true => Ok(()),
            false => {
                let remedy = "this solver has none: both must be infinite";
                Err(Error::value(
                    "penalties",
                    format!("{:?}", self.penalties),
                    remedy,
                ))
            }
        }
    }

    /// Whether both sides are exact.
    pub(crate) fn balanced(&self) -> bool {
        self.penalties.0.is_infinite() && self.penalties.1.is_infinite()
    }

    /// The weights of problem `i`, with b scaled to the total of a where both marginals are exact.
    pub(crate) fn weights(&self, i: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let weights = |x: &Tensor| read::<f64>(&select(x, 1, i)?);
        let (a, mut b) = (weights(&self.a)?, weights(&self.b)?);
        if self.balanced() {
            let ratio = a.iter().sum::<f64>() / b.iter().sum::<f64>();
            b.iter_mut().for_each(|b| *b *= ratio);
        }
        Ok((a, b))
    }

    /// The same costs with other weights.
    pub(crate) fn with(
        &self,
        geometry: Geometry,
        (a, b): (&Tensor, &Tensor),
        penalties: (f64, f64),
    ) -> Self {
        Self {
            geometry,
            a: a.clone(),
            b: b.clone(),
            penalties,
            batch: self.batch,
        }
    }

    /// The shape of a result: the batch, where there is one, and the result's own dimensions.
    pub(crate) fn shape(&self, rest: &[usize]) -> Vec<usize> {
        self.batch.into_iter().chain(rest.iter().copied()).collect()
    }
}

/// Checks weights against n points and the batch, which is set where these weights are the first to have one.
fn check(
    name: &str,
    x: &Tensor,
    n: usize,
    geometry: &Geometry,
    batch: &mut Option<usize>,
) -> Result<()> {
    let fits = match *x.dims() {
        [k] => k == n,
        [b, k] => k == n && b > 0 && batch.is_none_or(|batch| batch == b),
        _ => false,
    };
    if !fits || x.dtype() != geometry.dtype() {
        let with = batch.map_or(format!("({n}) or (B, {n})"), |b| {
            format!("({n}) or ({b}, {n})")
        });
        let expected = format!("shape {with} of {:?}", geometry.dtype());
        return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
    }
    let device = geometry.inputs()[0].device();
    if !x.device().same_device(device) {
        let expected = format!("on {:?}, as the costs", device.location());
        return Err(Error::tensor(name, expected, x.device().location()));
    }
    if let [b, _] = *x.dims() {
        *batch = Some(b);
    }
    let least = finite_range(name, x)?.0;
    match least < 0.0 {
        true => {
            let at = read::<f64>(x)?.iter().position(|w| *w < 0.0).unwrap_or(0);
            let place = if x.rank() == 1 {
                format!("{at}")
            } else {
                format!("{}, {}", at / n, at % n)
            };
            Err(Error::value(
                format!("{name}[{place}]"),
                read::<f64>(x)?[at],
                "weights are finite and not negative",
            ))
        }
        false => Ok(()),
    }
}

/// The results that carry gradients, and by which theorem.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gradient {
    /// The value only, with potentials held fixed: exact at convergence. Potentials carry none, and an
    /// applied plan only with respect to what it is applied to.
    #[default]
    Envelope,
    /// Value, potentials and applied plans, by the implicit function theorem at the fixed point: a
    /// linear system a backward pass, solved by conjugate gradients; see
    /// [`crate::SinkhornSolution::gradient_solves`].
    Implicit,
    /// Value, potentials and applied plans, through every sweep: the gradient of what was computed,
    /// converged or not. Sweeps are not lengthened then unless by
    /// [`Acceleration::Momentum`](crate::Acceleration::Momentum); memory is O((n + m) sweeps), time
    /// four passes over the costs a sweep.
    Unrolled,
}

/// The type that the cells of a plan are computed in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Precision {
    Single,
    Double,
}

/// One problem and the potentials that solve it.
#[derive(Debug)]
pub(super) struct SolvedProblem {
    /// a and b; where both marginals are exact b has the total of a.
    pub(super) weights: (Vec<f64>, Vec<f64>),
    /// `F = f / (eps ln 2) + log2 a`, and G.
    pub(super) scaled: (Vec<f64>, Vec<f64>),
    pub(super) precision: Precision,
    /// Sweeps, those at larger epsilons included.
    pub(super) iterations: usize,
    /// Marginals and costs of the plan of these potentials.
    pub(super) totals: Totals,
    /// The state after every sweep, where gradients go back through them.
    pub(super) tape: Vec<Step>,
}

/// A batch of solved problems.
#[derive(Debug)]
pub(super) struct SolvedBatch {
    pub(super) problem: LinearProblem,
    pub(super) each: Vec<SolvedProblem>,
    pub(super) epsilon: f64,
    pub(super) gradient: Gradient,
}

impl SolvedBatch {
    /// F, G and epsilon of problem `i`.
    pub(super) fn scaled_potentials(&self, i: usize) -> (&[f64], &[f64], f64) {
        let (f, g) = &self.each[i].scaled;
        (f, g, self.epsilon)
    }
}

/// The state after a sweep, in units of the cost.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) epsilon: f64,
    pub(super) relaxation: f64,
    pub(super) symmetric: bool,
    pub(super) f: Vec<f64>,
    pub(super) g: Vec<f64>,
}

/// Gradients with respect to the weights and to what costs are computed from.
pub(super) struct Gradients {
    pub(super) a: Vec<f64>,
    pub(super) b: Vec<f64>,
    pub(super) costs: Vec<Option<Vec<f64>>>,
}

/// The gradient of `<P o (left right^T), C>` with respect to the inputs of the costs, at a fixed plan of scaled potentials.
pub(super) fn cost_gradient(
    geometry: &Geometry,
    i: usize,
    (f, g, epsilon): (&[f64], &[f64], f64),
    (left, right, k): (&[f64], &[f64], usize),
    needed: &[bool],
    precision: Precision,
) -> Result<Vec<Option<Vec<f64>>>> {
    if !needed.contains(&true) {
        return Ok(vec![None; needed.len()]);
    }
    let parts = [f, g, left, right];
    match precision {
        Precision::Double => geometry.backward(i, &Weights::<f64>::new(parts, epsilon, k), needed),
        Precision::Single => geometry.backward(i, &Weights::<f32>::new(parts, epsilon, k), needed),
    }
}
