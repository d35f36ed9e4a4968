//! Two measures and the costs between their points, checked once.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use crate::geometry::Geometry;
use crate::tensor_convert::{finite_range, read, select};
use crate::validate::MASS_TOLERANCE;

/// Weights `a` on n points, `b` on m points, and the costs between them; or a batch of such problems.
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

    /// Transport that may leave mass behind and create some, at a price:
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
        // Read at once: from a device every reading takes its time.
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

    /// The weights of problem `i`; of exact marginals, b scaled to the total of a.
    pub(crate) fn weights(&self, i: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let (a, mut b) = self.given(i)?;
        if self.balanced() {
            let ratio = a.iter().sum::<f64>() / b.iter().sum::<f64>();
            b.iter_mut().for_each(|b| *b *= ratio);
        }
        Ok((a, b))
    }

    fn given(&self, i: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        Ok((
            read(&select(&self.a, 1, i)?)?,
            read(&select(&self.b, 1, i)?)?,
        ))
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

    /// What results carry in front of their own dimensions.
    pub(crate) fn shape(&self, rest: &[usize]) -> Vec<usize> {
        self.batch.into_iter().chain(rest.iter().copied()).collect()
    }
}

/// Checks weights against n points and the batch, which they may be the first to have.
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
