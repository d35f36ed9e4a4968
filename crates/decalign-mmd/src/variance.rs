//! The asymptotic variance of an estimate, and the witness function.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use crate::kernel_product::kernel_product;
use crate::mmd::Mmd;
use crate::sample::{self, Sample};

/// An estimate of `MMD^2` and its variance.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Estimate {
    /// The unbiased estimate, a scalar.
    pub squared: Tensor,
    /// Its asymptotic variance where the distributions differ, a scalar, not negative.
    pub variance: Tensor,
}

impl Mmd {
    /// The unbiased estimate of `MMD^2` with its asymptotic variance,
    ///
    /// ```text
    /// 4 Var_x(a) / n + 4 Var_y(b) / m,   a(x) = mean k(x, x') - mean k(x, y),   b(y) = mean k(y, y') - mean k(x, y)
    /// ```
    ///
    /// estimated from the row means of the kernel matrices in one pass. With weights p that sum to 1, means are
    /// weighted, and `Var_x(a) / n` is `sum p_i^2 (a_i - mean a)^2 / (1 - sum p_i^2)`. It is the leading term
    /// where the distributions differ; where they are equal it tends to 0 faster than the true variance.
    /// Both carry gradients, so `squared / sqrt(variance)`, which governs the power of a test, can be
    /// maximised. The estimator of the [`Mmd`] is not used.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d), plain or with weights (n) and (m); n and m >= 2.
    ///
    /// # Errors
    /// As [`Mmd::squared`], and when fewer than two points of a sample have positive weight.
    ///
    /// Source: Hoeffding (1948); Sutherland and others (2017); Liu and others (2020).
    pub fn estimate(&self, x: impl Into<Sample>, y: impl Into<Sample>) -> Result<Estimate> {
        let given = [x.into(), y.into()];
        sample::check_with_weights(&given, 2, 2)?;
        let terms = [
            SampleTerm::new(0, &given[0])?,
            SampleTerm::new(1, &given[1])?,
        ];
        let (p, q) = (&terms[0].weights, &terms[1].weights);
        // Weighted row sums over x and over y, the diagonal included.
        let vectors = Tensor::cat(
            &[
                &Tensor::cat(&[p, &p.zeros_like()?], 1)?,
                &Tensor::cat(&[&q.zeros_like()?, q], 1)?,
            ],
            0,
        )?;
        let points = given.map(|s| s.points);
        let pairs = [(0, 0), (0, 1), (1, 1)];
        let sums = kernel_product(self.kernel(), &points, &pairs, &vectors)?;
        let n = points[0].dims()[0];
        let mut parts = Vec::with_capacity(2);
        for (i, (term, x)) in terms.iter().zip(&points).enumerate() {
            let sums = sums.narrow(0, i * n, x.dims()[0])?;
            let others = sums.narrow(1, 1 - i, 1)?;
            let diagonal = self.diagonal(x)?.unsqueeze(1)?;
            parts.push(term.estimate(&sums.narrow(1, i, 1)?, &diagonal, &others)?);
        }
        Ok(Estimate {
            squared: (&parts[0].squared + &parts[1].squared)?,
            variance: (&parts[0].variance + &parts[1].variance)?,
        })
    }

    /// `k(x_i, x_i)`.
    fn diagonal(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dims()[0];
        let index: Vec<u32> = (0..n as u32).collect();
        crate::incomplete::kernel_of_pairs(self.kernel(), x, x, &index, &index)
    }

    /// The witness function `f(z) = mean k(z, x) - mean k(z, y)`: large where x is denser, negative where
    /// y is. It carries gradients to all three, and to weights.
    ///
    /// # Shapes
    /// `at` (l, d), `x` (n, d), `y` (m, d), the latter two plain or with weights (n) and (m); the result
    /// is (l).
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    pub fn witness(
        &self,
        at: &Tensor,
        x: impl Into<Sample>,
        y: impl Into<Sample>,
    ) -> Result<Tensor> {
        let (x, y) = (x.into(), y.into());
        sample::check_points(&[at, &x.points, &y.points], 3, 1)?;
        sample::check_with_weights(&[x.clone(), y.clone()], 2, 1)?;
        let l = at.dims()[0];
        let weights = x.difference(&y, l)?;
        let samples = [at.clone(), x.points, y.points];
        let sums = kernel_product(self.kernel(), &samples, &[(0, 1), (0, 2)], &weights)?;
        Ok(sums.narrow(0, 0, l)?.squeeze(1)?)
    }
}

/// The contribution of one sample to an estimate.
struct SampleTerm {
    /// Weights that sum to 1, (n, 1).
    weights: Tensor,
    /// `1 - sum p^2`: the weight of all pairs of different points.
    different: Tensor,
}

impl SampleTerm {
    fn new(i: usize, sample: &Sample) -> Result<Self> {
        let weights = sample.normalised_weights()?;
        let different = (1.0 - weights.sqr()?.sum_all()?)?;
        if different.to_dtype(DType::F64)?.to_scalar::<f64>()? < 1e-6 {
            let name = format!("the number of points of sample {i} with positive weight");
            return Err(Error::value(name, 1, "the unbiased estimator needs two"));
        }
        Ok(Self { weights, different })
    }

    /// The mean within minus the mean across, and its variance, given the weighted sums over the own sample and
    /// the other and `k(x, x)` of every point, all (n, 1).
    fn estimate(&self, own: &Tensor, diagonal: &Tensor, across: &Tensor) -> Result<Estimate> {
        let p = &self.weights;
        let own = (own - (p * diagonal)?)?;
        let within = (p * &own)?.sum_all()?.div(&self.different)?;
        let squared = (within - (p * across)?.sum_all()?)?;
        let a = (own / (1.0 - p)? - across)?;
        let centred = a.broadcast_sub(&(p * &a)?.sum_all()?)?;
        let spread = (p * centred)?.sqr()?.sum_all()?;
        Ok(Estimate {
            squared,
            variance: (spread.div(&self.different)? * 4.0)?,
        })
    }
}
