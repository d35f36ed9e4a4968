//! The unrolled fit on the host: all steps forward, and all steps backward.

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients, Output, record};
use decalign_core::simd::{self, Isa, Kernel};
use decalign_core::{Elements, Error, Real, Result};

use super::settings::{UnrolledEm, UnrolledFit};
use super::step::{self, EmStep, Mixture};

pub(crate) fn fit<T: Real>(settings: &UnrolledEm, x: &Tensor) -> Result<UnrolledFit> {
    let (batch, width) = x.dims2()?;
    let k = settings.components;
    let forward = Forward::new(settings, &Elements::<T>::new(x)?, width);
    let (centre, centred) = (forward.centre.clone(), forward.x.clone());
    let history = simd::dispatch(forward);
    let Some(last) = history.mixtures.last() else {
        return Err(Error::value(
            "mixture",
            "absent",
            "the initial mixture is one",
        ));
    };
    let parts = [&last.weights, &last.means, &last.variances];
    let values = parts.into_iter().chain([&history.responsibilities]);
    if let Some(v) = values.flatten().find(|v| !v.is_finite()) {
        let remedy = "squares of the data exceed its type: rescale it, or pass it in f64";
        return Err(Error::value("a parameter of the fit", v, remedy));
    }
    let mut means = last.means.clone();
    for row in means.chunks_exact_mut(width) {
        row.iter_mut().zip(&centre).for_each(|(v, c)| *v += *c);
    }
    let outputs = vec![
        Output::new(last.weights.clone(), k),
        Output::new(means, (k, width)),
        Output::new(last.variances.clone(), (k, width)),
        Output::new(history.responsibilities, (batch, k)),
    ];
    let (settings, mixtures) = (*settings, history.mixtures);
    let outputs = record("unrolled_em", &[x], outputs, move |b| {
        backward(b, settings, &centred, &mixtures)
    })?;
    let [weights, means, variances, responsibilities] = outputs
        .try_into()
        .map_err(|_| Error::value("outputs", "not four", "one for each part of a fit"))?;
    Ok(UnrolledFit {
        weights,
        means,
        variances,
        responsibilities,
    })
}

/// The parameters before each step and after the last, and the final responsibilities.
struct History<T> {
    mixtures: Vec<Mixture<T>>,
    responsibilities: Vec<T>,
}

struct Forward<T> {
    settings: UnrolledEm,
    centre: Vec<T>,
    /// Centred by the batch mean.
    x: Vec<T>,
    width: usize,
}

impl<T: Real> Forward<T> {
    fn new(settings: &UnrolledEm, x: &[T], width: usize) -> Self {
        let batch = T::of((x.len() / width) as f64);
        let mut centre = vec![T::zero(); width];
        for row in x.chunks_exact(width) {
            centre
                .iter_mut()
                .zip(row)
                .for_each(|(c, v)| *c += *v / batch);
        }
        let mut x = x.to_vec();
        for row in x.chunks_exact_mut(width) {
            row.iter_mut().zip(&centre).for_each(|(v, c)| *v -= *c);
        }
        Self {
            settings: *settings,
            centre,
            x,
            width,
        }
    }

    fn initial_mixture(&self) -> Mixture<T> {
        let (k, width) = (self.settings.components, self.width);
        let batch = self.x.len() / width;
        let mut variance = vec![T::zero(); width];
        for row in self.x.chunks_exact(width) {
            variance
                .iter_mut()
                .zip(row)
                .for_each(|(s, v)| *s += *v * *v / T::of(batch as f64));
        }
        let mut means = Vec::with_capacity(k * width);
        for i in self.settings.initial_rows(batch) {
            means.extend_from_slice(&self.x[i * width..][..width]);
        }
        let weights = vec![T::of(1.0 / k as f64); k];
        let mass = vec![T::of(batch as f64 / k as f64); k];
        Mixture::new(
            weights,
            mass,
            means,
            variance.repeat(k),
            T::of(self.settings.variance_floor),
        )
    }
}

