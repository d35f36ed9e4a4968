//! Labels and predictions of samples.

use decalign::metrics::largest_score;
use decalign_data::{Dataset, Labels};

/// The accuracy of every class, in the order of the classes; empty for scores, 0 for a class without samples.
///
/// # Shapes
/// `scores`: (N, C) or wider, in C order.
pub fn class_accuracy(data: &Dataset, rows: &[usize], scores: &[f32]) -> Vec<f64> {
    let Some(Labels::Classes { values, names }) = data.labels() else {
        return Vec::new();
    };
    let width = scores.len() / rows.len().max(1);
    let mut counts = vec![(0usize, 0usize); names.len()];
    for (row, scores) in rows.iter().zip(scores.chunks_exact(width.max(1))) {
        let class = values[*row] as usize;
        counts[class].0 += usize::from(largest_score(scores) == class);
        counts[class].1 += 1;
    }
    counts
        .iter()
        .map(|(hit, n)| *hit as f64 / (*n).max(1) as f64)
        .collect()
}
