//! The unique and common encoders.

use candle_core::Tensor;
use decalign_core::nn::{Init, Parameters, convolution, linear};
use decalign_core::{Error, Result};

/// The two parts of one modality's features.
#[derive(Clone, Debug)]
pub struct Decoupled {
    /// `s_m = U_m x_m`, what only this modality knows.
    pub unique: Tensor,
    /// `c_m = C x_m`, what all modalities share.
    pub common: Tensor,
}

/// One unique encoder a modality and one common encoder, linear and without bias, for any number of modalities.
///
/// Parameters are `encoder_uni_<name>.weight` and `encoder_com.weight`, shape (d, d, 1) each.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Parameters;
/// use decalign_decouple::Decoupler;
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let decoupler = Decoupler::new(&parameters, &["text", "audio"], 8)?;
/// let text = Tensor::ones((4, 10, 8), DType::F32, &Device::Cpu)?;
/// let audio = Tensor::ones((4, 25, 8), DType::F32, &Device::Cpu)?;
/// let parts = decoupler.forward_all(&[text, audio])?;
/// assert_eq!(parts[1].common.dims(), [4, 25, 8]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Source: DecAlign (ICLR 2026), decoupling.
#[derive(Clone, Debug)]
pub struct Decoupler {
    unique: Vec<Tensor>,
    common: Tensor,
}

impl Decoupler {
    /// Encoders of width `width` for the modalities of the given names.
    ///
    /// # Errors
    /// When `width` is 0, there is no modality, or two have one name.
    pub fn new(parameters: &Parameters, names: &[impl AsRef<str>], width: usize) -> Result<Self> {
        check_names("decoupler", names, width)?;
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

    /// How many modalities there are.
    pub fn modalities(&self) -> usize {
        self.unique.len()
    }

    /// Decouples the features of modality number `modality`.
    ///
    /// # Shapes
    /// `x` (B, T, d) or (B, d); both parts have the same shape.
    ///
    /// # Errors
    /// When there is no such modality or the shape does not fit.
    pub fn forward(&self, modality: usize, x: &Tensor) -> Result<Decoupled> {
        let unique = self::modality(&self.unique, modality)?;
        let encode = |weight: &Tensor| match x.rank() {
            2 => linear(x, &weight.squeeze(2)?, None),
            _ => convolution(x, weight),
        };
        Ok(Decoupled {
            unique: encode(unique)?,
            common: encode(&self.common)?,
        })
    }

    /// Decouples the features of all modalities, in the order of their names.
    ///
    /// # Shapes
    /// As [`Decoupler::forward`]; lengths T may differ.
    ///
    /// # Errors
    /// When there are more or fewer than the modalities, or a shape does not fit.
    pub fn forward_all(&self, features: &[Tensor]) -> Result<Vec<Decoupled>> {
        check_count("features", features.len(), self.modalities())?;
        let each = features.iter().enumerate();
        each.map(|(i, x)| self.forward(i, x)).collect()
    }
}

/// Checks the names of modalities, one network each, and a width.
pub(crate) fn check_names(what: &str, names: &[impl AsRef<str>], width: usize) -> Result<()> {
    if width == 0 || names.is_empty() {
        let got = format!("width {width}, {} modalities", names.len());
        return Err(Error::value(what, got, "both must be at least 1"));
    }
    for (i, name) in names.iter().enumerate() {
        let name = name.as_ref();
        if names[..i].iter().any(|other| other.as_ref() == name) {
            let remedy = "two modalities of one name would share parameters: rename one";
            return Err(Error::value("modality name", format!("{name:?}"), remedy));
        }
    }
    Ok(())
}

/// Checks that there is one of `what` for every modality.
pub(crate) fn check_count(what: &str, got: usize, modalities: usize) -> Result<()> {
    if got == modalities {
        return Ok(());
    }
    let remedy = format!("there must be {modalities}, one a modality");
    Err(Error::value(format!("number of {what}"), got, remedy))
}

/// Entry `number`, one a modality.
pub(crate) fn modality<T>(all: &[T], number: usize) -> Result<&T> {
    all.get(number).ok_or_else(|| {
        let remedy = format!("must be below {}", all.len());
        Error::value("modality number", number, remedy)
    })
}
