//! Kernels on devices: CUDA, Metal, and an emulator that checks them on any machine.
//!
//! An operation's device side is a [`Program`] (a source in the kernel language, embedded with
//! `include_str!`, and constants) and host code that [`Launch`]es its functions on a [`Backend`].
//! The host code is written once: what differs between backends is inside them. `docs/device.md`
//! describes the kernel language.
//!
//! ```
//! use candle_core::{DType, Device, Tensor};
//! use decalign_core::device::{Backend, Launch, Memory, Program};
//! use decalign_core::Result;
//!
//! const SOURCE: &str = "
//! KERNEL(scale, INPUT(0, REAL, x), OUTPUT(1, REAL, y), VALUE(2, REAL, factor), VALUE(3, uint, n)) {
//!   const uint i = GROUP * LANES + LANE;
//!   if (i < n) y[i] = factor * x[i];
//! }";
//!
//! /// `factor x` where x lies on a device; `None` on the CPU.
//! fn scale(x: &Tensor, factor: f64) -> Result<Option<Tensor>> {
//!     let Some(backend) = Backend::of(x)? else { return Ok(None) };
//!     let program = Program::new("scale", SOURCE, x.dtype())?.lanes(64);
//!     let (n, mut y) = (x.elem_count(), Memory::new(&backend, x.dtype(), x.shape())?);
//!     Launch::new(&program, "scale", n.div_ceil(64))
//!         .input(x)?
//!         .output(&mut y)
//!         .real(factor)
//!         .count(n)?
//!         .run(&backend)?;
//!     Ok(Some(y.into_tensor()))
//! }
//!
//! assert!(scale(&Tensor::ones(3, DType::F32, &Device::Cpu)?, 2.0)?.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// Without a backend much of this is never reached.
#![cfg_attr(
    not(any(feature = "cuda", feature = "metal", feature = "emulator")),
    allow(dead_code, unused, unreachable_code)
)]

#[cfg(feature = "cuda")]
pub(crate) mod arena;
pub mod bf16x3;
#[cfg(any(feature = "cuda", feature = "emulator"))]
mod cache;
pub mod chacha;
#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "emulator")]
pub mod emulator;
mod launch;
mod memory;
#[cfg(feature = "metal")]
mod metal;
mod mma;
pub mod pairs;
mod product;
mod program;
mod scope;
mod spec;
pub(crate) mod sum;

pub use launch::Launch;
pub use memory::Memory;
pub use product::{multiply, product};
pub use program::{Language, Program};
pub use scope::Scope;
pub use spec::{DeviceSpec, available};

use candle_core::{Device, Tensor};

use crate::Result;

/// What runs kernels.
///
/// Without the features `cuda`, `metal` and `emulator` there is none.
#[derive(Clone)]
#[non_exhaustive]
pub enum Backend {
    /// A CUDA device: sources go through NVRTC, once.
    #[cfg(feature = "cuda")]
    Cuda(candle_core::CudaDevice),
    /// A Metal device.
    #[cfg(feature = "metal")]
    Metal(candle_core::MetalDevice),
    /// CPU tensors inside [`emulator::emulated`].
    #[cfg(feature = "emulator")]
    Emulator(emulator::Emulator),
    /// Never made: so that host code means something where there is no backend.
    #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
    #[doc(hidden)]
    Absent,
}

impl Backend {
    /// The backend of the device that `tensor` lies on; `None` for the CPU.
    ///
    /// # Errors
    /// When the program was built without the device's feature.
    pub fn of(tensor: &Tensor) -> Result<Option<Self>> {
        match tensor.device() {
            #[cfg(feature = "emulator")]
            Device::Cpu => Ok(emulator::current().map(Self::Emulator)),
            #[cfg(not(feature = "emulator"))]
            Device::Cpu => Ok(None),
            #[cfg(feature = "cuda")]
            Device::Cuda(device) => Ok(Some(Self::Cuda(device.clone()))),
            #[cfg(feature = "metal")]
            Device::Metal(device) => Ok(Some(Self::Metal(device.clone()))),
            #[allow(unreachable_patterns)]
            other => Err(crate::Error::tensor(
                "tensor",
                "a device that this program was built for",
                other.location(),
            )),
        }
    }

    /// The device of tensors that this backend computes on.
    pub fn device(&self) -> Device {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref device) => Device::Cuda(device.clone()),
            #[cfg(feature = "metal")]
            Self::Metal(ref device) => Device::Metal(device.clone()),
            #[cfg(feature = "emulator")]
            Self::Emulator(_) => Device::Cpu,
            #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
            Self::Absent => Device::Cpu,
        }
    }
}

/// Runs `f` with memory that shares no allocation.
pub(crate) fn alone<T>(f: impl FnOnce() -> T) -> T {
    #[cfg(feature = "cuda")]
    return arena::alone(f);
    #[cfg(not(feature = "cuda"))]
    f()
}

/// The device programs of this crate, for checks without a device.
#[doc(hidden)]
pub fn programs() -> Result<Vec<Program>> {
    use candle_core::DType::{F32, F64};
    let mut all = crate::nn::device_programs()?;
    for dtype in [F32, F64] {
        all.push(product::program(dtype, true)?);
        all.push(sum::program(dtype, 3)?);
    }
    for width in [16, 64, bf16x3::MAX_WIDTH] {
        all.push(bf16x3::program(width)?);
    }
    Ok(all)
}
