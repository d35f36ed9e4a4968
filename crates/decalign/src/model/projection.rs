//! Projection of a modality's features to the model's width.

use candle_core::{D, Tensor};
use decalign_core::nn::{Init, Mode, Parameters, convolution};
use decalign_data::Sequence;

use crate::config::{ModalityConfig, ModalityKind, ModelConfig, Semantics};
use crate::{Error, Result};

/// Convolution over time to the model's width; skipped when the width is that already.
#[derive(Clone, Debug)]
pub(super) struct Projection {
    modality: ModalityConfig,
    weight: Tensor,
}

impl Projection {
    pub(super) fn new(
        parameters: &Parameters,
        modality: &ModalityConfig,
        width: usize,
    ) -> Result<Self> {
        let (inputs, kernel) = (modality.width, modality.kernel_size);
        let init = Init::KaimingUniform {
            fan_in: inputs * kernel,
        };
        Ok(Self {
            modality: modality.clone(),
            weight: parameters.get("weight", (width, inputs, kernel), init)?,
        })
    }

    /// The projected features (B, L, d) and the mask of their steps.
    pub(super) fn forward(
        &self,
        sequence: &Sequence,
        config: &ModelConfig,
        mode: Mode,
    ) -> Result<(Tensor, Option<Tensor>)> {
        let x = &sequence.features;
        self.check(x)?;
        let is_text = ModalityKind::of(&self.modality.name) == ModalityKind::Text;
        let dropped = match is_text {
            true => mode.dropout(x, config.text_dropout)?,
            false => x.clone(),
        };
        let projected = match self.modality.width == config.width {
            true => dropped,
            false => convolution(&dropped, &self.weight)?,
        };
        let mask = match config.semantics {
            Semantics::Native => sequence.mask.clone(),
            // Upstream masks token text; it attends to all steps of float text.
            Semantics::Reference if config.sequence_mask && !is_text => Some(nonzero_steps(x)?),
            Semantics::Reference if config.sequence_mask && config.text_encoder.is_some() => {
                sequence.mask.clone()
            }
            Semantics::Reference => None,
        };
        let Some(mask) = mask else {
            return Ok((projected, None));
        };
        // The convolution shortens the sequence; the mask loses the same steps.
        let mask = mask.narrow(1, 0, projected.dim(1)?)?;
        let mask = mask.to_dtype(projected.dtype())?;
        Ok((projected.broadcast_mul(&mask.unsqueeze(2)?)?, Some(mask)))
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
