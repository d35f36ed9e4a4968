//! Accuracy, F1 and correlation.

/// The class with the largest score; the first on a tie.
pub fn largest_score(scores: &[f32]) -> usize {
    let mut best = 0;
    for (class, score) in scores.iter().enumerate() {
        if *score > scores[best] {
            best = class;
        }
    }
    best
}

/// The share of predictions that equal their labels; 0 without samples.
pub fn accuracy(predicted: &[i64], labels: &[i64]) -> f64 {
    let hits = predicted.iter().zip(labels).filter(|(p, y)| p == y).count();
    hits as f64 / labels.len().max(1) as f64
}

/// Mean of the classes' F1 scores weighted by the number of their labels; a score that is
/// undefined counts as 0.
pub fn weighted_f1(predicted: &[i64], labels: &[i64]) -> f64 {
    let total = labels.len().max(1) as f64;
    let classes = distinct(labels.iter().copied());
    classes
        .into_iter()
        .map(|class| {
            let support = labels.iter().filter(|y| **y == class).count();
            f1(predicted, labels, class) * support as f64 / total
        })
        .sum()
}

/// Mean of the F1 scores of all classes that occur in labels or predictions.
pub fn macro_f1(predicted: &[i64], labels: &[i64]) -> f64 {
    let classes = distinct(labels.iter().chain(predicted).copied());
    let count = classes.len().max(1) as f64;
    classes
        .into_iter()
        .map(|class| f1(predicted, labels, class) / count)
        .sum()
}

fn distinct(classes: impl Iterator<Item = i64>) -> std::collections::BTreeSet<i64> {
    classes.collect()
}

fn f1(predicted: &[i64], labels: &[i64], class: i64) -> f64 {
    let count = |list: &[i64]| list.iter().filter(|c| **c == class).count();
    let both = predicted
        .iter()
        .zip(labels)
        .filter(|(p, y)| **p == class && **y == class)
        .count();
    2.0 * both as f64 / (count(predicted) + count(labels)).max(1) as f64
}

/// Pearson's correlation; 0 where it is undefined (a side is constant, or fewer than two pairs).
pub fn pearson(x: &[f64], y: &[f64]) -> f64 {
    let n = x.len().min(y.len());
    let mean = |v: &[f64]| v[..n].iter().sum::<f64>() / n.max(1) as f64;
    let (mx, my) = (mean(x), mean(y));
    let (mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0);
    for (x, y) in x.iter().zip(y) {
        let (dx, dy) = (x - mx, y - my);
        xx += dx * dx;
        yy += dy * dy;
        xy += dx * dy;
    }
    let r = xy / (xx * yy).sqrt();
    if r.is_finite() { r } else { 0.0 }
}
