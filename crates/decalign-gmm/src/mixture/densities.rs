//! Densities and what follows from them, with gradients with respect to samples and mixture.

use candle_core::{D, Device, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Error, Real, Result, nn, parallel, with_real};

use super::Mixture;
use crate::e_step::backward::{self as e_step_backward, Source};
use crate::e_step::mixture_gradient::add_mixture_gradient;
use crate::e_step::{Buffers, PackedMixture};
use crate::m_step::ResponsibilityGradient;
use crate::parameters::MixtureParameters;
use crate::samples::{SampleShape, Samples, check_finite};
use crate::standardization::Standardization;

impl Mixture {
    /// `log (pi_k N(x | mu_k, Sigma_k))` of every sample and component; it carries gradients.
    ///
    /// # Shapes
    /// `x` (n, d), or (B, n, d) of a batch of mixtures; the result (n, K) or (B, n, K).
    ///
    /// # Errors
    /// When `x` has another shape or type than the mixture, or holds NaN or an infinity.
    pub fn log_densities(&self, x: &Tensor) -> Result<Tensor> {
        let shape = SampleShape::of(x)?;
        if shape.batch != self.batch() || shape.width != self.width() {
            let expected = match self.batch() {
                None => format!("shape (n, {})", self.width()),
                Some(batch) => format!("shape ({batch}, n, {})", self.width()),
            };
            return Err(Error::tensor("data", expected, x.shape()));
        }
        if x.dtype() != self.means.dtype() {
            let expected = format!("{:?}, as the mixture", self.means.dtype());
            return Err(Error::tensor("data", expected, x.dtype()));
        }
        if !x.device().is_cpu() {
            let (host, data) = (self.to_device(&Device::Cpu)?, x.to_device(&Device::Cpu)?);
            return Ok(host.log_densities(&data)?.to_device(x.device())?);
        }
        with_real!("data", x, T => self.log_densities_as::<T>(x, &shape))
    }

    fn log_densities_as<T: Real>(&self, x: &Tensor, shape: &SampleShape) -> Result<Tensor> {
        let values = Elements::<T>::new(x)?;
        check_finite("data", &values, shape.width)?;
        let size = shape.rows * shape.width;
        let work = values.len() * self.components() * 10;
        let parts = parallel::map(shape.count(), work, |i| {
            log_densities(&values[i * size..(i + 1) * size], &self.parameters(i)?)
        });
        let logs = parts.into_iter().collect::<Result<Vec<_>>>()?.concat();
        let output = Output::new(logs, shape.with(&[shape.rows, self.components()]));
        let inputs = [x, &self.weights, &self.means, &self.covariances];
        let kind = self.kind;
        record_one("log_densities", &inputs, output, move |b| {
            let [_, weights, means, covariances] = [0, 1, 2, 3].map(|i| b.inputs[i].clone());
            let mixture = Mixture::from_parts(kind, weights, means, covariances);
            backward::<T>(b, &mixture)
        })
    }

    /// `log p(x)` of every sample, (n) or (B, n); it carries gradients.
    ///
    /// # Errors
    /// As [`Mixture::log_densities`].
    pub fn log_density(&self, x: &Tensor) -> Result<Tensor> {
        let logs = self.log_densities(x)?;
        let largest = logs.detach().max_keepdim(D::Minus1)?;
        let sum = logs.broadcast_sub(&largest)?.exp()?.sum(D::Minus1)?;
        Ok((sum.log()? + largest.squeeze(D::Minus1)?)?)
    }

    /// The probability that a sample is of each component, (n, K) or (B, n, K); it carries gradients.
    ///
    /// # Errors
    /// As [`Mixture::log_densities`].
    pub fn responsibilities(&self, x: &Tensor) -> Result<Tensor> {
        nn::softmax(&self.log_densities(x)?)
    }

