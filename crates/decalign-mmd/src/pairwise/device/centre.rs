//! Preparation of samples: concatenated and centred.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};

use super::{GROUPS, LANES};

/// The largest number of rows whose mean takes one launch.
const DIRECT: usize = 1024;
/// The largest number of samples that one launch concatenates.
const LARGEST: usize = 8;

pub(super) fn centre_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("mmd_centre", include_str!("centre.cu"), dtype)?.lanes(LANES))
}

/// All samples in one tensor.
pub(super) fn concatenate(backend: &Backend, samples: &[Tensor], width: usize) -> Result<Tensor> {
    if samples.len() > LARGEST {
        return Ok(Tensor::cat(samples, 0)?.contiguous()?);
    }
    let (program, dtype) = (centre_program(samples[0].dtype())?, samples[0].dtype());
    let rows = samples.iter().map(|x| x.dims()[0]).sum::<usize>();
    let mut all = Memory::new(backend, dtype, (rows, width))?;
    let mut launch = Launch::new(&program, "concatenate", (rows * width).div_ceil(LANES));
    for i in 0..LARGEST {
        launch = launch.input(samples.get(i).unwrap_or(&samples[0]))?;
    }
    launch = launch.output(&mut all);
    let mut end = 0;
    for i in 0..LARGEST {
        end += samples.get(i).map_or(0, Tensor::elem_count) as u64;
        launch = launch.long(end);
    }
    launch.run(backend)?;
    Ok(all.into_tensor())
}

/// Rows minus their mean, their squared norms, and the largest norm of every group of rows.
pub(super) fn centre(backend: &Backend, x: &Tensor) -> Result<[Tensor; 3]> {
    let (rows, width) = x.dims2()?;
    let program = centre_program(x.dtype())?;
    let memory = |shape: &[usize]| Memory::new(backend, x.dtype(), shape);
    let part = rows.div_ceil(GROUPS);
    let sums = match rows <= DIRECT {
        true => x.clone(),
        false => {
            let parts = rows.div_ceil(part);
            let mut sums = memory(&[parts, width])?;
            Launch::new(&program, "column_sums", parts)
                .input(x)?
                .output(&mut sums)
                .count(rows)?
                .count(width)?
                .count(part)?
                .run(backend)?;
            sums.into_tensor()
        }
    };
    let warps = LANES / 32;
    let mut means = memory(&[width])?;
    Launch::new(&program, "mean", width.div_ceil(warps))
        .input(&sums)?
        .output(&mut means)
        .count(sums.dims()[0])?
        .count(width)?
        .real(rows as f64)
        .run(backend)?;
    let (mut centred, mut norms) = (memory(&[rows, width])?, memory(&[rows])?);
    let groups = rows.div_ceil(warps).min(GROUPS);
    let mut longest = memory(&[groups])?;
    Launch::new(&program, "centre", groups)
        .input(x)?
        .input(&means.into_tensor())?
        .output(&mut centred)
        .output(&mut norms)
        .output(&mut longest)
        .count(rows)?
        .count(width)?
        .run(backend)?;
    Ok([centred, norms, longest].map(Memory::into_tensor))
}
