//! What training minimises.
//!
//! ```text
//! L = L_task + w_dec L_dec + alpha L_hete + beta L_homo + w_ct L_ct
//! ```
//!
//! [`Losses`] holds every component by name, so that a run can show each and a NaN can be blamed.

mod contrastive;
pub(crate) mod device;
mod task;

pub use contrastive::{Grouping, supervised_contrastive};
pub use task::{class_weights, cross_entropy, regression_loss, sign_loss};

use candle_core::{Device, Tensor};
use decalign_core::Elements;
use decalign_core::device::Backend;
use decalign_core::op::{Output, record_one};

use crate::config::{ObjectiveConfig, RegressionLoss, Task};
use crate::model::{Alignment, ModelOutput};
use crate::{Error, Result};

/// The components of the objective for one batch.
#[derive(Clone, Debug)]
pub struct Losses {
    /// Each component with its weight, in the order of [`Losses::NAMES`].
    components: [(Tensor, f64); 5],
    /// Their weighted sum, which carries the gradient.
    pub total: Tensor,
}

impl Losses {
    /// The names of the components.
    pub const NAMES: [&'static str; 5] = [
        "task",
        "decoupling",
        "heterogeneous",
        "homogeneous",
        "contrastive",
    ];

    /// Component number `i` of [`Losses::NAMES`], before its weight.
    pub fn component(&self, i: usize) -> Option<&Tensor> {
        self.components.get(i).map(|(loss, _)| loss)
    }

    /// The components as numbers, in the order of [`Losses::NAMES`], and the total; of a device, by one copy.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn values(&self) -> Result<[f64; 6]> {
        let components = self.components.iter().map(|(loss, _)| loss);
        let all: Vec<&Tensor> = components.chain([&self.total]).collect();
        let mut values = [0.0; 6];
        values.copy_from_slice(&scalars(&all)?);
        Ok(values)
    }
}

/// Scalars as numbers; of a device, by one copy to the host.
///
/// # Errors
/// When they cannot be read.
pub(crate) fn scalars(all: &[&Tensor]) -> Result<Vec<f64>> {
    let Some(first) = all.first() else {
        return Ok(Vec::new());
    };
    let Some(backend) = Backend::of(first)? else {
        return all.iter().map(|x| scalar(x)).collect();
    };
    let alike = all.iter().map(|x| x.to_dtype(first.dtype()));
    let alike = alike.collect::<candle_core::Result<Vec<_>>>()?;
    numbers(&device::stack(&backend, &alike)?)
}

/// A scalar tensor of either type as a number.
pub(crate) fn scalar(x: &Tensor) -> Result<f64> {
    Ok(x.to_device(&Device::Cpu)?
        .to_dtype(candle_core::DType::F64)?
        .reshape(())?
        .to_scalar()?)
}

/// The objective of a configuration.
#[derive(Clone, Debug)]
pub struct Objective {
    config: ObjectiveConfig,
    class_weights: Option<Vec<f64>>,
}

impl Objective {
    /// The objective; `class_weights` are needed for balanced classification, see
    /// [`class_weights`].
    pub fn new(config: &ObjectiveConfig, class_weights: Option<Vec<f64>>) -> Self {
        Self {
            config: config.clone(),
            class_weights,
        }
    }

    /// The task loss alone, as for validation.
    ///
    /// # Shapes
    /// `prediction` (B, 1) and `labels` (B, 1), or `prediction` (B, C) and classes (B).
    ///
    /// # Errors
    /// When shapes do not fit or a class is out of range.
    pub fn task(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
        match &self.config.task {
            Task::Classification { .. } => {
                cross_entropy(prediction, labels, self.class_weights.as_deref())
            }
            Task::Regression(kind) => self.regression(prediction, labels, *kind),
        }
    }

    fn regression(
        &self,
        prediction: &Tensor,
        labels: &Tensor,
        kind: RegressionLoss,
    ) -> Result<Tensor> {
        let loss = regression_loss(prediction, labels, kind)?;
        match self.config.binary_task_weight {
            0.0 => Ok(loss),
            weight => weighted_sum(&[(loss, 1.0), (sign_loss(prediction, labels)?, weight)]),
        }
    }

