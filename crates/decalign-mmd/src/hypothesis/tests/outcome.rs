//! Draws, early stopping and quantiles.

use std::ops::Range;

use super::super::outcome::{Batch, Outcome, Resampling, Stopping, quantile, run};

fn of(values: Vec<f64>, stopping: Stopping, limit: usize) -> Outcome {
    let settings = Resampling::seeded(0).draws(values.len() - 1).level(0.1);
    let draw = |range: Range<usize>| {
        Ok(Batch {
            values: values[range].to_vec(),
            tolerance: 1e-9,
        })
    };
    run(&settings, stopping, limit, draw).expect("settings are valid")
}

#[test]
fn stopping_when_certain_never_changes_the_decision() {
    // Every number of draws that reach the statistic, first or last, levels whole and not.
    for draws in [1, 5, 19, 20, 23, 99] {
        for reached in 0..=draws {
            for late in [false, true] {
                let value = |i: usize| match late {
                    false => i < reached,
                    true => i >= draws - reached,
                };
                let drawn = (0..draws).map(|i| if value(i) { 1.0 } else { -1.0 });
                let values: Vec<f64> = std::iter::once(0.0).chain(drawn).collect();
                let all = of(values.clone(), Stopping::Never, 7);
                let some = of(values, Stopping::WhenCertain, 7);
                assert_eq!(all.rejected, some.rejected, "{draws} {reached}");
                assert_eq!(all.p_value, (1 + reached) as f64 / (1 + draws) as f64);
                assert!(some.draws <= draws);
                assert!(some.rejected == (some.p_value <= 0.1), "{some:?}");
            }
        }
    }
}

#[test]
fn stopping_after_h_gives_h_of_l() {
    let values = vec![0.0, 1.0, -1.0, -1.0, 1.0, -1.0, 1.0, 1.0];
    let some = of(values, Stopping::After(2), 3);
    assert_eq!((some.draws, some.p_value), (4, 0.5));
}

#[test]
fn ties_count_as_reached() {
    let all = of(vec![0.3; 20], Stopping::Never, 64);
    assert_eq!((all.p_value, all.null_quantile), (1.0, 0.3));
}

#[test]
fn quantiles_are_order_statistics() {
    let values: Vec<f64> = (1..=20).rev().map(f64::from).collect();
    assert_eq!(quantile(values.clone(), 0.95), 19.0);
    assert_eq!(quantile(values.clone(), 0.9500001), 20.0);
    assert_eq!(quantile(values, 0.0), 1.0);
}
