//! The layers on devices.

mod concatenate;
mod convolution;
mod linear;
mod partial_sums;
mod scalars;
mod weight_gradient;

use candle_core::{DType, Tensor};

use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, chacha};
use crate::op::{Backward, InputGradients, record_one};
use crate::random::Stream;

pub(super) use concatenate::{concatenate, program as concatenate_program};
pub(super) use convolution::{convolution, program as convolution_program};
pub(super) use linear::linear;
pub(super) use linear::programs as linear_programs;
pub use linear::{affine_map, affine_maps, sum_columns};
pub(super) use partial_sums::program as partial_sums_program;
pub use partial_sums::{PartialSums, add_partial_sums};
pub(crate) use scalars::stack_scalars;
pub(super) use scalars::{TERMS, program as scalars_program, weighted_sum};
pub(super) use weight_gradient::program as weight_gradient_program;
pub use weight_gradient::{
    LAYERS, Layer, LayerGradients, Target, weight_gradient, weight_gradient_deferred,
};

/// Lanes a group, four rows.
const LANES: usize = 128;

/// Blocks of 32 random choices that a warp draws: more are fewer groups than a device has room for.
const CHUNKS: usize = 8;

/// Rows whose sums one lane adds up.
const CHUNK: usize = 64;

pub(super) fn rows_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("rows", include_str!("rows.cu"), dtype)?
        .constant("CHUNK", CHUNK)
        .lanes(LANES))
}

pub(super) fn dropout_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("dropout", include_str!("dropout.cu"), dtype)?
        .after(chacha::SOURCE)
        .constant("CHUNKS", CHUNKS)
        .lanes(LANES))
}

/// Groups for so many rows, a warp each.
fn groups(rows: usize) -> usize {
    rows.div_ceil(LANES / 32)
}

/// See [`super::softmax`].
pub(super) fn softmax(backend: &Backend, x: &Tensor, n: usize) -> Result<Tensor> {
    let program = rows_program(x.dtype())?;
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

/// See [`super::layer_norm`].
pub(super) fn layer_norm(
    backend: &Backend,
    [x, weight, bias]: [&Tensor; 3],
    epsilon: f64,
) -> Result<Tensor> {
    let program = rows_program(x.dtype())?;
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

/// See [`super::dropout`].
pub(super) fn dropout(backend: &Backend, x: &Tensor, p: f64, stream: Stream) -> Result<Tensor> {
    let program = dropout_program(x.dtype())?;
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
