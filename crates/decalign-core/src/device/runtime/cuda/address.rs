//! Where tensors lie on the device.

use std::cell::Cell;

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::{CudaStream, DevicePtr, DevicePtrMut, SyncOnDrop};
use candle_core::{CpuStorage, CudaStorage, InplaceOp1, Layout, Storage, Tensor};

use crate::device::launch::elsewhere;
use crate::{Error, Result};

/// Where memory lies, and what says that it is in use until it is dropped.
pub(super) type Place<'a> = (u64, SyncOnDrop<'a>);

pub(super) fn failed(error: impl std::fmt::Display) -> Error {
    candle_core::Error::Msg(format!("CUDA: {error}")).into()
}

/// Calls `$body` with the slice that a storage holds.
macro_rules! with_slice {
    ($storage:expr, $slice:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::F32($slice) => $body,
            CudaStorageSlice::F64($slice) => $body,
            CudaStorageSlice::U32($slice) => $body,
            CudaStorageSlice::U8($slice) => $body,
            CudaStorageSlice::BF16($slice) => $body,
            CudaStorageSlice::F16($slice) => $body,
            _ => {
                let expected = "f32, f64, u32, u8, bf16 or f16";
                return Err(Error::tensor("argument", expected, "another"));
            }
        }
    };
}

pub(super) fn input<'a>(
    x: &'a CudaStorage,
    start: usize,
    stream: &'a CudaStream,
) -> Result<Place<'a>> {
    fn bytes_of<T>(_: &impl DevicePtr<T>) -> usize {
        size_of::<T>()
    }
    Ok(with_slice!(&x.slice, slice => {
        let (pointer, sync) = slice.device_ptr(stream);
        (pointer + (start * bytes_of(slice)) as u64, sync)
    }))
}

pub(super) fn output<'a>(x: &'a mut CudaStorage, stream: &'a CudaStream) -> Result<Place<'a>> {
    Ok(with_slice!(&mut x.slice, slice => slice.device_ptr_mut(stream)))
}

/// Where the first element of a tensor lies.
pub(super) fn address(x: &Tensor, stream: &CudaStream) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cuda(x) => Ok(input(x, layout.start_offset(), stream)?.0),
        _ => Err(elsewhere()),
    }
}

/// Takes the place of a tensor that is written: Candle lends its storage mutably to such an operation only.
struct Locate<'a> {
    stream: &'a CudaStream,
    pointer: Cell<u64>,
}

impl InplaceOp1 for Locate<'_> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("update: the tensor is not on the device")
    }

    fn cuda_fwd(&self, x: &mut CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        // The guard of its use is dropped at once: the kernel starts on the stream that all else is on.
        let (pointer, bytes) = match &mut x.slice {
            CudaStorageSlice::F32(x) => (x.device_ptr_mut(self.stream).0, 4),
            CudaStorageSlice::F64(x) => (x.device_ptr_mut(self.stream).0, 8),
            _ => candle_core::bail!("update: the tensor is f32 or f64"),
        };
        self.pointer
            .set(pointer + (layout.start_offset() * bytes) as u64);
        Ok(())
    }
}

/// Where the first element of a tensor that is written in place lies.
pub(super) fn updated(x: &Tensor, stream: &CudaStream) -> Result<u64> {
    let place = Locate {
        stream,
        pointer: Cell::new(0),
    };
    x.inplace_op1(&place)?;
    Ok(place.pointer.get())
}
