//! The squared 2-Wasserstein distance between Gaussians with diagonal covariances.

use candle_core::Tensor;
use decalign_core::device::Backend;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::{Elements, Error, Real, Result, with_real};

use super::ROOT_SHIFT;
use super::device;
use crate::reduction::Reduction;
use crate::validate::same_dtype;

/// Squared 2-Wasserstein distance between Gaussians with diagonal covariances:
/// `sum_d (m - m')^2 + sum_d (v + v' - 2 sqrt(v v' + 1e-8))`, or its mean over dimensions.
///
/// # Shapes
/// `mean`, `variance` (K, d) and `mean2`, `variance2` (L, d), variances not negative; the result
/// is (K, L).
///
/// # Errors
/// When shapes or dtypes do not fit.
///
/// Source: Dowson and Landau (1982); Bhatia, Jain and Lim (2019) for the name.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::{Reduction, bures_wasserstein_diagonal};
/// let (m, n) = (Tensor::new(&[[0.0f64]], &Device::Cpu)?, Tensor::new(&[[3.0f64]], &Device::Cpu)?);
/// let v = Tensor::new(&[[1.0f64]], &Device::Cpu)?;
/// let cost = bures_wasserstein_diagonal((&m, &v), (&n, &v), Reduction::Sum)?;
/// assert!((cost.to_vec2::<f64>()?[0][0] - 9.0).abs() < 1e-7);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bures_wasserstein_diagonal(
    (mean, variance): (&Tensor, &Tensor),
    (mean2, variance2): (&Tensor, &Tensor),
    reduction: Reduction,
) -> Result<Tensor> {
    let fits = |m: &Tensor, v: &Tensor| m.rank() == 2 && m.dims() == v.dims() && m.elem_count() > 0;
    if !fits(mean, variance) || !fits(mean2, variance2) || mean.dims()[1] != mean2.dims()[1] {
        let got = (
            mean.shape(),
            variance.shape(),
            mean2.shape(),
            variance2.shape(),
        );
        return Err(Error::tensor(
            "Gaussians",
            "means and variances (K, d) and (L, d)",
            got,
        ));
    }
    let inputs = [mean, variance, mean2, variance2];
    if let Some(backend) = Backend::of(mean)? {
        for x in inputs {
            same_dtype("Gaussians", x, mean)?;
        }
        return device::bures_wasserstein(&backend, inputs, reduction.factor(mean.dims()[1]));
    }
    with_real!("means", mean, T => fused::<T>(inputs, reduction))
}

fn fused<T: Real>(inputs: [&Tensor; 4], reduction: Reduction) -> Result<Tensor> {
    let (k, width) = inputs[0].dims2()?;
    let l = inputs[2].dims()[0];
    let factor = T::of(reduction.factor(width));
    let read = |i: usize| Elements::<T>::new(inputs[i]);
    let (m, v, m2, v2) = (read(0)?, read(1)?, read(2)?, read(3)?);
    let mut cost = Vec::with_capacity(k * l);
    for (m, v) in m.chunks_exact(width).zip(v.chunks_exact(width)) {
        for (m2, v2) in m2.chunks_exact(width).zip(v2.chunks_exact(width)) {
            let mut sum = T::zero();
            for i in 0..width {
                let e = m[i] - m2[i];
                let root = (v[i] * v2[i] + T::of(ROOT_SHIFT)).sqrt();
                sum += e * e + (v[i] + v2[i] - T::of(2.0) * root);
            }
            cost.push(sum * factor);
        }
    }
    record_one(
        "bures_wasserstein",
        &inputs,
        Output::new(cost, (k, l)),
        move |b| backward::<T>(b, (l, width), factor),
    )
}

fn backward<T: Real>(
    b: &Backward,
    (l, width): (usize, usize),
    factor: T,
) -> Result<InputGradients> {
    let gradient = b.gradient(0)?;
    let g = Elements::<T>::new(&gradient)?;
    let read = |i: usize| Elements::<T>::new(&b.inputs[i]);
    let (m, v, m2, v2) = (read(0)?, read(1)?, read(2)?, read(3)?);
    let mut d = [&m, &v, &m2, &v2].map(|x| vec![T::zero(); x.len()]);
    for (pair, g) in g.iter().enumerate() {
        let (a, c) = ((pair / l) * width, (pair % l) * width);
        let g = *g * factor;
        for i in 0..width {
            let e = T::of(2.0) * g * (m[a + i] - m2[c + i]);
            d[0][a + i] += e;
            d[2][c + i] -= e;
            let root = (v[a + i] * v2[c + i] + T::of(ROOT_SHIFT)).sqrt();
            d[1][a + i] += g * (T::one() - v2[c + i] / root);
            d[3][c + i] += g * (T::one() - v[a + i] / root);
        }
    }
    let gradients = d
        .into_iter()
        .zip(b.inputs)
        .map(|(d, x)| Ok(Some(Tensor::from_vec(d, x.dims(), x.device())?)));
    gradients.collect()
}
