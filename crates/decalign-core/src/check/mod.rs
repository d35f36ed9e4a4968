//! Checks of differentiable functions, for the tests of this workspace and of the crates built on
//! it.

mod agree;
mod gradcheck;

use candle_core::{DType, Tensor, Var};

pub use agree::agree;
pub use gradcheck::gradcheck;

use crate::{Elements, Error, Result};

/// Fails at the first entry where `|got - want| > tolerance * max(1, largest |want|)`.
fn holds(name: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<()> {
    let scale = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (j, (g, w)) in got.iter().zip(want).enumerate() {
        // Negated, so that NaN fails.
        let holds = (g - w).abs() <= tolerance * scale;
        if !holds {
            let remedy = format!("expected {w}, with a tolerance of {tolerance} times {scale}");
            return Err(Error::value(format!("{name}, entry {j},"), g, remedy));
        }
    }
    Ok(())
}

/// `sum w y` over all outputs, with fixed weights in [-1, 1] that repeat no pattern.
fn weighted_sum(outputs: &[Tensor]) -> Result<Tensor> {
    let mut total: Option<Tensor> = None;
    for (k, y) in outputs.iter().enumerate() {
        let weights: Vec<f64> = (0..y.elem_count())
            .map(|i| (1.0 + i as f64 * 0.754_877_666 + k as f64 * 0.569_840_291).sin())
            .collect();
        let weights = Tensor::from_vec(weights, y.dims(), y.device())?;
        let term = (y.to_dtype(DType::F64)? * weights)?.sum_all()?;
        total = Some(match total {
            None => term,
            Some(sum) => (sum + term)?,
        });
    }
    total.ok_or_else(|| Error::value("outputs", "none", "the function must return a tensor"))
}

fn values(x: &Tensor) -> Result<Vec<f64>> {
    Ok(Elements::<f64>::new(&x.to_dtype(DType::F64)?)?.to_vec())
}

/// A variable that holds `x`, transposed when its view is to be strided.
fn leaf(x: &Tensor, strided: bool) -> Result<Var> {
    // A copy, so that variables never share storage.
    Ok(Var::from_tensor(
        &view(&x.detach(), strided)?.contiguous()?,
    )?)
}

fn view(x: &Tensor, strided: bool) -> Result<Tensor> {
    match x.rank() {
        rank if strided && rank >= 2 => Ok(x.transpose(0, rank - 1)?),
        _ => Ok(x.clone()),
    }
}
