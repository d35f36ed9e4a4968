//! Comparisons of tensors through `approx`. NaN differs from everything.

use approx::{abs_diff_eq, relative_eq};
use candle_core::Tensor;

use crate::tensors::numbers;

/// Asserts `|got - want| <= tolerance` for every entry.
///
/// # Panics
/// Where the shapes differ or an entry does not hold; the message names the first one.
#[track_caller]
pub fn assert_close(got: &Tensor, want: &Tensor, tolerance: f64) {
    hold(got, want, tolerance, |g, w| {
        abs_diff_eq!(g, w, epsilon = tolerance)
    });
}

/// Asserts `|got - want| <= tolerance * max(|got|, |want|)` for every entry.
///
/// # Panics
/// As [`assert_close`].
#[track_caller]
pub fn assert_relative(got: &Tensor, want: &Tensor, tolerance: f64) {
    hold(got, want, tolerance, |g, w| {
        relative_eq!(g, w, epsilon = 0.0, max_relative = tolerance)
    });
}

#[track_caller]
fn hold(got: &Tensor, want: &Tensor, tolerance: f64, equal: impl Fn(f64, f64) -> bool) {
    assert_eq!(got.dims(), want.dims(), "shapes");
    let pairs = numbers(got).into_iter().zip(numbers(want));
    for (i, (g, w)) in pairs.enumerate() {
        assert!(equal(g, w), "entry {i}: {g} for {w}, tolerance {tolerance}");
    }
}

/// The largest `|a - b|` over all entries; NaN where one is NaN.
///
/// # Panics
/// Where the shapes differ.
#[track_caller]
pub fn largest_difference(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims(), "shapes");
    let pairs = numbers(a).into_iter().zip(numbers(b));
    largest(pairs.map(|(a, b)| (a - b).abs()))
}

/// [`largest_difference`] divided by the largest `|b|`.
///
/// # Panics
/// Where the shapes differ.
#[track_caller]
pub fn relative_difference(a: &Tensor, b: &Tensor) -> f64 {
    let scale = largest(numbers(b).into_iter().map(f64::abs));
    largest_difference(a, b) / scale.max(f64::MIN_POSITIVE)
}

/// The largest number, where NaN counts as larger than any.
fn largest(numbers: impl Iterator<Item = f64>) -> f64 {
    numbers.fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
}
