//! Similarity by central moments.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::Measure;
use crate::reference;
use crate::table::{Demand, Table, between};

/// Central moment discrepancy: how far two parts are from one distribution, coordinate by coordinate.
///
/// ```text
/// |m_a - m_b| / s + sum_(k = 2..K) |c_k(a) - c_k(b)| / s^k,   c_k = mean (x - m)^k
/// ```
///
/// with Euclidean norms, s being the span of the coordinates (1 in MISA; b - a for values in [a, b]).
/// A norm has no gradient at 0: where two moments are equal it counts as 0, not NaN.
///
/// Parts (n, d) and (m, d), n, m >= 2; rows need not belong together.
///
/// Source: Zellinger and others, Central moment discrepancy (2017), as in MISA (Hazarika and others, 2020),
/// section 3.5.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{CentralMoments, Measure};
/// let a = Tensor::new(&[[0f64], [2.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f64], [5.0]], &Device::Cpu)?;
/// // Means 1 and 3, variances 1 and 4.
/// let value = CentralMoments::new(2, 1.0)?.between(&a, &b)?;
/// assert_eq!(value.to_scalar::<f64>()?, 5.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CentralMoments {
    order: u32,
    span: f64,
}

impl CentralMoments {
    /// Up to order K (5 in MISA), of coordinates that span `span`.
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

    fn evaluate(self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        let width = a.width;
        let order = self.order as usize;
        let (a, b) = (Moments::new(a, order), Moments::new(b, order));
        let mut gradient = vec![0.0; order * width];
        let mut value = 0.0;
        let cells = a
            .moments
            .chunks_exact(width)
            .zip(b.moments.chunks_exact(width));
        for (k, (a, b)) in cells.enumerate() {
            let scale = self.span.powi(k as i32 + 1).recip();
            let gradient = &mut gradient[k * width..(k + 1) * width];
            for (g, (a, b)) in gradient.iter_mut().zip(a.iter().zip(b)) {
                *g = a - b;
            }
            let norm = gradient.iter().map(|e| e * e).sum::<f64>().sqrt();
            value += scale * norm;
            let slope = if norm > 0.0 { scale / norm } else { 0.0 };
            gradient.iter_mut().for_each(|g| *g *= slope);
        }
        let da = a.pull(&gradient);
        gradient.iter_mut().for_each(|g| *g = -*g);
        (value, [da, b.pull(&gradient)])
    }
}

impl Measure for CentralMoments {
    fn name(&self) -> &'static str {
        "central_moments"
    }

    fn between(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let demand = Demand {
            least: 2,
            paired: false,
            same_width: true,
        };
        let plain = || reference::central_moments(a, b, self.order, self.span);
        between(self.name(), (a, b), demand, plain, |a, b| {
            self.evaluate(a, b)
        })
    }
}

/// The mean and the central moments from the second on, order after order.
struct Moments {
    centred: Table,
    moments: Vec<f64>,
}

impl Moments {
    fn new(x: Table, order: usize) -> Self {
        let mut moments = x.mean();
        let centred = x.centred();
        let mut powers = centred.clone();
        for _ in 2..=order {
            let cells = powers.data.iter_mut().zip(&centred.data);
            cells.for_each(|(p, x)| *p *= x);
            moments.extend(powers.mean());
        }
        Self { centred, moments }
    }

    /// `dc_k / dx_i = k ((x_i - m)^(k-1) - c_(k-1)) / n`, c_1 = 0; of the mean 1 / n.
    fn pull(&self, gradient: &[f64]) -> Vec<f64> {
        let (width, n) = (self.centred.width, self.centred.n() as f64);
        let mut dx = self.centred.zeros();
        let mut powers = vec![1.0; dx.len()];
        for (k, g) in gradient.chunks_exact(width).enumerate() {
            let order = (k + 1) as f64;
            let below = |i: usize| match k {
                0 | 1 => 0.0,
                _ => self.moments[(k - 1) * width + i],
            };
            for (at, (dx, p)) in dx.iter_mut().zip(&mut powers).enumerate() {
                let i = at % width;
                *dx += g[i] * order * (*p - below(i)) / n;
                *p *= self.centred.data[at];
            }
        }
        dx
    }
}
