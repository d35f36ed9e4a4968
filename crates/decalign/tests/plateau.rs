//! The plateau schedule and early stopping.

use decalign::metrics::Goal;
use decalign::optim::{EarlyStopping, ReduceOnPlateau};

#[test]
fn the_rate_falls_after_more_than_patience_epochs() {
    let mut schedule = ReduceOnPlateau::new(Goal::Min, 0.1, 2);
    let scales: Vec<f64> = [1.0, 0.99995, 1.0, 1.0, 1.0, 0.5]
        .iter()
        .map(|m| schedule.observe(*m))
        .collect();
    // 0.99995 is within the threshold, so three bad epochs end with the fourth value.
    assert_eq!(scales[..3], [1.0, 1.0, 1.0]);
    assert!(scales[3..].iter().all(|s| (s - 0.1).abs() < 1e-15));
}

#[test]
fn stopping_counts_from_the_best_epoch() {
    let mut stopping = EarlyStopping::new(Goal::Max, 2);
    let metrics = [0.5, 0.7, f64::NAN, 0.7];
    let better: Vec<bool> = metrics
        .iter()
        .enumerate()
        .map(|(e, m)| stopping.observe(e, *m))
        .collect();
    assert_eq!(better, [true, true, false, false]);
    assert!(!stopping.exhausted(2) && stopping.exhausted(3));
    assert_eq!(stopping.best(), Some((1, 0.7)));
}
