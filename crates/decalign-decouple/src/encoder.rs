//! The unique and common encoders.

use candle_core::Tensor;
use decalign_core::nn::{Init, Parameters, convolution};
use decalign_core::{Error, Result};

/// The two parts of one modality's features.
#[derive(Clone, Debug)]
pub struct Decoupled {
    /// `s_m = U_m x_m`, what only this modality knows.
    pub unique: Tensor,
    /// `c_m = C x_m`, what all modalities share.
    pub common: Tensor,
}

/// One unique encoder a modality and one common encoder, linear and without bias.
///
/// Parameters are `encoder_uni_<name>.weight` and `encoder_com.weight`, shape (d, d, 1) each.
#[derive(Clone, Debug)]
pub struct Decoupler {
    unique: Vec<Tensor>,
    common: Tensor,
}

impl Decoupler {
    /// Encoders of width `width` for the modalities of the given names.
    ///
    /// # Errors
    /// When `width` is 0 or there is no modality.
    pub fn new(parameters: &Parameters, names: &[impl AsRef<str>], width: usize) -> Result<Self> {
        if width == 0 || names.is_empty() {
            let got = format!("width {width}, {} modalities", names.len());
            return Err(Error::value("decoupler", got, "both must be at least 1"));
        }
        let weight = |scope: String| {
            let init = Init::KaimingUniform { fan_in: width };
            parameters
                .scope(scope)
                .get("weight", (width, width, 1), init)
        };
        Ok(Self {
            unique: names
                .iter()
                .map(|name| weight(format!("encoder_uni_{}", name.as_ref())))
                .collect::<Result<_>>()?,
            common: weight("encoder_com".to_owned())?,
        })
    }

    /// Decouples the features of modality number `modality`.
    ///
    /// # Shapes
    /// `x` (B, T, d); both parts have the same shape.
    ///
    /// # Errors
    /// When there is no such modality or the shape does not fit.
    pub fn forward(&self, modality: usize, x: &Tensor) -> Result<Decoupled> {
        let unique = self.unique.get(modality).ok_or_else(|| {
            let remedy = format!("must be below {}", self.unique.len());
            Error::value("modality number", modality, remedy)
        })?;
        Ok(Decoupled {
            unique: convolution(x, unique)?,
            common: convolution(x, &self.common)?,
        })
    }
}
