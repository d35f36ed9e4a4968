//! The bandwidth of a kernel: a number, or a tensor that is learned.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

use super::expression::positive;

/// The bandwidth of a kernel; the constructor of the kernel says whether it is a length or a squared length.
///
/// It is made from a number, or from a tensor of one element, which then gets gradients.
///
/// ```
/// use candle_core::{Device, Var};
/// use decalign_mmd::Kernel;
/// let learned = Var::new(1.5f32, &Device::Cpu)?;
/// let kernel = Kernel::gaussian_length_scale(learned.as_tensor())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Bandwidth {
    value: f64,
    tensor: Option<Tensor>,
}

impl From<f64> for Bandwidth {
    fn from(value: f64) -> Self {
        Self {
            value,
            tensor: None,
        }
    }
}

impl From<&Tensor> for Bandwidth {
    fn from(tensor: &Tensor) -> Self {
        // Constructors of kernels refuse NaN.
        let value = tensor.flatten_all().and_then(|x| x.to_dtype(DType::F64));
        let value = value.and_then(|x| x.to_vec1::<f64>());
        Self {
            value: match value.as_deref() {
                Ok([one]) => *one,
                _ => f64::NAN,
            },
            tensor: Some(tensor.clone()),
        }
    }
}

impl Bandwidth {
    pub(crate) fn value(&self) -> f64 {
        self.value
    }

    pub(crate) fn tensor(&self) -> Option<&Tensor> {
        self.tensor.as_ref()
    }

    pub(crate) fn checked(self, name: &str) -> Result<Self> {
        if let Some(tensor) = &self.tensor
            && (tensor.elem_count() != 1 || !matches!(tensor.dtype(), DType::F32 | DType::F64))
        {
            let got = (tensor.shape(), tensor.dtype());
            return Err(Error::tensor(name, "one element, f32 or f64", got));
        }
        positive(name, self.value)?;
        Ok(self)
    }

    /// `factor u / bandwidth`, with gradients to a learned bandwidth.
    pub(super) fn divide(&self, u: &Tensor, factor: f64) -> Result<Tensor> {
        let u = (u * factor)?;
        Ok(match &self.tensor {
            None => (u / self.value)?,
            Some(l) => {
                let l = l.to_dtype(u.dtype())?.to_device(u.device())?;
                u.broadcast_div(&l.reshape((1, 1))?)?
            }
        })
    }
}
