//! Two implementations of one function.

use candle_core::{DType, Tensor, Var};

use super::{holds, leaf, values, view, weighted_sum};
use crate::{Error, Result};

/// Holds two implementations equal: what they return, and the gradients with respect to every
/// input of a weighted sum of it.
///
/// The inputs are given in f64; both implementations get them in f64 and in f32, contiguous and
/// as transposed (strided) views. An entry holds when `|a - b| <= tolerance * max(1, largest |b|)`
/// of its tensor, with one tolerance for each type.
///
/// # Errors
/// When an implementation fails, when one returns other shapes than the other, or an entry does
/// not hold; the message names it.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_core::{agree, nn};
/// let x = Tensor::new(&[[0.3f64, -1.2], [0.7, 2.0]], &Device::Cpu)?;
/// let fused = |x: &[Tensor]| Ok(vec![nn::softmax(&x[0])?]);
/// let plain = |x: &[Tensor]| Ok(vec![nn::reference::softmax(&x[0])?]);
/// agree(&[x], (1e-14, 1e-6), fused, plain)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn agree(
    inputs: &[Tensor],
    (double, single): (f64, f64),
    a: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
    b: impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<()> {
    for (dtype, tolerance) in [(DType::F64, double), (DType::F32, single)] {
        for strided in [false, true] {
            let (got, want) = (
                run(inputs, dtype, strided, &a)?,
                run(inputs, dtype, strided, &b)?,
            );
            let outputs = got.len() - inputs.len();
            if got.len() != want.len() {
                return Err(Error::tensor("outputs", want.len().to_string(), outputs));
            }
            for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                let what = match i.checked_sub(outputs) {
                    None => format!("output {i}"),
                    Some(i) => format!("gradient of input {i}"),
                };
                let name = format!(
                    "{what} in {dtype:?}{}",
                    if strided { " (strided)" } else { "" }
                );
                if got.dims() != want.dims() {
                    return Err(Error::tensor(
                        name,
                        format!("shape {:?}", want.dims()),
                        got.dims(),
                    ));
                }
                holds(&name, &values(got)?, &values(want)?, tolerance)?;
            }
        }
    }
    Ok(())
}

/// The outputs, then the gradients of the inputs.
fn run(
    inputs: &[Tensor],
    dtype: DType,
    strided: bool,
    f: &impl Fn(&[Tensor]) -> Result<Vec<Tensor>>,
) -> Result<Vec<Tensor>> {
    let leaves = inputs.iter().map(|x| leaf(&x.to_dtype(dtype)?, strided));
    let leaves = leaves.collect::<Result<Vec<Var>>>()?;
    let views = leaves
        .iter()
        .map(|v| view(v, strided))
        .collect::<Result<Vec<_>>>()?;
    let mut all = f(&views)?;
    let gradients = weighted_sum(&all)?.backward()?;
    for (i, leaf) in leaves.iter().enumerate() {
        let Some(gradient) = gradients.get(leaf) else {
            let name = format!("gradient of input {i}");
            return Err(Error::value(name, "absent", "the operation must record it"));
        };
        all.push(gradient.clone());
    }
    Ok(all)
}
