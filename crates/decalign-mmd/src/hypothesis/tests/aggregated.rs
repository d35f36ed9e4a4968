//! The rank form of the aggregated test against the published bisection.

use decalign_core::Result;
use decalign_core::random::Stream;

use super::super::{MmdAgg, Resampling};
use crate::kernel::Kernel;

/// Algorithm 1 as it stands: whether it rejects, by bisection.
fn by_bisection(values: &[Vec<f64>], weights: &[f64], draws: usize, level: f64) -> bool {
    let sorted = |v: &Vec<f64>| {
        let mut first = v[..=draws].to_vec();
        first.sort_unstable_by(f64::total_cmp);
        first
    };
    let sorted: Vec<Vec<f64>> = values.iter().map(sorted).collect();
    let above = |u: f64, b: usize| {
        (0..values.len()).any(|k| {
            let place = (draws + 1) as f64 * (1.0 - u * weights[k]);
            let place = place.ceil().max(1.0) as usize - 1;
            values[k][b] > sorted[k][place]
        })
    };
    let (mut low, mut high) = (
        0.0,
        weights.iter().fold(f64::INFINITY, |a, w| a.min(1.0 / w)),
    );
    for _ in 0..60 {
        let u = 0.5 * (low + high);
        let count = (draws + 1..2 * draws + 1).filter(|b| above(u, *b)).count();
        match count as f64 / draws as f64 <= level {
            true => low = u,
            false => high = u,
        }
    }
    above(low, 0)
}

#[test]
fn ranks_decide_as_bisection_does() -> Result<()> {
    let draws = 40;
    let kernel = Kernel::gaussian_length_scale(1.0)?;
    let mut rejected = 0;
    for case in 0..300 {
        // The statistics of three kernels share noise; the observed one is raised in two thirds of the cases.
        let stream = Stream::new(2, case);
        let common = stream.child(9).normal(2 * draws + 1);
        let values: Vec<Vec<f64>> = (0..3)
            .map(|k| {
                let mut own = stream.child(k).normal(2 * draws + 1);
                own.iter_mut().zip(&common).for_each(|(v, c)| *v += c);
                own[0] += 3.0 * (case % 3) as f64 * (k as f64 - 0.5).abs();
                own
            })
            .collect();
        let weights = vec![0.5, 0.3, 0.2];
        let test = MmdAgg::new(vec![kernel.clone(); 3], Resampling::seeded(0).draws(draws));
        let test = test.weights(weights.clone())?;
        let found = test.aggregate(&values, &[0.0; 3]);
        let reached = found.p_value * (1 + draws) as f64 - 1.0;
        let published = reached / draws as f64 <= 0.05 + 1e-9;
        assert_eq!(
            published,
            by_bisection(&values, &weights, draws, 0.05),
            "{case}"
        );
        assert!(published || !found.rejected);
        rejected += usize::from(published);
    }
    assert!((20..280).contains(&rejected), "{rejected}");
    Ok(())
}
