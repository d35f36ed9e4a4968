//! Transport on a line.

use candle_core::{DType, Device, Tensor};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Error, Real, Result, parallel, with_real};

use super::masses::Masses;
use super::quantile_coupling::{LineTransport, Power, quantile_coupling};
use crate::tensor_convert::read;

/// The cost `W_p^p` of transport between points on a line, in closed form, by the quantile
/// coupling.
///
/// ```text
/// min over P  sum_ij P_ij |x_i - y_j|^p = integral over t in [0, 1] of |X(t) - Y(t)|^p, X and Y the quantiles
/// ```
///
/// Without weights all points weigh 1/n and 1/m. Gradients reach points and weights; those of
/// weights are the potentials, centred to mean 0 over the points with mass, and where a range of
/// them is optimal (as of equal weights), its middle. At equal points of p = 1 the gradient is 0.
///
/// # Shapes
/// `x` (n) and `y` (m), or (B, n) and (B, m), f32 or f64, finite; weights (n) and (m), or (B, n)
/// and (B, m), not negative, of equal totals; `p >= 1`. The result is a scalar, or (B).
///
/// # Errors
/// When a shape or dtype does not fit, a number is not finite, a weight is negative, totals differ,
/// or p is below 1.
///
/// Source: Peyre and Cuturi, *Computational Optimal Transport* (2019), remark 2.30.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::wasserstein_1d;
/// let x = Tensor::new(&[3.0f64, 0.0], &Device::Cpu)?;
/// let y = Tensor::new(&[1.0f64, 2.0], &Device::Cpu)?;
/// // 0 goes to 1, 3 goes to 2.
/// assert_eq!(wasserstein_1d(&x, &y, None, 1.0)?.to_scalar::<f64>()?, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn wasserstein_1d(
    x: &Tensor,
    y: &Tensor,
    weights: Option<(&Tensor, &Tensor)>,
    p: f64,
) -> Result<Tensor> {
    let power = Power::new(p)?;
    let batch = match (x.dims(), y.dims()) {
        ([_], [_]) => 1,
        ([batch, _], [other, _]) if batch == other => *batch,
        _ => {
            let got = (x.shape(), y.shape());
            return Err(Error::tensor(
                "x and y",
                "(n) and (m), or (B, n) and (B, m)",
                got,
            ));
        }
    };
    let points = [numbers("x", x, x.dtype())?, numbers("y", y, x.dtype())?];
    let sizes = [points[0].len() / batch, points[1].len() / batch];
    let mut inputs = vec![x.clone(), y.clone()];
    if let Some((a, b)) = weights {
        inputs.push(weights_of_rows("a", a, x)?);
        inputs.push(weights_of_rows("b", b, y)?);
    }
    let masses = masses(&inputs[2..], batch, sizes)?;
    let [n, m] = sizes;
    let rows = parallel::map(batch, batch * (n + m) * 100, |row| {
        let (x, y) = (&points[0][row * n..][..n], &points[1][row * m..][..m]);
        quantile_coupling(x, y, &masses[row % masses.len()], power)
    });
    let value = record("wasserstein_1d", &inputs, rows)?;
    Ok(match x.rank() {
        1 => value.reshape(())?,
        _ => value,
    })
}

/// The numbers of a tensor, which must be finite, of this type and not empty.
pub(super) fn numbers(name: &str, x: &Tensor, dtype: DType) -> Result<Vec<f64>> {
    let known = matches!(dtype, DType::F32 | DType::F64);
    if x.elem_count() == 0 || x.dtype() != dtype || !known {
        let expected = match known {
            true => format!("not empty, of {dtype:?}"),
            false => "not empty, f32 or f64".to_owned(),
        };
        return Err(Error::tensor(name, expected, (x.shape(), x.dtype())));
    }
    let numbers = read::<f64>(x)?;
    match numbers.iter().position(|v| !v.is_finite()) {
        None => Ok(numbers),
        Some(at) => {
            let width = x.dims().last().copied().unwrap_or(1);
            let name = match x.rank() {
                2 => format!("{name} at ({}, {})", at / width, at % width),
                _ => format!("{name}[{at}]"),
            };
            Err(Error::value(name, numbers[at], "must be finite"))
        }
    }
}

/// The weights of every row of points.
fn weights_of_rows(name: &str, weights: &Tensor, points: &Tensor) -> Result<Tensor> {
    let last = points.rank() - 1;
    let fits = weights.dims() == points.dims() || weights.dims() == &points.dims()[last..];
    if !fits || weights.dtype() != points.dtype() {
        let expected = format!("the shape and dtype of its points, {:?}", points.shape());
        return Err(Error::tensor(
            name,
            expected,
            (weights.shape(), weights.dtype()),
        ));
    }
    Ok(weights.broadcast_as(points.dims())?)
}

/// The masses of each row, or one for all.
fn masses(weights: &[Tensor], batch: usize, [n, m]: [usize; 2]) -> Result<Vec<Masses>> {
    let [a, b] = weights else {
        return Ok(vec![Masses::uniform(n, m)]);
    };
    let (a, b) = (read::<f64>(a)?, read::<f64>(b)?);
    let rows = (0..batch).map(|row| {
        let of = match batch {
            1 => String::new(),
            _ => format!(" of row {row}"),
        };
        Masses::checked(&a[row * n..][..n], &b[row * m..][..m], &of)
    });
    rows.collect()
}

/// The costs, (B), with gradients with respect to x, y and, where given, a and b.
pub(super) fn record(
    name: &'static str,
    inputs: &[Tensor],
    rows: Vec<LineTransport>,
) -> Result<Tensor> {
    let home = inputs[0].device().clone();
    let local = inputs.iter().map(|x| Ok(x.to_device(&Device::Cpu)?));
    let local = local.collect::<Result<Vec<Tensor>>>()?;
    let local: Vec<&Tensor> = local.iter().collect();
    let value = with_real!("x", inputs[0], T => {
        let costs: Vec<T> = rows.iter().map(|row| T::of(row.cost)).collect();
        let output = Output::new(costs, rows.len());
        record_one(name, &local, output, move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?;
            let gradients = b.inputs.iter().enumerate().map(|(i, x)| {
                let each = rows.iter().zip(outer.iter());
                let scaled = each.flat_map(|(row, outer)| {
                    let derivatives = [&row.x, &row.y, &row.a, &row.b][i];
                    derivatives.iter().map(|v| T::of(v * outer.as_f64()))
                });
                Ok(Some(Tensor::from_vec(scaled.collect::<Vec<T>>(), x.dims(), &Device::Cpu)?))
            });
            gradients.collect()
        })
    })?;
    Ok(value.to_device(&home)?)
}
