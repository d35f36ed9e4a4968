//! Samples: weighted points.

use candle_core::{D, DType, Device, Tensor};
use decalign_core::{Elements, Error, Real, Result, analytic, with_real};

/// Points with optional weights, made from `&points` or from `(&points, &weights)`.
///
/// # Shapes
/// Points (n, d), n and d >= 1, in f32 or f64. Weights (n) of the same type, not negative, with a
/// positive sum, which need not be 1: they are divided by it.
#[derive(Clone, Debug)]
pub struct Sample {
    pub(crate) points: Tensor,
    pub(crate) weights: Option<Tensor>,
}

impl From<&Tensor> for Sample {
    fn from(points: &Tensor) -> Self {
        Self {
            points: points.clone(),
            weights: None,
        }
    }
}

impl From<(&Tensor, &Tensor)> for Sample {
    fn from((points, weights): (&Tensor, &Tensor)) -> Self {
        Self {
            points: points.clone(),
            weights: Some(weights.clone()),
        }
    }
}

impl From<&Sample> for Sample {
    fn from(sample: &Sample) -> Self {
        sample.clone()
    }
}

impl Sample {
    /// Weights that sum to 1, as a column (n, 1), with gradients; 1 / n without weights.
    pub(crate) fn normalised_weights(&self) -> Result<Tensor> {
        let n = self.points.dim(0)?;
        let w = match &self.weights {
            Some(w) => w.clone(),
            None => Tensor::ones(n, self.points.dtype(), self.points.device())?,
        };
        Ok(w.broadcast_div(&w.sum_all()?)?.reshape((n, 1))?)
    }

    pub(crate) fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let weights = self.weights.as_ref().map(|w| w.to_dtype(dtype));
        Ok(Self {
            points: self.points.to_dtype(dtype)?,
            weights: weights.transpose()?,
        })
    }

    /// Some neighbouring points.
    pub(crate) fn rows(&self, first: usize, len: usize) -> Result<Self> {
        let weights = self.weights.as_ref().map(|w| w.narrow(0, first, len));
        Ok(Self {
            points: self.points.narrow(0, first, len)?,
            weights: weights.transpose()?,
        })
    }

    /// Without gradients.
    pub(crate) fn detach(&self) -> Self {
        Self {
            points: self.points.detach(),
            weights: self.weights.as_ref().map(Tensor::detach),
        }
    }

    /// The number of points, or the sum of their weights.
    pub(crate) fn mass(&self) -> Result<f64> {
        match &self.weights {
            None => Ok(self.points.dim(0)? as f64),
            Some(w) => Ok(w.to_dtype(DType::F64)?.sum_all()?.to_scalar()?),
        }
    }

    /// `[0 ; weights of x ; -weights of y]` (l + n + m, 1), each normalised: the weights of a difference of means.
    pub(crate) fn difference(&self, other: &Self, l: usize) -> Result<Tensor> {
        let x = self.normalised_weights()?;
        let zeros = Tensor::zeros((l, 1), x.dtype(), x.device())?;
        Ok(Tensor::cat(
            &[&zeros, &x, &other.normalised_weights()?.neg()?],
            0,
        )?)
    }
}

/// Converts a slice to samples.
pub(crate) fn samples<'a, S>(given: &'a [S]) -> Vec<Sample>
where
    &'a S: Into<Sample>,
{
    given.iter().map(Into::into).collect()
}

/// Checks that there are at least `count` samples, each of at least `least` rows; returns their common width.
pub(crate) fn check(samples: &[Sample], count: usize, least: usize) -> Result<usize> {
    let points: Vec<&Tensor> = samples.iter().map(|s| &s.points).collect();
    let width = check_points(&points, count, least)?;
    for (i, sample) in samples.iter().enumerate() {
        let n = sample.points.dims()[0];
        if let Some(w) = &sample.weights
            && (w.dims() != [n] || w.dtype() != sample.points.dtype())
        {
            let expected = format!("shape ({n}) of {:?}", sample.points.dtype());
            let name = format!("weights of sample {i}");
            return Err(Error::tensor(name, expected, (w.shape(), w.dtype())));
        }
    }
    Ok(width)
}

