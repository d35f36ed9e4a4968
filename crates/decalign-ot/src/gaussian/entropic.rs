//! Entropic transport between Gaussians, and the spectral function that both costs share.

use candle_core::Tensor;
use decalign_core::Result;

use super::full::costs;
use crate::validate::positive;

/// Entropic transport between Gaussians in closed form, `C = |x - y|^2`:
///
/// ```text
/// min over P  <P, C> + eps KL(P | a x b)
///   = |m - m'|^2 + tr A + tr B + sum_i (-D_i + eps/2 (1 + log((D_i + eps/2) / eps))),
/// D = (4 A^{1/2} B A^{1/2} + eps^2/4 I)^{1/2}
/// ```
///
/// The result carries gradients with respect to means and covariances, finite at singular ones, and
/// tends to [`bures_wasserstein`](crate::bures_wasserstein) as eps goes to 0.
///
/// # Shapes
/// `mean` (K, d), `covariance` (K, d, d), `mean2` (L, d) and `covariance2` (L, d, d), f32 or f64;
/// the result is (K, L).
///
/// # Errors
/// Those of [`bures_wasserstein`](crate::bures_wasserstein); also when epsilon is not positive and finite.
///
/// Source: Janati, Muzellec, Peyre and Cuturi (2020), with `eps = 2 sigma^2`; Mallasto, Gerolin and
/// Minh (2020).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_ot::entropic_gaussian;
/// let (m, n) = (Tensor::new(&[[0.0f64]], &Device::Cpu)?, Tensor::new(&[[3.0f64]], &Device::Cpu)?);
/// let v = Tensor::new(&[[[1.0f64]]], &Device::Cpu)?;
/// // A large epsilon leaves independent points: 9 + 1 + 1.
/// let cost = entropic_gaussian((&m, &v), (&n, &v), 1e6)?;
/// assert!((cost.to_vec2::<f64>()?[0][0] - 11.0).abs() < 1e-5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn entropic_gaussian(
    (mean, covariance): (&Tensor, &Tensor),
    (mean2, covariance2): (&Tensor, &Tensor),
    epsilon: f64,
) -> Result<Tensor> {
    positive("epsilon", epsilon)?;
    let inputs = [mean, covariance, mean2, covariance2];
    costs("entropic_gaussian", inputs, epsilon, |_| 1.0)
}

/// The cost and its derivative as functions of a singular value s of `A^{1/2} B^{1/2}`, for `epsilon >= 0`.
pub(super) struct Spectrum {
    pub(super) epsilon: f64,
}

impl Spectrum {
    fn root(&self, value: f64) -> f64 {
        (2.0 * value).hypot(0.5 * self.epsilon)
    }

    /// `-D + eps/2 (1 + log((D + eps/2) / eps))` with D of [`entropic_gaussian`]; `-2 s` without regularisation.
    pub(super) fn cost(&self, value: f64) -> f64 {
        let half = 0.5 * self.epsilon;
        if half == 0.0 {
            return -2.0 * value;
        }
        // D - eps/2 without cancellation.
        let above = 2.0 * value * (2.0 * value / (self.root(value) + half));
        half * (above / self.epsilon).ln_1p() - above
    }

    /// Minus the derivative of the cost with respect to `s^2`; `1 / max(s, floor)` without regularisation.
    pub(super) fn slope(&self, value: f64, floor: f64) -> f64 {
        let value = if self.epsilon > 0.0 {
            value
        } else {
            value.max(floor)
        };
        match 2.0 / (self.root(value) + 0.5 * self.epsilon) {
            slope if slope.is_finite() => slope,
            // Both covariances are 0: the maps are multiplied by their roots, which are 0.
            _ => 0.0,
        }
    }
}
