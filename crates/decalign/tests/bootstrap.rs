//! Bootstrap intervals against closed forms, their coverage, and comparisons.
#![allow(clippy::unwrap_used)]

use decalign::core::random::Stream;
use decalign::metrics::{Benchmark, Bootstrap, Difference, Interval, Method, Paired};

fn method(method: Method) -> Bootstrap {
    let mut bootstrap = Bootstrap::default();
    bootstrap.method = method;
    bootstrap
}

fn mean(values: &[f64], rows: &[usize]) -> Vec<f64> {
    vec![rows.iter().map(|row| values[*row]).sum::<f64>() / rows.len() as f64]
}

#[test]
fn the_interval_of_a_mean_is_the_normal_one() {
    let values = Stream::new(1, 0).normal(400);
    let centre = values.iter().sum::<f64>() / 400.0;
    let deviation = (values.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / 400.0).sqrt();
    let half = 1.959_964 * deviation / 20.0;
    for kind in [Method::Percentile, Method::Bca] {
        let mut bootstrap = method(kind);
        bootstrap.replicates = 20_000;
        let interval = bootstrap.intervals(400, |rows| mean(&values, rows))[0];
        assert_eq!(interval.estimate, centre);
        // Five standard errors of a quantile of so many replicates.
        let error = 5.0 * 0.0033 * half / 0.0584 / 1.96;
        assert!(
            (interval.low - (centre - half)).abs() < error.max(0.05 * half),
            "{kind:?}: {interval:?}"
        );
        assert!(
            (interval.high - (centre + half)).abs() < error.max(0.05 * half),
            "{kind:?}: {interval:?}"
        );
    }
}

/// Efron and Tibshirani (1993), tables 14.1 and 14.2: the variance of the spatial test data, 90 %; (115.8, 259.6) by BCa
/// and (100.8, 233.9) by percentiles, of 2000 replicates of theirs.
#[test]
fn the_book_s_example_comes_out() {
    let a = [
        48., 36., 20., 29., 42., 42., 20., 42., 22., 41., 45., 14., 6., 0., 33., 28., 34., 4., 32.,
        24., 47., 41., 24., 26., 30., 41.,
    ];
    let variance = |rows: &[usize]| {
        let n = rows.len() as f64;
        let mean = rows.iter().map(|r| a[*r]).sum::<f64>() / n;
        vec![rows.iter().map(|r| (a[*r] - mean).powi(2)).sum::<f64>() / n]
    };
    let interval = |kind| {
        let mut bootstrap = method(kind);
        (bootstrap.level, bootstrap.replicates) = (0.9, 20_000);
        bootstrap.intervals(26, variance)[0]
    };
    let close = |interval: Interval, low: f64, high: f64| {
        assert!((interval.estimate - 171.5).abs() < 0.1, "{interval:?}");
        // Their 2000 replicates leave an error of a few units at the ends.
        let near = (interval.low - low).abs() < 5.0 && (interval.high - high).abs() < 6.0;
        assert!(near, "{interval:?}, the book says {low}, {high}");
    };
    close(interval(Method::Bca), 115.8, 259.6);
    close(interval(Method::Percentile), 100.8, 233.9);
}

#[test]
fn intervals_hold_the_truth_as_often_as_they_say() {
    // The accuracy of a classifier that is right with probability 0.8, 100 samples, 400 times.
    for kind in [Method::Percentile, Method::Bca] {
        let mut held = 0;
        for trial in 0..400 {
            let labels = vec![0.0f32; 100];
            let mut predictions = vec![0.0f32; 200];
            Stream::new(trial, 9).bernoulli(100, 0.8, |i, right| {
                predictions[2 * i + usize::from(!right)] = 1.0;
            });
            let mut bootstrap = method(kind);
            (bootstrap.seed, bootstrap.replicates) = (trial, 400);
            let all = bootstrap.metrics(Benchmark::Classification, &predictions, &labels);
            let (name, interval) = all[0];
            assert_eq!(name, "Acc");
            held += usize::from(interval.low <= 0.8 && 0.8 <= interval.high);
        }
        // 380 of 400 expected; five standard errors, and the discreteness of 100 samples.
        assert!((355..=400).contains(&held), "{kind:?}: {held}");
    }
}

