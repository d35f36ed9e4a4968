//! Orthogonality of centred features.

use candle_core::Tensor;
use decalign_core::Result;

use super::normalise::{UnitRows, product, product_backward};
use super::traits::{Fused, Requirements};
use crate::table::{Table, without_mean};
use crate::tensor::{self, NORM_FLOOR};

/// How far the columns of two parts are from orthogonal:
///
/// ```text
/// |A^T B|_F^2 / n^2,   row i of A being (a_i - mean) / |a_i - mean|
/// ```
///
/// It lies in [0, 1] and does not change when a batch is repeated; MISA's loss is n^2 / (d e) times this
/// and grows with the batch. Gradients pass the norm, which MISA's do not: held constant, every step
/// shortens the features, though the value does not depend on their length. A row at the mean has no
/// direction: it counts as 0, with gradient 0.
///
/// Parts (n, d) and (n, e), n >= 2.
///
/// Source: the difference losses of Bousmalis and others, Domain separation networks (2016), and of Hazarika and
/// others, MISA (2020), section 3.5.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::{Measure, Orthogonality};
/// let a = Tensor::new(&[[1f32], [1.0], [-1.0], [-1.0]], &Device::Cpu)?;
/// let b = Tensor::new(&[[1f32], [-1.0], [1.0], [-1.0]], &Device::Cpu)?;
/// assert_eq!(Orthogonality.between(&a, &b)?.to_scalar::<f32>()?, 0.0);
/// assert_eq!(Orthogonality.between(&a, &a)?.to_scalar::<f32>()?, 1.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orthogonality;

impl Fused for Orthogonality {
    const NAME: &'static str = "orthogonality";

    fn requirements(&self) -> Requirements {
        Requirements::rows(2).paired()
    }

    fn evaluate(&self, a: Table, b: Table) -> (f64, [Vec<f64>; 2]) {
        let (a, b) = (UnitRows::new(a.centred()), UnitRows::new(b.centred()));
        let mut products = product(&a.table, &b.table);
        let value = products.iter().map(|v| v * v).sum();
        products.iter_mut().for_each(|v| *v *= 2.0);
        let [da, db] = product_backward(&a.table, &b.table, &products);
        let centred = |x: &UnitRows, dx| without_mean(x.backward(dx), x.table.width);
        (value, [centred(&a, da), centred(&b, db)])
    }

    fn tensor_operations(&self, a: &Tensor, b: &Tensor) -> Result<Tensor> {
        let unit = |x: &Tensor| -> Result<Tensor> {
            let x = tensor::centred(x)?;
            tensor::over_root(&x, &x.sqr()?.sum_keepdim(1)?, NORM_FLOOR)
        };
        let products = (tensor::product(&unit(a)?, &unit(b)?)? / a.dim(0)? as f64)?;
        Ok(products.sqr()?.sum_all()?)
    }
}
