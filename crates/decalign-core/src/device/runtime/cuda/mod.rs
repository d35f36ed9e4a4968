//! CUDA: sources go through NVRTC, once.

// Launching a kernel is unsafe: that its arguments fit is checked here, what it does with them by
// the emulator's tests.
#![allow(unsafe_code)]

mod address;
mod compile;
mod launch;
mod product;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendDevice;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::result as driver;
use candle_core::cuda_backend::cudarc::driver::sys;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Shape, Storage, Tensor};

use super::Runtime;
use crate::Result;
use crate::device::arena;
use crate::device::launch::Launch;
use crate::device::memory::{Block, Memory};
use crate::gemm::Store;
use address::{address, failed};

/// A CUDA device.
#[derive(Clone)]
pub(in crate::device) struct Cuda(CudaDevice);

impl Runtime for Cuda {
    fn of(device: &Device) -> Option<Self> {
        match device {
            Device::Cuda(device) => Some(Self(device.clone())),
            _ => None,
        }
    }

    /// A device with one stream, so that launches of several threads keep their order.
    fn open(number: usize) -> candle_core::Result<Device> {
        static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
        let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = open.get(&number) {
            return Ok(device.clone());
        }
        let device = CudaDevice::new_with_stream(number)?;
        // SAFETY: one stream for all tensors of the device, so events have nothing to order.
        unsafe { device.disable_event_tracking() };
        keep_memory(number)?;
        let device = Device::Cuda(device);
        open.insert(number, device.clone());
        Ok(device)
    }

    fn device(&self) -> Device {
        Device::Cuda(self.0.clone())
    }

    fn empty(&self, dtype: DType, shape: &Shape) -> Result<Block> {
        match self.piece(dtype, shape)? {
            Some(piece) => Ok(Block::Piece(piece)),
            None => Ok(Block::Own(self.allocate(dtype, shape)?)),
        }
    }

    fn zeros(&self, dtype: DType, shape: &Shape) -> Result<Block> {
        let Some(piece) = self.piece(dtype, shape)? else {
            let storage = self.0.zeros_impl(shape, dtype)?;
            return Ok(Block::Own(Storage::Cuda(storage)));
        };
        let stream = self.0.cuda_stream();
        let (at, bytes) = (
            address(&piece, &stream)?,
            piece.elem_count() * dtype.size_in_bytes(),
        );
        // SAFETY: the piece has so many bytes, which nothing else uses.
        unsafe { driver::memset_d8_async(at, 0, bytes, stream.cu_stream()) }.map_err(failed)?;
        Ok(Block::Piece(piece))
    }

    fn launch(&self, launch: Launch) -> Result<()> {
        launch::run(launch, &self.0)
    }

    fn multiply(
        &self,
        out: &mut Memory,
        at: usize,
        factors: [&Tensor; 2],
        store: Store,
    ) -> Option<Result<()>> {
        Some(product::multiply(&self.0, out, at, factors, store))
    }

    fn has_tables(&self) -> bool {
        compile::capability(&self.0).is_ok_and(|(major, _)| major >= 8)
    }

    fn largest_shared(&self) -> Result<usize> {
        compile::largest_shared(&self.0)
    }
}

impl Cuda {
    /// A piece of a slab: see [`arena::piece`].
    fn piece(&self, dtype: DType, shape: &Shape) -> Result<Option<Tensor>> {
        let allocate = |slab: &Shape| self.allocate(dtype, slab);
        arena::piece(&self.device(), dtype, shape.elem_count(), allocate)
    }

    /// Memory that is not initialised.
    fn allocate(&self, dtype: DType, shape: &Shape) -> Result<Storage> {
        let n = shape.elem_count();
        // SAFETY: the numbers are plain; that a kernel writes them before they are read is what the emulator's tests check.
        let slice = unsafe {
            match dtype {
                DType::F64 => CudaStorageSlice::F64(self.0.alloc(n)?),
                DType::U32 => CudaStorageSlice::U32(self.0.alloc(n)?),
                DType::BF16 => CudaStorageSlice::BF16(self.0.alloc(n)?),
                DType::F16 => CudaStorageSlice::F16(self.0.alloc(n)?),
                _ => CudaStorageSlice::F32(self.0.alloc(n)?),
            }
        };
        Ok(Storage::Cuda(CudaStorage {
            slice,
            device: self.0.clone(),
        }))
    }
}

/// Keeps freed blocks in the memory pool instead of returning them at each synchronisation.
fn keep_memory(number: usize) -> candle_core::Result<()> {
    let (mut pool, mut most) = (std::ptr::null_mut(), u64::MAX);
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the context of the device is current; the attribute is a number of 64 bits.
    let done = unsafe {
        let found = sys::cuDeviceGetDefaultMemPool(&raw mut pool, number as sys::CUdevice);
        found.result().and_then(|()| {
            sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut most).cast()).result()
        })
    };
    done.map_err(|error| candle_core::Error::Msg(format!("CUDA memory pool: {error}")))
}
