//! From encoded modalities to a prediction.

use candle_core::Tensor;
use decalign_core::nn::{Init, Mode, Parameters, linear, softmax};
use decalign_core::{Error, Result};

use crate::masked_sequence::MaskedSequence;
use crate::pool::{Pool, Pooling};
use crate::presence::Presence;

/// How the vectors of the modalities are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Join {
    /// Concatenated, with zeros for a missing modality.
    #[default]
    Concatenate,
    /// The mean of those that are present.
    Mean,
}

/// The prediction of a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Task {
    /// Real numbers.
    Regression {
        /// Their number.
        outputs: usize,
    },
    /// The logits of classes.
    Classification {
        /// The number of classes.
        classes: usize,
    },
}

/// The settings of a [`PooledHead`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct HeadSettings {
    /// Width d of the modalities.
    pub width: usize,
    /// The number of modalities.
    pub modalities: usize,
    /// How a sequence becomes a vector.
    pub pooling: Pooling,
    /// How these vectors are joined.
    pub join: Join,
    /// The prediction.
    pub task: Task,
    /// Dropout before the prediction.
    pub dropout: f64,
}

impl HeadSettings {
    /// Mean pooling, concatenation, no dropout.
    pub fn new(width: usize, modalities: usize, task: Task) -> Self {
        Self {
            width,
            modalities,
            pooling: Pooling::Mean,
            join: Join::Concatenate,
            task,
            dropout: 0.0,
        }
    }

    setters!(pooling: Pooling, join: Join, dropout: f64);
}

/// Pools each modality over the steps that exist, joins those that are present, and predicts:
///
/// ```text
/// y = dropout(join_m(pool_m(x_m))) W^T + b
/// ```
#[derive(Clone, Debug)]
pub struct PooledHead {
    pools: Vec<Pool>,
    weight: Tensor,
    bias: Tensor,
    settings: HeadSettings,
}

impl PooledHead {
    /// Parameters are named `weight`, `bias`, and `pool.M.query` for attention pooling.
    ///
    /// # Errors
    /// When the settings are out of range.
    pub fn new(parameters: &Parameters, settings: HeadSettings) -> Result<Self> {
        let HeadSettings {
            width,
            modalities,
            dropout,
            ..
        } = settings;
        let outputs = match settings.task {
            Task::Regression { outputs } => outputs,
            Task::Classification { classes } => classes,
        };
        for (name, value) in [
            ("width", width),
            ("modalities", modalities),
            ("outputs", outputs),
        ] {
            if value == 0 {
                return Err(Error::value(name, value, "must be at least 1"));
            }
        }
        if !(0.0..1.0).contains(&dropout) {
            return Err(Error::value(
                "output dropout",
                dropout,
                "must lie in [0, 1)",
            ));
        }
        let inputs = match settings.join {
            Join::Concatenate => width * modalities,
            Join::Mean => width,
        };
        let scope = parameters.scope("pool");
        let pool = |m: usize| Pool::new(&scope.scope(m), settings.pooling, width);
        let init = Init::KaimingUniform { fan_in: inputs };
        Ok(Self {
            pools: (0..modalities).map(pool).collect::<Result<_>>()?,
            weight: parameters.get("weight", (outputs, inputs), init)?,
            bias: parameters.get("bias", outputs, init)?,
            settings,
        })
    }

    /// Predicts from encoded modalities; `None` for one that is not active.
    ///
    /// # Shapes
    /// Features (B, T_m, d); the result is (B, outputs) or (B, classes), logits of these.
    ///
    /// # Errors
    /// When the number of modalities or the shapes do not fit, or no modality is active.
    ///
    /// ```
    /// use candle_core::{DType, Device, Tensor};
    /// use decalign_core::nn::{Mode, Parameters};
    /// use decalign_fusion::{HeadSettings, Join, PooledHead, Pooling, Presence, MaskedSequence, Task};
    /// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
    /// let settings = HeadSettings::new(4, 2, Task::Classification { classes: 3 });
    /// let head = PooledHead::new(&parameters, settings.pooling(Pooling::Attention).join(Join::Mean))?;
    /// let sequence = |steps: usize| -> candle_core::Result<_> {
    ///     Ok(Some(MaskedSequence::new(Tensor::ones((2, steps, 4), DType::F32, &Device::Cpu)?)))
    /// };
    /// let presence = Presence::new(&Tensor::new(&[[1f32, 1.0], [0.0, 1.0]], &Device::Cpu)?)?;
    /// let logits = head.forward(&[sequence(5)?, sequence(7)?], &presence, Mode::Inference)?;
    /// assert_eq!(head.scores(&logits)?.dims(), [2, 3]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn forward(
        &self,
        encoded: &[Option<MaskedSequence>],
        presence: &Presence,
        mode: Mode,
    ) -> Result<Tensor> {
        let joined = self.join(&self.pool(encoded, presence)?, presence)?;
        let dropped = mode.dropout(&joined, self.settings.dropout)?;
        linear(&dropped, &self.weight, Some(&self.bias))
    }

    /// The vector of each modality, zeros where a sample lacks it.
    ///
    /// # Shapes
    /// As [`PooledHead::forward`]; the results are (B, d).
    ///
    /// # Errors
    /// As [`PooledHead::forward`].
    pub fn pool(
        &self,
        encoded: &[Option<MaskedSequence>],
        presence: &Presence,
    ) -> Result<Vec<Option<Tensor>>> {
        for (name, count) in [
            ("encoded modalities", encoded.len()),
            ("modalities of the presence", presence.modalities()),
        ] {
            if count != self.settings.modalities {
                let remedy = format!(
                    "must be {}, as the head was built",
                    self.settings.modalities
                );
                return Err(Error::value(name, count, remedy));
            }
        }
        let one = |(m, (pool, sequence)): (usize, (&Pool, &Option<MaskedSequence>))| {
            let Some(sequence) = sequence else {
                return Ok(None);
            };
            let pooled = pool.forward(&presence.limit(m, sequence)?)?;
            presence.keep(m, &pooled).map(Some)
        };
        self.pools
            .iter()
            .zip(encoded)
            .enumerate()
            .map(one)
            .collect()
    }

    fn join(&self, pooled: &[Option<Tensor>], presence: &Presence) -> Result<Tensor> {
        let Some(like) = pooled.iter().flatten().next() else {
            let remedy = "at least one modality must be active";
            return Err(Error::value("encoded modalities", "none", remedy));
        };
        if self.settings.join == Join::Concatenate {
            let nothing = like.zeros_like()?.detach();
            let columns = pooled.iter().map(|x| x.as_ref().unwrap_or(&nothing));
            return Ok(Tensor::cat(&columns.collect::<Vec<_>>(), 1)?);
        }
        let mut sum = like.zeros_like()?.detach();
        let mut count = sum.narrow(1, 0, 1)?.contiguous()?;
        let one = count.ones_like()?;
        for (m, x) in pooled.iter().enumerate() {
            if let Some(x) = x {
                sum = (sum + x)?;
                count = (count + presence.keep(m, &one)?)?;
            }
        }
        Ok(sum.broadcast_div(&count.maximum(1.0)?)?)
    }

    /// Probabilities of classes; numbers of a regression are unchanged.
    ///
    /// # Shapes
    /// (B, outputs) or (B, classes), as given.
    ///
    /// # Errors
    /// When `prediction` has no dimension of classes.
    pub fn scores(&self, prediction: &Tensor) -> Result<Tensor> {
        match self.settings.task {
            Task::Regression { .. } => Ok(prediction.clone()),
            Task::Classification { .. } => softmax(prediction),
        }
    }
}
