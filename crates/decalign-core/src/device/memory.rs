//! Memory on a device before it becomes a tensor. `backend` allocates it.

use candle_core::backend::{BackendDevice, BackendStorage};
use candle_core::op::BackpropOp;
use candle_core::{Layout, Shape, Storage, Tensor};

use crate::{Error, Result};

/// Elements on a device that a kernel writes, in row-major order.
pub struct Memory {
    block: Block,
    shape: Shape,
}

/// Where the elements of [`Memory`] lie.
pub(super) enum Block {
    /// In an allocation of their own.
    Own(Storage),
    /// In a piece of a larger one, flat: see `arena`.
    // Made by the runtimes whose allocations cost as much as a launch.
    #[allow(dead_code)]
    Piece(Tensor),
}

impl Memory {
    pub(super) fn from_block(block: Block, shape: Shape) -> Self {
        Self { block, shape }
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
    /// Never: a piece has as many elements as its shape.
    pub fn into_tensor(self) -> Tensor {
        match self.block {
            Block::Own(storage) => {
                Tensor::from_storage(storage, self.shape, BackpropOp::none(), false)
            }
            Block::Piece(piece) => match piece.reshape(&self.shape) {
                Ok(tensor) => tensor,
                Err(error) => unreachable!("{error}"),
            },
        }
    }

    pub(crate) fn from_parts(storage: Storage, shape: Shape) -> Self {
        Self::from_block(Block::Own(storage), shape)
    }

    /// Storage of its own; a piece is copied.
    pub(crate) fn into_parts(self) -> Result<(Storage, Shape)> {
        let storage = match self.block {
            Block::Own(storage) => storage,
            Block::Piece(piece) => {
                let (storage, layout) = piece.storage_and_layout();
                match &*storage {
                    Storage::Cpu(x) => Storage::Cpu(copy(x, layout)?),
                    Storage::Cuda(x) => Storage::Cuda(copy(x, layout)?),
                    Storage::Metal(x) => Storage::Metal(copy(x, layout)?),
                }
            }
        };
        Ok((storage, self.shape))
    }

    // Read by the runtimes that this program is built with.
    #[allow(dead_code)]
    pub(super) fn block(&mut self) -> &mut Block {
        &mut self.block
    }
}

/// The elements of a layout in storage of their own.
fn copy<S: BackendStorage>(from: &S, layout: &Layout) -> Result<S>
where
    S::Device: BackendDevice<Storage = S>,
{
    let mut to = from.device().zeros_impl(layout.shape(), from.dtype())?;
    from.copy_strided_src(&mut to, 0, layout)?;
    Ok(to)
}