#[test]
fn one_seed_one_interval_whatever_the_threads_and_nothing_degenerate_fails() {
    let labels: Vec<f32> = (0..50).map(|i| (i % 7) as f32 - 3.0).collect();
    let noise = Stream::new(2, 0).normal(50);
    let predictions: Vec<f32> = labels
        .iter()
        .zip(&noise)
        .map(|(y, e)| y + *e as f32)
        .collect();
    let run = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        let mut bootstrap = Bootstrap::default();
        bootstrap.seed = seed;
        pool.install(|| bootstrap.metrics(Benchmark::Mosi, &predictions, &labels))
    };
    assert_eq!(run(1, 5), run(3, 5));
    assert_ne!(run(1, 5), run(1, 6));
    for n in [0usize, 1, 2] {
        for benchmark in Benchmark::ALL {
            let width = if benchmark.is_regression() { 1 } else { 3 };
            let all = Bootstrap::default().metrics(benchmark, &vec![0.5; n * width], &vec![0.0; n]);
            for (name, i) in all {
                let finite = [i.estimate, i.low, i.high].iter().all(|v| v.is_finite());
                assert!(finite && i.low <= i.high, "{benchmark:?} {name} {n}: {i:?}");
            }
        }
    }
    // All right: no sample differs, and the interval is the figure.
    let all = Bootstrap::default().metrics(Benchmark::Regression, &labels, &labels);
    assert_eq!((all[0].1.low, all[0].1.high), (0.0, 0.0));
}

#[test]
fn systems_are_compared_sample_by_sample() {
    let labels: Vec<f32> = Stream::new(3, 0)
        .normal(200)
        .iter()
        .map(|v| *v as f32)
        .collect();
    let noisy = |stream: u64, scale: f64| -> Vec<f32> {
        let noise = Stream::new(4, stream).normal(200);
        labels
            .iter()
            .zip(noise)
            .map(|(y, e)| y + (scale * e) as f32)
            .collect()
    };
    let compare = |first: &[Vec<f32>], second: &[Vec<f32>]| -> Difference {
        let pair = Paired::new(first, second, &labels).same_seeds(true);
        let all = Bootstrap::default().compare(Benchmark::Regression, &pair);
        assert_eq!(all[0].0, "MAE");
        all[0].1
    };
    // A shift of every prediction in the same way: far apart, though their errors overlap by far.
    let first = noisy(0, 1.0);
    let second: Vec<f32> = first
        .iter()
        .zip(&labels)
        .map(|(p, y)| y + 0.9 * (p - y))
        .collect();
    let better = compare(std::slice::from_ref(&first), &[second]);
    assert!(
        better.difference.high < 0.0 && better.p_value < 0.001,
        "{better:?}"
    );
    assert!((better.second - 0.9 * better.first).abs() < 1e-6);
    let same = compare(std::slice::from_ref(&first), std::slice::from_ref(&first));
    assert_eq!(
        (same.difference.low, same.difference.high, same.p_value),
        (0.0, 0.0, 1.0)
    );
    // Two of a kind do not differ, and to change sides changes the sign.
    let (a, b) = (
        [noisy(1, 1.0), noisy(2, 1.0)],
        [noisy(3, 1.0), noisy(4, 1.0)],
    );
    let (there, back) = (compare(&a, &b), compare(&b, &a));
    assert!(there.difference.low < 0.0 && there.difference.high > 0.0 && there.p_value > 0.05);
    assert_eq!(there.difference.estimate, -back.difference.estimate);
    assert!((there.difference.low + back.difference.high).abs() < 1e-12);
    // Seeds that differ widen the interval of their mean.
    let mixed = [noisy(1, 0.2), noisy(2, 2.0)];
    let runs = Bootstrap::default().metrics_of_runs(Benchmark::Regression, &mixed, &labels);
    let alike = Bootstrap::default().metrics_of_runs(Benchmark::Regression, &a, &labels);
    let width = |i: &Interval| i.high - i.low;
    assert!(width(&runs[0].1) > 3.0 * width(&alike[0].1));
}
