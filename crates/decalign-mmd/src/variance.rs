//! How far an estimate is off: the asymptotic variance, and the witness function.

use candle_core::{D, Tensor};
use decalign_core::Result;

use crate::mmd::Mmd;
use crate::products::kernel_product;
use crate::sample;

/// `MMD^2` and what is known of its error.
#[derive(Clone, Debug)]
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
    /// estimated from the row means of the kernel matrices in one pass. It is the leading term where the
    /// distributions differ; where they are equal it tends to 0 faster than the true variance. Both
    /// carry gradients, so `squared / sqrt(variance)`, which governs the power of a test, can be
    /// maximised. The estimator of the [`Mmd`] does not count.
    ///
    /// # Shapes
    /// `x` (n, d), `y` (m, d), n and m >= 2.
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    ///
    /// Source: Hoeffding (1948); Sutherland and others (2017); Liu and others (2020).
    pub fn estimate(&self, x: &Tensor, y: &Tensor) -> Result<Estimate> {
        sample::check_points(&[x, y], 2, 2)?;
        let (n, m) = (x.dims()[0], y.dims()[0]);
        // Row sums over x and over y, the diagonal included.
        let side = |first: bool| -> Result<Tensor> {
            let (a, b) = if first { (1.0, 0.0) } else { (0.0, 1.0) };
            let column: Vec<f64> = std::iter::repeat_n(a, n)
                .chain(std::iter::repeat_n(b, m))
                .collect();
            Ok(Tensor::from_vec(column, (n + m, 1), x.device())?.to_dtype(x.dtype())?)
        };
        let vectors = Tensor::cat(&[&side(true)?, &side(false)?], 1)?;
        let pairs = [(0, 0), (0, 1), (1, 1)];
        let sums = kernel_product(self.kernel(), &[x.clone(), y.clone()], &pairs, &vectors)?;
        let (of_x, of_y) = (sums.narrow(0, 0, n)?, sums.narrow(0, n, m)?);
        let own = |sums: &Tensor, column: usize, x: &Tensor| -> Result<Tensor> {
            let count = x.dims()[0] as f64;
            let sums = sums.narrow(1, column, 1)?.squeeze(1)?;
            Ok(((sums - self.diagonal(x)?)? / (count - 1.0))?)
        };
        let other = |sums: &Tensor, column: usize, count: usize| -> Result<Tensor> {
            Ok((sums.narrow(1, column, 1)?.squeeze(1)? / count as f64)?)
        };
        let a = (own(&of_x, 0, x)? - other(&of_x, 1, m)?)?;
        let b = (own(&of_y, 1, y)? - other(&of_y, 0, n)?)?;
        let squared = (a.mean_all()? + b.mean_all()?)?;
        let spread = |a: &Tensor| -> Result<Tensor> {
            let centred = a.broadcast_sub(&a.mean_keepdim(D::Minus1)?)?;
            let count = a.dims()[0] as f64;
            Ok((centred.sqr()?.sum_all()? * (4.0 / (count * (count - 1.0))))?)
        };
        let variance = (spread(&a)? + spread(&b)?)?;
        Ok(Estimate { squared, variance })
    }

    /// `k(x_i, x_i)` of every point.
    fn diagonal(&self, x: &Tensor) -> Result<Tensor> {
        let n = x.dims()[0];
        let index: Vec<u32> = (0..n as u32).collect();
        crate::incomplete::kernel_of_pairs(self.kernel(), x, x, &index, &index)
    }

    /// The witness function `f(z) = mean k(z, x) - mean k(z, y)`: large where x is denser, negative where
    /// y is. It carries gradients to all three.
    ///
    /// # Shapes
    /// `at` (l, d), `x` (n, d), `y` (m, d); the result is (l).
    ///
    /// # Errors
    /// As [`Mmd::squared`].
    pub fn witness(&self, at: &Tensor, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        sample::check_points(&[at, x, y], 3, 1)?;
        let (l, n, m) = (at.dims()[0], x.dims()[0], y.dims()[0]);
        let weights: Vec<f64> = std::iter::repeat_n(0.0, l)
            .chain(std::iter::repeat_n((n as f64).recip(), n))
            .chain(std::iter::repeat_n(-(m as f64).recip(), m))
            .collect();
        let weights = Tensor::from_vec(weights, (l + n + m, 1), x.device())?.to_dtype(x.dtype())?;
        let samples = [at.clone(), x.clone(), y.clone()];
        let sums = kernel_product(self.kernel(), &samples, &[(0, 1), (0, 2)], &weights)?;
        Ok(sums.narrow(0, 0, l)?.squeeze(1)?)
    }
}
