//! Draws with replacement, and statistics of their replicates.

use decalign_core::random::Stream;

/// `n` of `n`, with replacement.
pub(super) fn draw(stream: Stream, n: usize) -> Vec<usize> {
    let draws = stream.uniform(n, 0.0, n as f64).into_iter();
    draws.map(|u| (u as usize).min(n - 1)).collect()
}

pub(super) fn column(rows: &[Vec<f64>], i: usize) -> Vec<f64> {
    rows.iter().map(|row| row[i]).collect()
}

pub(super) fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    sorted
}

/// Linear between neighbours.
pub(super) fn quantile(sorted: &[f64], p: f64) -> f64 {
    let at = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, high) = (sorted[at.floor() as usize], sorted[at.ceil() as usize]);
    // Exact when both neighbours are equal.
    low + (high - low) * at.fract()
}

/// A sixth of the skewness of the jackknife's values (1993, equation 14.15).
pub(super) fn acceleration(jackknife: &[f64]) -> f64 {
    let mean = jackknife.iter().sum::<f64>() / jackknife.len() as f64;
    let sum = |power: i32| {
        jackknife
            .iter()
            .map(|v| (mean - v).powi(power))
            .sum::<f64>()
    };
    let spread = sum(2).powf(1.5);
    if spread > 0.0 {
        sum(3) / (6.0 * spread)
    } else {
        0.0
    }
}

/// Twice the smaller share of replicates on either side of 0, one more counted on each.
pub(super) fn significance(differences: &[f64]) -> f64 {
    let count = |side: fn(&f64) -> bool| differences.iter().filter(|d| side(d)).count() as f64;
    let least = count(|d| *d <= 0.0).min(count(|d| *d >= 0.0));
    (2.0 * (least + 1.0) / (differences.len() as f64 + 1.0)).min(1.0)
}
