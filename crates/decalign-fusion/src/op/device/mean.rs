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
    let step_weights = match mask {
        Some(mask) => {
            let mut step_weights = Memory::new(backend, x.dtype(), (batch, steps))?;
            Launch::new(&program, "step_weights", batch.div_ceil(LANES / 32))
                .input(mask)?
                .output(&mut step_weights)
                .count(batch)?
                .count(steps)?
                .run(backend)?;
            step_weights.into_tensor()
        }
        // Unused by the kernel.
        None => x.detach(),
    };
    let count = batch * width;
    let mut y = Memory::new(backend, x.dtype(), (batch, width))?;
    Launch::new(&program, "mean", count.div_ceil(LANES))
        .input(x)?
        .input(&step_weights)?
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
        Launch::new(&program, "backward", count.div_ceil(LANES))
            .input(&g)?
            .input(&step_weights)?
            .output(&mut dx)
            .long(count as u64)
            .count(steps)?
            .count(width)?
            .run(&backend)?;
        Ok(vec![Some(dx.into_tensor())])
    })
}
