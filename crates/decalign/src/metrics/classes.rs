//! Metrics of classification.

use super::statistics::{accuracy, largest_score, macro_f1, weighted_f1};

type Figures = Vec<(&'static str, f64)>;

pub(super) fn iemocap(predictions: &[f32], labels: &[f32]) -> Figures {
    let (p, y) = (largest(predictions, labels.len()), integers(labels));
    let (accuracy, f1) = (accuracy(&p, &y), weighted_f1(&p, &y));
    vec![
        ("WAcc", accuracy),
        ("WAF1", f1),
        ("Acc", accuracy),
        ("F1_score", f1),
    ]
}

pub(super) fn plain(predictions: &[f32], labels: &[f32]) -> Figures {
    let (p, y) = (largest(predictions, labels.len()), integers(labels));
    vec![
        ("Acc", accuracy(&p, &y)),
        ("F1_score", weighted_f1(&p, &y)),
        ("Macro_F1", macro_f1(&p, &y)),
    ]
}

pub(super) fn three(predictions: &[f32], labels: &[f32]) -> Figures {
    let (p, y) = (largest(predictions, labels.len()), integers(labels));
    let side: Vec<i64> = predictions
        .chunks_exact(3)
        .map(|scores| i64::from(scores[2] > scores[0]))
        .collect();
    let positive: Vec<i64> = y.iter().map(|y| i64::from(*y == 2)).collect();
    let (side_not_neutral, positive_not_neutral): (Vec<i64>, Vec<i64>) = side
        .iter()
        .zip(&y)
        .filter(|(_, y)| **y != 1)
        .map(|(s, y)| (*s, i64::from(*y == 2)))
        .unzip();
    vec![
        ("Has0_acc_2", accuracy(&side, &positive)),
        ("Has0_F1_score", weighted_f1(&side, &positive)),
        (
            "Non0_acc_2",
            accuracy(&side_not_neutral, &positive_not_neutral),
        ),
        (
            "Non0_F1_score",
            weighted_f1(&side_not_neutral, &positive_not_neutral),
        ),
        ("Acc_3", accuracy(&p, &y)),
        ("F1_score_3", weighted_f1(&p, &y)),
    ]
}

/// The class of the largest score of each sample, the first of equals.
fn largest(predictions: &[f32], samples: usize) -> Vec<i64> {
    let classes = predictions.len() / samples.max(1);
    let each = predictions.chunks_exact(classes.max(1));
    each.map(|scores| largest_score(scores) as i64).collect()
}

fn integers(labels: &[f32]) -> Vec<i64> {
    labels.iter().map(|y| *y as i64).collect()
}
