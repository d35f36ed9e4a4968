//! A measure over pairs of parts.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::{Batch, Objective, TimeAxis};
use crate::measure::Measure;

/// Which parts of a batch are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PartPairs {
    /// The unique and the common part of every modality.
    UniqueCommon,
    /// The unique parts of every two modalities.
    UniqueUnique,
    /// The common parts of every two modalities.
    CommonCommon,
}

impl PartPairs {
    fn of(self, unique: &[Tensor], common: &[Tensor]) -> Vec<(Tensor, Tensor)> {
        let of_two = |x: &[Tensor]| {
            let two = (0..x.len()).flat_map(|j| (0..j).map(move |i| (i, j)));
            two.map(|(i, j)| (x[i].clone(), x[j].clone())).collect()
        };
        match self {
            Self::UniqueCommon => unique.iter().cloned().zip(common.iter().cloned()).collect(),
            Self::UniqueUnique => of_two(unique),
            Self::CommonCommon => of_two(common),
        }
    }
}

/// The mean of a measure over pairs of parts.
///
/// The mean, where MISA sums: weights keep their meaning when modalities are added. DecAlign's loss is
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Parameters;
/// use decalign_decouple::{Batch, PairwiseLoss, CosineSquared, Decoupler, Objective, PartPairs, TimeAxis};
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let decoupler = Decoupler::new(&parameters, &["text", "audio"], 8)?;
/// let x = Tensor::ones((4, 10, 8), DType::F32, &Device::Cpu)?;
/// let parts = decoupler.forward_all(&[x.clone(), x])?;
/// let loss = PairwiseLoss::new(CosineSquared, &[PartPairs::UniqueCommon])?.time_axis(TimeAxis::Flatten);
/// assert!((0.0..=1.0).contains(&loss.loss(&Batch::new(&parts)?)?.to_scalar::<f32>()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct PairwiseLoss<M> {
    measure: M,
    pairs: Vec<PartPairs>,
    time_axis: TimeAxis,
}

impl<M: Measure> PairwiseLoss<M> {
    /// The measure between the given kinds of pairs, of means over time.
    ///
    /// # Errors
    /// When no kind is given, or one twice.
    pub fn new(measure: M, pairs: &[PartPairs]) -> Result<Self> {
        let repeated = (1..pairs.len()).find(|i| pairs[..*i].contains(&pairs[*i]));
        if let Some(i) = repeated {
            let got = format!("{:?} twice", pairs[i]);
            return Err(Error::value("pairs", got, "name each kind once"));
        }
        if pairs.is_empty() {
            return Err(Error::value("pairs", "empty", "name a kind of pairs"));
        }
        Ok(Self {
            measure,
            pairs: pairs.to_vec(),
            time_axis: TimeAxis::Mean,
        })
    }

    /// How parts with a time axis become rows.
    #[must_use]
    pub fn time_axis(self, time_axis: TimeAxis) -> Self {
        Self { time_axis, ..self }
    }
}

impl<M: Measure> Objective for PairwiseLoss<M> {
    fn name(&self) -> &str {
        self.measure.name()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let rows = |x: &Tensor| self.time_axis.apply(x);
        let unique = batch.parts().iter().map(|p| rows(&p.unique));
        let unique = unique.collect::<Result<Vec<_>>>()?;
        let common = batch.parts().iter().map(|p| rows(&p.common));
        let common = common.collect::<Result<Vec<_>>>()?;
        let pairs = self.pairs.iter().flat_map(|kind| kind.of(&unique, &common));
        let values = pairs.map(|(a, b)| self.measure.between(&a, &b));
        let values = values.collect::<Result<Vec<_>>>()?;
        if values.is_empty() {
            let remedy = format!("{:?} needs two at least", self.pairs);
            return Err(Error::value("number of modalities", 1, remedy));
        }
        Ok(Tensor::stack(&values, 0)?.mean(0)?)
    }
}
