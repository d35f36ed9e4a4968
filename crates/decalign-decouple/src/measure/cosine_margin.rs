//! A margin on the cosine.

use candle_core::Tensor;
use decalign_core::{Error, Result, simd};

use super::traits::{Fused, Requirements};
use crate::table::Table;
use crate::tensor::{self, NORM_FLOOR};

/// The signs of the cosine that a margin penalises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CosineSign {
    /// `|cos|`: opposite directions count as much as equal ones.
    Both,
    /// `cos`: opposite directions are free, though one part is then a function of the other.
    Positive,
}

/// The mean over samples of the cosine above a margin:
///
/// ```text
/// mean max(0, |cos(a, b)| - margin)        CosineSign::Both
/// mean max(0, cos(a, b) - margin)          CosineSign::Positive
/// ```
///
/// Gradients are 0 at the margin and below. A row whose norm is at most [`NORM_FLOOR`](crate::NORM_FLOOR)
/// has no direction: its cosine is 0, and so is its gradient.
///
/// Parts (n, d) of one shape, n >= 1.
///
/// Source: `CosineSign::Positive` is the cosine embedding loss of PyTorch with target -1, as in DMD (Li and others,
/// CVPR 2023).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{CosineMargin, CosineSign, Measure};
/// let a = Tensor::new(&[[1f64, 0.0], [1.0, 0.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[-2f64, 0.0], [0.0, 3.0]], &Device::Cpu)?;
/// let value = |sign| -> decalign_decouple::Result<f64> {
///     Ok(CosineMargin::new(0.25, sign)?.between(&a, &b)?.to_scalar()?)
/// };
/// assert_eq!(value(CosineSign::Both)?, 0.75 / 2.0);
/// assert_eq!(value(CosineSign::Positive)?, 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CosineMargin {
    margin: f64,
    sign: CosineSign,
}

impl CosineMargin {
    /// With a margin in [0, 1), or in (-1, 1) for [`CosineSign::Positive`].
    ///
    /// # Errors
    /// When the margin is outside its range.
    pub fn new(margin: f64, sign: CosineSign) -> Result<Self> {
        let (fits, remedy) = match sign {
            CosineSign::Both => ((0.0..1.0).contains(&margin), "must lie in [0, 1)"),
            CosineSign::Positive => (margin > -1.0 && margin < 1.0, "must lie in (-1, 1)"),
        };
        match fits {
            true => Ok(Self { margin, sign }),
            false => Err(Error::value("cosine margin", margin, remedy)),
        }
    }

    /// The excess over the margin, and its derivative by the cosine.
    fn hinge(self, cosine: f64) -> (f64, f64) {
        let (size, slope) = match self.sign {
            CosineSign::Both => (cosine.abs(), if cosine < 0.0 { -1.0 } else { 1.0 }),
            CosineSign::Positive => (cosine, 1.0),
        };
        match size > self.margin {
            true => (size - self.margin, slope),
            false => (0.0, 0.0),
        }
    }
}

impl Fused for CosineMargin {
    const NAME: &'static str = "cosine_margin";

    fn requirements(&self) -> Requirements {
        Requirements::rows(1).paired().same_width()
    }

    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        let n = a.n() as f64;
        let (mut da, mut db) = (Vec::with_capacity(a.data.len()), Vec::new());
        let mut value = 0.0;
        for (a, b) in a.rows().zip(b.rows()) {
            let norms = [a, b].map(|x| simd::sum_squares(x).sqrt());
            let directed = norms.iter().all(|n| *n > NORM_FLOOR);
            let cosine = match directed {
                true => simd::dot(a, b) / norms[0] / norms[1],
                false => 0.0,
            };
            let (above, slope) = self.hinge(cosine);
            value += above / n;
            let slope = if directed { slope / n } else { 0.0 };
            // d cos / d a = b / (|a| |b|) - cos a / |a|^2
            let (across, along) = match slope == 0.0 {
                true => (0.0, [0.0; 2]),
                false => (
                    slope / norms[0] / norms[1],
                    norms.map(|n| slope * cosine / n / n),
                ),
            };
            da.extend(a.iter().zip(b).map(|(a, b)| across * b - along[0] * a));
            db.extend(a.iter().zip(b).map(|(a, b)| across * a - along[1] * b));
        }
        (value, [da, db])
    }

    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let unit = |x: &Tensor| tensor::over_root(x, &x.sqr()?.sum_keepdim(1)?, NORM_FLOOR);
        let cosine = (unit(a)? * unit(b)?)?.sum(1)?;
        let size = match self.sign {
            CosineSign::Both => cosine.abs()?,
            CosineSign::Positive => cosine,
        };
        Ok((size - self.margin)?.relu()?.mean(0)?)
    }
}
