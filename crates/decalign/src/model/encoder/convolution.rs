//! Convolution over time.

use candle_core::{D, Tensor};
use decalign_core::nn::{Init, convolution};
use decalign_core::profile::phase;
use decalign_data::Sequence;

use super::{EncodeContext, Encoded, EncoderPlan, ModalityEncoder};
use crate::config::{ModalityConfig, ModalityKind, Semantics};
use crate::{Error, Result};

/// Convolution over time to the model's width; skipped when the width is that already.
#[derive(Clone, Debug)]
pub(super) struct Convolution {
    modality: ModalityConfig,
    weight: Tensor,
}

impl ModalityEncoder for Convolution {
    fn encode(&self, sequence: &Sequence, context: &EncodeContext<'_>) -> Result<Encoded> {
        phase("projection", || self.project(sequence, context))
    }
}

impl Convolution {
    pub(super) fn new(plan: &EncoderPlan<'_>) -> Result<Self> {
        let modality = plan.modality().clone();
        let (inputs, kernel) = (modality.width, modality.kernel_size);
        let init = Init::KaimingUniform {
            fan_in: inputs * kernel,
        };
        let shape = (plan.config.width, inputs, kernel);
        Ok(Self {
            weight: plan.scope("proj").get("weight", shape, init)?,
            modality,
        })
    }

    pub(super) fn kernel_size(&self) -> usize {
        self.modality.kernel_size
    }

    fn project(&self, sequence: &Sequence, context: &EncodeContext<'_>) -> Result<Encoded> {
        let (x, config) = (&sequence.features, context.config);
        self.check(x)?;
        let is_text = ModalityKind::of(&self.modality.name) == ModalityKind::Text;
        let dropped = match is_text {
            true => context.mode.dropout(x, config.text_dropout)?,
            false => x.clone(),
        };
        let mut features = match self.modality.width == config.width {
            true => dropped,
            false => convolution(&dropped, &self.weight)?,
        };
        let mut mask = match config.semantics {
            Semantics::Native => sequence.mask.clone(),
            // Upstream masks token text; it attends to all steps of float text.
            Semantics::Reference if config.sequence_mask && !is_text => Some(nonzero_steps(x)?),
            Semantics::Reference if config.sequence_mask && config.text_encoder.is_some() => {
                sequence.mask.clone()
            }
            Semantics::Reference => None,
        };
        if let Some(mask) = &mut mask {
            // The convolution shortens the sequence; the mask loses the same steps.
            *mask = mask
                .narrow(1, 0, features.dim(1)?)?
                .to_dtype(features.dtype())?;
            features = features.broadcast_mul(&mask.unsqueeze(2)?)?;
        }
        Ok(Encoded {
            features,
            mask,
            text: None,
        })
    }

    fn check(&self, x: &Tensor) -> Result<()> {
        let ModalityConfig {
            name,
            width,
            kernel_size,
            ..
        } = &self.modality;
        let (_, steps, features) = x.dims3()?;
        if features != *width {
            return Err(Error::invalid(format!(
                "modality {name}: the model takes {width} features a step, the data has {features}"
            )));
        }
        if steps < *kernel_size {
            return Err(Error::invalid(format!(
                "modality {name}: {steps} steps are shorter than the convolution kernel {kernel_size}; \
                 lower conv1d_kernel_size or lengthen the sequences"
            )));
        }
        Ok(())
    }
}

/// 1 where a step has a feature that is not 0.
fn nonzero_steps(x: &Tensor) -> Result<Tensor> {
    Ok(x.abs()?
        .sum(D::Minus1)?
        .gt(0.0)?
        .to_dtype(x.dtype())?
        .detach())
}
