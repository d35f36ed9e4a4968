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

pub(crate) mod arena;
mod backend;
pub mod bf16x3;
pub mod chacha;
#[cfg(feature = "emulator")]
pub mod emulator;
mod launch;
mod memory;
pub mod pairs;
mod product;
mod program;
mod runtime;
mod scope;
mod spec;
pub(crate) mod sum;

pub use backend::Backend;
pub use launch::Launch;
pub use memory::Memory;
pub use product::{multiply, product};
pub use program::{Language, Program};
pub use scope::Scope;
pub use spec::{DeviceSpec, available};

/// The programs of this module, for checks without a device.
pub(crate) fn programs() -> crate::Result<Vec<Program>> {
    use candle_core::DType::{F32, F64};
    let mut all = Vec::new();
    for dtype in [F32, F64] {
        all.push(product::program(dtype, true)?);
        all.push(sum::program(dtype, 3)?);
    }
    for width in [16, 64, bf16x3::MAX_WIDTH] {
        all.push(bf16x3::program(width)?);
    }
    Ok(all)
}
