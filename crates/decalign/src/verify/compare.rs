//! Comparison of a computed tensor with the recorded one.

use candle_core::Tensor;
use serde::Serialize;

use crate::Result;
use decalign_core::tensor_convert::to_f64s;

/// The distance of a computed tensor from the recorded one.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Comparison {
    /// The name in the file of expected tensors.
    pub name: String,
    /// The largest `|got - want|`; infinite when there is nothing to compare.
    pub absolute: f64,
    /// `absolute / max(max|want|, 1e-3)`.
    pub relative: f64,
    /// True if the tensor is within the tolerance.
    pub holds: bool,
    /// True if the tensor counts for the verdict.
    pub judged: bool,
    /// Elements excluded from the errors above because their gradient is rounding.
    #[serde(skip_serializing_if = "is_zero")]
    pub rounding_elements: usize,
    /// The largest `|got - want|` among those.
    #[serde(skip_serializing_if = "is_zero")]
    pub rounding_absolute: f64,
    /// Another mismatch: the tensor is missing or has another shape.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

fn is_zero<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Tensors smaller than this are compared as if they were of this size.
const SCALE_FLOOR: f64 = 1e-3;

/// A gradient this far below the largest of its tensor is zero but for rounding.
const ROUNDING: f64 = 1e-13;

impl Comparison {
    /// Compares a tensor; `gradient` is the recorded gradient of a parameter whose steps these
    /// are.
    pub(super) fn new(
        name: &str,
        got: Option<&Tensor>,
        want: &Tensor,
        gradient: Option<&Tensor>,
        tolerance: f64,
        judged: bool,
    ) -> Result<Self> {
        let mut comparison = Self {
            name: name.to_owned(),
            absolute: f64::INFINITY,
            relative: f64::INFINITY,
            holds: false,
            judged,
            rounding_elements: 0,
            rounding_absolute: 0.0,
            problem: None,
        };
        let Some(got) = got else {
            comparison.problem = Some("the model does not compute it".to_owned());
            return Ok(comparison);
        };
        if got.elem_count() != want.elem_count() {
            comparison.problem = Some(format!(
                "shape {:?}, expected {:?}",
                got.dims(),
                want.dims()
            ));
            return Ok(comparison);
        }
        let want = to_f64s(want)?;
        let rounding = match gradient {
            Some(gradient) if gradient.elem_count() == want.len() => rounding(&to_f64s(gradient)?),
            _ => vec![false; want.len()],
        };
        let (mut absolute, mut scale) = (0.0, SCALE_FLOOR);
        for ((g, w), rounding) in to_f64s(got)?.into_iter().zip(want).zip(rounding) {
            let error = (g - w).abs();
            // NaN counts as an infinite error.
            let error = if error.is_nan() { f64::INFINITY } else { error };
            if rounding {
                comparison.rounding_elements += 1;
                comparison.rounding_absolute = error.max(comparison.rounding_absolute);
            } else {
                absolute = error.max(absolute);
            }
            scale = w.abs().max(scale);
        }
        comparison.absolute = absolute;
        comparison.relative = absolute / scale;
        comparison.holds = absolute <= tolerance * scale;
        Ok(comparison)
    }
}

/// Which entries of a gradient are zero in theory and rounding in fact.
fn rounding(gradient: &[f64]) -> Vec<bool> {
    let largest = gradient.iter().fold(0.0, |a: f64, g| a.max(g.abs()));
    gradient
        .iter()
        .map(|g| *g != 0.0 && g.abs() < ROUNDING * largest)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn compare(got: &[f64], want: &[f64], gradient: Option<&[f64]>) -> Comparison {
        let tensor = |v: &[f64]| Tensor::new(v, &Device::Cpu).unwrap();
        let gradient = gradient.map(tensor);
        Comparison::new(
            "x",
            Some(&tensor(got)),
            &tensor(want),
            gradient.as_ref(),
            1e-8,
            true,
        )
        .unwrap()
    }

    #[test]
    fn the_tolerance_is_relative_to_the_largest_entry() {
        assert!(compare(&[10.0, 1e-8], &[10.0, 9e-8], None).holds);
        assert!(!compare(&[10.0, 1e-8], &[10.0, 12e-8], None).holds);
        assert!(!compare(&[f64::NAN], &[1.0], None).holds);
        assert!(compare(&[1.0], &[1.0, 1.0], None).problem.is_some());
    }

    #[test]
    fn only_gradients_of_the_size_of_rounding_are_left_out() {
        let c = compare(&[1.0, 1e-3], &[1.0, 0.0], Some(&[1.0, 1e-18]));
        assert!(c.holds && c.rounding_elements == 1 && c.rounding_absolute == 1e-3);
        // A gradient of exactly 0 (a unit that is off) is no rounding.
        assert!(!compare(&[1.0, 1e-3], &[1.0, 0.0], Some(&[1.0, 0.0])).holds);
        assert!(!compare(&[1.0, 1e-3], &[1.0, 0.0], Some(&[1.0, 1e-9])).holds);
    }
}
