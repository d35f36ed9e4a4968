//! The width of a kernel: a number, or a tensor that is learned.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Result};

/// The width of a kernel; what it measures (a length, a squared length) the constructor says.
///
/// Made from a number, or from a tensor of one element, which then gets gradients.
#[derive(Clone, Debug)]
pub struct Length {
    value: f64,
    tensor: Option<Tensor>,
}

impl From<f64> for Length {
    fn from(value: f64) -> Self {
        Self {
            value,
            tensor: None,
        }
    }
}

impl From<&Tensor> for Length {
    fn from(tensor: &Tensor) -> Self {
        // What cannot be read is refused by the constructors.
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

impl Length {
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
        match self.value > 0.0 && self.value.is_finite() {
            true => Ok(self),
            false => Err(Error::value(
                name,
                self.value,
                "must be positive and finite",
            )),
        }
    }
}
