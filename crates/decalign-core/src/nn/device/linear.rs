//! Affine maps on devices: the library's products, and one kernel for all that stands around each.

use candle_core::{DType, Tensor};

use super::dropout::CHUNKS;
use super::sum_columns::{COLUMNS, TALL, program, sum_columns};
use super::weight_gradient::{
    LAYERS, Layer, LayerGradients, Target, weight_gradient, weight_gradient_deferred,
};
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, chacha, pairs, product};
use crate::nn::gate::Gate;
use crate::op::{Backward, InputGradients, record_one};
use crate::random::Stream;

/// Groups of small tiles that leave half a large device idle: smaller tiles are more groups.
const FEW: usize = 66;
/// Lanes of a group that goes through elements.
const FLAT: usize = 256;

/// For checks without a device.
pub(in crate::nn) fn programs(dtype: DType) -> Result<Vec<Program>> {
    let mut all = vec![program(dtype, FLAT)?, program(dtype, TALL)?];
    for variant in [[false; 3], [true, false, false], [true; 3]] {
        for small in [false, true] {
            all.push(affine_program(dtype, variant, true, small)?);
        }
    }
    all.push(many_program(dtype, true, true)?);
    Ok(all)
}

/// See [`crate::nn::linear()`].
pub(in crate::nn) fn linear(
    backend: &Backend,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    gate: Option<Gate>,
) -> Result<Tensor> {
    let (m, n) = weight.dims2()?;
    let rows = x.elem_count() / n.max(1);
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(m);
    let flat = x.detach().contiguous()?.reshape((rows, n))?;
    let y = affine(backend, [&flat, weight], bias, gate)?.reshape(dims)?;
    let inputs: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    let backend = backend.clone();
    record_one("linear", &inputs, y.into(), move |b| {
        back(&backend, b, gate)
    })
}

