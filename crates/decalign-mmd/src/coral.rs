//! Matching covariances, and central moments of any order.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::op::{Output, record_one};
use decalign_core::{Elements, Error, Real, Result, with_real};

use crate::reference;
use crate::sample::{check_finite, check_points};

/// Correlation alignment: the mean over all pairs of M samples of `|C_x - C_y|^2 / (4 d^2)`, the squared
/// Frobenius distance of covariances (dividing by max(n - 1, 1)).
///
/// # Shapes
/// M >= 2 tensors (n_m, d), n_m >= 1. The result is a scalar.
///
/// # Errors
/// When shapes or dtypes differ, or an entry is not finite.
///
/// Source: Sun and Saenko, Deep CORAL (2016).
pub fn coral(samples: &[Tensor]) -> Result<Tensor> {
    pairwise("coral", samples, reference::coral, |rows, width| {
        let each: Vec<Covariance> = rows.iter().map(|x| Covariance::new(x, width)).collect();
        let mut gradients = vec![vec![0.0; width * width]; rows.len()];
        let pairs = (rows.len() * (rows.len() - 1) / 2) as f64;
        let scale = (4.0 * (width * width) as f64 * pairs).recip();
        let mut value = 0.0;
        for j in 1..rows.len() {
            let (before, after) = gradients.split_at_mut(j);
            for (i, before) in before.iter_mut().enumerate() {
                let matrices = each[i].matrix.iter().zip(&each[j].matrix);
                for ((a, b), (da, db)) in matrices.zip(before.iter_mut().zip(&mut after[0])) {
                    let e = a - b;
                    value += scale * e * e;
                    *da += 2.0 * scale * e;
                    *db -= 2.0 * scale * e;
                }
            }
        }
        let gradients = each.iter().zip(&gradients).map(|(c, g)| c.pull(g, width));
        (value, gradients.collect())
    })
}

struct Covariance {
    centred: Vec<f64>,
    matrix: Vec<f64>,
}

impl Covariance {
    fn new(x: &[f64], width: usize) -> Self {
        let (_, centred) = centre(x, width);
        let n = centred.len() / width;
        let mut matrix = vec![0.0; width * width];
        let rows = Matrix::new(&centred, n, width);
        matmul(&mut matrix, width, rows.t(), rows, Store::Write);
        let degrees = n.saturating_sub(1).max(1) as f64;
        matrix.iter_mut().for_each(|v| *v /= degrees);
        Self { centred, matrix }
    }

    /// From a symmetric gradient to that of the rows; the mean adds nothing, as centred columns sum to
    /// zero.
    fn pull(&self, gradient: &[f64], width: usize) -> Vec<f64> {
        let n = self.centred.len() / width;
        let mut dx = vec![0.0; self.centred.len()];
        let rows = Matrix::new(&self.centred, n, width);
        matmul(
            &mut dx,
            width,
            rows,
            Matrix::new(gradient, width, width),
            Store::Write,
        );
        let scale = 2.0 / n.saturating_sub(1).max(1) as f64;
        dx.iter_mut().for_each(|v| *v *= scale);
        dx
    }
}

/// The mean of every column, and the rows without it.
fn centre(x: &[f64], width: usize) -> (Vec<f64>, Vec<f64>) {
    let n = (x.len() / width) as f64;
    let mut mean = vec![0.0; width];
    for row in x.chunks_exact(width) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
    }
    let rows = x.chunks_exact(width);
    let centred = rows.flat_map(|row| row.iter().zip(&mean).map(|(v, m)| v - m));
    let centred = centred.collect();
    (mean, centred)
}

/// Central moment discrepancy:
///
/// ```text
/// CMD = |m_x - m_y| / s + sum_(k = 2..K) |c_k(x) - c_k(y)| / s^k,   c_k = mean (x - m)^k by coordinates
/// ```
///
/// with Euclidean norms, s being the span of the coordinates (b - a for values in [a, b]). A norm has
/// no gradient at 0: where two moments are equal it counts as 0, not NaN.
///
/// Source: Zellinger and others, Central moment discrepancy (2017).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CentralMoments {
    order: u32,
    span: f64,
}

impl CentralMoments {
    /// Up to order K >= 1, of coordinates that span `span`.
    ///
    /// # Errors
    /// When the order is not in 1..=32 or the span is not positive and finite.
    pub fn new(order: u32, span: f64) -> Result<Self> {
        if !(1..=32).contains(&order) {
            return Err(Error::value("order", order, "must be between 1 and 32"));
        }
        if !(span > 0.0 && span.is_finite()) {
            return Err(Error::value("span", span, "must be positive and finite"));
        }
        Ok(Self { order, span })
    }

