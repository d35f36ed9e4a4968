//! Adam with L2 weight decay.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, Device, InplaceOp2, Layout, Tensor, Var, WithDType};
use decalign_core::device::Backend;
use decalign_core::op::Gradients;
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

use super::device::{self, Step as DeviceStep};
use super::{Norm, clip_gradient_norm};
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
    parameters: Vec<Parameter>,
    settings: AdamSettings,
    /// The running means where the parameters lie on a device, from the first step on.
    device: Option<device::Means>,
}

/// Where the gradient of a tensor is found.
pub trait GradientSource: Sync {
    /// The gradient of `x`; `None` where the loss does not reach it.
    fn gradient_of(&self, x: &Tensor) -> Option<&Tensor>;
}

impl GradientSource for GradStore {
    fn gradient_of(&self, x: &Tensor) -> Option<&Tensor> {
        self.get(x)
    }
}

impl GradientSource for Gradients {
    fn gradient_of(&self, x: &Tensor) -> Option<&Tensor> {
        self.get(x)
    }
}

#[derive(Debug)]
struct Parameter {
    name: String,
    variable: Var,
    moments: Mutex<Moments>,
}

/// The running means of one parameter, of its own type, and how many steps they have seen.
#[derive(Debug, Default)]
struct Moments {
    single: Means<f32>,
    double: Means<f64>,
    steps: i32,
}

#[derive(Debug, Default)]
struct Means<T> {
    gradient: Vec<T>,
    square: Vec<T>,
}

impl Adam {
    /// An optimiser of the given parameters, by name.
    pub fn new(parameters: Vec<(String, Var)>, settings: AdamSettings) -> Self {
        let parameter = |(name, variable)| Parameter {
            name,
            variable,
            moments: Mutex::default(),
        };
        Self {
            parameters: parameters.into_iter().map(parameter).collect(),
            settings,
            device: None,
        }
    }

    /// One step; `learning_rate` gives each parameter's rate by name. Returns the norm of the
    /// gradients before clipping. When that is not finite, nothing has changed.
    ///
    /// On a device the step is under way when this returns, and nothing of it comes to the host before the norm is read.
    /// As it is not known here, the counts of steps go on where it is not finite.
    ///
    /// # Errors
    /// When a gradient has another type or device than its parameter; on a device, when parameters are of several types.
    pub fn step(
        &mut self,
        gradients: &impl GradientSource,
        learning_rate: impl Fn(&str) -> f64 + Sync,
    ) -> Result<Norm> {
        if let Some(first) = self.parameters.first()
            && let Some(backend) = Backend::of(&first.variable)?
        {
            return self.step_on_device(&backend, gradients, learning_rate);
        }
        let all = self
            .parameters
            .iter()
            .filter_map(|p| gradients.gradient_of(&p.variable));
        let (factor, norm) = clip_gradient_norm(all, self.settings.clip)?;
        if !norm.is_finite() {
            return Ok(Norm::known(norm));
        }
        let update = |i: usize| {
            let Parameter {
                name,
                variable,
                moments,
            } = &self.parameters[i];
            let Some(gradient) = gradients.gradient_of(variable) else {
                return Ok(());
            };
            let (rate, settings) = (learning_rate(name), self.settings);
            let update = Update {
                factor,
                rate,
                settings,
                moments,
            };
            variable
                .as_tensor()
                .inplace_op2(&gradient.contiguous()?, &update)
        };
        let elements: usize = self
            .parameters
            .iter()
            .map(|p| p.variable.elem_count())
            .sum();
        let updates = parallel::map(self.parameters.len(), 20 * elements, update);
        updates.into_iter().collect::<candle_core::Result<()>>()?;
        Ok(Norm::known(norm))
    }

    fn step_on_device(
        &mut self,
        backend: &Backend,
        gradients: &impl GradientSource,
        learning_rate: impl Fn(&str) -> f64,
    ) -> Result<Norm> {
        let mut means = match self.device.take() {
            Some(means) => means,
            None => self.moved()?,
        };
        let mut steps = Vec::with_capacity(self.parameters.len());
        for parameter in &mut self.parameters {
            let gradient = gradients.gradient_of(&parameter.variable).cloned();
            let moments = parameter.moments.get_mut();
            let moments = moments.unwrap_or_else(PoisonError::into_inner);
            moments.steps += i32::from(gradient.is_some());
            steps.push(DeviceStep {
                variable: parameter.variable.as_tensor(),
                gradient,
                rate: learning_rate(&parameter.name),
                steps: moments.steps,
            });
        }
        let norm = means.step(backend, steps, &self.settings);
        self.device = Some(means);
        Ok(Norm::computed(norm?))
    }

