//! Reading a CPU tensor as a slice.

use std::ops::{Deref, Range};

use candle_core::{Storage, StorageRef, Tensor};

use crate::{Error, Real, Result};

/// The elements of a CPU tensor in row-major order: borrowed where they lie so, copied where the
/// tensor is strided.
pub struct Elements<'a, T>(Repr<'a, T>);

enum Repr<'a, T> {
    Borrowed(StorageRef<'a>, Range<usize>, std::marker::PhantomData<T>),
    Copied(Vec<T>),
}

impl<'a, T: Real> Elements<'a, T> {
    /// Reads `tensor`.
    ///
    /// # Errors
    /// When the tensor is not on the CPU or holds another type than `T`.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_core::Elements;
    /// let x = Tensor::new(&[[1f32, 2.0], [3.0, 4.0]], &Device::Cpu)?;
    /// let transposed = x.t()?;
    /// assert_eq!(*Elements::<f32>::new(&transposed)?, [1.0, 3.0, 2.0, 4.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn new(tensor: &'a Tensor) -> Result<Self> {
        let (storage, layout) = tensor.storage_and_layout();
        let cpu = match &*storage {
            Storage::Cpu(cpu) => cpu,
            _ => {
                return Err(Error::tensor(
                    "tensor",
                    "one on the CPU",
                    tensor.device().location(),
                ));
            }
        };
        let data = T::cpu_storage_as_slice(cpu)?;
        match layout.contiguous_offsets() {
            Some((start, end)) => Ok(Self(Repr::Borrowed(
                storage,
                start..end,
                std::marker::PhantomData,
            ))),
            None => {
                let mut copy = Vec::with_capacity(layout.shape().elem_count());
                gather(
                    data,
                    layout.start_offset(),
                    layout.dims(),
                    layout.stride(),
                    &mut copy,
                );
                Ok(Self(Repr::Copied(copy)))
            }
        }
    }
}

/// Appends the elements of a strided view in row-major order, innermost dimension first to vary.
fn gather<T: Real>(data: &[T], start: usize, dims: &[usize], strides: &[usize], out: &mut Vec<T>) {
    match (dims, strides) {
        ([n], [stride]) => out.extend((0..*n).map(|i| data[start + i * stride])),
        ([n, dims @ ..], [stride, strides @ ..]) => {
            for i in 0..*n {
                gather(data, start + i * stride, dims, strides, out);
            }
        }
        _ => out.push(data[start]),
    }
}

impl<T: Real> Deref for Elements<'_, T> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        match &self.0 {
            Repr::Copied(data) => data,
            Repr::Borrowed(storage, range, _) => match &**storage {
                // `new` established both the device and the type.
                Storage::Cpu(cpu) => match T::cpu_storage_as_slice(cpu) {
                    Ok(data) => &data[range.clone()],
                    Err(_) => &[],
                },
                _ => &[],
            },
        }
    }
}
