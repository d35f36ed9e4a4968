//! Memory on a device before it becomes a tensor.

#[cfg(any(feature = "cuda", feature = "metal"))]
use candle_core::backend::BackendDevice;
use candle_core::op::BackpropOp;
use candle_core::{DType, Shape, Storage, Tensor};

use super::Backend;
use crate::{Error, Result};

/// Elements on a device that a kernel writes, in row-major order.
pub struct Memory {
    room: Room,
    shape: Shape,
}

pub(super) enum Room {
    Own(Storage),
    /// A part of a larger piece, flat.
    #[cfg(feature = "cuda")]
    Part(Tensor),
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
        let storage = match *backend {
            #[cfg(feature = "cuda")]
            Backend::Cuda(ref device) => {
                if let Some(part) = super::arena::piece(device, dtype, shape.elem_count())? {
                    let room = Room::Part(part);
                    return Ok(Self { room, shape });
                }
                Storage::Cuda(super::cuda::empty(device, dtype, &shape)?)
            }
            #[cfg(feature = "metal")]
            Backend::Metal(ref device) => {
                Storage::Metal(super::metal::empty(device, dtype, &shape)?)
            }
            #[cfg(feature = "emulator")]
            Backend::Emulator(_) => Storage::Cpu(super::emulator::empty(dtype, &shape)),
            #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
            Backend::Absent => return Err(Error::value("backend", "absent", "build for a device")),
        };
        let room = Room::Own(storage);
        Ok(Self { room, shape })
    }

    /// [`Memory::new`] for temporary results and for what an operation saves for its backward pass: small blocks share
    /// allocations. An operation's outputs must not come from here.
    ///
    /// # Errors
    /// As there.
    pub fn workspace(backend: &Backend, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        #[cfg(feature = "cuda")]
        return super::arena::scope(|| Self::new(backend, dtype, shape));
        #[cfg(not(feature = "cuda"))]
        Self::new(backend, dtype, shape)
    }

    /// Memory of zeros.
    ///
    /// # Errors
    /// When the device has none left.
    pub fn zeros(backend: &Backend, dtype: DType, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        let storage = match *backend {
            #[cfg(feature = "cuda")]
            Backend::Cuda(ref device) => {
                if let Some(part) = super::arena::piece(device, dtype, shape.elem_count())? {
                    super::cuda::clear(device, &part)?;
                    let room = Room::Part(part);
                    return Ok(Self { room, shape });
                }
                Storage::Cuda(device.zeros_impl(&shape, dtype)?)
            }
            #[cfg(feature = "metal")]
            Backend::Metal(ref device) => Storage::Metal(device.zeros_impl(&shape, dtype)?),
            #[cfg(feature = "emulator")]
            Backend::Emulator(_) => Storage::Cpu(super::emulator::zeros(dtype, &shape)),
            #[cfg(not(any(feature = "cuda", feature = "metal", feature = "emulator")))]
            Backend::Absent => return Err(Error::value("backend", "absent", "build for a device")),
        };
        let room = Room::Own(storage);
        Ok(Self { room, shape })
    }

    /// How many elements.
    pub fn elem_count(&self) -> usize {
        self.shape.elem_count()
    }

    /// The same elements in another shape of as many.
    ///
    /// # Errors
    /// When it is of more or fewer.
    pub fn reshape(mut self, shape: impl Into<Shape>) -> Result<Self> {
        let shape = shape.into();
        if shape.elem_count() != self.shape.elem_count() {
            let expected = format!("{} elements", self.shape.elem_count());
            return Err(Error::tensor("memory", expected, shape));
        }
        self.shape = shape;
        Ok(self)
    }

    /// The elements as a tensor, which carries no gradient.
    ///
    /// # Panics
    /// Never: a part has as many elements as its shape.
    pub fn into_tensor(self) -> Tensor {
        match self.room {
            Room::Own(storage) => {
                Tensor::from_storage(storage, self.shape, BackpropOp::none(), false)
            }
            #[cfg(feature = "cuda")]
            Room::Part(part) => match part.reshape(&self.shape) {
                Ok(tensor) => tensor,
                Err(error) => unreachable!("{error}"),
            },
        }
    }

    pub(crate) fn from_parts(storage: Storage, shape: Shape) -> Self {
        let room = Room::Own(storage);
        Self { room, shape }
    }

    /// Storage of its own; a part is copied.
    pub(crate) fn into_parts(self) -> Result<(Storage, Shape)> {
        match self.room {
            Room::Own(storage) => Ok((storage, self.shape)),
            #[cfg(feature = "cuda")]
            Room::Part(part) => Ok((super::cuda::copied(&part)?, self.shape)),
        }
    }

    #[cfg(feature = "cuda")]
    pub(super) fn room(&mut self) -> &mut Room {
        &mut self.room
    }

    /// The storage, where it is its own.
    #[cfg(any(feature = "emulator", feature = "metal"))]
    pub(super) fn storage_mut(&mut self) -> Option<&mut Storage> {
        match &mut self.room {
            Room::Own(storage) => Some(storage),
            #[cfg(feature = "cuda")]
            Room::Part(_) => None,
        }
    }

    #[cfg(feature = "emulator")]
    pub(super) fn storage(&self) -> Option<&Storage> {
        match &self.room {
            Room::Own(storage) => Some(storage),
            #[cfg(feature = "cuda")]
            Room::Part(_) => None,
        }
    }

    #[cfg(feature = "emulator")]
    pub(super) fn dtype(&self) -> DType {
        match &self.room {
            Room::Own(storage) => storage.dtype(),
            #[cfg(feature = "cuda")]
            Room::Part(part) => part.dtype(),
        }
    }
}
