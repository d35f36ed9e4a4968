//! Residual connection and layer norm on devices.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program, chacha};
use decalign_core::nn::device::{PartialSums, add_partial_sums};
use decalign_core::op::{Backward, InputGradients, record_adding};
use decalign_core::random::Stream;

/// Rows of a group in the backward pass, which adds up their sums.
const CHUNK: usize = 32;
/// Bytes of shared memory that every supported device has.
const SHARED: usize = 32 << 10;

/// Warps of a group: as many as have shared memory for their sums.
fn warps(width: usize, dtype: DType) -> Option<usize> {
    let each = 2 * width * dtype.size_in_bytes();
    [8, 4, 2, 1].into_iter().find(|n| n * each <= SHARED)
}

/// True if rows of this width fit registers and shared memory.
pub(crate) fn supports(width: usize, dtype: DType) -> bool {
    // In the backward pass a lane keeps a 32nd of each row in registers.
    width * dtype.size_in_bytes() <= 4096 && warps(width, dtype).is_some()
}

pub(super) fn program(width: usize, dtype: DType, dropout: bool) -> Result<Program> {
    let source = include_str!("residual_norm.cu");
    Ok(Program::new("residual_norm", source, dtype)?
        .after(chacha::SOURCE)
        .lanes(32 * warps(width, dtype).unwrap_or(1))
        .constant("WIDTH", width)
        .constant("CHUNK", CHUNK)
        .constant("DROPOUT", usize::from(dropout)))
}

/// See [`crate::residual_norm`].
pub(crate) fn residual_norm(
    backend: &Backend,
    inputs: [&Tensor; 4],
    epsilon: f64,
    drop: Option<(f64, Stream)>,
) -> Result<Tensor> {
    let [x, residual, weight, bias] = inputs;
    let (width, dtype) = (weight.elem_count(), x.dtype());
    let rows = x.elem_count() / width;
    let program = program(width, dtype, drop.is_some())?;
    let warps = program.group_size() / 32;
    let mut y = Memory::new(backend, dtype, x.shape())?;
    let mut normal = Memory::workspace(backend, dtype, (rows, width))?;
    let mut scales = Memory::workspace(backend, dtype, rows)?;
    let launch = Launch::new(&program, "residual_norm", rows.div_ceil(warps))
        .input(x)?
        .input(residual)?
        .input(weight)?
        .input(bias)?
        .output(&mut y)
        .output(&mut normal)
        .output(&mut scales)
        .count(rows)?
        .real(epsilon);
    dropout_arguments(launch, drop)?.run(backend)?;
    let (backend, saved) = (backend.clone(), [normal, scales].map(Memory::into_tensor));
    record_adding("residual_norm", &inputs, y.into(), move |b| {
        backward(&backend, &program, b, &saved, drop)
    })
}

/// The arguments of dropout.
fn dropout_arguments(launch: Launch, drop: Option<(f64, Stream)>) -> Result<Launch> {
    let (p, stream) = drop.unwrap_or((0.0, Stream::new(0, 0)));
    let below = stream.choices(1.0 - p).below() as usize;
    Ok(launch.real(1.0 / (1.0 - p)).count(below)?.stream(stream))
}

fn backward(
    backend: &Backend,
    program: &Program,
    b: &Backward,
    [normal, scales]: &[Tensor; 2],
    drop: Option<(f64, Stream)>,
) -> Result<InputGradients> {
    let (x, weight, g) = (&b.inputs[0], &b.inputs[2], b.gradient(0)?);
    let (width, dtype) = (weight.elem_count(), x.dtype());
    let rows = x.elem_count() / width;
    let groups = rows.div_ceil(CHUNK);
    let mut ds = Memory::new(backend, dtype, x.shape())?;
    let mut dx = match drop {
        Some(_) => Memory::new(backend, dtype, x.shape())?,
        None => Memory::new(backend, dtype, 1)?,
    };
    let mut parts = Memory::new(backend, dtype, (groups, 2, width))?;
    let launch = Launch::new(program, "backward", groups)
        .input(normal)?
        .input(scales)?
        .input(weight)?
        .input(&g)?
        .input_or_none(b.rest)?
        .output(&mut ds)
        .output(&mut dx)
        .output(&mut parts)
        .count(if b.rest.is_some() { 2 } else { 1 })?
        .count(rows)?;
    dropout_arguments(launch, drop)?.run(backend)?;
    let sums = Memory::new(backend, dtype, (2, width))?.into_tensor();
    let table = PartialSums {
        partials: parts.into_tensor(),
        sums: sums.clone(),
    };
    add_partial_sums(backend, table, b.deferrable(2) && b.deferrable(3))?;
    let ds = ds.into_tensor();
    let dx = match drop {
        Some(_) => dx.into_tensor(),
        None => ds.clone(),
    };
    Ok(vec![
        Some(dx),
        Some(ds),
        Some(sums.get(0)?),
        Some(sums.get(1)?),
    ])
}