impl<T: Real> Kernel for Forward<T> {
    type Output = History<T>;

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> History<T> {
        let mut mixtures = vec![self.initial_mixture()];
        let step = EmStep {
            x: &self.x,
            columns: &step::columns(&self.x, self.width),
            width: self.width,
        };
        let mut gamma = step.e_step(isa, &mixtures[0]);
        for i in 0..self.settings.iterations {
            mixtures.push(step.m_step(isa, &gamma, T::of(self.settings.variance_floor)));
            gamma = step.e_step(isa, &mixtures[i + 1]);
        }
        History {
            mixtures,
            responsibilities: gamma,
        }
    }
}

fn backward<T: Real>(
    b: &Backward,
    settings: UnrolledEm,
    x: &[T],
    mixtures: &[Mixture<T>],
) -> Result<InputGradients> {
    let gradients = (0..4).map(|i| b.gradient(i)).collect::<Result<Vec<_>>>()?;
    let read = |i: usize| -> Result<Vec<T>> { Ok(Elements::<T>::new(&gradients[i])?.to_vec()) };
    let dx = simd::dispatch(Reversed {
        settings,
        x,
        mixtures,
        weights: read(0)?,
        means: read(1)?,
        variances: read(2)?,
        responsibilities: read(3)?,
        last: Elements::<T>::new(&b.outputs[3])?.to_vec(),
    });
    let input = &b.inputs[0];
    Ok(vec![Some(Tensor::from_vec(
        dx,
        input.dims(),
        input.device(),
    )?)])
}

struct Reversed<'a, T> {
    settings: UnrolledEm,
    x: &'a [T],
    mixtures: &'a [Mixture<T>],
    weights: Vec<T>,
    means: Vec<T>,
    variances: Vec<T>,
    responsibilities: Vec<T>,
    /// The responsibilities of the last step.
    last: Vec<T>,
}

impl<T: Real> Kernel for Reversed<'_, T> {
    type Output = Vec<T>;

    /// The steps in reverse order; responsibilities except the last are computed again from the parameters kept.
    ///
    /// The centre needs no gradient: a shift of the data shifts the fit.
    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) -> Vec<T> {
        let k = self.settings.components;
        let width = self.means.len() / k;
        let step = EmStep {
            x: self.x,
            columns: &step::columns(self.x, width),
            width,
        };
        let mut dx = vec![T::zero(); self.x.len()];
        let mut gradient = step::ParameterGradient {
            weights: std::mem::take(&mut self.weights),
            means: std::mem::take(&mut self.means),
            variances: std::mem::take(&mut self.variances),
        };
        let mut given = std::mem::take(&mut self.responsibilities);
        let mut gamma = std::mem::take(&mut self.last);
        for (i, mixture) in self.mixtures.iter().enumerate().rev() {
            step.e_step_backward(isa, mixture, (&gamma, &given), &mut gradient, &mut dx);
            if i > 0 {
                gamma = step.e_step(isa, &self.mixtures[i - 1]);
                given = step.m_step_backward(isa, mixture, &gamma, &gradient, &mut dx);
                gradient = step::ParameterGradient::zeros(k, width);
            }
        }
        self.initialization_backward(&gradient, &mut dx);
        dx
    }
}

impl<T: Real> Reversed<'_, T> {
    fn initialization_backward(&self, gradient: &step::ParameterGradient<T>, dx: &mut [T]) {
        let k = self.settings.components;
        let (start, width) = (&self.mixtures[0], gradient.means.len() / k);
        let batch = self.x.len() / width;
        for (row, g) in self
            .settings
            .initial_rows(batch)
            .into_iter()
            .zip(gradient.means.chunks_exact(width))
        {
            dx[row * width..][..width]
                .iter_mut()
                .zip(g)
                .for_each(|(d, g)| *d += *g);
        }
        let mut total = vec![T::zero(); width];
        for (g, free) in gradient
            .variances
            .chunks_exact(width)
            .zip(start.free.chunks_exact(width))
        {
            for ((sum, g), free) in total.iter_mut().zip(g).zip(free) {
                if *free {
                    *sum += *g * T::of(2.0 / batch as f64);
                }
            }
        }
        for (d, x) in dx.chunks_exact_mut(width).zip(self.x.chunks_exact(width)) {
            for ((d, x), t) in d.iter_mut().zip(x).zip(&total) {
                *d += *t * *x;
            }
        }
    }
}
