//! Arguments as bytes, to and from the process that runs a program.

use std::ops::RangeBounds;

use candle_core::{CpuStorage, DType, InplaceOp1, Layout, Storage};
use half::{bf16, f16};

use crate::device::launch::{Access, Argument, Value, elsewhere};
use crate::device::memory::Block;
use crate::{Error, Result};

/// Numbers as bytes.
trait Bytes: Copy {
    const CODE: u8;
    fn extend(x: &[Self], to: &mut Vec<u8>);
    fn fill(x: &mut [Self], from: &mut &[u8]);
}

macro_rules! bytes {
    ($($t:ty, $code:expr;)*) => {$(
        impl Bytes for $t {
            const CODE: u8 = $code;
            fn extend(x: &[Self], to: &mut Vec<u8>) {
                x.iter().for_each(|v| to.extend(v.to_le_bytes()));
            }
            fn fill(x: &mut [Self], from: &mut &[u8]) {
                for v in x {
                    if let Some((first, rest)) = from.split_first_chunk() {
                        (*v, *from) = (<$t>::from_le_bytes(*first), rest);
                    }
                }
            }
        }
    )*};
}

bytes! { f32, 0; f64, 1; u32, 2; u64, 3; u8, 5; bf16, 6; f16, 6; }

/// Runs `$body` with the numbers `$x` of a storage.
macro_rules! with_numbers {
    ($storage:expr, $x:ident => $body:expr) => {
        match $storage {
            CpuStorage::F32($x) => $body,
            CpuStorage::F64($x) => $body,
            CpuStorage::U32($x) => $body,
            CpuStorage::U8($x) => $body,
            CpuStorage::BF16($x) => $body,
            CpuStorage::F16($x) => $body,
            _ => {
                let expected = "f32, f64, u32, u8, bf16 or f16";
                return Err(Error::tensor("argument", expected, "another"));
            }
        }
    };
}

/// The use that a kernel makes of an argument.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Input = 0,
    Output = 1,
    Value = 2,
    Update = 3,
}

/// Appends an argument; the number of bytes that come back of it.
pub(super) fn write(argument: &mut Argument, dtype: DType, to: &mut Vec<u8>) -> Result<usize> {
    let updated = matches!(argument, Argument::Update(_));
    Ok(match argument {
        Argument::Nothing { access } => {
            let kind = match access {
                Access::Read => Kind::Input,
                Access::Write => Kind::Output,
                Access::Update => Kind::Update,
            };
            match dtype {
                DType::F64 => push::<f64>(kind, &[], to),
                _ => push::<f32>(kind, &[], to),
            }
        }
        Argument::Value(Value::F32(v)) => push(Kind::Value, &[*v], to),
        Argument::Value(Value::F64(v)) => push(Kind::Value, &[*v], to),
        Argument::Value(Value::U32(v)) => push(Kind::Value, &[*v], to),
        Argument::Value(Value::U64(v)) => push(Kind::Value, &[*v], to),
        Argument::Input(x) | Argument::Update(x) => {
            let kind = if updated { Kind::Update } else { Kind::Input };
            let (storage, layout) = x.storage_and_layout();
            let (Storage::Cpu(x), Some((start, end))) = (&*storage, layout.contiguous_offsets())
            else {
                return Err(elsewhere());
            };
            with_numbers!(x, x => push(kind, &x[start..end], to))
        }
        Argument::Output(memory) => match memory.block() {
            Block::Own(Storage::Cpu(x)) => with_numbers!(x, x => push(Kind::Output, x, to)),
            _ => return Err(elsewhere()),
        },
    })
}

fn push<T: Bytes>(kind: Kind, x: &[T], to: &mut Vec<u8>) -> usize {
    let bytes = size_of_val(x);
    to.extend([kind as u8, T::CODE]);
    to.extend((bytes as u64).to_le_bytes());
    T::extend(x, to);
    match kind {
        Kind::Output | Kind::Update => bytes,
        Kind::Input | Kind::Value => 0,
    }
}

/// Reads the numbers of some elements of a storage.
pub(super) fn read(
    x: &mut CpuStorage,
    elements: impl RangeBounds<usize>,
    from: &mut &[u8],
) -> Result<()> {
    let range = (
        elements.start_bound().cloned(),
        elements.end_bound().cloned(),
    );
    with_numbers!(x, x => Bytes::fill(&mut x[range], from));
    Ok(())
}

/// Puts what a kernel made of a tensor back into it.
pub(super) struct Refill<'a>(pub(super) &'a [u8]);

impl InplaceOp1 for Refill<'_> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, x: &mut CpuStorage, layout: &Layout) -> candle_core::Result<()> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("update: the tensor is contiguous")
        };
        read(x, start..end, &mut { self.0 }).map_err(candle_core::Error::wrap)
    }
}
