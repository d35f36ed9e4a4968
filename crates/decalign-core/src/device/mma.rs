//! Products on tensor cores inside of kernels.

use candle_core::DType;

use super::{Backend, Program};
use crate::Result;

impl Program {
    /// Puts before the source what multiplies tables of 16-bit numbers, bf16 or f16 as `dtype` says, by a warp at a time: see
    /// prelude/mma.h. `REAL` stays what sums are of.
    pub fn with_tables(self, dtype: DType) -> Self {
        self.after(include_str!("prelude/mma.h"))
            .constant("BFLOAT", usize::from(dtype == DType::BF16))
    }
}

impl Backend {
    /// Whether kernels may multiply such tables here: on CUDA from sm_80 on, and in the emulator.
    pub fn has_tables(&self) -> bool {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref device) => {
                super::cuda::capability(device).is_ok_and(|(major, _)| major >= 8)
            }
            #[cfg(feature = "metal")]
            Self::Metal(_) => false,
            #[cfg(feature = "emulator")]
            Self::Emulator(_) => true,
            #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
            Self::Absent => false,
        }
    }

    /// Bytes of shared memory that a group may have with [`super::Launch::large`].
    pub(super) fn largest_shared(&self) -> Result<usize> {
        match *self {
            #[cfg(feature = "cuda")]
            Self::Cuda(ref device) => super::cuda::largest_shared(device),
            #[cfg(feature = "metal")]
            Self::Metal(_) => Ok(32 * 1024),
            #[cfg(feature = "emulator")]
            Self::Emulator(_) => Ok(163 * 1024),
            #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
            Self::Absent => Ok(0),
        }
    }
}