    /// All components and their weighted sum.
    ///
    /// # Errors
    /// When the output was computed without alignment losses, or shapes do not fit.
    pub fn losses(&self, output: &ModelOutput, labels: &Tensor) -> Result<Losses> {
        let Some(Alignment {
            decoupling,
            heterogeneous,
            homogeneous,
        }) = &output.alignment
        else {
            return Err(Error::invalid("the model was run without alignment losses"));
        };
        let config = &self.config;
        let grouping = match config.task {
            Task::Classification { .. } => Grouping::Classes,
            Task::Regression(_) => Grouping::RoundedScores,
        };
        let temperature = config.ct_temperature;
        let contrastive =
            supervised_contrastive(&output.representation, labels, grouping, temperature)?;
        let components = [
            (self.task(&output.prediction, labels)?, 1.0),
            (decoupling.clone(), config.dec_loss_weight),
            (heterogeneous.clone(), config.alpha),
            (homogeneous.clone(), config.beta),
            (contrastive, config.ct_weight),
        ];
        let total = weighted_sum(&components)?;
        Ok(Losses { components, total })
    }
}

/// `sum_i w_i x_i` of scalars. A weight of 0 gives a gradient of 0, not none: weight decay then
/// acts on what only that term reaches, as it does in the release.
fn weighted_sum(terms: &[(Tensor, f64)]) -> Result<Tensor> {
    if let Some(sum) = sum_on_device(terms)? {
        return Ok(sum);
    }
    let mut value = 0.0;
    for (x, weight) in terms {
        // 0 * inf would hide the rest.
        if *weight != 0.0 {
            value += weight * scalar(x)?;
        }
    }
    let weights: Vec<f64> = terms.iter().map(|(_, weight)| *weight).collect();
    let inputs: Vec<&Tensor> = terms.iter().map(|(x, _)| x).collect();
    let Some(first) = inputs.first() else {
        return Err(Error::invalid("a sum needs a term"));
    };
    let output = match first.dtype() {
        candle_core::DType::F64 => Output::new(vec![value], ()),
        _ => Output::new(vec![value as f32], ()),
    };
    let sum = record_one("weighted_sum", &inputs, output, move |b| {
        let gradient = b.gradient(0)?;
        let each = b.inputs.iter().zip(&weights).map(|(x, weight)| {
            Ok(Some(
                (&gradient * *weight)?
                    .to_dtype(x.dtype())?
                    .reshape(x.shape())?,
            ))
        });
        each.collect()
    })?;
    Ok(sum)
}

/// Terms that a launch adds up.
const TERMS: usize = 8;

/// The same of any number of scalars where they lie on a device, by launches alone; `None` on the CPU.
pub(crate) fn sum_on_device(terms: &[(Tensor, f64)]) -> decalign_core::Result<Option<Tensor>> {
    let Some((first, _)) = terms.first() else {
        return Ok(None);
    };
    let Some(backend) = Backend::of(first)? else {
        return Ok(None);
    };
    let alike = |(x, weight): &(Tensor, f64)| Ok((x.to_dtype(first.dtype())?, *weight));
    let mut left = terms
        .iter()
        .map(alike)
        .collect::<decalign_core::Result<Vec<_>>>()?;
    while left.len() > TERMS {
        let rest = left.split_off(TERMS);
        left = vec![(device::weighted_sum(&backend, &left)?, 1.0)];
        left.extend(rest);
    }
    Ok(Some(device::weighted_sum(&backend, &left)?))
}

/// Numbers of a tensor of either type.
pub(crate) fn numbers(x: &Tensor) -> Result<Vec<f64>> {
    let x = x
        .to_device(&Device::Cpu)?
        .to_dtype(candle_core::DType::F64)?;
    Ok(Elements::<f64>::new(&x)?.to_vec())
}
