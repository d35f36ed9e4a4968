//! Rotation of queries and keys by their positions.

use candle_core::{DType, Tensor};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::attention_shape::check_heads;
use crate::reference;

/// Rotary position embedding (Su and others, RoFormer, 2021): in each head, coordinates 2 i and 2 i + 1 are rotated
/// by an angle that grows with the position,
///
/// ```text
/// (x_2i cos a - x_2i+1 sin a, x_2i sin a + x_2i+1 cos a),   a = angles[b, t, i]
/// ```
///
/// so that the product of a query and a key depends on the difference of their positions alone.
///
/// # Shapes
/// `x` (B, T, d), `angles` (B or 1, T, d / heads / 2), see [`Position`](crate::Position); the result has the
/// shape of `x`. Angles carry no gradient.
///
/// # Errors
/// When the shapes or dtypes do not fit, or the width of a head is odd.
///
/// ```
/// use candle_core::{Device, Tensor};
/// let x = Tensor::new(&[[[1f64, 0.0]]], &Device::Cpu)?;
/// let quarter = Tensor::new(&[[[std::f64::consts::FRAC_PI_2]]], &Device::Cpu)?;
/// let y = decalign_fusion::rotate(&x, 1, &quarter)?.flatten_all()?.to_vec1::<f64>()?;
/// assert!(y[0].abs() < 1e-15 && y[1] == 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn rotate(x: &Tensor, heads: usize, angles: &Tensor) -> Result<Tensor> {
    let (batch, steps, width) = x
        .dims3()
        .map_err(|_| Error::tensor("rotated sequence", "shape (B, T, d)", x.shape()))?;
    check_heads(heads, width)?;
    let half = width / heads / 2;
    if half * 2 * heads != width {
        let remedy = "must be even for rotary positions; change width or heads";
        return Err(Error::value("width of a head", width / heads, remedy));
    }
    if ![[batch, steps, half], [1, steps, half]]
        .iter()
        .any(|fit| angles.dims() == fit)
    {
        let expected = format!("shape ({batch} or 1, {steps}, {half})");
        return Err(Error::tensor("angles", expected, angles.shape()));
    }
    let angles = angles.detach();
    if !x.device().is_cpu() {
        return reference::rotate(x, heads, &angles);
    }
    // Angles of late positions are large, so their sines are computed in f64.
    let angles = angles.to_dtype(DType::F64)?;
    with_real!("x", x, T => fused::<T>(x, heads, &angles))
}

fn fused<T: Real>(x: &Tensor, heads: usize, angles: &Tensor) -> Result<Tensor> {
    let rotations: Vec<(T, T)> = Elements::<f64>::new(angles)?
        .iter()
        .map(|a| (T::of(a.cos()), T::of(a.sin())))
        .collect();
    let half = angles.dim(2)?;
    let y = rotated(&Elements::<T>::new(x)?, &rotations, (heads, half), T::one());
    record_one("rotate", &[x], Output::new(y, x.dims()), move |b| {
        let gradient = b.gradient(0)?;
        // The transpose of a rotation is its inverse.
        let g = Elements::<T>::new(&gradient)?;
        let dx = rotated(&g, &rotations, (heads, half), -T::one());
        let (dims, device) = (b.inputs[0].dims(), b.inputs[0].device());
        Ok(vec![Some(Tensor::from_vec(dx, dims, device)?)])
    })
}

/// Rotates all rows by (cosine, sine), or by the inverse if `direction` is -1.
fn rotated<T: Real>(
    x: &[T],
    rotations: &[(T, T)],
    (heads, half): (usize, usize),
    direction: T,
) -> Vec<T> {
    let mut y = x.to_vec();
    let rows = rotations.chunks_exact(half).cycle();
    for (row, rotations) in y.chunks_exact_mut(2 * half * heads).zip(rows) {
        for head in row.chunks_exact_mut(2 * half) {
            for (pair, (cosine, sine)) in head.as_chunks_mut::<2>().0.iter_mut().zip(rotations) {
                let [a, b] = *pair;
                let sine = *sine * direction;
                *pair = [a * *cosine - b * sine, a * sine + b * *cosine];
            }
        }
    }
    y
}
