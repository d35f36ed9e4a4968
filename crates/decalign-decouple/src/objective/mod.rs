//! Objectives: functions of one batch's parts, and weighted sums of them.

mod batch;
mod pairwise;
mod triplet_margin;
mod weighted_sum;

use candle_core::Tensor;
use decalign_core::Result;

pub use batch::{Batch, TimeAxis};
pub use pairwise::{PairwiseLoss, PartPairs};
pub use triplet_margin::TripletMargin;
pub use weighted_sum::{Losses, Objectives};

/// A scalar of one batch, to be made small.
///
/// Anything that implements it can stand in a weighted sum:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_decouple::{Batch, Decoupled, Objective, Objectives, Result};
///
/// /// Keeps common parts short.
/// #[derive(Debug)]
/// struct Short;
///
/// impl Objective for Short {
///     fn name(&self) -> &str {
///         "short"
///     }
///     fn loss(&self, batch: &Batch) -> Result<Tensor> {
///         Ok(batch.parts()[0].common.sqr()?.mean_all()?)
///     }
/// }
///
/// let x = Tensor::ones((2, 3), DType::F32, &Device::Cpu)?;
/// let parts = [Decoupled { unique: x.clone(), common: x }];
/// let losses = Objectives::new().with(0.5, Short)?.evaluate(&Batch::new(&parts)?)?;
/// assert_eq!(losses.total.to_scalar::<f32>()?, 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub trait Objective: std::fmt::Debug + Send + Sync {
    /// A name for reports.
    fn name(&self) -> &str;

    /// The loss, a scalar with gradients.
    ///
    /// # Errors
    /// When the batch has not what the objective needs.
    fn loss(&self, batch: &Batch) -> Result<Tensor>;
}