    /// The likeliest component of every sample, (n) or (B, n) of u32.
    ///
    /// # Errors
    /// As [`Mixture::log_densities`].
    pub fn assign(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.log_densities(x)?.detach().argmax(D::Minus1)?)
    }

    /// The mean of `log p(x)` over samples, () or (B); it carries gradients.
    ///
    /// # Errors
    /// As [`Mixture::log_densities`].
    pub fn score(&self, x: &Tensor) -> Result<Tensor> {
        Ok(self.log_density(x)?.mean(D::Minus1)?)
    }

    /// Akaike's criterion, () or (B): lower is better.
    ///
    /// ```text
    /// AIC = 2 p - 2 sum log p(x),  p = free parameters
    /// ```
    ///
    /// # Errors
    /// As [`Mixture::log_densities`].
    pub fn aic(&self, x: &Tensor) -> Result<Tensor> {
        self.criterion(x, 2.0)
    }

    /// Schwarz's (Bayesian) criterion, () or (B): lower is better.
    ///
    /// ```text
    /// BIC = p log n - 2 sum log p(x),  p = free parameters
    /// ```
    ///
    /// # Errors
    /// As [`Mixture::log_densities`].
    pub fn bic(&self, x: &Tensor) -> Result<Tensor> {
        self.criterion(x, (SampleShape::of(x)?.rows as f64).ln())
    }

    fn criterion(&self, x: &Tensor, penalty: f64) -> Result<Tensor> {
        let parameters = self.kind.parameters(self.components(), self.width()) as f64;
        let total = self.log_density(x)?.sum(D::Minus1)?;
        Ok(total.affine(-2.0, penalty * parameters)?)
    }
}

/// (n, K) of one mixture.
fn log_densities<T: Real>(x: &[T], mixture: &MixtureParameters) -> Result<Vec<T>> {
    let standardization = Standardization::<T>::of_mixture(mixture);
    let packed = PackedMixture::<T>::of(&standardization.standardize(mixture))?;
    let volume = T::of(standardization.log_volume());
    let (d, k) = (mixture.width, mixture.components());
    let samples = Samples::new(x, d, standardization, None);
    let jobs = samples.map_chunks(
        samples.rows() * k * d * 4,
        || (Vec::new(), Buffers::new(k)),
        |(out, buffers), _, chunk| {
            packed.log_densities(chunk, buffers);
            for i in 0..chunk.used {
                let log = |k: usize| *buffers.cell(i, k) * T::of(std::f64::consts::LN_2) + volume;
                out.extend((0..k).map(log));
            }
        },
    );
    Ok(jobs.into_iter().flat_map(|(logs, _)| logs).collect())
}

fn backward<T: Real>(b: &Backward, mixture: &Mixture) -> Result<InputGradients> {
    let shape = SampleShape::of(&b.inputs[0])?;
    let values = Elements::<T>::new(&b.inputs[0])?;
    let gradient = b.gradient(0)?;
    let gradient = Elements::<T>::new(&gradient)?;
    let (size, k) = (shape.rows * shape.width, mixture.components());
    let work = values.len() * k * 20;
    let each = parallel::map(shape.count(), work, |i| {
        let given = &gradient[i * shape.rows * k..(i + 1) * shape.rows * k];
        problem_backward(
            &values[i * size..(i + 1) * size],
            &mixture.parameters(i)?,
            given,
        )
    });
    let mut parts: [Vec<T>; 4] = Default::default();
    for each in each {
        let (x, p) = each?;
        parts[0].extend(x);
        for (to, from) in parts[1..].iter_mut().zip(p.parts()) {
            to.extend(from.iter().map(|v| T::of(*v)));
        }
    }
    let tensors = parts.into_iter().zip(b.inputs);
    tensors
        .map(|(v, x)| Ok(Some(Tensor::from_vec(v, x.dims(), x.device())?)))
        .collect()
}

fn problem_backward<T: Real>(
    x: &[T],
    given: &MixtureParameters,
    gradient: &[T],
) -> Result<(Vec<T>, MixtureParameters)> {
    let standardization = Standardization::<T>::of_mixture(given);
    let mixture = standardization.standardize(given);
    let factors = mixture.factors(T::epsilon().as_f64())?;
    let (k, d) = (mixture.components(), mixture.width);
    let samples = Samples::new(x, d, standardization, None);
    let unused = ResponsibilityGradient::zeros(mixture.kind.is_matrix(), k, d);
    let source = Source::Given(gradient);
    let mut gradients =
        e_step_backward::backward(&samples, &mixture, Some(&factors), &unused, &source);
    let mut to = MixtureParameters::zeros(mixture.kind, k, d);
    add_mixture_gradient(&mixture, &factors, &gradients.statistics, &mut to);
    samples
        .standardization
        .restore_row_gradient(&mut gradients.x);
    Ok((gradients.x, samples.standardization.restore_gradient(&to)))
}
