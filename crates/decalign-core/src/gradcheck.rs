//! Central differences against automatic differentiation, for the tests of this workspace and
//! of the crates built on it.

use candle_core::{DType, Device, Tensor, Var};

use crate::{Elements, Error, Result};

/// Step of the central difference: balances truncation (h^2) against rounding (eps / h) in f64.
const STEP: f64 = 1e-5;

/// Holds the gradients of `f` with respect to every input against central differences in f64.
///
/// `f` may return any number of tensors of any shape; each is weighted by fixed pseudo-random
/// numbers and summed, so that errors cannot cancel. Each input is tried contiguous and as a
/// transposed (strided) view of the same values. An entry holds when
/// `|autograd - difference| <= tolerance * max(1, largest |difference| of that input)`.
///
/// # Errors
/// When an input is not f64, when `f` fails, when a gradient is absent or does not hold; the
/// message names the input, the entry and both numbers.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_core::gradcheck;
/// let x = Tensor::new(&[[0.3f64, -1.2], [0.7, 2.0]], &Device::Cpu)?;
/// gradcheck(&[x], 1e-7, |x| Ok(vec![x[0].tanh()?]))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn gradcheck(
    inputs: &[Tensor],
    tolerance: f64,
    f: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    for x in inputs {
        if x.dtype() != DType::F64 {
            return Err(Error::tensor("gradcheck input", "dtype f64", x.dtype()));
        }
    }
    let plain: Vec<Vec<f64>> = inputs.iter().map(values).collect::<Result<_>>()?;
    let differences = central_differences(inputs, &plain, &f)?;
    for strided in [false, true] {
        let vars: Vec<Var> = inputs
            .iter()
            .map(|x| leaf(x, strided))
            .collect::<Result<_>>()?;
        let views: Vec<Tensor> = vars
            .iter()
            .map(|v| view(v, strided))
            .collect::<Result<_>>()?;
        let gradients = weighted_sum(&f(&views)?)?.backward()?;
        for (i, (var, want)) in vars.iter().zip(&differences).enumerate() {
            let name = format!(
                "gradient of input {i}{}",
                if strided { " (strided)" } else { "" }
            );
            let Some(got) = gradients.get(var) else {
                return Err(Error::value(name, "absent", "the operation must record it"));
            };
            compare(&name, &values(&view(got, strided)?)?, want, tolerance)?;
        }
    }
    Ok(())
}

fn compare(name: &str, got: &[f64], want: &[f64], tolerance: f64) -> Result<()> {
    let scale = want.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
    for (j, (g, w)) in got.iter().zip(want).enumerate() {
        // Negated, so that NaN fails.
        let holds = (g - w).abs() <= tolerance * scale;
        if !holds {
            return Err(Error::value(
                format!("{name}, entry {j},"),
                g,
                format!("central differences give {w}"),
            ));
        }
    }
    Ok(())
}

fn central_differences(
    inputs: &[Tensor],
    plain: &[Vec<f64>],
    f: &impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Vec<f64>>> {
    let mut arguments: Vec<Tensor> = inputs.iter().map(Tensor::detach).collect();
    let mut all = Vec::new();
    for (i, x) in plain.iter().enumerate() {
        let mut differences = Vec::with_capacity(x.len());
        for j in 0..x.len() {
            let mut at = |h: f64| -> Result<f64> {
                let mut moved = x.clone();
                moved[j] += h;
                arguments[i] = Tensor::from_vec(moved, inputs[i].dims(), &Device::Cpu)?;
                Ok(weighted_sum(&f(&arguments)?)?.to_scalar::<f64>()?)
            };
            let h = STEP * x[j].abs().max(1.0);
            differences.push((at(h)? - at(-h)?) / (2.0 * h));
        }
        arguments[i] = inputs[i].detach();
        all.push(differences);
    }
    Ok(all)
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
    Ok(Elements::<f64>::new(x)?.to_vec())
}

/// A variable that holds `x`, transposed when its view is to be strided.
fn leaf(x: &Tensor, strided: bool) -> Result<Var> {
    let x = view(&x.detach(), strided)?.contiguous()?;
    // A copy, so that variables never share storage.
    Ok(Var::from_vec(values(&x)?, x.dims(), x.device())?)
}

fn view(x: &Tensor, strided: bool) -> Result<Tensor> {
    match x.rank() {
        rank if strided && rank >= 2 => Ok(x.transpose(0, rank - 1)?),
        _ => Ok(x.clone()),
    }
}
