//! Adam with L2 weight decay.

use std::collections::BTreeMap;
use std::sync::Mutex;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, Layout, Tensor, Var};
use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel};

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

/// The running means of one parameter, and how many steps they have seen.
#[derive(Clone, Debug, Default)]
struct Moments {
    mean: Vec<f64>,
    square: Vec<f64>,
    steps: i32,
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
        match (parameter, gradient) {
            (CpuStorage::F32(p), CpuStorage::F32(g)) => {
                self.run(&mut p[to.0..to.1], &g[from.0..from.1])
            }
            (CpuStorage::F64(p), CpuStorage::F64(g)) => {
                self.run(&mut p[to.0..to.1], &g[from.0..from.1])
            }
            _ => candle_core::bail!("adam: parameter and gradient are both f32 or both f64"),
        }
    }
}

impl Update {
    fn run<T: Real>(&self, parameter: &mut [T], gradient: &[T]) -> candle_core::Result<()> {
        let mut moments = self
            .moments
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        moments.mean.resize(parameter.len(), 0.0);
        moments.square.resize(parameter.len(), 0.0);
        simd::dispatch(Step {
            update: self,
            parameter,
            gradient,
            moments: &mut moments,
        });
        Ok(())
    }
}

struct Step<'a, T> {
    update: &'a Update,
    parameter: &'a mut [T],
    gradient: &'a [T],
    moments: &'a mut Moments,
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
        let (b1, b2) = betas;
        let steps = self.moments.steps;
        let rate = self.update.rate / (1.0 - b1.powi(steps));
        let scale = (1.0 - b2.powi(steps)).sqrt().recip();
        let moments = self.moments.mean.iter_mut().zip(&mut self.moments.square);
        for ((p, g), (m, v)) in self.parameter.iter_mut().zip(self.gradient).zip(moments) {
            let value = p.as_f64();
            let g = isa.mul_add(weight_decay, value, g.as_f64() * self.update.factor);
            *m = isa.mul_add(b1, *m, (1.0 - b1) * g);
            *v = isa.mul_add(b2, *v, (1.0 - b2) * g * g);
            *p = T::of(value - rate * *m / isa.mul_add(v.sqrt(), scale, epsilon));
        }
    }
}
