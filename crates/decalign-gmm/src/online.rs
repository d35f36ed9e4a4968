//! Mini-batches: for data that does not fit into memory, or does not end.

use candle_core::Tensor;
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::covariance::Covariance;
use crate::data::{Data, Shape, check_finite};
use crate::fit::weights_of;
use crate::frame::Frame;
use crate::maximise::Step;
use crate::mixture::Mixture;
use crate::parameters::{Moments, Parameters, Second};
use crate::pass::{self, Tiles};

/// Expectation maximisation a batch at a time.
///
/// Sufficient statistics are running averages, with steps that fall by a stated schedule:
///
/// ```text
/// s_t = (1 - eta_t) s_{t-1} + eta_t s(batch),   eta_t = (t + t0)^-kappa,   t = 1, 2, ...
/// ```
///
/// and the mixture is the maximisation of `s_t`. With kappa in (1/2, 1] it converges to a stationary point of
/// the expected log-likelihood. Nothing carries gradients.
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
    numbers: Parameters,
    statistics: Statistics,
    exponent: f64,
    delay: f64,
    regularisation: f64,
    steps: usize,
}

/// Averages a sample, a component each: mass, and mean and scatter of it.
#[derive(Clone, Debug)]
struct Statistics {
    mass: Vec<f64>,
    means: Vec<f64>,
    /// Matrices or diagonals, a unit of mass.
    scatter: Vec<f64>,
}

impl OnlineEm {
    /// Starts from a mixture, such as the fit of a first batch; kappa 0.6, t0 1, regularisation 1e-6.
    ///
    /// # Errors
    /// When the mixture is a batch of mixtures.
    pub fn new(start: &Mixture) -> Result<Self> {
        let numbers = start.single()?;
        let matrices = (0..numbers.components()).flat_map(|k| match numbers.kind {
            Covariance::Tied => numbers.matrix(0),
            _ => numbers.matrix(k),
        });
        let statistics = Statistics {
            mass: numbers.weights.clone(),
            means: numbers.means.clone(),
            scatter: matrices.collect(),
        };
        Ok(Self {
            mixture: start.detach(),
            numbers,
            statistics,
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
        if !(delay >= 0.0 && delay.is_finite()) {
            return Err(Error::value(
                "delay",
                delay,
                "must be finite and not negative",
            ));
        }
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
        if !(regularisation >= 0.0 && regularisation.is_finite()) {
            let remedy = "must be finite and not negative";
            return Err(Error::value("regularisation", regularisation, remedy));
        }
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

    /// Takes in a batch; returns its mean log-likelihood under the mixture before.
    ///
    /// # Shapes
    /// `x` (n, d) of the mixture's type; n may differ from batch to batch.
    ///
    /// # Errors
    /// When the shape or type does not fit, a number is not finite, or a covariance becomes singular; the
    /// mixture is as it was then.
    pub fn update(&mut self, x: &Tensor) -> Result<f64> {
        self.take(x, None)
    }

    /// As [`OnlineEm::update`], each sample counted `weights` times, (n).
    ///
    /// # Errors
    /// As [`OnlineEm::update`], and when a weight is negative or not finite, or all are 0.
    pub fn update_weighted(&mut self, x: &Tensor, weights: &Tensor) -> Result<f64> {
        self.take(x, Some(weights))
    }

    fn take(&mut self, x: &Tensor, weights: Option<&Tensor>) -> Result<f64> {
        let shape = Shape::of(x)?;
        let dtype = self.mixture.means().dtype();
        if shape.batch.is_some() || shape.width != self.numbers.width || x.dtype() != dtype {
            let expected = format!("shape (n, {}) of {dtype:?}", self.numbers.width);
            return Err(Error::tensor("data", expected, (x.shape(), x.dtype())));
        }
        with_real!("data", x, T => {
            let given = weights.map(|w| weights_of::<T>(w, x, &[shape.rows])).transpose()?;
            let numbers = Elements::<T>::new(x)?;
            check_finite("data", &numbers, shape.width)?;
            let frame = Frame::<T>::of_mixture(&self.numbers);
            let data = Data::new(&numbers, shape.width, frame, given.as_deref());
            self.step(&data)
        })
    }

    fn step<T: Real>(&mut self, data: &Data<T>) -> Result<f64> {
        let frame = &data.frame;
        let before = frame.enter(&self.numbers);
        let second = if before.kind.is_matrix() {
            Second::Matrix
        } else {
            Second::Diagonal
        };
        let tiles = Tiles::<T>::of(&before)?;
        let totals = pass::expect(data, &before, &tiles, Some(second));
        let eta = (self.steps as f64 + 1.0 + self.delay).powf(-self.exponent);
        let statistics = self.statistics.entered(frame, &before);
        let statistics = statistics.mixed(eta, &before, &totals.moments, data.total);
        let floor = frame.floor(self.regularisation);
        let step = Step {
            before: &before,
            total: 1.0,
            floor: &floor,
            least: 0.0,
            scatter: None,
        };
        let after = step.maximise(&statistics.moments(&before));
        Tiles::<T>::of(&after)?;
        let numbers = frame.leave(&after);
        self.mixture = Mixture::of_parameters(&numbers, self.mixture.means().dtype())?;
        self.statistics = statistics.left(frame, &before);
        self.numbers = numbers;
        self.steps += 1;
        Ok(totals.log_likelihood / data.total + frame.log_volume())
    }
}

impl Statistics {
    /// Weighted averages of two sets of means and scatters: within plus between.
    fn mixed(&self, eta: f64, centres: &Parameters, new: &Moments, total: f64) -> Self {
        let (k, d) = (self.mass.len(), centres.width);
        let size = self.scatter.len() / k;
        let mut out = self.clone();
        for k in 0..k {
            let fresh = eta * new.s0[k] / total;
            let kept = (1.0 - eta) * self.mass[k];
            out.mass[k] = kept + fresh;
            if new.s0[k] <= 0.0 || out.mass[k] <= 0.0 {
                continue;
            }
            let (a, b) = (kept / out.mass[k], fresh / out.mass[k]);
            let moved = |j: usize| new.s1[k * d + j] / new.s0[k];
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
                let own = new.s2[k * size + at] / new.s0[k] - moved(i) * moved(j);
                let scatter = &mut out.scatter[k * size + at];
                *scatter = a * *scatter + b * own + a * b * apart[i] * apart[j];
            }
        }
        out
    }

    /// As moments about the means of `centres`.
    fn moments(&self, centres: &Parameters) -> Moments {
        let (k, d) = (self.mass.len(), centres.width);
        let size = self.scatter.len() / k;
        let mut out = Moments {
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

    fn entered<T: Real>(&self, frame: &Frame<T>, like: &Parameters) -> Self {
        self.through(like, |p| frame.enter(p))
    }

    fn left<T: Real>(&self, frame: &Frame<T>, like: &Parameters) -> Self {
        self.through(like, |p| frame.leave(p))
    }

    /// Through a change of coordinates, as a mixture with a covariance a component.
    fn through(&self, like: &Parameters, f: impl Fn(&Parameters) -> Parameters) -> Self {
        let kind = if like.kind.is_matrix() {
            Covariance::Full
        } else {
            Covariance::Diagonal
        };
        let out = f(&Parameters {
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