    /// The mean discrepancy over all pairs of M samples.
    ///
    /// # Shapes
    /// M >= 2 tensors (n_m, d), n_m >= 1. The result is a scalar.
    ///
    /// # Errors
    /// When shapes or dtypes differ, an entry is not finite, or a power overflows.
    pub fn discrepancy(&self, samples: &[Tensor]) -> Result<Tensor> {
        let plain = |x: &[Tensor]| reference::central_moment_discrepancy(x, self.order, self.span);
        let (order, span) = (self.order as usize, self.span);
        pairwise("central_moments", samples, plain, move |rows, width| {
            let each: Vec<Powers> = rows.iter().map(|x| Powers::new(x, width, order)).collect();
            let mut gradients = vec![vec![0.0; order * width]; rows.len()];
            let pairs = (rows.len() * (rows.len() - 1) / 2) as f64;
            let mut value = 0.0;
            for j in 1..rows.len() {
                for i in 0..j {
                    for k in 0..order {
                        let scale = (pairs * span.powi(k as i32 + 1)).recip();
                        let at = k * width..(k + 1) * width;
                        let (a, b) = (&each[i].moments[at.clone()], &each[j].moments[at.clone()]);
                        let e: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
                        let norm = e.iter().map(|e| e * e).sum::<f64>().sqrt();
                        value += scale * norm;
                        if norm > 0.0 {
                            for (at, e) in at.zip(e) {
                                gradients[i][at] += scale * e / norm;
                                gradients[j][at] -= scale * e / norm;
                            }
                        }
                    }
                }
            }
            let gradients = each.iter().zip(&gradients).map(|(p, g)| p.pull(g, width));
            (value, gradients.collect())
        })
    }
}

/// The mean and the central moments from the second on, order after order.
struct Powers {
    centred: Vec<f64>,
    moments: Vec<f64>,
}

impl Powers {
    fn new(x: &[f64], width: usize, order: usize) -> Self {
        let (mut moments, centred) = centre(x, width);
        let n = (x.len() / width) as f64;
        let mut powers = centred.clone();
        for _ in 2..=order {
            powers.iter_mut().zip(&centred).for_each(|(p, x)| *p *= x);
            let mut mean = vec![0.0; width];
            for row in powers.chunks_exact(width) {
                mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / n);
            }
            moments.extend(mean);
        }
        Self { centred, moments }
    }

    /// `dc_k / dx_i = k ((x_i - m)^(k-1) - c_(k-1)) / n`, c_1 = 0.
    fn pull(&self, gradient: &[f64], width: usize) -> Vec<f64> {
        let n = (self.centred.len() / width) as f64;
        let mut dx = vec![0.0; self.centred.len()];
        let mut powers = vec![1.0; self.centred.len()];
        for (k, g) in gradient.chunks_exact(width).enumerate() {
            let order = (k + 1) as f64;
            // Of the mean nothing is taken off; c_1 is 0.
            let below = |i: usize| {
                if k < 2 {
                    0.0
                } else {
                    self.moments[(k - 1) * width + i]
                }
            };
            for (at, (dx, p)) in dx.iter_mut().zip(&mut powers).enumerate() {
                let i = at % width;
                *dx += g[i] * order * (*p - below(i)) / n;
                *p *= self.centred[at];
            }
        }
        dx
    }
}

/// A value of all samples and its gradient with respect to each, computed in f64 from the rows.
fn pairwise(
    name: &'static str,
    samples: &[Tensor],
    plain: impl Fn(&[Tensor]) -> Result<Tensor>,
    fused: impl Fn(&[Vec<f64>], usize) -> (f64, Vec<Vec<f64>>),
) -> Result<Tensor> {
    let inputs: Vec<&Tensor> = samples.iter().collect();
    let width = check_points(&inputs, 2, 1)?;
    if !samples[0].device().is_cpu() {
        return plain(samples);
    }
    with_real!("samples", samples[0], T => {
        let mut rows = Vec::with_capacity(samples.len());
        for (i, x) in samples.iter().enumerate() {
            let x = Elements::<T>::new(x)?;
            check_finite(i, &x, width)?;
            rows.push(x.iter().map(|v| v.as_f64()).collect::<Vec<f64>>());
        }
        let (value, gradients) = fused(&rows, width);
        if !T::of(value).is_finite() {
            let remedy = "must be finite: moments overflow; scale the samples down";
            return Err(Error::value(name, value, remedy));
        }
        record_one(name, &inputs, Output::new(vec![T::of(value)], ()), move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?[0].as_f64();
            let each = gradients.iter().zip(b.inputs).map(|(g, x)| {
                let g: Vec<T> = g.iter().map(|v| T::of(v * outer)).collect();
                Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?))
            });
            each.collect()
        })
    })
}
