//! Adam with L2 weight decay.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::clip_gradient_norm;
use crate::{Error, Result};

/// The settings of [`Adam`] that stay the same during training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamSettings {
    /// Decay of the mean and of the mean square of gradients.
    pub betas: (f64, f64),
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// `weight_decay * parameter` is added to each gradient (L2, not decoupled).
    pub weight_decay: f64,
    /// The norm of all gradients together is clipped to this; infinite for none.
    pub clip: f64,
}

impl AdamSettings {
    /// PyTorch's betas and epsilon with the given decay and clip.
    pub fn new(weight_decay: f64, clip: f64) -> Self {
        Self {
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            weight_decay,
            clip,
        }
    }
}

/// Adam (Kingma and Ba, 2015) with weight decay inside the gradient, as PyTorch's `Adam`.
///
/// A parameter that a loss does not reach keeps its value and its state.
#[derive(Debug)]
pub struct Adam {
    parameters: Vec<(String, Var)>,
    settings: AdamSettings,
    moments: BTreeMap<String, Moments>,
}

/// The running means of one parameter, of its own type, and how many steps they have seen.
#[derive(Clone, Debug, Default)]
struct Moments {
    single: Means<f32>,
    double: Means<f64>,
    steps: i32,
}

#[derive(Clone, Debug, Default)]
struct Means<T> {
    gradient: Vec<T>,
    square: Vec<T>,
}

impl Adam {
    /// An optimiser of the given parameters.
    ///
    /// # Errors
    /// When two parameters have one name.
    pub fn new(parameters: Vec<(String, Var)>, settings: AdamSettings) -> Result<Self> {
        let mut moments = BTreeMap::new();
        for (name, _) in &parameters {
            if moments.insert(name.clone(), Moments::default()).is_some() {
                return Err(Error::invalid(format!("two parameters are named {name}")));
            }
        }
        Ok(Self {
            parameters,
            settings,
            moments,
        })
    }

    /// One step; `learning_rate` gives each parameter's rate by name. Returns the norm of the
    /// gradients before clipping. When that is not finite, nothing has changed.
    ///
    /// # Errors
    /// When a gradient has another type or device than its parameter.
    pub fn step(
        &mut self,
        gradients: &GradStore,
        learning_rate: impl Fn(&str) -> f64,
    ) -> Result<f64> {
        let all = self
            .parameters
            .iter()
            .filter_map(|(_, var)| gradients.get(var));
        let (factor, norm) = clip_gradient_norm(all, self.settings.clip)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        for (name, var) in &self.parameters {
            let (Some(gradient), Some(moments)) = (gradients.get(var), self.moments.get_mut(name))
            else {
                continue;
            };
            moments.steps += 1;
            let update = Update {
                factor,
                rate: learning_rate(name),
                settings: self.settings,
                moments: Mutex::new(std::mem::take(moments)),
            };
            var.as_tensor()
                .inplace_op2(&gradient.contiguous()?, &update)?;
            *moments = update.moments.into_inner().unwrap_or_default();
        }
        Ok(norm)
    }

    /// The parameters, by name.
    pub fn parameters(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.parameters
            .iter()
            .map(|(name, var)| (name.as_str(), var.as_tensor()))
    }
}

/// One step of one parameter.
struct Update {
    factor: f64,
    rate: f64,
    settings: AdamSettings,
    moments: Mutex<Moments>,
}

impl InplaceOp2 for Update {
    fn name(&self) -> &'static str {
        "adam"
    }

    fn cpu_fwd(
        &self,
        parameter: &mut CpuStorage,
        to: &Layout,
        gradient: &CpuStorage,
        from: &Layout,
    ) -> candle_core::Result<()> {
        let (Some(to), Some(from)) = (to.contiguous_offsets(), from.contiguous_offsets()) else {
            candle_core::bail!("adam: parameters and gradients are contiguous")
        };
        let mut moments = self.moments.lock().unwrap_or_else(PoisonError::into_inner);
        let Moments {
            single,
            double,
            steps,
        } = &mut *moments;
        match (parameter, gradient) {
            (CpuStorage::F32(p), CpuStorage::F32(g)) => {
                self.run(&mut p[to.0..to.1], &g[from.0..from.1], single, *steps);
            }
            (CpuStorage::F64(p), CpuStorage::F64(g)) => {
                self.run(&mut p[to.0..to.1], &g[from.0..from.1], double, *steps);
            }
            _ => candle_core::bail!("adam: parameter and gradient are both f32 or both f64"),
        }
        Ok(())
    }
}

impl Update {
    fn run<T: Real>(&self, parameter: &mut [T], gradient: &[T], means: &mut Means<T>, steps: i32) {
        means.gradient.resize(parameter.len(), T::zero());
        means.square.resize(parameter.len(), T::zero());
        simd::dispatch(Step {
            update: self,
            parameter,
            gradient,
            means,
            steps,
        });
    }
}

struct Step<'a, T> {
    update: &'a Update,
    parameter: &'a mut [T],
    gradient: &'a [T],
    means: &'a mut Means<T>,
    steps: i32,
}

impl<T: Real> Kernel for Step<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let AdamSettings {
            betas,
            epsilon,
            weight_decay,
            ..
        } = self.update.settings;
        let correction = |beta: f64| 1.0 - beta.powi(self.steps);
        let rate = T::of(self.update.rate / correction(betas.0));
        let scale = T::of(correction(betas.1).sqrt().recip());
        let (b1, b2) = (T::of(betas.0), T::of(betas.1));
        let (rest1, rest2) = (T::of(1.0 - betas.0), T::of(1.0 - betas.1));
        let (epsilon, decay) = (T::of(epsilon), T::of(weight_decay));
        let factor = T::of(self.update.factor);
        for at in simd::blocks(self.parameter.len()) {
            let (mut p, g) = (at.load(self.parameter), at.load(self.gradient));
            let (mut m, mut v) = (at.load(&self.means.gradient), at.load(&self.means.square));
            for i in 0..LANES {
                let g = isa.mul_add(decay, p[i], g[i] * factor);
                m[i] = isa.mul_add(b1, m[i], rest1 * g);
                v[i] = isa.mul_add(b2, v[i], rest2 * g * g);
                p[i] -= rate * m[i] / isa.mul_add(v[i].sqrt(), scale, epsilon);
            }
            at.store(p, self.parameter);
            at.store(m, &mut self.means.gradient);
            at.store(v, &mut self.means.square);
        }
    }
}
