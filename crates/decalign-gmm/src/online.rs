//! Online EM: one mini-batch at a time, for data that does not fit into memory or does not end.

use candle_core::Tensor;
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::covariance::Covariance;
use crate::e_step::{self, PackedMixture};
use crate::fit::not_negative;
use crate::m_step::MStep;
use crate::mixture::Mixture;
use crate::parameters::MixtureParameters;
use crate::samples::{SampleShape, Samples, check_finite, read_weights};
use crate::standardization::Standardization;
use crate::statistics::{SecondMoment, SufficientStatistics};

/// Expectation maximisation on mini-batches.
///
/// Sufficient statistics are running averages with decreasing step sizes:
///
/// ```text
/// s_t = (1 - eta_t) s_{t-1} + eta_t s(batch),   eta_t = (t + t0)^-kappa,   t = 1, 2, ...
/// ```
///
/// and the mixture is the M-step of `s_t`. With kappa in (1/2, 1] it converges to a stationary point of
/// the expected log-likelihood. Results carry no gradients.
///
/// Source: Cappé and Moulines (2009), on-line expectation-maximization for latent data models.
///
/// ```
/// use decalign_gmm::{Covariance, Em, OnlineEm};
/// use candle_core::{Device, Tensor};
/// let first = Tensor::new(&[[0.0f64], [0.3], [-0.2], [5.0], [5.3], [4.8]], &Device::Cpu)?;
/// let mut online = OnlineEm::new(&Em::new(2, Covariance::Diagonal)?.fit(&first)?.mixture)?;
/// online.update(&Tensor::new(&[[0.1f64], [4.9], [5.2]], &Device::Cpu)?)?;
/// assert_eq!(online.steps(), 1);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct OnlineEm {
    mixture: Mixture,
    parameters: MixtureParameters,
    averages: RunningAverages,
    exponent: f64,
    delay: f64,
    regularisation: f64,
    steps: usize,
}

/// Running averages a sample for each component: mass, and mean and scatter of that mass.
#[derive(Clone, Debug)]
struct RunningAverages {
    mass: Vec<f64>,
    means: Vec<f64>,
    /// Matrices or diagonals, divided by the mass.
    scatter: Vec<f64>,
}

impl OnlineEm {
    /// Starts from a mixture, such as the fit of a first batch; kappa 0.6, t0 1, regularisation 1e-6.
    ///
    /// # Errors
    /// When the mixture is a batch of mixtures.
    pub fn new(start: &Mixture) -> Result<Self> {
        let parameters = start.single()?;
        let matrices = (0..parameters.components()).flat_map(|k| match parameters.kind {
            Covariance::Tied => parameters.matrix(0),
            _ => parameters.matrix(k),
        });
        let averages = RunningAverages {
            mass: parameters.weights.clone(),
            means: parameters.means.clone(),
            scatter: matrices.collect(),
        };
        Ok(Self {
            mixture: start.detach(),
            parameters,
            averages,
            exponent: 0.6,
            delay: 1.0,
            regularisation: 1e-6,
            steps: 0,
        })
    }

    /// The schedule `(t + delay)^-exponent`.
    ///
    /// # Errors
    /// When the exponent is not in (1/2, 1] or the delay negative.
    pub fn schedule(self, exponent: f64, delay: f64) -> Result<Self> {
        if !(exponent > 0.5 && exponent <= 1.0) {
            let remedy = "must be above 1/2 and at most 1, or it does not converge";
            return Err(Error::value("exponent", exponent, remedy));
        }
        not_negative("delay", delay)?;
        Ok(Self {
            exponent,
            delay,
            ..self
        })
    }

    /// Added to every variance, in squared units of the data.
    ///
    /// # Errors
    /// When it is negative or not finite.
    pub fn regularisation(self, regularisation: f64) -> Result<Self> {
        not_negative("regularisation", regularisation)?;
        Ok(Self {
            regularisation,
            ..self
        })
    }

    /// The mixture after the batches so far.
    pub fn mixture(&self) -> &Mixture {
        &self.mixture
    }

    /// Batches so far.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Updates the mixture with a batch; returns the mean log-likelihood of the batch under the mixture before the update.
    ///
    /// # Shapes
    /// `x` (n, d) of the mixture's type; n may differ from batch to batch.
    ///
    /// # Errors
    /// When the shape or type does not fit, a number is not finite, or a covariance becomes singular; the
    /// mixture is unchanged then.
    pub fn update(&mut self, x: &Tensor) -> Result<f64> {
        self.update_with(x, None)
    }

    /// As [`OnlineEm::update`], each sample counted `weights` times, (n).
    ///
    /// # Errors
    /// As [`OnlineEm::update`], and when a weight is negative or not finite, or all are 0.
    pub fn update_weighted(&mut self, x: &Tensor, weights: &Tensor) -> Result<f64> {
        self.update_with(x, Some(weights))
    }

