//! The runtime that a tensor's device has, and what is done on it: memory and launches.

use candle_core::{DType, Device, Shape, Tensor};

use super::arena;
use super::launch::Launch;
use super::memory::Memory;
use super::runtime::{Cuda, Emulator, Metal, Runtime};
use crate::{Error, Result};

/// The device that runs kernels: a CUDA device, a Metal device, or the emulator for CPU tensors inside `emulator::emulated`.
///
/// Without the features `cuda`, `metal` and `emulator` there is none.
#[derive(Clone)]
pub struct Backend {
    kind: Kind,
}

#[derive(Clone)]
enum Kind {
    Cuda(Cuda),
    Metal(Metal),
    Emulator(Emulator),
}

impl Backend {
    /// The backend of the device that `tensor` lies on; `None` for the CPU.
    ///
    /// # Errors
    /// When the program was built without the device's feature.
    pub fn of(tensor: &Tensor) -> Result<Option<Self>> {
        let device = tensor.device();
        let kind = Emulator::of(device)
            .map(Kind::Emulator)
            .or_else(|| Cuda::of(device).map(Kind::Cuda))
            .or_else(|| Metal::of(device).map(Kind::Metal));
        if kind.is_none() && !device.is_cpu() {
            let expected = "a device that this program was built for";
            return Err(Error::tensor("tensor", expected, device.location()));
        }
        Ok(kind.map(|kind| Self { kind }))
    }

    /// The device of tensors that this backend computes on.
    pub fn device(&self) -> Device {
        self.runtime().device()
    }

    /// True if kernels may multiply tables of [`Program::with_tables`](super::Program::with_tables) here: on CUDA from
    /// sm_80 on, and in the emulator.
    pub fn has_tables(&self) -> bool {
        self.runtime().has_tables()
    }

    /// One indirect call a launch, which takes a thousandth of what a driver does.
    pub(super) fn runtime(&self) -> &dyn Runtime {
        match &self.kind {
            Kind::Cuda(runtime) => runtime,
            Kind::Metal(runtime) => runtime,
            Kind::Emulator(runtime) => runtime,
        }
    }
}

impl Memory {
    /// Memory whose elements a kernel has still to write.
    ///
    /// # Errors
    /// When the device has none left.
    pub fn new(backend: &Backend, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        use DType::{BF16, F16, F32, F64, U32};
        if !matches!(dtype, F32 | F64 | U32 | BF16 | F16) {
            let expected = "dtype f32, f64, u32, bf16 or f16";
            return Err(Error::tensor("memory", expected, dtype));
        }
        let block = backend.runtime().empty(dtype, &shape)?;
        Ok(Self::from_block(block, shape))
    }

    /// [`Memory::new`] for temporary results and for what an operation saves for its backward pass: small blocks share
    /// allocations. An operation's outputs must not come from here.
    ///
    /// # Errors
    /// Same as [`Memory::new`].
    pub fn workspace(backend: &Backend, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        arena::with_slabs(|| Self::new(backend, dtype, shape))
    }

    /// Memory of zeros.
    ///
    /// # Errors
    /// When the device has none left.
    pub fn zeros(backend: &Backend, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let block = backend.runtime().zeros(dtype, &shape)?;
        Ok(Self::from_block(block, shape))
    }
}

impl Launch<'_> {
    /// Starts the kernel. It ends in its own time: what reads its outputs on the same device waits.
    ///
    /// # Errors
    /// When the kernel does not compile or cannot start; in the emulator also when it accesses
    /// memory that it must not, or its lanes do not come to the same barriers.
    pub fn run(self, backend: &Backend) -> Result<()> {
        if self.groups == 0 {
            return Ok(());
        }
        if self.groups > i32::MAX as usize {
            let what = format!("groups of {}", self.function);
            let remedy = "must be below 2^31: take smaller batches";
            return Err(Error::value(what, self.groups, remedy));
        }
        backend.runtime().launch(self)
    }
}
