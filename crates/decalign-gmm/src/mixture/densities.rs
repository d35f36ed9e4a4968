//! Densities and what follows from them, with gradients with respect to samples and mixture.

use candle_core::{D, Device, Tensor};
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Error, Real, Result, nn, parallel, simd, with_real};

use super::Mixture;
use crate::chunk::ROWS;
use crate::data::{Data, Shape, check_finite};
use crate::frame::Frame;
use crate::maximise::Quadratics;
use crate::parameters::Parameters;
use crate::pass::back::{self, Source};
use crate::pass::mixture_back::to_mixture;
use crate::pass::{self, Distances, Tiles, Work};

impl Mixture {
    /// `log (pi_k N(x | mu_k, Sigma_k))` of every sample and component; it carries gradients.
    ///
    /// # Shapes
    /// `x` (n, d), or (B, n, d) of a batch of mixtures; the result (n, K) or (B, n, K).
    ///
    /// # Errors
    /// When `x` has another shape or type than the mixture, or holds NaN or an infinity.
    pub fn log_densities(&self, x: &Tensor) -> Result<Tensor> {
        let shape = Shape::of(x)?;
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

    fn log_densities_as<T: Real>(&self, x: &Tensor, shape: &Shape) -> Result<Tensor> {
        let numbers = Elements::<T>::new(x)?;
        check_finite("data", &numbers, shape.width)?;
        let size = shape.rows * shape.width;
        let work = numbers.len() * self.components() * 10;
        let parts = parallel::map(shape.count(), work, |i| {
            logs(&numbers[i * size..(i + 1) * size], &self.parameters(i)?)
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
        self.criterion(x, (Shape::of(x)?.rows as f64).ln())
    }

    fn criterion(&self, x: &Tensor, price: f64) -> Result<Tensor> {
        let parameters = self.kind.parameters(self.components(), self.width()) as f64;
        let total = self.log_density(x)?.sum(D::Minus1)?;
        Ok(total.affine(-2.0, price * parameters)?)
    }
}

/// (n, K) of one mixture.
fn logs<T: Real>(x: &[T], mixture: &Parameters) -> Result<Vec<T>> {
    let frame = Frame::<T>::of_mixture(mixture);
    let tiles = Tiles::<T>::of(&frame.enter(mixture))?;
    let volume = T::of(frame.log_volume());
    let (d, k) = (mixture.width, mixture.components());
    let data = Data::new(x, d, frame, None);
    let rows = data.rows();
    let size = pass::job(rows);
    let parts = parallel::map(rows.div_ceil(size), rows * k * d * 4, |part| {
        let (mut buffer, mut work) = (None, Work::new(k));
        let mut out = Vec::with_capacity(size * k);
        for first in (part * size..rows.min((part + 1) * size)).step_by(ROWS) {
            let chunk = data.chunk(first, &mut buffer);
            simd::dispatch(Distances {
                tiles: &tiles,
                chunk,
                out: &mut work.cells,
                scratch: &mut work.scratch,
            });
            for i in 0..chunk.used {
                let log = |k: usize| *work.cell(i, k) * T::of(std::f64::consts::LN_2) + volume;
                out.extend((0..k).map(log));
            }
        }
        out
    });
    Ok(parts.concat())
}

fn backward<T: Real>(b: &Backward, mixture: &Mixture) -> Result<InputGradients> {
    let shape = Shape::of(&b.inputs[0])?;
    let numbers = Elements::<T>::new(&b.inputs[0])?;
    let gradient = b.gradient(0)?;
    let gradient = Elements::<T>::new(&gradient)?;
    let (size, k) = (shape.rows * shape.width, mixture.components());
    let work = numbers.len() * k * 20;
    let each = parallel::map(shape.count(), work, |i| {
        let given = &gradient[i * shape.rows * k..(i + 1) * shape.rows * k];
        back_one(
            &numbers[i * size..(i + 1) * size],
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

fn back_one<T: Real>(x: &[T], given: &Parameters, gradient: &[T]) -> Result<(Vec<T>, Parameters)> {
    let frame = Frame::<T>::of_mixture(given);
    let mixture = frame.enter(given);
    let epsilon = if size_of::<T>() == 4 {
        f64::from(f32::EPSILON)
    } else {
        f64::EPSILON
    };
    let factors = mixture.factors(epsilon)?;
    let (k, d) = (mixture.components(), mixture.width);
    let data = Data::new(x, d, frame, None);
    let nothing = Quadratics::zeros(mixture.kind.is_matrix(), k, d);
    let source = Source::Given(gradient);
    let back = back::back(&data, &mixture, Some(&factors), &nothing, &source);
    let mut to = Parameters::zeros(mixture.kind, k, d);
    to_mixture(&mixture, &factors, &back.moments, &mut to);
    let mut of_x = back.x;
    for row in of_x.chunks_exact_mut(d) {
        row.iter_mut()
            .zip(&data.frame.inverse)
            .for_each(|(v, s)| *v *= *s);
    }
    Ok((of_x, data.frame.leave_gradient(&to)))
}
