//! Memory on a device before it becomes a tensor.

use candle_core::op::BackpropOp;
use candle_core::{DType, Shape, Storage, Tensor};

use super::Backend;
use crate::{Error, Result};

/// Elements on a device that a kernel writes, in row-major order.
pub struct Memory {
    storage: Storage,
    shape: Shape,
}

impl Memory {
    /// Memory whose elements a kernel has still to write.
    ///
    /// # Errors
    /// When the device has none left.
    pub fn new(backend: &Backend, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if !matches!(dtype, DType::F32 | DType::F64 | DType::U32) {
            return Err(Error::tensor("memory", "dtype f32, f64 or u32", dtype));
        }
        let storage = match *backend {
            #[cfg(feature = "cuda")]
            Backend::Cuda(ref device) => Storage::Cuda(super::cuda::empty(device, dtype, &shape)?),
            #[cfg(feature = "metal")]
            Backend::Metal(ref device) => {
                Storage::Metal(super::metal::empty(device, dtype, &shape)?)
            }
            #[cfg(feature = "emulator")]
            Backend::Emulator(_) => Storage::Cpu(super::emulator::empty(dtype, &shape)),
            #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
            Backend::Absent => return Err(Error::value("backend", "absent", "build for a device")),
        };
        Ok(Self { storage, shape })
    }

    /// The elements as a tensor, which carries no gradient.
    pub fn into_tensor(self) -> Tensor {
        Tensor::from_storage(self.storage, self.shape, BackpropOp::none(), false)
    }

    pub(crate) fn from_parts(storage: Storage, shape: Shape) -> Self {
        Self { storage, shape }
    }

    pub(crate) fn into_parts(self) -> (Storage, Shape) {
        (self.storage, self.shape)
    }

    #[cfg(feature = "emulator")]
    pub(super) fn storage(&self) -> &Storage {
        &self.storage
    }

    pub(super) fn storage_mut(&mut self) -> &mut Storage {
        &mut self.storage
    }

    #[cfg(feature = "emulator")]
    pub(super) fn dtype(&self) -> DType {
        self.storage.dtype()
    }
}
