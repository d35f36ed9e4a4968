//! Metrics of regression.

use super::statistics::{accuracy, pearson, weighted_f1};

type Figures = Vec<(&'static str, f64)>;

pub(super) fn mosi(predictions: &[f32], labels: &[f32]) -> Figures {
    let (p, y) = (wide(predictions), wide(labels));
    let rounded = |limit: f64| {
        let round = |v: &f64| v.clamp(-limit, limit).round_ties_even() as i64;
        accuracy(&classes(&p, round), &classes(&y, round))
    };
    let (counted_p, counted_y): (Vec<f64>, Vec<f64>) = p
        .iter()
        .zip(&y)
        .filter(|(_, y)| **y != 0.0)
        .map(|(p, y)| (*p, *y))
        .unzip();
    let positive = |v: &f64| i64::from(*v > 0.0);
    let signs = (classes(&counted_p, positive), classes(&counted_y, positive));
    let not_negative = |v: &f64| i64::from(*v >= 0.0);
    let has0 = (classes(&p, not_negative), classes(&y, not_negative));
    vec![
        ("Acc_2", accuracy(&signs.0, &signs.1)),
        ("F1_score", weighted_f1(&signs.0, &signs.1)),
        ("MAE", mean_absolute_error(&p, &y)),
        ("Corr", pearson(&p, &y)),
        ("Acc_7", rounded(3.0)),
        ("Acc_5", rounded(2.0)),
        ("Acc_3", rounded(1.0)),
        ("Has0_acc_2", accuracy(&has0.0, &has0.1)),
        ("Has0_F1_score", weighted_f1(&has0.0, &has0.1)),
    ]
}

pub(super) fn sims(predictions: &[f32], labels: &[f32]) -> Figures {
    let clip = |v: &[f32]| v.iter().map(|v| v.clamp(-1.0, 1.0)).collect::<Vec<f32>>();
    let (p, y) = (clip(predictions), clip(labels));
    // Splits are f32, as the scores are: 0.1 lies on the split, not a rounding above it.
    let split = |splits: &[f32]| {
        let class = |v: &f32| splits.iter().filter(|s| *v > **s).count() as i64;
        (
            p.iter().map(class).collect::<Vec<_>>(),
            y.iter().map(class).collect::<Vec<_>>(),
        )
    };
    let two = split(&[0.0]);
    let three = split(&[-0.1, 0.1]);
    let five = split(&[-0.7, -0.1, 0.1, 0.7]);
    let (p, y) = (wide(&p), wide(&y));
    vec![
        ("Mult_acc_2", accuracy(&two.0, &two.1)),
        ("Mult_acc_3", accuracy(&three.0, &three.1)),
        ("Mult_acc_5", accuracy(&five.0, &five.1)),
        ("F1_score", weighted_f1(&two.0, &two.1)),
        ("MAE", mean_absolute_error(&p, &y)),
        ("Corr", pearson(&p, &y)),
    ]
}

pub(super) fn plain(predictions: &[f32], labels: &[f32]) -> Figures {
    let (p, y) = (wide(predictions), wide(labels));
    let squares: f64 = p.iter().zip(&y).map(|(p, y)| (p - y) * (p - y)).sum();
    vec![
        ("MAE", mean_absolute_error(&p, &y)),
        ("RMSE", (squares / y.len().max(1) as f64).sqrt()),
        ("Corr", pearson(&p, &y)),
    ]
}

fn wide(v: &[f32]) -> Vec<f64> {
    v.iter().map(|v| f64::from(*v)).collect()
}

fn classes(v: &[f64], class: impl Fn(&f64) -> i64) -> Vec<i64> {
    v.iter().map(class).collect()
}

fn mean_absolute_error(p: &[f64], y: &[f64]) -> f64 {
    p.iter().zip(y).map(|(p, y)| (p - y).abs()).sum::<f64>() / y.len().max(1) as f64
}
