//! The operations of a device that runs kernels.

use candle_core::{DType, Device, Shape, Tensor};

use crate::Result;
use crate::device::launch::Launch;
use crate::device::memory::{Block, Memory};
use crate::gemm::Store;

/// A device that compiles programs, allocates memory and launches kernels.
pub(in crate::device) trait Runtime {
    /// The runtime of tensors on `device`; `None` where another one is theirs, or none.
    fn of(device: &Device) -> Option<Self>
    where
        Self: Sized;

    /// Opens device `number` of this machine. All callers get the same device, with one queue of launches.
    fn open(number: usize) -> candle_core::Result<Device>
    where
        Self: Sized;

    /// The device of the tensors.
    fn device(&self) -> Device;

    /// Memory whose elements a kernel has still to write.
    fn empty(&self, dtype: DType, shape: &Shape) -> Result<Block>;

    /// Memory of zeros.
    fn zeros(&self, dtype: DType, shape: &Shape) -> Result<Block>;

    /// Compiles the program, once, and puts the kernel at the end of the device's queue.
    fn launch(&self, launch: Launch) -> Result<()>;

    /// `a b` into `out` from element `at` on by the device's own library; `None` where it has none.
    fn multiply(
        &self,
        _out: &mut Memory,
        _at: usize,
        _factors: [&Tensor; 2],
        _store: Store,
    ) -> Option<Result<()>> {
        None
    }

    /// True if kernels may multiply tables of 16-bit numbers on tensor cores.
    fn has_tables(&self) -> bool;

    /// Bytes of shared memory that a group may have with [`Launch::large`].
    fn largest_shared(&self) -> Result<usize>;
}
