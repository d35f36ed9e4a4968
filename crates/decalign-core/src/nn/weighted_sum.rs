//! Weighted sums of scalars.

use candle_core::{DType, Tensor};

use super::device;
use crate::device::Backend;
use crate::op::{Output, record_one};
use crate::tensor_convert::scalar;
use crate::{Error, Result};

/// `sum_i w_i x_i` of scalars, computed in f64 on the CPU.
///
/// A weight of 0 gives a gradient of 0, not none, and leaves out its scalar even if that is infinite.
///
/// # Shapes
/// Each term has one element; the result is a scalar of the first term's dtype.
///
/// # Errors
/// When there is no term, or a term has more than one element.
///
/// ```
/// use candle_core::{Device, Var};
/// use decalign_core::nn::weighted_sum;
///
/// let (x, y) = (Var::new(3f64, &Device::Cpu)?, Var::new(5f64, &Device::Cpu)?);
/// let sum = weighted_sum(&[(x.as_tensor().clone(), 2.0), (y.as_tensor().clone(), 0.5)])?;
/// assert_eq!(sum.to_scalar::<f64>()?, 8.5);
/// assert_eq!(sum.backward()?.get(&y).unwrap().to_scalar::<f64>()?, 0.5);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn weighted_sum(terms: &[(Tensor, f64)]) -> Result<Tensor> {
    if let Some(sum) = sum_on_device(terms)? {
        return Ok(sum);
    }
    let Some((first, _)) = terms.first() else {
        return Err(Error::value("terms of a sum", 0, "give at least one"));
    };
    let mut value = 0.0;
    for (x, weight) in terms {
        // 0 * inf would be NaN.
        if *weight != 0.0 {
            value += weight * scalar(x)?;
        }
    }
    let output = match first.dtype() {
        DType::F64 => Output::new(vec![value], ()),
        _ => Output::new(vec![value as f32], ()),
    };
    let weights: Vec<f64> = terms.iter().map(|(_, weight)| *weight).collect();
    let inputs: Vec<&Tensor> = terms.iter().map(|(x, _)| x).collect();
    record_one("weighted_sum", &inputs, output, move |b| {
        let gradient = b.gradient(0)?;
        let each = b.inputs.iter().zip(&weights).map(|(x, weight)| {
            let scaled = (&gradient * *weight)?.to_dtype(x.dtype())?;
            Ok(Some(scaled.reshape(x.shape())?))
        });
        each.collect()
    })
}

/// [`weighted_sum`] of scalars on a device, computed there without reading them; `None` on the CPU.
///
/// # Errors
/// As [`weighted_sum`].
pub fn sum_on_device(terms: &[(Tensor, f64)]) -> Result<Option<Tensor>> {
    let Some((first, _)) = terms.first() else {
        return Ok(None);
    };
    let Some(backend) = Backend::of(first)? else {
        return Ok(None);
    };
    let alike = |(x, weight): &(Tensor, f64)| Ok((x.to_dtype(first.dtype())?, *weight));
    let mut left = terms.iter().map(alike).collect::<Result<Vec<_>>>()?;
    while left.len() > device::TERMS {
        let rest = left.split_off(device::TERMS);
        left = vec![(device::weighted_sum(&backend, &left)?, 1.0)];
        left.extend(rest);
    }
    Ok(Some(device::weighted_sum(&backend, &left)?))
}
