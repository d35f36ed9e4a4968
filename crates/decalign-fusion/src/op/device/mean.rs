//! Means over time on devices.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record_one;

pub(super) fn program(dtype: DType, masked: bool) -> Result<Program> {
    Ok(Program::new("mean", include_str!("mean.cu"), dtype)?
        .lanes(LANES)
        .constant("MASKED", usize::from(masked)))
}

const LANES: usize = 128;

/// See [`crate::mean_pool`].
pub(crate) fn mean(
    backend: &Backend,
    x: &Tensor,
    mask: Option<&Tensor>,
    (batch, steps, width): (usize, usize, usize),
) -> Result<Tensor> {
    let program = program(x.dtype(), mask.is_some())?;
    let share = match mask {
        Some(mask) => {
            let mut share = Memory::new(backend, x.dtype(), (batch, steps))?;
            Launch::new(&program, "shares", batch.div_ceil(LANES / 32))
                .input(mask)?
                .output(&mut share)
                .count(batch)?
                .count(steps)?
                .run(backend)?;
            share.into_tensor()
        }
        // Not read.
        None => x.detach(),
    };
    let count = batch * width;
    let mut y = Memory::new(backend, x.dtype(), (batch, width))?;
    Launch::new(&program, "mean", count.div_ceil(LANES))
        .input(x)?
        .input(&share)?
        .output(&mut y)
        .count(count)?
        .count(steps)?
        .count(width)?
        .run(backend)?;
    let backend = backend.clone();
    record_one("mean_pool", &[x], y.into(), move |b| {
        let g = b.gradient(0)?;
        let count = batch * steps * width;
        let mut dx = Memory::new(&backend, g.dtype(), (batch, steps, width))?;
        Launch::new(&program, "back", count.div_ceil(LANES))
            .input(&g)?
            .input(&share)?
            .output(&mut dx)
            .long(count as u64)
            .count(steps)?
            .count(width)?
            .run(&backend)?;
        Ok(vec![Some(dx.into_tensor())])
    })
}