/// [`check`] and the values of the weights.
pub(crate) fn check_with_weights(samples: &[Sample], count: usize, least: usize) -> Result<()> {
    check(samples, count, least)?;
    for (i, sample) in samples.iter().enumerate() {
        if let Some(w) = &sample.weights {
            check_weights(i, w)?;
        }
    }
    Ok(())
}

/// [`check`] of points without weights.
pub(crate) fn check_points(points: &[&Tensor], count: usize, least: usize) -> Result<usize> {
    let Some(first) = points.first().filter(|_| points.len() >= count) else {
        let remedy = match count {
            2 => "at least two are compared",
            _ => "at least one is needed",
        };
        return Err(Error::value("number of samples", points.len(), remedy));
    };
    let width = match first.dims() {
        [_, width] if *width > 0 => *width,
        _ => {
            let expected = "shape (n, d) with d >= 1";
            return Err(Error::tensor("sample 0", expected, first.shape()));
        }
    };
    for (i, x) in points.iter().enumerate() {
        let fits = matches!(x.dims(), [n, d] if *n >= least && *d == width);
        if !fits || x.dtype() != first.dtype() {
            let expected = format!("shape (n >= {least}, {width}) of {:?}", first.dtype());
            let got = (x.shape(), x.dtype());
            return Err(Error::tensor(format!("sample {i}"), expected, got));
        }
    }
    Ok(width)
}

/// [`analytic::check_finite`] of sample `i`.
pub(crate) fn check_finite<T: Real>(i: usize, x: &[T], width: usize) -> Result<()> {
    analytic::check_finite(&format!("sample {i}"), x, width)
}

/// The weights of sample `i`, checked.
pub(crate) fn read_weights<T: Real>(i: usize, weights: &Tensor) -> Result<Vec<T>> {
    let w = Elements::<T>::new(weights)?;
    if let Some(at) = w.iter().position(|v| !(v.is_finite() && *v >= T::zero())) {
        let name = format!("weight {at} of sample {i}");
        return Err(Error::value(name, w[at], "must be finite and not negative"));
    }
    let total: f64 = w.iter().map(|v| v.as_f64()).sum();
    if !(total > 0.0 && total.is_finite()) {
        let name = format!("the sum of the weights of sample {i}");
        return Err(Error::value(name, total, "must be positive and finite"));
    }
    Ok(w.to_vec())
}

/// Rows divided by their norms, with gradients.
pub(crate) fn directions(i: usize, x: &Tensor) -> Result<Tensor> {
    let largest = x.abs()?.max_keepdim(D::Minus1)?.detach();
    let least = largest.min_all()?.to_dtype(DType::F64)?;
    if least.to_scalar::<f64>()? <= 0.0 {
        let name = format!("the norm of a row of sample {i}");
        let remedy =
            "a zero row has no direction: remove it, or take another kernel than the cosine";
        return Err(Error::value(name, 0, remedy));
    }
    // Divide by the largest entry first, so that squares neither vanish nor overflow.
    let x = x.broadcast_div(&largest)?;
    let norm = x.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?;
    Ok(x.broadcast_div(&norm)?)
}

/// [`check_finite`] of a tensor.
pub(crate) fn check_finite_tensor(i: usize, x: &Tensor) -> Result<()> {
    let host = x.to_device(&Device::Cpu)?;
    let width = host.dims()[1];
    with_real!("samples", host, T => check_finite(i, &Elements::<T>::new(&host)?, width))
}

/// The checks of [`read_weights`].
fn check_weights(i: usize, w: &Tensor) -> Result<()> {
    let host = w.to_device(&Device::Cpu)?;
    with_real!("weights", host, T => read_weights::<T>(i, &host).map(|_| ()))
}