/// `x W^T + b`.
///
/// # Shapes
/// `x` (rows, n), `weight` (m, n), `bias` (m); the result is (rows, m).
///
/// # Errors
/// When the device fails.
pub fn affine_map(
    backend: &Backend,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Memory> {
    affine(backend, [x, weight], bias, None)
}

/// Inner sizes up to which one launch of ours does all.
const NARROW: usize = 256;

/// `x W^T + b` of several layers, all of them with a bias or none.
///
/// # Shapes
/// As [`affine_map`], the weights alike.
///
/// # Errors
/// When the device fails.
pub fn affine_maps(
    backend: &Backend,
    x: &Tensor,
    layers: &[(Tensor, Option<Tensor>)],
) -> Result<Vec<Memory>> {
    let ((rows, n), m) = (x.dims2()?, layers[0].0.dim(0)?);
    if layers.len() == 1 || layers.len() > LAYERS || n > NARROW {
        let each = layers.iter();
        return each
            .map(|(weight, bias)| affine_map(backend, x, weight, bias.as_ref()))
            .collect();
    }
    let weights: Vec<&Tensor> = layers.iter().map(|(weight, _)| weight).collect();
    let aligned = pairs::aligned(&weights) && pairs::aligned(&[x]);
    let biased = layers[0].1.is_some();
    let program = many_program(x.dtype(), biased, aligned)?;
    let mut outputs = Vec::with_capacity(layers.len());
    for _ in layers {
        outputs.push(Memory::new(backend, x.dtype(), (rows, m))?);
    }
    let tiles = rows.div_ceil(pairs::SMALL_SIDE) * m.div_ceil(pairs::SMALL_SIDE);
    let mut launch = Launch::new(&program, "affine_many", layers.len() * tiles).input(x)?;
    let weights = (0..LAYERS).map(|i| layers.get(i).map(|(weight, _)| weight));
    let biases = (0..LAYERS).map(|i| layers.get(i)?.1.as_ref());
    for tensor in weights.chain(biases) {
        launch = launch.input_or_none(tensor)?;
    }
    launch = outputs.iter_mut().fold(launch, Launch::output);
    launch = (layers.len()..LAYERS).fold(launch, |launch, _| launch.no_output());
    launch.count(rows)?.count(m)?.count(n)?.run(backend)?;
    Ok(outputs)
}

fn many_program(dtype: DType, biased: bool, aligned: bool) -> Result<Program> {
    let program = Program::new("affine_many", include_str!("affine_many.cu"), dtype)?;
    Ok(pairs::with_small_pairs(program, aligned).constant("BIASED", usize::from(biased)))
}

fn affine(
    backend: &Backend,
    [x, weight]: [&Tensor; 2],
    bias: Option<&Tensor>,
    gate: Option<Gate>,
) -> Result<Memory> {
    let ((rows, n), m) = (x.dims2()?, weight.dim(0)?);
    if n <= NARROW {
        return narrow(backend, [x, weight], bias, gate);
    }
    let products = product(backend, x, &weight.detach().t()?)?;
    match (bias, gate) {
        (None, None) => Ok(products),
        (Some(bias), None) => add_bias(backend, &products.into_tensor(), bias),
        (bias, Some(gate)) => {
            let none = Tensor::zeros(m, x.dtype(), x.device())?;
            let products = products.reshape((rows, m))?.into_tensor();
            open(backend, &products, bias.unwrap_or(&none), gate)
        }
    }
}

/// [`affine`] in one launch.
fn narrow(
    backend: &Backend,
    [x, weight]: [&Tensor; 2],
    bias: Option<&Tensor>,
    gate: Option<Gate>,
) -> Result<Memory> {
    let ((rows, n), m) = (x.dims2()?, weight.dim(0)?);
    let drop = gate.and_then(|gate| gate.drop);
    let variant = [bias.is_some(), gate.is_some(), drop.is_some()];
    let groups = |side: usize| rows.div_ceil(side) * m.div_ceil(side);
    let small = groups(pairs::SMALL_SIDE) < FEW;
    let aligned = pairs::aligned(&[x, weight]);
    let program = affine_program(x.dtype(), variant, aligned, small)?;
    let (p, stream) = drop.unwrap_or((0.0, Stream::new(0, 0)));
    let mut y = Memory::new(backend, x.dtype(), (rows, m))?;
    let groups = groups(if small {
        pairs::LEAST_SIDE
    } else {
        pairs::SMALL_SIDE
    });
    Launch::new(&program, "affine", groups)
        .input(x)?
        .input(weight)?
        .input(bias.unwrap_or(weight))?
        .output(&mut y)
        .count(rows)?
        .count(m)?
        .count(n)?
        .real(1.0 / (1.0 - p))
        .count(stream.choices(1.0 - p).below() as usize)?
        .stream(stream)
        .run(backend)?;
    Ok(y)
}

fn affine_program(
    dtype: DType,
    [biased, gated, dropout]: [bool; 3],
    aligned: bool,
    small: bool,
) -> Result<Program> {
    let program = Program::new("affine", include_str!("affine.cu"), dtype)?.after(chacha::SOURCE);
    let program = match small {
        true => pairs::with_least_pairs(program, aligned),
        false => pairs::with_small_pairs(program, aligned),
    };
    Ok(program
        .constant("BIASED", usize::from(biased))
        .constant("GATED", usize::from(gated))
        .constant("DROPOUT", usize::from(dropout)))
}

/// `x + bias`, the bias along the last dimension.
fn add_bias(backend: &Backend, x: &Tensor, bias: &Tensor) -> Result<Memory> {
    let program = program(x.dtype(), FLAT)?;
    let n = x.elem_count();
    let mut y = Memory::new(backend, x.dtype(), x.shape())?;
    Launch::new(&program, "add_bias", n.div_ceil(4 * FLAT))
        .input(x)?
        .input(bias)?
        .output(&mut y)
        .long(n as u64)
        .count(bias.elem_count())?
        .run(backend)?;
    Ok(y)
}

fn open(backend: &Backend, x: &Tensor, bias: &Tensor, gate: Gate) -> Result<Memory> {
    let program = program(x.dtype(), FLAT)?;
    let n = x.elem_count();
    let (p, stream) = gate.drop.unwrap_or((0.0, Stream::new(0, 0)));
    let below = match gate.drop {
        Some((p, stream)) => stream.choices(1.0 - p).below() as usize,
        None => 1 << 16,
    };
    let mut y = Memory::new(backend, x.dtype(), x.shape())?;
    Launch::new(&program, "gate", n.div_ceil(CHUNKS * FLAT))
        .input(x)?
        .input(bias)?
        .output(&mut y)
        .long(n as u64)
        .count(bias.elem_count())?
        .real(1.0 / (1.0 - p))
        .count(below)?
        .stream(stream)
        .run(backend)?;
    Ok(y)
}

fn back(backend: &Backend, b: &Backward, gate: Option<Gate>) -> Result<InputGradients> {
    let (x, weight, given) = (&b.inputs[0], &b.inputs[1], b.gradient(0)?);
    let (m, n) = weight.dims2()?;
    let rows = x.elem_count() / n.max(1);
    let mut biased = b.needed.get(2) == Some(&true);
    let mut gradients = vec![None; b.inputs.len()];
    let g = match gate {
        Some(gate) => {
            let (g, sums) = close(backend, &b.outputs[0], &given, (rows, m), gate)?;
            if biased {
                gradients[2] = Some(sums);
                biased = false;
            }
            g
        }
        None => given,
    };
    let g = g.contiguous()?.reshape((rows, m))?;
    if b.needed[0] {
        let dx = product(backend, &g, weight)?;
        gradients[0] = Some(dx.reshape(x.dims())?.into_tensor());
    }
    if b.needed[1] {
        let x = x.contiguous()?.reshape((rows, n))?;
        let written = LayerGradients::new(backend, x.dtype(), (m, n), biased)?;
        gradients[1] = Some(written.weight.clone());
        if biased {
            gradients[2] = written.bias.clone();
        }
        let layer = Layer {
            x,
            g,
            gradients: written,
        };
        if b.deferrable(1) && (!biased || b.deferrable(2)) {
            weight_gradient_deferred(backend, layer, Target::whole())?;
        } else {
            weight_gradient(backend, &[layer], Target::whole())?;
        }
    } else if biased {
        gradients[2] = Some(sum_columns(backend, &g, m)?.into_tensor());
    }
    Ok(gradients)
}

/// The gradient before the gate and its sums of columns.
fn close(
    backend: &Backend,
    y: &Tensor,
    g: &Tensor,
    (rows, m): (usize, usize),
    gate: Gate,
) -> Result<(Tensor, Tensor)> {
    let mut behind = Memory::new(backend, y.dtype(), (rows, m))?;
    let mut sums = Memory::new(backend, y.dtype(), m)?;
    Launch::new(&program(y.dtype(), TALL)?, "gate_back", m.div_ceil(COLUMNS))
        .input(y)?
        .input(g)?
        .output(&mut behind)
        .output(&mut sums)
        .count(rows)?
        .count(m)?
        .real(gate.drop.map_or(1.0, |(p, _)| 1.0 / (1.0 - p)))
        .run(backend)?;
    Ok((behind.into_tensor(), sums.into_tensor()))
}
