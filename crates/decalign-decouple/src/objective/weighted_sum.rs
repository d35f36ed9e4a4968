//! Weighted sums of objectives.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::{Batch, Objective};

/// A weighted sum of objectives, itself an objective.
///
/// MISA's losses without their failures:
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Parameters;
/// use decalign_decouple::{
///     Batch, PairwiseLoss, CentralMomentDiscrepancy, Decoupler, Objectives, Orthogonality, PartPairs, Reconstruction,
/// };
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let names = ["text", "audio"];
/// let decoupler = Decoupler::new(&parameters, &names, 8)?;
/// let apart = PairwiseLoss::new(Orthogonality, &[PartPairs::UniqueCommon, PartPairs::UniqueUnique])?;
/// let alike = PairwiseLoss::new(CentralMomentDiscrepancy::new(5, 1.0)?, &[PartPairs::CommonCommon])?;
/// let whole = Reconstruction::new(&parameters, &names, 8)?;
/// let misa = Objectives::new().with(0.3, apart)?.with(1.0, alike)?.with(1.0, whole)?;
///
/// let x = Tensor::randn(0f32, 1.0, (4, 10, 8), &Device::Cpu)?;
/// let x = [x.clone(), x.sqr()?];
/// let parts = decoupler.forward_all(&x)?;
/// let losses = misa.evaluate(&Batch::new(&parts)?.with_features(&x)?)?;
/// for (name, loss) in &losses.terms {
///     println!("{name} {loss}");
/// }
/// let gradients = losses.total.backward()?;
/// # assert!(gradients.get(&parameters.named()[0].1).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Objectives {
    terms: Vec<(f64, Box<dyn Objective>)>,
}

/// A weighted sum of losses and its terms.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Losses {
    /// `sum of weight * loss`, with gradients.
    pub total: Tensor,
    /// Name and unweighted loss of every term of positive weight, in the order of their addition.
    pub terms: Vec<(String, Tensor)>,
}

impl Objectives {
    /// The empty sum.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a term; a term of weight 0 is not computed.
    ///
    /// # Errors
    /// When the weight is negative or not finite.
    pub fn with(mut self, weight: f64, objective: impl Objective + 'static) -> Result<Self> {
        if !(weight >= 0.0 && weight.is_finite()) {
            let name = format!("weight of {}", objective.name());
            let remedy = "must be finite and not negative";
            return Err(Error::value(name, weight, remedy));
        }
        self.terms.push((weight, Box::new(objective)));
        Ok(self)
    }

    /// All terms and their weighted sum, 0 without terms.
    ///
    /// # Errors
    /// When a term fails.
    pub fn evaluate(&self, batch: &Batch) -> Result<Losses> {
        let mut terms = Vec::with_capacity(self.terms.len());
        let mut total: Option<Tensor> = None;
        for (weight, objective) in self.terms.iter().filter(|(w, _)| *w > 0.0) {
            let loss = objective.loss(batch)?;
            let term = (&loss * *weight)?;
            total = Some(match total {
                None => term,
                Some(sum) => (sum + term)?,
            });
            terms.push((objective.name().to_owned(), loss));
        }
        let total = match total {
            Some(total) => total,
            None => {
                let like = &batch.parts()[0].unique;
                Tensor::zeros((), like.dtype(), like.device())?
            }
        };
        Ok(Losses { total, terms })
    }
}

impl Objective for Objectives {
    fn name(&self) -> &str {
        "sum"
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        Ok(self.evaluate(batch)?.total)
    }
}
