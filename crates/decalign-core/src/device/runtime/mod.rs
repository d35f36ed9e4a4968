//! The runtimes: CUDA, Metal and the emulator, each behind the trait [`Runtime`].
//!
//! A runtime whose feature this program is built without is [`dummy::Dummy`], which has no values. Features are looked at
//! here only; `device::backend` chooses between the three names below.

#[cfg(any(feature = "cuda", feature = "emulator"))]
mod cache;
#[cfg(feature = "cuda")]
mod cuda;
// Unused where all three features are on.
#[allow(dead_code)]
mod dummy;
#[cfg(feature = "emulator")]
pub(super) mod emulator;
#[cfg(feature = "metal")]
mod metal;
mod runtime_trait;

#[cfg(feature = "cuda")]
pub(super) use cuda::Cuda;
#[cfg(not(feature = "cuda"))]
pub(super) use dummy::Dummy as Cuda;
#[cfg(not(feature = "emulator"))]
pub(super) use dummy::Dummy as Emulator;
#[cfg(not(feature = "metal"))]
pub(super) use dummy::Dummy as Metal;
#[cfg(feature = "emulator")]
pub(super) use emulator::Emulator;
#[cfg(feature = "metal")]
pub(super) use metal::Metal;
pub(super) use runtime_trait::Runtime;
