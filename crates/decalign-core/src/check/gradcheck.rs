//! Central differences against automatic differentiation.

use candle_core::{DType, Device, Tensor, Var};

use super::{holds, leaf, values, view, weighted_sum};
use crate::{Error, Result};

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
            holds(&name, &values(&view(got, strided)?)?, want, tolerance)?;
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
