//! Putting the parts together again.

use candle_core::Tensor;
use decalign_core::nn::{Init, Parameters, linear};
use decalign_core::{Error, Result};

use crate::encoder::{Decoupled, check_count, check_names, modality};
use crate::objective::{Batch, Objective};
use crate::table::{finite_tensor, same_kind};

/// The mean squared error of a reconstruction.
///
/// The target carries no gradient: where features are learned too, they would otherwise become small or
/// constant, which is easy to reconstruct. It is made of plain tensor operations.
///
/// # Shapes
/// `target` and `reconstruction` of one shape, not empty. The result is a scalar.
///
/// # Errors
/// When shapes or dtypes differ, or an entry is not finite.
///
/// Source: Hazarika and others, MISA (2020), section 3.5, reconstruction loss.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::reconstruction_error;
/// let x = Tensor::new(&[[1f64, 2.0]], &Device::Cpu)?;
/// let error = reconstruction_error(&x, &(&x + 3.0)?)?;
/// assert_eq!(error.to_scalar::<f64>()?, 9.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn reconstruction_error(target: &Tensor, reconstruction: &Tensor) -> Result<Tensor> {
    if target.dims() != reconstruction.dims() || target.elem_count() == 0 || target.rank() == 0 {
        let expected = format!("the target's shape {:?}, not empty", target.shape());
        return Err(Error::tensor(
            "reconstruction",
            expected,
            reconstruction.shape(),
        ));
    }
    same_kind("reconstruction", reconstruction, target)?;
    finite_tensor("target", target)?;
    finite_tensor("reconstruction", reconstruction)?;
    Ok((reconstruction - target.detach())?.sqr()?.mean_all()?)
}

/// A linear decoder a modality, and the error of what it makes of both parts:
///
/// ```text
/// mean over modalities of mean (D_m (s_m + c_m) + b_m - x_m)^2
/// ```
///
/// It keeps the two encoders from forgetting: without it, parts are far apart when they are empty. As an
/// [`Objective`] it needs the features, see [`Batch::with_features`]. Parameters are
/// `decoder_<name>.{weight,bias}`.
///
/// Source: Hazarika and others, MISA (2020), section 3.5.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Parameters;
/// use decalign_decouple::{Batch, Decoupler, Objective, Reconstruction};
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let decoupler = Decoupler::new(&parameters, &["text"], 8)?;
/// let decoder = Reconstruction::new(&parameters, &["text"], 8)?;
/// let x = [Tensor::ones((4, 10, 8), DType::F32, &Device::Cpu)?];
/// let parts = decoupler.forward_all(&x)?;
/// let loss = decoder.loss(&Batch::new(&parts)?.with_features(&x)?)?;
/// assert!(loss.to_scalar::<f32>()? > 0.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reconstruction {
    decoders: Vec<[Tensor; 2]>,
}

impl Reconstruction {
    /// Decoders of width `width` for the modalities of the given names.
    ///
    /// # Errors
    /// When `width` is 0, there is no modality, or two have one name.
    pub fn new(parameters: &Parameters, names: &[impl AsRef<str>], width: usize) -> Result<Self> {
        check_names("decoder", names, width)?;
        let init = Init::KaimingUniform { fan_in: width };
        let decoders = names.iter().map(|name| {
            let scope = parameters.scope(format!("decoder_{}", name.as_ref()));
            Ok([
                scope.get("weight", (width, width), init)?,
                scope.get("bias", width, init)?,
            ])
        });
        Ok(Self {
            decoders: decoders.collect::<Result<_>>()?,
        })
    }

    /// The features of modality number `modality`, from both parts.
    ///
    /// # Shapes
    /// Parts (..., d); the result has their shape.
    ///
    /// # Errors
    /// When there is no such modality or the shapes do not fit.
    pub fn forward(&self, modality: usize, parts: &Decoupled) -> Result<Tensor> {
        let [weight, bias] = self::modality(&self.decoders, modality)?;
        linear(&(&parts.unique + &parts.common)?, weight, Some(bias))
    }
}

impl Objective for Reconstruction {
    fn name(&self) -> &str {
        "reconstruction"
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        check_count("parts", batch.parts().len(), self.decoders.len())?;
        let Some(features) = batch.features() else {
            let remedy = "reconstruction needs what was decoupled: add Batch::with_features";
            return Err(Error::value("features of the batch", "absent", remedy));
        };
        let each = batch.parts().iter().zip(features).enumerate();
        let errors = each.map(|(i, (parts, x))| reconstruction_error(x, &self.forward(i, parts)?));
        let errors = errors.collect::<Result<Vec<_>>>()?;
        Ok(Tensor::stack(&errors, 0)?.mean(0)?)
    }
}
