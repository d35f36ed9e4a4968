//! A measure over pairs of parts.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::{Batch, Objective, Rows};
use crate::measure::Measure;

/// Which parts of a batch are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pairs {
    /// The unique and the common part of every modality.
    UniqueCommon,
    /// The unique parts of every two modalities.
    UniqueUnique,
    /// The common parts of every two modalities.
    CommonCommon,
}

impl Pairs {
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
/// use decalign_decouple::{Batch, Between, CosineSquared, Decoupler, Objective, Pairs, Rows};
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let decoupler = Decoupler::new(&parameters, &["text", "audio"], 8)?;
/// let x = Tensor::ones((4, 10, 8), DType::F32, &Device::Cpu)?;
/// let parts = decoupler.forward_all(&[x.clone(), x])?;
/// let loss = Between::new(CosineSquared, &[Pairs::UniqueCommon])?.rows(Rows::Flat);
/// assert!((0.0..=1.0).contains(&loss.loss(&Batch::new(&parts)?)?.to_scalar::<f32>()?));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Between<M> {
    measure: M,
    pairs: Vec<Pairs>,
    rows: Rows,
}

impl<M: Measure> Between<M> {
    /// The measure between the given kinds of pairs, of means over time.
    ///
    /// # Errors
    /// When no kind is given, or one twice.
    pub fn new(measure: M, pairs: &[Pairs]) -> Result<Self> {
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
            rows: Rows::Mean,
        })
    }

    /// How parts with time become rows.
    #[must_use]
    pub fn rows(self, rows: Rows) -> Self {
        Self { rows, ..self }
    }
}

impl<M: Measure> Objective for Between<M> {
    fn name(&self) -> &str {
        self.measure.name()
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let rows = |x: &Tensor| self.rows.of(x);
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
