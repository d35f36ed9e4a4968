//! Weights as integers.

use decalign_core::{Error, Result};

/// The positive weights of two measures in integer units of `2^-exponent`, with equal totals.
///
/// Sums and differences of integers are exact: a plan has its marginals to the last unit however
/// small a weight is, and an arc without flow has flow 0 and not 1e-17.
pub(super) struct Masses {
    pub(super) a: Vec<i128>,
    pub(super) b: Vec<i128>,
    /// The indices of the points with positive weight.
    pub(super) places: [Vec<usize>; 2],
    exponent: i32,
}

/// Bits of a total without its sign.
pub(super) const BITS: i32 = 126;

impl Masses {
    /// Weights with a total below `2^bits` units; `b` is scaled to the total of `a`, and a positive weight below
    /// one unit counts as one.
    pub(super) fn new(a: &[f64], b: &[f64], bits: i32) -> Self {
        let total: f64 = a.iter().sum();
        // One bit is kept for rounding of the logarithm and of the units.
        let exponent = bits - 2 - total.log2().ceil() as i32;
        let places = [a, b].map(|x| (0..x.len()).filter(|i| x[*i] > 0.0).collect::<Vec<_>>());
        let count = |x: &[f64], places: &[usize]| -> Vec<i128> {
            let units = places
                .iter()
                .map(|i| shift(x[*i], exponent).round().max(1.0));
            units.map(|w| w as i128).collect()
        };
        let (a, mut b) = (count(a, &places[0]), count(b, &places[1]));
        balance(&mut b, a.iter().sum());
        Self {
            a,
            b,
            places,
            exponent,
        }
    }

    /// Equal weights 1/n and 1/m.
    pub(super) fn uniform(n: usize, m: usize) -> Self {
        Self::new(&vec![1.0 / n as f64; n], &vec![1.0 / m as f64; m], BITS)
    }

    /// Checks weights; `of` names their owner in errors.
    pub(super) fn checked(a: &[f64], b: &[f64], of: &str) -> Result<Self> {
        let totals = [total(&format!("a{of}"), a)?, total(&format!("b{of}"), b)?];
        if (totals[0] - totals[1]).abs() > TOLERANCE * totals[0].max(totals[1]) {
            let remedy = format!("must equal the total of b, {}", totals[1]);
            return Err(Error::value(
                format!("the total of a{of}"),
                totals[0],
                remedy,
            ));
        }
        Ok(Self::new(a, b, BITS))
    }

    /// The weight of a number of units.
    pub(super) fn weight(&self, units: i128) -> f64 {
        shift(units as f64, -self.exponent)
    }
}

/// Totals of the two measures may differ by this, relatively.
const TOLERANCE: f64 = 1e-4;

fn total(name: &str, weights: &[f64]) -> Result<f64> {
    if let Some(i) = weights.iter().position(|w| !(*w >= 0.0 && w.is_finite())) {
        let remedy = "weights are finite and not negative";
        return Err(Error::value(format!("{name}[{i}]"), weights[i], remedy));
    }
    match weights.iter().sum::<f64>() {
        total if total > 0.0 && total.is_finite() => Ok(total),
        total => {
            let name = format!("the total of {name}");
            Err(Error::value(name, total, "must be positive and finite"))
        }
    }
}

/// `x 2^exponent` in two steps, of which none overflows or loses digits.
fn shift(x: f64, exponent: i32) -> f64 {
    let half = exponent / 2;
    x * 2f64.powi(half) * 2f64.powi(exponent - half)
}

/// Scales positive `b`, whose total is close to `total`, to it.
fn balance(b: &mut [i128], total: i128) {
    let sum: i128 = b.iter().sum();
    let mut missing = total - sum;
    let ratio = missing as f64 / sum as f64;
    for v in b.iter_mut() {
        let more = (*v as f64 * ratio) as i128;
        *v += more;
        missing -= more;
    }
    // The rounding error is below 1e-16 of the correction.
    if let Some(largest) = b.iter_mut().max() {
        *largest += missing;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn totals_meet(
            a in prop::collection::vec(1e-30f64..1.0, 1..30),
            b in prop::collection::vec(1e-30f64..1.0, 1..30),
            power in -900i32..900,
        ) {
            let unit = 2f64.powi(power);
            let a: Vec<f64> = a.iter().map(|v| v * unit).collect();
            let ratio = (1.0 + 1e-5) * a.iter().sum::<f64>() / b.iter().sum::<f64>();
            let mut b: Vec<f64> = b.iter().map(|v| v * ratio).collect();
            b.push(0.0);
            let masses = Masses::new(&a, &b, 120);
            let total = masses.a.iter().sum::<i128>();
            prop_assert_eq!(total, masses.b.iter().sum::<i128>());
            prop_assert!(total < 1 << 120 && masses.b.iter().all(|v| *v > 0));
            prop_assert_eq!(masses.places[1].len(), b.len() - 1);
            for (count, weight) in masses.a.iter().zip(&a) {
                prop_assert!((masses.weight(*count) / weight - 1.0).abs() < 1e-3);
            }
        }
    }
}
