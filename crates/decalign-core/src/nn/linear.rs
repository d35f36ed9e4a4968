//! Affine maps.

use candle_core::{D, Tensor};

use super::dropout::apply_dropout;
use super::gate::Gate;
use super::{Mode, device};
use crate::device::Backend;
use crate::gemm::{Matrix, Store, matmul};
use crate::op::{Backward, InputGradients, Output, record_one};
use crate::{Elements, Error, Real, Result, with_real};

/// `y = x W^T + b` on the last dimension of `x`.
///
/// # Shapes
/// `x` (..., n), `weight` (m, n), `bias` (m); the result is (..., m).
///
/// # Errors
/// When the shapes or dtypes do not fit.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?;
/// let weight = Tensor::new(&[[1f32, 1.0], [0.0, 3.0]], &Device::Cpu)?;
/// let y = decalign_core::nn::linear(&x, &weight, None)?;
/// assert_eq!(y.to_vec2::<f32>()?, [[3.0, 6.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    check(x, weight, bias)?;
    if let Some(backend) = Backend::of(x)? {
        return device::linear(&backend, x, weight, bias, None);
    }
    with_real!("x", x, T => fused::<T>(x, weight, bias, None))
}

/// `y = max(x W^T + b, 0)`: [`linear`] and a rectifier in one pass.
///
/// # Shapes
/// As [`linear`].
///
/// # Errors
/// As [`linear`].
pub fn linear_relu(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    linear_relu_dropout(x, weight, bias, (0.0, Mode::Inference))
}

/// [`linear_relu`] and dropout with probability `p` in one pass. What is kept and positive is so in the result,
/// so the backward pass draws nothing.
///
/// # Shapes
/// As [`linear`].
///
/// # Errors
/// As [`linear`], and when `p` is outside [0, 1).
pub fn linear_relu_dropout(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    (p, mode): (f64, Mode),
) -> Result<Tensor> {
    check(x, weight, bias)?;
    super::dropout::check(p)?;
    let gate = Gate {
        drop: mode.stream(p).map(|stream| (p, stream)),
    };
    if let Some(backend) = Backend::of(x)? {
        return device::linear(&backend, x, weight, bias, Some(gate));
    }
    with_real!("x", x, T => fused::<T>(x, weight, bias, Some(gate)))
}

fn check(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let (m, n) = weight
        .dims2()
        .map_err(|_| Error::tensor("linear weight", "shape (m, n)", weight.shape()))?;
    if x.rank() == 0 || x.dim(D::Minus1)? != n {
        return Err(Error::tensor(
            "linear input",
            format!("shape (..., {n})"),
            x.shape(),
        ));
    }
    match bias {
        Some(bias) if bias.dims() != [m] => Err(Error::tensor(
            "linear bias",
            format!("shape ({m})"),
            bias.shape(),
        )),
        _ => Ok(()),
    }
}

fn fused<T: Real>(
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    gate: Option<Gate>,
) -> Result<Tensor> {
    let (m, n) = weight.dims2()?;
    let mut dims = x.dims().to_vec();
    dims.pop();
    dims.push(m);
    let y = {
        let (x, w) = (Elements::<T>::new(x)?, Elements::<T>::new(weight)?);
        let bias = bias.map(Elements::<T>::new).transpose()?;
        forward(&x, &w, bias.as_deref(), (m, n), gate)
    };
    let inputs: Vec<&Tensor> = [x, weight].into_iter().chain(bias).collect();
    record_one("linear", &inputs, Output::new(y, dims), move |b| {
        backward::<T>(b, (m, n), gate)
    })
}

fn forward<T: Real>(
    x: &[T],
    w: &[T],
    bias: Option<&[T]>,
    (m, n): (usize, usize),
    gate: Option<Gate>,
) -> Vec<T> {
    let rows = x.len() / n.max(1);
    let (mut y, store) = match bias {
        Some(bias) => (bias.repeat(rows), Store::Add),
        None => (vec![T::zero(); rows * m], Store::Write),
    };
    matmul(
        &mut y,
        m,
        Matrix::new(x, rows, n),
        Matrix::new(w, m, n).t(),
        store,
    );
    if let Some(gate) = gate {
        // Comparison, not `max`, so that NaN stays visible.
        y.iter_mut()
            .for_each(|v| *v = if *v < T::zero() { T::zero() } else { *v });
        if let Some((p, stream)) = gate.drop {
            apply_dropout(&mut y, p, stream);
        }
    }
    y
}

fn backward<T: Real>(
    b: &Backward,
    (m, n): (usize, usize),
    gate: Option<Gate>,
) -> Result<InputGradients> {
    let gradient = b.gradient(0)?;
    let (x, w) = (
        Elements::<T>::new(&b.inputs[0])?,
        Elements::<T>::new(&b.inputs[1])?,
    );
    let given = Elements::<T>::new(&gradient)?;
    let rows = given.len() / m.max(1);
    let gated: Option<Vec<T>> = match gate {
        Some(gate) => {
            let y = Elements::<T>::new(&b.outputs[0])?;
            let scale = T::of(gate.drop.map_or(1.0, |(p, _)| 1.0 / (1.0 - p)));
            let mut g = given.to_vec();
            for (g, y) in g.iter_mut().zip(y.iter()) {
                // Multiplied in either case: a choice between numbers, not a branch.
                let open = *g * scale;
                *g = if *y > T::zero() { open } else { T::zero() };
            }
            Some(g)
        }
        None => None,
    };
    let g: &[T] = gated.as_deref().unwrap_or(&given);
    let mut gradients = vec![None; b.inputs.len()];
    if b.needed[0] {
        let mut dx = vec![T::zero(); rows * n];
        matmul(
            &mut dx,
            n,
            Matrix::new(g, rows, m),
            Matrix::new(&w, m, n),
            Store::Write,
        );
        gradients[0] = Some(Tensor::from_vec(
            dx,
            b.inputs[0].dims(),
            b.inputs[0].device(),
        )?);
    }
    if b.needed[1] {
        let mut dw = vec![T::zero(); m * n];
        matmul(
            &mut dw,
            n,
            Matrix::new(g, rows, m).t(),
            Matrix::new(&x, rows, n),
            Store::Write,
        );
        gradients[1] = Some(Tensor::from_vec(dw, (m, n), b.inputs[1].device())?);
    }
    if b.needed.get(2) == Some(&true) {
        let mut db = vec![T::zero(); m];
        for row in g.chunks_exact(m) {
            for (sum, v) in db.iter_mut().zip(row) {
                *sum += *v;
            }
        }
        gradients[2] = Some(Tensor::from_vec(db, m, b.inputs[2].device())?);
    }
    Ok(gradients)
}
