//! Moment matching on devices: four launches forward and one backward, for any number of samples.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record_one;

/// Samples that the kernels take.
pub(super) const SAMPLES: usize = 8;
/// Lanes a group, a tile of TILE x TILE.
const LANES: usize = 256;
const TILE: usize = 16;
const WARP: usize = 32;
/// Entries that a lane compares.
const EACH: usize = 4;

pub(crate) fn moments_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("moments", include_str!("moments.cu"), dtype)?
        .constant("EACH", EACH)
        .lanes(LANES))
}

/// How many rows each sample has, filled up with 0.
fn rows<'a>(mut launch: Launch<'a>, sizes: &[usize]) -> Result<Launch<'a>> {
    for i in 0..SAMPLES {
        launch = launch.count(sizes.get(i).copied().unwrap_or(0))?;
    }
    Ok(launch)
}

/// See [`super::moment_matching`]; up to [`SAMPLES`] samples of one type and width.
pub(super) fn moment_matching(
    backend: &Backend,
    samples: &[Tensor],
    width: usize,
) -> Result<Tensor> {
    let (dtype, m) = (samples[0].dtype(), samples.len());
    let sizes: Vec<usize> = samples.iter().map(|x| x.dims()[0]).collect();
    let count: usize = sizes.iter().sum();
    let program = moments_program(dtype)?;
    let tiles = width.div_ceil(TILE);
    let mut centred = Memory::new(backend, dtype, (count, width))?;
    let mut moments = Memory::new(backend, dtype, (m, 4, width))?;
    let groups = m * width.div_ceil(WARP);
    let mut launch = Launch::new(&program, "sample_moments", groups);
    for i in 0..SAMPLES {
        launch = launch.input(samples.get(i).unwrap_or(&samples[0]))?;
    }
    let launch = launch.output(&mut centred).output(&mut moments);
    rows(launch, &sizes)?.count(width)?.run(backend)?;
    let (centred, moments) = (centred.into_tensor(), moments.into_tensor());
    let mut covariances = Memory::new(backend, dtype, (m, width, width))?;
    let launch = Launch::new(&program, "sample_covariances", m * tiles * tiles)
        .input(&centred)?
        .output(&mut covariances);
    rows(launch, &sizes)?.count(width)?.run(backend)?;
    let entries = width * width + 2 * width;
    let parts = entries.div_ceil(EACH * LANES);
    let mut differences = Memory::new(backend, dtype, (m, entries))?;
    let mut sums = Memory::new(backend, dtype, parts)?;
    Launch::new(&program, "compare", parts)
        .input(&moments)?
        .input(&covariances.into_tensor())?
        .output(&mut differences)
        .output(&mut sums)
        .count(m)?
        .count(width)?
        .real((m * (m - 1) / 2) as f64)
        .run(backend)?;
    let mut value = Memory::new(backend, dtype, ())?;
    Launch::new(&program, "total", 1)
        .input(&sums.into_tensor())?
        .output(&mut value)
        .count(parts)?
        .run(backend)?;
    let (backend, differences) = (backend.clone(), differences.into_tensor());
    let inputs: Vec<&Tensor> = samples.iter().collect();
    record_one("moment_matching", &inputs, value.into(), move |b| {
        let mut slopes = Memory::new(&backend, dtype, (count, width))?;
        let groups = sizes.iter().map(|n| n.div_ceil(TILE)).sum::<usize>() * tiles;
        let launch = Launch::new(&program, "moments_backward", groups)
            .input(&centred)?
            .input(&moments)?
            .input(&differences)?
            .input(&b.gradient(0)?)?
            .output(&mut slopes);
        rows(launch, &sizes)?.count(width)?.run(&backend)?;
        let (slopes, mut start) = (slopes.into_tensor(), 0);
        let each = sizes.iter().map(|n| {
            start += n;
            Ok(Some(slopes.narrow(0, start - n, *n)?))
        });
        each.collect()
    })
}
