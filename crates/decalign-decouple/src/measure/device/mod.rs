//! Squared cosines on devices: two launches forward, one back.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record_one;

/// Lanes a row.
const LANES: usize = 256;

pub(crate) fn cosine_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("cosine", include_str!("cosine.cu"), dtype)?.lanes(LANES))
}

/// See [`super::cosine_squared`].
pub(super) fn cosine_squared(backend: &Backend, s: &Tensor, c: &Tensor) -> Result<Tensor> {
    let (dtype, batch) = (s.dtype(), s.dims()[0]);
    let size = s.elem_count() / batch;
    let program = cosine_program(dtype)?;
    let mut angles = Memory::new(backend, dtype, (batch, 3))?;
    Launch::new(&program, "angles_of_rows", batch)
        .input(s)?
        .input(c)?
        .output(&mut angles)
        .count(size)?
        .run(backend)?;
    let angles = angles.into_tensor();
    let mut value = Memory::new(backend, dtype, ())?;
    Launch::new(&program, "mean_square", 1)
        .input(&angles)?
        .output(&mut value)
        .count(batch)?
        .run(backend)?;
    let backend = backend.clone();
    record_one("cosine_squared", &[s, c], value.into(), move |b| {
        let (s, c) = (&b.inputs[0], &b.inputs[1]);
        let mut ds = Memory::new(&backend, dtype, s.shape())?;
        let mut dc = Memory::new(&backend, dtype, c.shape())?;
        Launch::new(&program, "cosine_back", batch)
            .input(s)?
            .input(c)?
            .input(&angles)?
            .input(&b.gradient(0)?)?
            .output(&mut ds)
            .output(&mut dc)
            .count(batch)?
            .count(size)?
            .run(&backend)?;
        Ok(vec![Some(ds.into_tensor()), Some(dc.into_tensor())])
    })
}
