//! Settings of an EM fit.

use candle_core::Tensor;
use decalign_core::{Error, Real, Result};

use super::initialization::Initialization;
use super::solution::{self, Fit};
use crate::covariance::Covariance;

/// Fits mixtures of K Gaussians by expectation maximisation:
///
/// ```text
/// E:  gamma[n,k] = pi_k N(x_n | mu_k, Sigma_k) / sum_j pi_j N(x_n | mu_j, Sigma_j)
/// M:  s_k = sum_n w_n gamma[n,k],  pi_k = s_k / sum w,  mu_k = sum_n w_n gamma[n,k] x_n / s_k
///     Sigma_k = sum_n w_n gamma[n,k] (x_n - mu_k)(x_n - mu_k)^T / s_k + r I
/// ```
///
/// Both take one pass over the data. Second moments are taken about the means, so that no digits are lost when data lies far from 0. A
/// covariance that becomes singular is an error, never a NaN.
///
/// Source: Dempster, Laird and Rubin (1977).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_gmm::{Covariance, Em};
/// let x = Tensor::new(&[[0f64, 0.1], [0.2, 0.0], [0.1, 0.3], [5.0, 5.2], [5.2, 5.0], [5.1, 5.4]], &Device::Cpu)?;
/// let fit = Em::new(2, Covariance::Diagonal)?.fit(&x)?;
/// assert!(fit.converged());
/// assert_eq!(fit.mixture.weights().to_vec1::<f64>()?.len(), 2);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Em {
    pub(crate) components: usize,
    pub(crate) covariance: Covariance,
    pub(crate) initialization: Initialization,
    pub(crate) restarts: usize,
    pub(crate) seed: u64,
    /// None for the default, which depends on the gradient.
    pub(crate) tolerance: Option<f64>,
    pub(crate) max_iterations: usize,
    pub(crate) regularisation: f64,
    pub(crate) empty_components: EmptyComponent,
    pub(crate) gradient: Gradient,
}

/// How to treat a component whose mass is less than a millionth of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum EmptyComponent {
    /// It keeps its mean and covariance with weight 0, and [`Convergence::empty_components`](crate::Convergence::empty_components) lists
    /// it.
    #[default]
    Report,
    /// It is moved to the sample of least density, with the data's covariance.
    Reseed,
}

/// Which gradients a fitted mixture carries with respect to data and sample weights.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Gradient {
    /// No gradient.
    #[default]
    Nothing,
    /// Through every step, the initialisation included: exact for the algorithm as it ran, converged or not. Memory
    /// is that of the mixtures of all steps; responsibilities are computed again.
    Unrolled,
    /// The gradient of the fixed point that the fit converged to, by the implicit function theorem, independent of the initialisation:
    ///
    /// ```text
    /// (I - J^T) v = g,   dx = (dF/dx)^T v,   J = dF/dtheta of one step F
    /// ```
    ///
    /// solved without forming J; see [`Fit::gradient_solves`]. An error if the fit did not converge, or the
    /// spectral radius of J is so near 1 that the fixed point is not determined. A fit with a loose tolerance is
    /// not at its fixed point, and [`ImplicitSolve::converged`](crate::ImplicitSolve) is false then.
    Implicit,
    /// The gradient of the last step alone, `v = g`: accurate when components are so far apart that J is small.
    OneStep,
}

impl Em {
    /// `components` Gaussians. Initialised by k-means, seed 0, one restart; ends when the mean log-likelihood changes by
    /// at most 1e-5 (1e-10 for the implicit gradient, 1e-8 in f32), or after 500 steps; adds 1e-6 to variances; carries no gradients.
    ///
    /// # Errors
    /// When there is no component.
    pub fn new(components: usize, covariance: Covariance) -> Result<Self> {
        if components == 0 {
            return Err(Error::value("components", 0, "at least one is needed"));
        }
        Ok(Self {
            components,
            covariance,
            initialization: Initialization::default(),
            restarts: 1,
            seed: 0,
            tolerance: None,
            max_iterations: 500,
            regularisation: 1e-6,
            empty_components: EmptyComponent::default(),
            gradient: Gradient::default(),
        })
    }

    /// The mixture that the first EM step starts from.
    #[must_use]
    pub fn initialization(self, initialization: Initialization) -> Self {
        Self {
            initialization,
            ..self
        }
    }

    /// The seed of random initialisations.
    #[must_use]
    pub fn seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// Fits this many times from different random initialisations and keeps the fit of largest log-likelihood. With
    /// [`Initialization::KMeans`] every other fit starts at rows by k-means++, as some data is fitted best from there. Fits whose covariances
    /// become singular are skipped unless all do.
    ///
    /// # Errors
    /// When it is 0.
    pub fn n_init(self, restarts: usize) -> Result<Self> {
        match restarts {
            0 => Err(Error::value("n_init", 0, "must be at least 1")),
            _ => Ok(Self { restarts, ..self }),
        }
    }

    /// Ends when the mean log-likelihood of a sample changes by at most this; 0 ends early only at an exact fixed point.
    ///
    /// # Errors
    /// When it is negative or not finite.
    pub fn tolerance(self, tolerance: f64) -> Result<Self> {
        not_negative("tolerance", tolerance)?;
        Ok(Self {
            tolerance: Some(tolerance),
            ..self
        })
    }

    /// The maximum number of EM steps; 0 returns the initial mixture.
    #[must_use]
    pub fn max_iterations(self, max_iterations: usize) -> Self {
        Self {
            max_iterations,
            ..self
        }
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

    /// How to treat components without samples.
    #[must_use]
    pub fn empty_components(self, empty_components: EmptyComponent) -> Self {
        Self {
            empty_components,
            ..self
        }
    }

    /// The tolerance given, or that which the gradient needs: the change of the log-likelihood is of the order of the square of
    /// a step, so 1e-5 leaves a fit some percent away from the fixed point that the implicit gradient is of.
    pub(super) fn effective_tolerance<T: Real>(&self) -> f64 {
        let default = match (self.gradient, size_of::<T>()) {
            (Gradient::Implicit, 8) => 1e-10,
            (Gradient::Implicit, _) => 1e-8,
            _ => 1e-5,
        };
        self.tolerance.unwrap_or(default)
    }

    /// Which gradients the result carries.
    #[must_use]
    pub fn gradient(self, gradient: Gradient) -> Self {
        Self { gradient, ..self }
    }

    /// Fits the rows of `x`; with a batch dimension, every problem of the batch by itself.
    ///
    /// # Shapes
    /// `x` (n, d) or (B, n, d), f32 or f64.
    ///
    /// # Errors
    /// When `x` has another rank or type, no element, or holds NaN or an infinity; when the
    /// initialisation does not fit; when a covariance becomes singular, as it does on equal rows without regularisation.
    /// The message says what to change.
    pub fn fit(&self, x: &Tensor) -> Result<Fit> {
        solution::fit(self, x, None)
    }

    /// As [`Em::fit`], each sample counted `weights` times: a weight of 2 duplicates a sample, 0 removes it.
    ///
    /// # Shapes
    /// `weights` (n) or (B, n), not negative.
    ///
    /// # Errors
    /// As [`Em::fit`], and when a weight is negative or not finite, or all are 0.
    pub fn fit_weighted(&self, x: &Tensor, weights: &Tensor) -> Result<Fit> {
        solution::fit(self, x, Some(weights))
    }
}

pub(crate) fn not_negative(name: &str, value: f64) -> Result<()> {
    match value >= 0.0 && value.is_finite() {
        true => Ok(()),
        false => Err(Error::value(name, value, "must be finite and not negative")),
    }
}
