//! Named, seeded, ordered parameters.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::{DType, Device, Shape, Tensor, Var};

use super::init;
use crate::random::Stream;
use crate::{Error, Result};

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// All elements the same.
    Constant(f64),
    /// See [`init::kaiming_uniform`](super::kaiming_uniform).
    KaimingUniform {
        /// Inputs that feed one output.
        fan_in: usize,
    },
    /// See [`init::xavier_uniform`](super::xavier_uniform), with fans from a matrix shape.
    XavierUniform,
}

/// The parameters of a model by name, in the order of their names.
///
/// A layer asks for its parameters by name and shape as it is built. Each is drawn from a stream
/// named by the seed and the parameter's full name, so its start does not depend on what else the
/// model holds or on the order of construction. Clones and [`scope`](Parameters::scope)s share
/// one set.
///
/// ```
/// use candle_core::{DType, Device};
/// use decalign_core::nn::{Init, Parameters};
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let weight = parameters.scope("layer").get("weight", (3, 2), Init::XavierUniform)?;
/// assert_eq!(weight.dims(), [3, 2]);
/// assert_eq!(parameters.named()[0].0, "layer.weight");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Parameters {
    set: Arc<Mutex<BTreeMap<String, Var>>>,
    prefix: String,
    seed: u64,
    dtype: DType,
    device: Device,
}

impl Parameters {
    /// An empty set whose parameters will start from `seed`.
    pub fn new(seed: u64, dtype: DType, device: &Device) -> Self {
        Self {
            set: Arc::default(),
            prefix: String::new(),
            seed,
            dtype,
            device: device.clone(),
        }
    }

    /// The same set, with `name` and a dot before every name.
    pub fn scope(&self, name: impl std::fmt::Display) -> Self {
        Self {
            prefix: format!("{}{name}.", self.prefix),
            ..self.clone()
        }
    }

    /// The type of every parameter.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device of every parameter.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// The parameter `name`, made if it is new.
    ///
    /// # Errors
    /// When it exists with another shape.
    pub fn get(&self, name: &str, shape: impl Into<Shape>, init: Init) -> Result<Tensor> {
        let (name, shape) = (format!("{}{name}", self.prefix), shape.into());
        let mut set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(var) = set.get(&name) {
            if *var.shape() != shape {
                return Err(Error::tensor(name, format!("shape {shape:?}"), var.shape()));
            }
            return Ok(var.as_tensor().clone());
        }
        let var = Var::from_tensor(&self.draw(&name, shape, init)?)?;
        let tensor = var.as_tensor().clone();
        set.insert(name, var);
        Ok(tensor)
    }

    fn draw(&self, name: &str, shape: Shape, init: Init) -> Result<Tensor> {
        let stream = Stream::new(self.seed, fnv1a(name));
        let (dtype, device) = (self.dtype, &self.device);
        match init {
            Init::Constant(value) => Ok(Tensor::full(value, shape, &Device::Cpu)?
                .to_dtype(dtype)?
                .to_device(device)?),
            Init::KaimingUniform { fan_in } => {
                init::kaiming_uniform(shape, fan_in, stream, dtype, device)
            }
            Init::XavierUniform => {
                let (rows, columns) = shape.dims2()?;
                init::xavier_uniform(shape, (columns, rows), stream, dtype, device)
            }
        }
    }

    /// All parameters by full name, in the order of the names.
    pub fn named(&self) -> Vec<(String, Var)> {
        let set = self.set.lock().unwrap_or_else(PoisonError::into_inner);
        set.iter()
            .map(|(name, var)| (name.clone(), var.clone()))
            .collect()
    }

    /// The parameters of this scope, in the order of their names.
    pub fn within(&self) -> Vec<Tensor> {
        let inside = |(name, var): (String, Var)| {
            name.starts_with(&self.prefix)
                .then(|| var.as_tensor().clone())
        };
        self.named().into_iter().filter_map(inside).collect()
    }

    /// How many numbers the parameters hold.
    pub fn count(&self) -> usize {
        self.named().iter().map(|(_, var)| var.elem_count()).sum()
    }

    /// Replaces every parameter by the tensor of its name, converted to this set's type.
    ///
    /// # Errors
    /// When a name is missing or not known, or a shape differs; nothing is replaced then.
    pub fn load(&self, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        let own = self.named();
        for (name, var) in &own {
            let tensor = tensors.get(name).ok_or_else(|| {
                Error::value(format!("weight {name}"), "missing", "the model needs it")
            })?;
            if tensor.shape() != var.shape() {
                let expected = format!("shape {:?}", var.shape());
                return Err(Error::tensor(
                    format!("weight {name}"),
                    expected,
                    tensor.shape(),
                ));
            }
        }
        if let Some(name) = tensors
            .keys()
            .find(|name| own.iter().all(|(known, _)| known != *name))
        {
            let remedy =
                "this model has no such weight: are modalities, layers and text encoder the same?";
            return Err(Error::value(format!("weight {name}"), "unknown", remedy));
        }
        for (name, var) in &own {
            if let Some(tensor) = tensors.get(name) {
                var.set(
                    &tensor
                        .to_dtype(self.dtype)?
                        .to_device(&self.device)?
                        .contiguous()?,
                )?;
            }
        }
        Ok(())
    }
}

/// The 64-bit hash of Fowler, Noll and Vo: a stream number that outlives compiler versions.
fn fnv1a(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
