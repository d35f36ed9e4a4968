//! A mixture of Gaussians, or a batch of them.

mod condition;
mod densities;
mod file;
mod sample;

use candle_core::{DType, Device, Tensor};
use decalign_core::{Elements, Error, Result, with_real};

use crate::covariance::Covariance;
use crate::parameters::MixtureParameters;

/// The allowed deviation of the sum of the weights from 1: f32 weights of many components are rounded.
const SUM_TOLERANCE: f64 = 1e-4;

/// A mixture of K Gaussians in d dimensions, or a batch of B such mixtures.
///
/// ```text
/// p(x) = sum_k pi_k N(x | mu_k, Sigma_k)
/// ```
///
/// Its tensors may carry gradients (those of a fit do, see [`Gradient`](crate::Gradient)); densities and
/// responsibilities carry them on, with respect to samples too.
#[derive(Clone, Debug)]
pub struct Mixture {
    kind: Covariance,
    weights: Tensor,
    means: Tensor,
    covariances: Tensor,
}

impl Mixture {
    /// A mixture of given parameters: the arrays `weights_`, `means_` and `covariances_` of scikit-learn's
    /// `GaussianMixture` are of these shapes.
    ///
    /// # Shapes
    /// `weights` (K) of sum 1, `means` (K, d), `covariances` as [`Covariance::shape`] says; with a batch,
    /// B in front of all. All f32 or all f64.
    ///
    /// # Errors
    /// When a shape or type does not fit, a number is not finite, a weight is negative, weights do not sum to 1,
    /// or a covariance is not positive definite.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_gmm::{Covariance, Mixture};
    /// let weights = Tensor::new(&[0.25f64, 0.75], &Device::Cpu)?;
    /// let means = Tensor::new(&[[0.0f64], [4.0]], &Device::Cpu)?;
    /// let variances = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
    /// let mixture = Mixture::new(Covariance::Spherical, &weights, &means, &variances)?;
    /// let x = Tensor::new(&[[0.1f64], [5.0]], &Device::Cpu)?;
    /// assert_eq!(mixture.assign(&x)?.to_vec1::<u32>()?, [0, 1]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(
        kind: Covariance,
        weights: &Tensor,
        means: &Tensor,
        covariances: &Tensor,
    ) -> Result<Self> {
        let (k, d) = match *means.dims() {
            [k, d] | [_, k, d] if k * d > 0 => (k, d),
            _ => {
                let expected = "shape (K, d) or (B, K, d), not empty";
                return Err(Error::tensor("means", expected, means.shape()));
            }
        };
        let batch = &means.dims()[..means.rank() - 2];
        let others = [
            ("weights", weights, vec![k]),
            ("covariances", covariances, kind.shape(k, d)),
        ];
        for (name, x, dims) in others {
            let want = [batch, &dims].concat();
            if x.dims() != want || x.dtype() != means.dtype() {
                let expected = format!("shape {want:?} of {:?}", means.dtype());
                return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
            }
        }
        let mixture = Self::from_parts(kind, weights.clone(), means.clone(), covariances.clone());
        (0..mixture.count()).try_for_each(|i| mixture.check(i))?;
        Ok(mixture)
    }

    pub(crate) fn from_parts(
        kind: Covariance,
        weights: Tensor,
        means: Tensor,
        covariances: Tensor,
    ) -> Self {
        Self {
            kind,
            weights,
            means,
            covariances,
        }
    }

    /// A copy on another device, with gradients.
    pub(crate) fn to_device(&self, device: &Device) -> Result<Self> {
        Ok(Self::from_parts(
            self.kind,
            self.weights.to_device(device)?,
            self.means.to_device(device)?,
            self.covariances.to_device(device)?,
        ))
    }

    fn check(&self, i: usize) -> Result<()> {
        let p = self.parameters(i)?;
        if !p.is_finite() {
            let remedy = "weights, means and covariances must be finite";
            return Err(Error::value(
                "a parameter of the mixture",
                "not finite",
                remedy,
            ));
        }
        if let Some(w) = p.weights.iter().find(|w| **w < 0.0) {
            return Err(Error::value("a weight", w, "must not be negative"));
        }
        let sum: f64 = p.weights.iter().sum();
        if (sum - 1.0).abs() > SUM_TOLERANCE {
            return Err(Error::value("the sum of the weights", sum, "must be 1"));
        }
        for k in 0..p.matrices() {
            // The correlation matrix, so that scale does not matter.
            let d = p.width;
            let unit: Vec<f64> = (0..d).map(|j| p.variance(k, j).sqrt()).collect();
            let mut matrix = p.matrix(k);
            for (at, v) in matrix.iter_mut().enumerate() {
                let (i, j) = if p.kind.is_matrix() {
                    (at / d, at % d)
                } else {
                    (at, at)
                };
                *v /= unit[i] * unit[j];
            }
            if crate::parameters::factor(&matrix, d, p.kind.is_matrix(), f64::EPSILON).is_err() {
                let remedy = "must be positive definite";
                return Err(Error::value(
                    format!("covariance {k}"),
                    "singular or negative",
                    remedy,
                ));
            }
        }
        Ok(())
    }

    /// The form of the covariances.
    pub fn covariance(&self) -> Covariance {
        self.kind
    }

    /// `pi`, (K) or (B, K).
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// `mu`, (K, d) or (B, K, d).
    pub fn means(&self) -> &Tensor {
        &self.means
    }

    /// `Sigma`, as [`Covariance::shape`] says, with a batch B in front.
    pub fn covariances(&self) -> &Tensor {
        &self.covariances
    }

    /// K.
    pub fn components(&self) -> usize {
        self.means.dims()[self.means.rank() - 2]
    }

    /// d.
    pub fn width(&self) -> usize {
        self.means.dims()[self.means.rank() - 1]
    }

    /// B, the number of mixtures; `None` without a batch dimension.
    pub fn batch(&self) -> Option<usize> {
        (self.means.rank() == 3).then(|| self.means.dims()[0])
    }

    /// Mixture `i` of a batch, with gradients; without a batch dimension `i` must be 0.
    ///
    /// # Errors
    /// When `i` is not below the number of mixtures.
    pub fn get(&self, i: usize) -> Result<Self> {
        if i >= self.count() {
            let remedy = format!("must be below the batch, {}", self.count());
            return Err(Error::value("mixture", i, remedy));
        }
        if self.batch().is_none() {
            return Ok(self.clone());
        }
        let part = |x: &Tensor| Ok::<_, Error>(x.narrow(0, i, 1)?.squeeze(0)?);
        Ok(Self::from_parts(
            self.kind,
            part(&self.weights)?,
            part(&self.means)?,
            part(&self.covariances)?,
        ))
    }

    /// A copy without gradients.
    #[must_use]
    pub fn detach(&self) -> Self {
        let [weights, means, covariances] =
            [&self.weights, &self.means, &self.covariances].map(Tensor::detach);
        Self::from_parts(self.kind, weights, means, covariances)
    }

    pub(crate) fn count(&self) -> usize {
        self.batch().unwrap_or(1)
    }

    pub(crate) fn single(&self) -> Result<MixtureParameters> {
        match self.batch() {
            None => self.parameters(0),
            Some(batch) => {
                let remedy = "this operation takes one mixture: take mixture.get(i)";
                Err(Error::value("batch", batch, remedy))
            }
        }
    }

    /// The parameters of mixture `i`.
    pub(crate) fn parameters(&self, i: usize) -> Result<MixtureParameters> {
        let mut p = MixtureParameters::zeros(self.kind, self.components(), self.width());
        let tensors = [&self.weights, &self.means, &self.covariances];
        for (to, x) in p.parts_mut().into_iter().zip(tensors) {
            let x = x.to_device(&Device::Cpu)?;
            with_real!("mixture", x, T => {
                let values = Elements::<T>::new(&x)?;
                let from = &values[i * to.len()..(i + 1) * to.len()];
                to.iter_mut().zip(from).for_each(|(t, v)| *t = decalign_core::Real::as_f64(*v));
                Ok::<(), Error>(())
            })?;
        }
        Ok(p)
    }

    /// A mixture of these parameters, without gradients.
    pub(crate) fn of_parameters(p: &MixtureParameters, like: DType) -> Result<Self> {
        let (k, d) = (p.components(), p.width);
        let tensor = |x: &[f64], shape: Vec<usize>| -> Result<Tensor> {
            Ok(Tensor::from_slice(x, shape, &Device::Cpu)?.to_dtype(like)?)
        };
        Ok(Self::from_parts(
            p.kind,
            tensor(&p.weights, vec![k])?,
            tensor(&p.means, vec![k, d])?,
            tensor(&p.covariances, p.kind.shape(k, d))?,
        ))
    }
}
