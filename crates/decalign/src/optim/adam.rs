//! Adam with L2 weight decay.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backprop::GradStore;
use candle_core::{Device, Tensor, Var};
use decalign_core::device::Backend;
use decalign_core::op::Gradients;
use decalign_core::parallel;

use super::device::{self, Step as DeviceStep};
use super::moments::Moments;
use super::settings::AdamSettings;
use super::update::Update;
use super::{Norm, clip_gradient_norm};
use crate::{Error, Result};

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

/// A store of gradients.
pub trait GradientSource: Sync {
    /// The gradient of `x`; `None` when the loss does not depend on it.
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
    /// On a device the call returns before the step is done, and nothing is copied to the host until the norm is read.
    /// The counts of steps therefore also advance when the norm is not finite.
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

    /// Copies the host's means to the parameters' device: zeros, or a restored state.
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

/// The parts of a parameter's state.
const STATE: [&str; 3] = ["gradient", "square", "steps"];

impl Adam {
    /// The state, to be saved: `gradient.<name>` and `square.<name>`, the running means of parameter `<name>`, and
    /// `steps.<name>`, the number of steps they hold. Parameters without a gradient so far have no entries.
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

    /// Restores a saved state.
    ///
    /// # Errors
    /// When it does not fit these parameters; nothing is changed then.
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
