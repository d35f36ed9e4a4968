//! Dropout on devices.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, chacha};
use crate::op::record_one;
use crate::random::Stream;

/// Lanes a group.
const LANES: usize = 128;

/// Blocks of 32 random choices that a warp draws: more are fewer groups than a device has room for.
pub(super) const CHUNKS: usize = 8;

pub(super) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("dropout", include_str!("dropout.cu"), dtype)?
        .after(chacha::SOURCE)
        .constant("CHUNKS", CHUNKS)
        .lanes(LANES))
}

/// See [`crate::nn::dropout()`].
pub(in crate::nn) fn dropout(
    backend: &Backend,
    x: &Tensor,
    p: f64,
    stream: Stream,
) -> Result<Tensor> {
    let program = program(x.dtype())?;
    let apply = move |backend: &Backend, x: &Tensor| -> Result<Memory> {
        let n = x.elem_count();
        let mut y = Memory::new(backend, x.dtype(), x.shape())?;
        Launch::new(&program, "dropout", n.div_ceil(CHUNKS * LANES))
            .input(x)?
            .output(&mut y)
            .long(n as u64)
            .real(1.0 / (1.0 - p))
            .count(stream.choices(1.0 - p).below() as usize)?
            .stream(stream)
            .run(backend)?;
        Ok(y)
    };
    let y = apply(backend, x)?;
    let backend = backend.clone();
    record_one("dropout", &[x], y.into(), move |b| {
        Ok(vec![Some(apply(&backend, &b.gradient(0)?)?.into_tensor())])
    })
}
