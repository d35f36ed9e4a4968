//! Scalar losses whose value and gradients are computed together, in f64.
//!
//! A loss over a few small tables is cheapest when one loop gives the value and the gradient of every table.
//! [`record_scalar`] makes a differentiable tensor of the two, in the dtype of its inputs.

use candle_core::Tensor;

use crate::op::{Output, record_one};
use crate::{Elements, Error, Real, Result, with_real};

/// Refuses entries that are not finite; the error counts them and names the first, in rows of `width`.
///
/// # Errors
/// When an entry is infinite or NaN.
///
/// ```
/// use decalign_core::analytic::check_finite;
/// let error = check_finite("sample 0", &[1.0, 2.0, f64::NAN], 2).unwrap_err();
/// assert_eq!(error.to_string(), "sample 0 at row 1, column 0 is NaN: must be finite (1 entries are not)");
/// ```
pub fn check_finite<T: Real>(name: &str, x: &[T], width: usize) -> Result<()> {
    let Some(first) = x.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let count = x.iter().filter(|v| !v.is_finite()).count();
    let (row, column) = (first / width, first % width);
    let name = format!("{name} at row {row}, column {column}");
    let remedy = format!("must be finite ({count} entries are not)");
    Err(Error::value(name, x[first], remedy))
}

/// A scalar with the given value and the given gradient of every input, row after row.
///
/// # Errors
/// When the inputs are neither f32 nor f64, or the value is not finite in their dtype.
pub fn record_scalar(
    name: &'static str,
    inputs: &[&Tensor],
    value: f64,
    gradients: Vec<Vec<f64>>,
) -> Result<Tensor> {
    with_real!(name, inputs[0], T => {
        if !T::of(value).is_finite() {
            let remedy = "must be finite: sums overflow; scale the inputs down";
            return Err(Error::value(name, value, remedy));
        }
        record_one(name, inputs, Output::new(vec![T::of(value)], ()), move |b| {
            let outer = b.gradient(0)?;
            let outer = Elements::<T>::new(&outer)?[0].as_f64();
            let each = gradients.iter().zip(b.inputs).map(|(g, x)| {
                let g: Vec<T> = g.iter().map(|v| T::of(v * outer)).collect();
                Ok(Some(Tensor::from_vec(g, x.dims(), x.device())?))
            });
            each.collect()
        })
    })
}
