//! The training objective: task loss, alignment losses and contrastive loss.
//!
//! ```text
//! L = L_task + w_dec L_dec + alpha L_hete + beta L_homo + w_ct L_ct
//! ```
//!
//! [`LossTerms`] holds every component by name: a run reports each, and a NaN names its component.

mod contrastive;
pub(crate) mod device;
mod task;

pub use contrastive::{Grouping, supervised_contrastive};
pub use task::{class_weights, cross_entropy, regression_loss, sign_loss};

use candle_core::Tensor;
use decalign_core::nn::weighted_sum;
use decalign_core::tensor_convert::scalars;

use crate::config::{Component, Config, ObjectiveConfig, RegressionLoss, Task};
use crate::model::{Alignment, ModelOutput};
use crate::{Error, Result};

/// The losses of one batch by name.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LossTerms {
    /// The unweighted components, scalars; every batch has the same names in the same order.
    pub components: Vec<(String, Tensor)>,
    /// The scalar to minimise; it carries the gradient.
    pub total: Tensor,
}

impl LossTerms {
    /// Unweighted components by name, and the scalar to minimise.
    pub fn new(components: Vec<(String, Tensor)>, total: Tensor) -> Self {
        Self { components, total }
    }

    /// A total without components.
    pub fn single(total: Tensor) -> Self {
        Self::new(Vec::new(), total)
    }

    /// The unweighted component of a name.
    pub fn component(&self, name: &str) -> Option<&Tensor> {
        let mut components = self.components.iter();
        components
            .find(|(known, _)| known == name)
            .map(|(_, loss)| loss)
    }

    /// The components in their order, then the total, as numbers. On a device they are read by one copy.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn values(&self) -> Result<Vec<f64>> {
        let components = self.components.iter().map(|(_, loss)| loss);
        Ok(scalars(
            &components.chain([&self.total]).collect::<Vec<_>>(),
        )?)
    }
}

/// One loss of the objective.
struct Term {
    /// The name in reports, tables and errors.
    name: &'static str,
    weight: fn(&Config) -> f64,
    value: fn(&Objective, &ModelOutput, &Tensor) -> Result<Tensor>,
}

/// Every loss of the objective, in the order of reports. A new loss needs an entry here, a key for its weight in
/// `config/keys.rs`, and its computation from a batch's output and labels.
const TERMS: &[Term] = &[
    Term {
        name: "task",
        weight: |_| 1.0,
        value: |objective, output, labels| objective.task_loss(&output.prediction, labels),
    },
    Term {
        name: "decoupling",
        weight: |config| config.dec_loss_weight,
        value: |_, output, _| Ok(aligned(output)?.decoupling.clone()),
    },
    Term {
        name: "heterogeneous",
        weight: |config| config.alpha,
        value: |_, output, _| Ok(aligned(output)?.heterogeneous.clone()),
    },
    Term {
        name: "homogeneous",
        weight: |config| config.beta,
        value: |_, output, _| Ok(aligned(output)?.homogeneous.clone()),
    },
    Term {
        name: "contrastive",
        weight: |config| match config.without.contains(&Component::Contrastive) {
            true => 0.0,
            false => config.ct_weight,
        },
        value: |objective, output, labels| {
            let grouping = match objective.config.task {
                Task::Classification { .. } => Grouping::Classes,
                Task::Regression(_) => Grouping::RoundedScores,
            };
            let temperature = objective.config.keys.ct_temperature;
            supervised_contrastive(&output.representation, labels, grouping, temperature)
        },
    },
];

/// The alignment losses of an output.
fn aligned(output: &ModelOutput) -> Result<&Alignment> {
    let missing = || Error::invalid("the model was run without alignment losses");
    output.alignment.as_ref().ok_or_else(missing)
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
    pub fn task_loss(&self, prediction: &Tensor, labels: &Tensor) -> Result<Tensor> {
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
        match self.config.keys.binary_task_weight {
            0.0 => Ok(loss),
            weight => Ok(weighted_sum(&[
                (loss, 1.0),
                (sign_loss(prediction, labels)?, weight),
            ])?),
        }
    }

    /// All components and their weighted sum.
    ///
    /// # Errors
    /// When the output was computed without alignment losses, or shapes do not fit.
    pub fn losses(&self, output: &ModelOutput, labels: &Tensor) -> Result<LossTerms> {
        let weighted = |term: &Term| {
            let loss = (term.value)(self, output, labels)?;
            Ok((loss, (term.weight)(&self.config.keys)))
        };
        let losses = TERMS.iter().map(weighted).collect::<Result<Vec<_>>>()?;
        // A weight of 0 gives a gradient of 0, not none: weight decay then acts on parameters that only that term reaches, as upstream.
        let total = weighted_sum(&losses)?;
        let names = TERMS.iter().map(|term| term.name.to_owned());
        Ok(LossTerms {
            components: names
                .zip(losses.into_iter().map(|(loss, _)| loss))
                .collect(),
            total,
        })
    }

    /// The weight of a component; `None` when no component has the name.
    pub fn weight(&self, name: &str) -> Option<f64> {
        let term = TERMS.iter().find(|term| term.name == name)?;
        Some((term.weight)(&self.config.keys))
    }
}
