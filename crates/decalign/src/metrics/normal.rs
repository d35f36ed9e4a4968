//! The normal distribution.

use std::f64::consts::FRAC_1_SQRT_2;

/// The probability of a value below `x`.
pub(super) fn probability(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// The value that a share `p` in (0, 1) lies below.
pub(super) fn quantile(p: f64) -> f64 {
    // Bisection: a hundred calls decide an interval, and every digit is right.
    let (mut low, mut high) = (-40.0, 40.0);
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        match probability(middle) < p {
            true => low = middle,
            false => high = middle,
        }
    }
    0.5 * (low + high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_tables() {
        // Abramowitz and Stegun, table 26.5.
        for (p, x) in [(0.5, 0.0), (0.975, 1.959_963_985), (0.05, -1.644_853_627)] {
            assert!((quantile(p) - x).abs() < 1e-9, "{p}: {}", quantile(p));
            assert!((probability(quantile(p)) - p).abs() < 1e-15);
        }
    }
}