    fn update_with(&mut self, x: &Tensor, weights: Option<&Tensor>) -> Result<f64> {
        let shape = SampleShape::of(x)?;
        let dtype = self.mixture.means().dtype();
        if shape.batch.is_some() || shape.width != self.parameters.width || x.dtype() != dtype {
            let expected = format!("shape (n, {}) of {dtype:?}", self.parameters.width);
            return Err(Error::tensor("data", expected, (x.shape(), x.dtype())));
        }
        with_real!("data", x, T => {
            let given = weights.map(|w| read_weights::<T>(w, x, &[shape.rows])).transpose()?;
            let values = Elements::<T>::new(x)?;
            check_finite("data", &values, shape.width)?;
            let standardization = Standardization::<T>::of_mixture(&self.parameters);
            let samples = Samples::new(&values, shape.width, standardization, given.as_deref());
            self.step(&samples)
        })
    }

    fn step<T: Real>(&mut self, samples: &Samples<T>) -> Result<f64> {
        let standardization = &samples.standardization;
        let before = standardization.standardize(&self.parameters);
        let packed = PackedMixture::<T>::of(&before)?;
        let second = SecondMoment::of(before.kind);
        let sums = e_step::e_step(samples, &before, &packed, Some(second));
        let eta = (self.steps as f64 + 1.0 + self.delay).powf(-self.exponent);
        let averages = self
            .averages
            .map(&before, |p| standardization.standardize(p));
        let averages = averages.updated(eta, &before, &sums.statistics, samples.total);
        let regularisation = standardization.variance(self.regularisation);
        let step = MStep {
            before: &before,
            total: 1.0,
            regularisation: &regularisation,
            least_mass: 0.0,
            scatter: None,
        };
        let after = step.maximise(&averages.statistics(&before));
        PackedMixture::<T>::of(&after)?;
        let parameters = standardization.restore(&after);
        self.mixture = Mixture::of_parameters(&parameters, self.mixture.means().dtype())?;
        self.averages = averages.map(&before, |p| standardization.restore(p));
        self.parameters = parameters;
        self.steps += 1;
        Ok(sums.log_likelihood / samples.total + standardization.log_volume())
    }
}

impl RunningAverages {
    /// Averages with those of a batch: means, and within plus between scatter.
    fn updated(
        &self,
        eta: f64,
        centres: &MixtureParameters,
        batch: &SufficientStatistics,
        total: f64,
    ) -> Self {
        let (k, d) = (self.mass.len(), centres.width);
        let size = self.scatter.len() / k;
        let mut out = self.clone();
        for k in 0..k {
            let added = eta * batch.s0[k] / total;
            let kept = (1.0 - eta) * self.mass[k];
            out.mass[k] = kept + added;
            if batch.s0[k] <= 0.0 || out.mass[k] <= 0.0 {
                continue;
            }
            let (a, b) = (kept / out.mass[k], added / out.mass[k]);
            let moved = |j: usize| batch.s1[k * d + j] / batch.s0[k];
            let mean = |j: usize| centres.means[k * d + j] + moved(j);
            let apart: Vec<f64> = (0..d).map(|j| mean(j) - self.means[k * d + j]).collect();
            let means = out.means[k * d..].iter_mut().zip(&apart);
            means.for_each(|(mean, v)| *mean += b * v);
            for at in 0..size {
                let (i, j) = if size == d {
                    (at, at)
                } else {
                    (at / d, at % d)
                };
                let own = batch.s2[k * size + at] / batch.s0[k] - moved(i) * moved(j);
                let scatter = &mut out.scatter[k * size + at];
                *scatter = a * *scatter + b * own + a * b * apart[i] * apart[j];
            }
        }
        out
    }

    /// The statistics about the means of `centres`.
    fn statistics(&self, centres: &MixtureParameters) -> SufficientStatistics {
        let (k, d) = (self.mass.len(), centres.width);
        let size = self.scatter.len() / k;
        let mut out = SufficientStatistics {
            s0: self.mass.clone(),
            s1: vec![0.0; k * d],
            s2: vec![0.0; k * size],
        };
        for k in 0..k {
            let moved = |j: usize| self.means[k * d + j] - centres.means[k * d + j];
            for j in 0..d {
                out.s1[k * d + j] = self.mass[k] * moved(j);
            }
            for at in 0..size {
                let (i, j) = if size == d {
                    (at, at)
                } else {
                    (at / d, at % d)
                };
                let all = self.scatter[k * size + at] + moved(i) * moved(j);
                out.s2[k * size + at] = self.mass[k] * all;
            }
        }
        out
    }

    /// Under a change of coordinates, as a mixture with one covariance for each component.
    fn map(
        &self,
        like: &MixtureParameters,
        f: impl Fn(&MixtureParameters) -> MixtureParameters,
    ) -> Self {
        let kind = if like.kind.is_matrix() {
            Covariance::Full
        } else {
            Covariance::Diagonal
        };
        let out = f(&MixtureParameters {
            kind,
            width: like.width,
            weights: self.mass.clone(),
            means: self.means.clone(),
            covariances: self.scatter.clone(),
        });
        Self {
            mass: out.weights,
            means: out.means,
            scatter: out.covariances,
        }
    }
}
