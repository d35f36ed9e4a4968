//! Central moment discrepancy as a measure.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_core::moments::CentralMomentDiscrepancy;

use super::traits::{Fused, Requirements};
use crate::table::Table;
use crate::tensor;

/// How far two parts (n, d) and (m, d), n, m >= 2, are from one distribution; rows need not be paired. MISA
/// (Hazarika and others, 2020, section 3.5) takes order 5 and span 1.
impl Fused for CentralMomentDiscrepancy {
    const NAME: &'static str = "central_moments";

    fn requirements(&self) -> Requirements {
        Requirements::rows(2).same_width()
    }

    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        let (value, mut gradients) = self.evaluate(&[&a.data, &b.data], a.width);
        let db = gradients.swap_remove(1);
        (value, [gradients.swap_remove(0), db])
    }

    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let distance = |a: &Tensor, b: &Tensor, k: i32| -> Result<Tensor> {
            let squared = (a - b)?.sqr()?.sum_all()?;
            // u / sqrt(u) is the root with gradient 0 at 0.
            Ok((tensor::over_root(&squared, &squared, 0.0)? / self.span().powi(k))?)
        };
        let mut total = distance(&a.mean_keepdim(0)?, &b.mean_keepdim(0)?, 1)?;
        let (a, b) = (tensor::centred(a)?, tensor::centred(b)?);
        let (mut power_a, mut power_b) = (a.clone(), b.clone());
        for k in 2..=self.order() as i32 {
            (power_a, power_b) = ((power_a * &a)?, (power_b * &b)?);
            let (mean_a, mean_b) = (power_a.mean_keepdim(0)?, power_b.mean_keepdim(0)?);
            total = (total + distance(&mean_a, &mean_b, k)?)?;
        }
        Ok(total)
    }
}
