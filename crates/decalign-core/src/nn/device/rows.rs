//! Softmax and layer norm on devices: a row a warp.

use candle_core::{DType, Tensor};

use super::partial_sums::{PartialSums, add_partial_sums};
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program};
use crate::op::{Backward, InputGradients, record_one};

/// Lanes a group, four rows.
const LANES: usize = 128;

/// Rows whose sums one lane adds up.
const CHUNK: usize = 64;

pub(super) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("rows", include_str!("rows.cu"), dtype)?
        .constant("CHUNK", CHUNK)
        .lanes(LANES))
}

/// Groups for so many rows, a warp each.
fn groups(rows: usize) -> usize {
    rows.div_ceil(LANES / 32)
}

/// See [`crate::nn::softmax()`].
pub(in crate::nn) fn softmax(backend: &Backend, x: &Tensor, n: usize) -> Result<Tensor> {
    let program = program(x.dtype())?;
    let rows = x.elem_count() / n;
    let mut y = Memory::new(backend, x.dtype(), x.shape())?;
    Launch::new(&program, "softmax", groups(rows))
        .input(x)?
        .output(&mut y)
        .count(rows)?
        .count(n)?
        .run(backend)?;
    let backend = backend.clone();
    record_one("softmax", &[x], y.into(), move |b| {
        let y = &b.outputs[0];
        let mut dx = Memory::new(&backend, y.dtype(), y.shape())?;
        Launch::new(&program, "softmax_back", groups(rows))
            .input(y)?
            .input(&b.gradient(0)?)?
            .output(&mut dx)
            .count(rows)?
            .count(n)?
            .run(&backend)?;
        Ok(vec![Some(dx.into_tensor())])
    })
}

/// See [`crate::nn::layer_norm()`].
pub(in crate::nn) fn layer_norm(
    backend: &Backend,
    [x, weight, bias]: [&Tensor; 3],
    epsilon: f64,
) -> Result<Tensor> {
    let program = program(x.dtype())?;
    let n = weight.elem_count();
    let rows = x.elem_count() / n;
    let mut y = Memory::new(backend, x.dtype(), x.shape())?;
    let mut statistics = Memory::new(backend, x.dtype(), (rows, 2))?;
    Launch::new(&program, "layer_norm", groups(rows))
        .input(x)?
        .input(weight)?
        .input(bias)?
        .output(&mut y)
        .output(&mut statistics)
        .count(rows)?
        .count(n)?
        .real(epsilon)
        .run(backend)?;
    let (backend, statistics) = (backend.clone(), statistics.into_tensor());
    record_one("layer_norm", &[x, weight, bias], y.into(), move |b| {
        norm_back(&backend, &program, b, &statistics)
    })
}

fn norm_back(
    backend: &Backend,
    program: &Program,
    b: &Backward,
    statistics: &Tensor,
) -> Result<InputGradients> {
    let (x, weight, g) = (&b.inputs[0], &b.inputs[1], b.gradient(0)?);
    let n = weight.elem_count();
    let rows = x.elem_count() / n;
    let mut dx = Memory::new(backend, x.dtype(), x.shape())?;
    Launch::new(program, "layer_norm_back", groups(rows))
        .input(x)?
        .input(weight)?
        .input(&g)?
        .input(statistics)?
        .output(&mut dx)
        .count(rows)?
        .count(n)?
        .run(backend)?;
    // Sums over chunks of rows, then over the chunks, each in order.
    let (chunks, blocks) = (rows.div_ceil(CHUNK), n.div_ceil(LANES));
    let mut partials = Memory::new(backend, x.dtype(), (chunks, 2, n))?;
    Launch::new(program, "layer_norm_partials", chunks * blocks)
        .input(x)?
        .input(&g)?
        .input(statistics)?
        .output(&mut partials)
        .count(rows)?
        .count(n)?
        .count(blocks)?
        .run(backend)?;
    let sums = Memory::new(backend, x.dtype(), (2, n))?.into_tensor();
    let table = PartialSums {
        partials: partials.into_tensor(),
        sums: sums.clone(),
    };
    add_partial_sums(backend, table, b.deferrable(1) && b.deferrable(2))?;
    Ok(vec![
        Some(dx.into_tensor()),
        Some(sums.get(0)?),
        Some(sums.get(1)?),
    ])
}
