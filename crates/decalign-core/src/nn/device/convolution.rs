//! Convolution over time on devices: windows side by side, and one product.

use candle_core::{DType, Tensor};

use super::weight_gradient::{
    Layer, LayerGradients, Target, weight_gradient, weight_gradient_deferred,
};
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, product};
use crate::nn::convolution_size::Size;
use crate::op::record_one;

const LANES: usize = 256;

pub(in crate::nn) fn program(dtype: DType) -> Result<Program> {
    let source = include_str!("convolution.cu");
    Ok(Program::new("convolution", source, dtype)?.lanes(LANES))
}

/// See [`crate::nn::convolution()`].
pub(in crate::nn) fn convolution(
    backend: &Backend,
    x: &Tensor,
    weight: &Tensor,
    size: Size,
) -> Result<Tensor> {
    let windows = windows(backend, x, size)?;
    let y = product(backend, &windows, &by_window(weight, size)?.t()?)?;
    let y = y.reshape((size.batch, size.length(), size.outputs))?;
    let backend = backend.clone();
    record_one("convolution", &[x, weight], y.into(), move |b| {
        let (x, weight) = (&b.inputs[0], &b.inputs[1]);
        let rows = size.batch * size.length();
        let g = b.gradient(0)?.contiguous()?.reshape((rows, size.outputs))?;
        let mut gradients = vec![None, None];
        if b.needed[0] {
            let of_windows = product(&backend, &g, &by_window(weight, size)?)?;
            gradients[0] = Some(gathered(&backend, of_windows, x, size)?);
        }
        if b.needed[1] {
            // Computed again: windows are as many times larger than x as the kernel is long.
            let windows = self::windows(&backend, x, size)?;
            let shape = (size.outputs, size.kernel * size.channels);
            let written = LayerGradients::new(&backend, x.dtype(), shape, false)?;
            let dw = written.weight.clone();
            let layer = Layer {
                x: windows,
                g,
                gradients: written,
            };
            // Channels change places at once where a kernel is longer.
            if size.kernel == 1 && b.deferrable(1) {
                weight_gradient_deferred(&backend, layer, Target::whole())?;
            } else {
                weight_gradient(&backend, &[layer], Target::whole())?;
            }
            gradients[1] = Some(by_channel(&dw, size)?);
        }
        Ok(gradients)
    })
}

/// (B L, K C): one window a row.
fn windows(backend: &Backend, x: &Tensor, size: Size) -> Result<Tensor> {
    let shape = (size.batch * size.length(), size.kernel * size.channels);
    if size.kernel == 1 {
        return Ok(x.detach().contiguous()?.reshape(shape)?);
    }
    let mut out = Memory::new(backend, x.dtype(), shape)?;
    launch(backend, "windows", (x, &mut out), size)?;
    Ok(out.into_tensor())
}

/// The gradient of x from those of its windows.
fn gathered(backend: &Backend, of_windows: Memory, x: &Tensor, size: Size) -> Result<Tensor> {
    if size.kernel == 1 {
        return Ok(of_windows.reshape(x.shape())?.into_tensor());
    }
    let mut dx = Memory::new(backend, x.dtype(), x.shape())?;
    launch(
        backend,
        "windows_back",
        (&of_windows.into_tensor(), &mut dx),
        size,
    )?;
    Ok(dx.into_tensor())
}

/// (O, K C), the order of a window's elements.
fn by_window(weight: &Tensor, size: Size) -> Result<Tensor> {
    let shape = (size.outputs, size.kernel * size.channels);
    match size.kernel {
        1 => Ok(weight.detach().reshape(shape)?),
        _ => Ok(weight
            .detach()
            .permute((0, 2, 1))?
            .contiguous()?
            .reshape(shape)?),
    }
}

/// (O, K C) back to (O, C, K).
fn by_channel(weight: &Tensor, size: Size) -> Result<Tensor> {
    let (m, k, c) = (size.outputs, size.kernel, size.channels);
    match k {
        1 => Ok(weight.reshape((m, c, k))?),
        _ => Ok(weight
            .reshape((m, k, c))?
            .permute((0, 2, 1))?
            .contiguous()?),
    }
}

fn launch(
    backend: &Backend,
    function: &'static str,
    (from, to): (&Tensor, &mut Memory),
    size: Size,
) -> Result<()> {
    let program = program(from.dtype())?;
    let n = to.elem_count();
    Launch::new(&program, function, n.div_ceil(LANES))
        .input(from)?
        .output(to)
        .long(n as u64)
        .count(size.steps)?
        .count(size.channels)?
        .count(size.kernel)?
        .run(backend)
}