    /// The means on the parameters' device, as they are on the host: zeros, or what was restored.
    fn moved(&mut self) -> Result<device::Means> {
        let variable = |p: &Parameter| (p.variable.elem_count(), p.variable.dtype());
        let sizes: Vec<usize> = self.parameters.iter().map(|p| variable(p).0).collect();
        let first = self.parameters[0].variable.as_tensor().clone();
        let (mut gradient, mut square) = (Vec::new(), Vec::new());
        for parameter in &mut self.parameters {
            let (size, dtype) = variable(parameter);
            let moments = parameter.moments.get_mut();
            let moments = moments.unwrap_or_else(PoisonError::into_inner);
            let [mut g, mut s] = match dtype {
                candle_core::DType::F64 => std::mem::take(&mut moments.double).doubles(),
                _ => std::mem::take(&mut moments.single).doubles(),
            };
            g.resize(size, 0.0);
            s.resize(size, 0.0);
            gradient.extend(g);
            square.extend(s);
        }
        let tensor = |numbers: Vec<f64>| -> Result<Tensor> {
            let n = numbers.len();
            Ok(Tensor::from_vec(numbers, n, &Device::Cpu)?.to_dtype(first.dtype())?)
        };
        let means = [tensor(gradient)?, tensor(square)?];
        Ok(device::Means::new(sizes, means, first.device())?)
    }
}

/// The names of what a parameter's state consists of.
const STATE: [&str; 3] = ["gradient", "square", "steps"];

impl Adam {
    /// The state, to be saved: `gradient.<name>` and `square.<name>`, the running means of parameter `<name>`, and
    /// `steps.<name>`, how many steps they have seen; none of parameters that were never reached.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn state(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut state = BTreeMap::new();
        for (i, Parameter { name, moments, .. }) in self.parameters.iter().enumerate() {
            let moments = moments.lock().unwrap_or_else(PoisonError::into_inner);
            if moments.steps == 0 {
                continue;
            }
            let [gradient, square] = match &self.device {
                Some(means) => means.of(i)?,
                None if moments.double.gradient.is_empty() => moments.single.tensors()?,
                None => moments.double.tensors()?,
            };
            let steps = Tensor::new(&[i64::from(moments.steps)], &Device::Cpu)?;
            for (what, tensor) in STATE.iter().zip([gradient, square, steps]) {
                state.insert(format!("{what}.{name}"), tensor);
            }
        }
        Ok(state)
    }

    /// Goes on from a state that was saved.
    ///
    /// # Errors
    /// When it is not one of these parameters; nothing is changed then.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<()> {
        let mut restored = Vec::with_capacity(self.parameters.len());
        let mut used = 0;
        for Parameter { name, variable, .. } in &self.parameters {
            let [gradient, square, steps] = STATE.map(|what| state.get(&format!("{what}.{name}")));
            let moments = match (gradient, square, steps) {
                (None, None, None) => Moments::default(),
                (Some(gradient), Some(square), Some(steps)) => {
                    used += STATE.len();
                    Moments::of([gradient, square], steps, variable)
                        .map_err(|error| Error::invalid(format!("state of {name}: {error}")))?
                }
                _ => return Err(Error::invalid(format!("state of {name}: not complete"))),
            };
            restored.push(moments);
        }
        if used != state.len() {
            return Err(Error::invalid(
                "state of a parameter that the model does not have",
            ));
        }
        for (parameter, moments) in self.parameters.iter_mut().zip(restored) {
            parameter.moments = Mutex::new(moments);
        }
        self.device = None;
        Ok(())
    }
}

impl Moments {
    fn of(means: [&Tensor; 2], steps: &Tensor, variable: &Var) -> Result<Self> {
        let count = variable.elem_count();
        let fits = |mean: &&Tensor| mean.dims() == [count] && mean.dtype() == variable.dtype();
        let steps = match steps.to_vec1::<i64>()?[..] {
            [steps] if means.iter().all(fits) => i32::try_from(steps).ok(),
            _ => None,
        };
        let Some(steps) = steps.filter(|steps| *steps > 0) else {
            return Err(Error::invalid("not of this parameter's size and type"));
        };
        let mut moments = Self {
            steps,
            ..Self::default()
        };
        match variable.dtype() {
            candle_core::DType::F64 => moments.double = Means::of(means)?,
            _ => moments.single = Means::of(means)?,
        }
        Ok(moments)
    }
}

impl<T: Real> Means<T> {
    fn doubles(&self) -> [Vec<f64>; 2] {
        [&self.gradient, &self.square].map(|x| x.iter().map(|v| v.as_f64()).collect())
    }
}

impl<T: WithDType> Means<T> {
    fn tensors(&self) -> Result<[Tensor; 2]> {
        let tensor = |numbers: &Vec<T>| Tensor::new(numbers.as_slice(), &Device::Cpu);
        Ok([tensor(&self.gradient)?, tensor(&self.square)?])
    }

    fn of([gradient, square]: [&Tensor; 2]) -> Result<Self> {
        Ok(Self {
            gradient: gradient.to_vec1()?,
            square: square.to_vec1()?,
        })
    }
}

/// One step of one parameter.
struct Update<'a> {
    factor: f64,
    rate: f64,
    settings: AdamSettings,
    moments: &'a Mutex<Moments>,
}

impl InplaceOp2 for Update<'_> {
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
        *steps += 1;
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

impl Update<'_> {
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
    update: &'a Update<'a>,
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
        for_blocks!(at in self.parameter.len(), {
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
        });
    }
}
