//! Results of operations.

use candle_core::op::BackpropOp;
use candle_core::{Shape, Storage, Tensor};

use crate::device::Memory;
use crate::{Real, Result};

/// A result of an operation before it becomes a tensor.
pub struct Output {
    memory: Memory,
}

impl From<Memory> for Output {
    fn from(memory: Memory) -> Self {
        Self { memory }
    }
}

impl Output {
    /// `data` in row-major order.
    pub fn new<T: Real>(data: Vec<T>, shape: impl Into<Shape>) -> Self {
        let storage = Storage::Cpu(T::to_cpu_storage_owned(data));
        Memory::from_parts(storage, shape.into()).into()
    }

    pub(super) fn into_tensor(self) -> Tensor {
        self.memory.into_tensor()
    }

    pub(super) fn into_parts(self) -> Result<(Storage, Shape)> {
        self.memory.into_parts()
    }

    /// A tensor that Candle takes for a variable: what it computes from it carries gradients.
    pub(super) fn into_variable(self) -> Result<Tensor> {
        let (storage, shape) = self.into_parts()?;
        Ok(Tensor::from_storage(
            storage,
            shape,
            BackpropOp::none(),
            true,
        ))
    }
}
