//! Means, deviations, bootstrap intervals and calibration.

use decalign::core::random::Stream;
use decalign::metrics::Benchmark;

/// Mean and sample deviation; a single number deviates by 0.
///
/// ```
/// assert_eq!(decalign_report::mean_and_deviation(&[1.0, 3.0]), (2.0, 2f64.sqrt()));
/// ```
pub fn mean_and_deviation(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n.max(1.0);
    let squares: f64 = values.iter().map(|v| (v - mean) * (v - mean)).sum();
    (mean, (squares / (n - 1.0).max(1.0)).sqrt())
}

/// A figure and the interval that 95 % of the resamples lie in.
#[derive(Clone, Debug, PartialEq)]
pub struct Interval {
    /// The metric.
    pub metric: String,
    /// On the samples as they are.
    pub value: f64,
    /// The 2.5th percentile of the resamples.
    pub low: f64,
    /// The 97.5th percentile.
    pub high: f64,
}

/// Keeps the resamples' numbers apart from other streams of the same seed.
const RESAMPLE: u64 = 0x424f_4f54;

/// Percentile bootstrap (Efron and Tibshirani, 1993, chapter 13) over samples of every figure: the
/// mean over runs, or with `against` the difference of the means of the two sides, where both are
/// judged on the same resampled samples (paired).
///
/// # Shapes
/// `labels` (N); every run N times as many numbers as the benchmark has scores.
pub fn bootstrap(
    benchmark: Benchmark,
    labels: &[f32],
    runs: &[Vec<f32>],
    against: Option<&[Vec<f32>]>,
    resamples: usize,
    seed: u64,
) -> Vec<Interval> {
    let n = labels.len();
    if n == 0 || runs.is_empty() {
        return Vec::new();
    }
    let all: Vec<usize> = (0..n).collect();
    let figures = |rows: &[usize]| -> Vec<f64> {
        let one = mean_figures(benchmark, labels, runs, rows);
        match against {
            None => one,
            Some(other) => {
                let other = mean_figures(benchmark, labels, other, rows);
                one.iter().zip(&other).map(|(a, b)| a - b).collect()
            }
        }
    };
    let draw = |i: usize| {
        let numbers = Stream::new(seed, RESAMPLE)
            .child(i as u64)
            .uniform(n, 0.0, n as f64);
        let rows: Vec<usize> = numbers
            .into_iter()
            .map(|v| (v as usize).min(n - 1))
            .collect();
        figures(&rows)
    };
    let drawn: Vec<Vec<f64>> = decalign::core::parallel::map(resamples, usize::MAX, draw);
    let names = benchmark.evaluate(&[], &[]);
    let each = names.iter().zip(figures(&all)).enumerate();
    let interval = |(i, ((name, _), value)): (usize, ((&str, f64), f64))| {
        let mut sorted: Vec<f64> = drawn.iter().map(|f| f[i]).collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |share: f64| {
            let place = (share * (sorted.len().max(1) - 1) as f64).round() as usize;
            sorted.get(place).copied().unwrap_or(value)
        };
        Interval {
            metric: name.to_owned(),
            value,
            low: at(0.025),
            high: at(0.975),
        }
    };
    each.map(interval).collect()
}

/// Every figure's mean over runs, on some samples.
fn mean_figures(
    benchmark: Benchmark,
    labels: &[f32],
    runs: &[Vec<f32>],
    rows: &[usize],
) -> Vec<f64> {
    let labels_there: Vec<f32> = rows.iter().map(|r| labels[*r]).collect();
    let mut sums = Vec::new();
    for run in runs {
        let width = run.len() / labels.len();
        let scores: Vec<f32> = rows
            .iter()
            .flat_map(|r| run[r * width..][..width].iter().copied())
            .collect();
        let figures = benchmark.evaluate(&scores, &labels_there);
        sums.resize(figures.iter().count(), 0.0);
        let each = sums.iter_mut().zip(figures.iter());
        each.for_each(|(sum, (_, v))| *sum += v / runs.len() as f64);
    }
    sums
}

/// A bin of a reliability diagram.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bin {
    /// Mean predicted probability.
    pub(crate) predicted: f64,
    /// Share of the samples that were right.
    pub(crate) observed: f64,
    pub(crate) count: usize,
}

/// Ten bins of equal width over the confidence of a prediction, and the expected calibration error
/// (Guo and others, 2017, "On Calibration of Modern Neural Networks").
pub(crate) fn reliability(confidence: &[f64], right: &[bool]) -> (Vec<Bin>, f64) {
    let mut sums = [(0.0, 0.0, 0usize); 10];
    for (p, right) in confidence.iter().zip(right) {
        let bin = ((p * 10.0) as usize).min(9);
        sums[bin].0 += p;
        sums[bin].1 += f64::from(u8::from(*right));
        sums[bin].2 += 1;
    }
    let bins: Vec<Bin> = sums
        .iter()
        .filter(|(.., count)| *count > 0)
        .map(|(p, right, count)| Bin {
            predicted: p / *count as f64,
            observed: right / *count as f64,
            count: *count,
        })
        .collect();
    let n = confidence.len().max(1) as f64;
    let gaps = bins
        .iter()
        .map(|b| (b.predicted - b.observed).abs() * b.count as f64 / n);
    let error = gaps.sum();
    (bins, error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_hold_what_they_should() {
        let labels: Vec<f32> = (0..400).map(|i| (i % 2) as f32).collect();
        // Right on three quarters of the samples.
        let logits = |wrong: usize| -> Vec<f32> {
            let one = |(i, y): (usize, &f32)| {
                let hit = i % wrong != 0;
                if (*y == 1.0) == hit {
                    [0.0, 1.0]
                } else {
                    [1.0, 0.0]
                }
            };
            labels.iter().enumerate().flat_map(one).collect()
        };
        let kind = Benchmark::Classification;
        let one = bootstrap(kind, &labels, &[logits(4)], None, 500, 1);
        let accuracy = &one[0];
        assert_eq!((accuracy.metric.as_str(), accuracy.value), ("Acc", 0.75));
        // The binomial deviation is sqrt(.75 * .25 / 400) = 0.0217.
        let half = (accuracy.high - accuracy.low) / 2.0;
        assert!((half - 1.96 * 0.02165).abs() < 0.006, "{half}");
        assert_eq!(one, bootstrap(kind, &labels, &[logits(4)], None, 500, 1));
        let none = bootstrap(kind, &labels, &[logits(4)], Some(&[logits(4)]), 100, 1);
        assert!(
            none.iter()
                .all(|i| (i.value, i.low, i.high) == (0.0, 0.0, 0.0))
        );
        let worse = bootstrap(kind, &labels, &[logits(3)], Some(&[logits(1000)]), 300, 1);
        assert!(worse[0].high < 0.0, "{worse:?}");
        assert!(bootstrap(kind, &[], &[], None, 10, 1).is_empty());
    }

    #[test]
    fn a_calibrated_predictor_has_no_error() {
        let confidence = [0.75; 8];
        let right = [true, true, true, false, true, true, true, false];
        let (bins, error) = reliability(&confidence, &right);
        assert_eq!((bins.len(), bins[0].count), (1, 8));
        assert!(error < 1e-12);
        let (_, error) = reliability(&[1.0; 4], &[true, false, true, false]);
        assert!((error - 0.5).abs() < 1e-12);
    }
}
