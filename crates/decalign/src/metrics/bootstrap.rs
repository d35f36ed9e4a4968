//! Bootstrap intervals of metrics and of differences between two systems.

use std::collections::BTreeMap;

use decalign_core::parallel;
use decalign_core::random::Stream;
use serde::Serialize;

use super::resample::{acceleration, column, draw, quantile, significance, sorted};
use super::{Benchmark, normal};

/// The random stream of the draws, apart from those of training with the same seed.
const DRAWS: u64 = 0x424f_4f54;

/// Resampling with replacement (Efron and Tibshirani, An Introduction to the Bootstrap, 1993).
///
/// A metric is computed on many resamples of the original size, drawn with replacement; the interval comes from the
/// distribution of these replicates. One seed gives one interval for any number of threads.
///
/// ```
/// use decalign::metrics::{Benchmark, Bootstrap};
/// let labels = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
/// let predictions = labels.map(|y| y + if y < 4.0 { 0.5 } else { -1.0 });
/// let intervals = Bootstrap::default().metrics(Benchmark::Regression, &predictions, &labels);
/// let (name, error) = intervals[0];
/// assert_eq!((name, error.estimate), ("MAE", 0.75));
/// assert!(0.5 <= error.low && error.low < 0.75 && 0.75 < error.high && error.high <= 1.0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Bootstrap {
    /// The share of intervals that hold the truth, in (0, 1).
    pub level: f64,
    /// How the interval follows from the replicates.
    pub method: Method,
    /// Number of resamples.
    pub replicates: usize,
    /// Seed of the draws.
    pub seed: u64,
}

/// How an interval follows from the replicates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Method {
    /// Their percentiles (chapter 13).
    Percentile,
    /// Percentiles corrected for bias and for how the figure's spread changes with its value: bias-corrected and
    /// accelerated (chapter 14; Efron, 1987).
    Bca,
}

/// A figure and its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Interval {
    /// The metric of the original samples.
    pub estimate: f64,
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Two systems on the same samples.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Paired<'a> {
    /// Predictions of the first system, one entry a seed.
    pub first: &'a [Vec<f32>],
    /// Predictions of the second.
    pub second: &'a [Vec<f32>],
    /// True if entry `i` of both has the same seed: entries are then drawn together.
    pub same_seeds: bool,
    /// The labels.
    pub labels: &'a [f32],
}

impl<'a> Paired<'a> {
    /// Two systems with their predictions by seed, on samples with these labels; their seeds are taken to differ.
    pub fn new(first: &'a [Vec<f32>], second: &'a [Vec<f32>], labels: &'a [f32]) -> Self {
        Self {
            first,
            second,
            same_seeds: false,
            labels,
        }
    }

    /// True if entry `i` of both systems has the same seed.
    pub fn same_seeds(self, same_seeds: bool) -> Self {
        Self { same_seeds, ..self }
    }
}

/// How much better or worse the second system is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Difference {
    /// The first system's figure, the mean over its seeds.
    pub first: f64,
    /// The second system's.
    pub second: f64,
    /// Second minus first, with its interval.
    pub difference: Interval,
    /// Achieved significance level, two-sided: the share of resamples with a difference on the other side of 0.
    pub p_value: f64,
}

impl Default for Bootstrap {
    /// 95 %, bias-corrected and accelerated, 2000 replicates.
    fn default() -> Self {
        Self {
            level: 0.95,
            method: Method::Bca,
            replicates: 2000,
            seed: 1,
        }
    }
}

impl Bootstrap {
    /// The figures of a benchmark, each with its interval over the samples.
    pub fn metrics(
        &self,
        benchmark: Benchmark,
        predictions: &[f32],
        labels: &[f32],
    ) -> Vec<(&'static str, Interval)> {
        let names = benchmark.evaluate(&[], &[]);
        let figure = |rows: &[usize]| figures(benchmark, predictions, labels, rows);
        let intervals = self.intervals(labels.len(), figure);
        names.iter().map(|(name, _)| name).zip(intervals).collect()
    }

    /// Figures of several runs, the mean over them, each with its interval over runs and samples: both are drawn. By
    /// percentiles, whatever the method.
    pub fn metrics_of_runs(
        &self,
        benchmark: Benchmark,
        runs: &[Vec<f32>],
        labels: &[f32],
    ) -> Vec<(&'static str, Interval)> {
        let names = benchmark.evaluate(&[], &[]);
        let all: Vec<usize> = (0..labels.len()).collect();
        let each: Vec<usize> = (0..runs.len()).collect();
        let estimate = mean_figures(benchmark, runs, labels, &each, &all);
        let replicates = self.replicates(|stream| {
            let rows = draw(stream.child(0), labels.len());
            let seeds = draw(stream.child(1), runs.len());
            mean_figures(benchmark, runs, labels, &seeds, &rows)
        });
        let intervals = (estimate.iter().enumerate())
            .map(|(i, estimate)| self.percentiles(*estimate, &column(&replicates, i)));
        names.iter().map(|(name, _)| name).zip(intervals).collect()
    }

    /// The differences of two systems: samples are drawn once for both, and seeds where there are several.
    pub fn compare(
        &self,
        benchmark: Benchmark,
        pair: &Paired<'_>,
    ) -> Vec<(&'static str, Difference)> {
        let Paired {
            first,
            second,
            same_seeds,
            labels,
        } = *pair;
        let n = labels.len();
        let names = benchmark.evaluate(&[], &[]);
        let of = |seeds: [&[usize]; 2], rows: &[usize]| {
            let first = mean_figures(benchmark, first, labels, seeds[0], rows);
            let second = mean_figures(benchmark, second, labels, seeds[1], rows);
            (first, second)
        };
        let all: Vec<usize> = (0..n).collect();
        let every = [first, second].map(|runs| (0..runs.len()).collect::<Vec<_>>());
        let estimates = of([&every[0], &every[1]], &all);
        let minus = |(first, second): (Vec<f64>, Vec<f64>)| -> Vec<f64> {
            first.iter().zip(&second).map(|(a, b)| b - a).collect()
        };
        let replicates = self.replicates(|stream| {
            let rows = draw(stream.child(0), n);
            let seeds = draw(stream.child(1), first.len());
            let others = match same_seeds && first.len() == second.len() {
                true => seeds.clone(),
                false => draw(stream.child(2), second.len()),
            };
            minus(of([&seeds, &others], &rows))
        });
        let jackknife = match first.len() == 1 && second.len() == 1 {
            true => self.jackknife(n, |rows| minus(of([&every[0], &every[1]], rows))),
            false => Vec::new(),
        };
        let differences = minus(estimates.clone());
        let difference = |(i, name): (usize, &'static str)| {
            let values = column(&replicates, i);
            let interval = self.interval(differences[i], &values, &column(&jackknife, i));
            let difference = Difference {
                first: estimates.0[i],
                second: estimates.1[i],
                difference: interval,
                p_value: significance(&values),
            };
            (name, difference)
        };
        let names = names.iter().map(|(name, _)| name).enumerate();
        names.map(difference).collect()
    }

    /// Intervals of any statistics of `n` samples, given which samples to compute them on.
    pub fn intervals(
        &self,
        n: usize,
        statistic: impl Fn(&[usize]) -> Vec<f64> + Sync + Send,
    ) -> Vec<Interval> {
        let estimate = statistic(&(0..n).collect::<Vec<_>>());
        let replicates = self.replicates(|stream| statistic(&draw(stream, n)));
        let jackknife = self.jackknife(n, &statistic);
        (estimate.iter().enumerate())
            .map(|(i, estimate)| {
                self.interval(*estimate, &column(&replicates, i), &column(&jackknife, i))
            })
            .collect()
    }

    fn replicates(&self, f: impl Fn(Stream) -> Vec<f64> + Sync + Send) -> Vec<Vec<f64>> {
        let stream = Stream::new(self.seed, DRAWS);
        parallel::map(self.replicates, usize::MAX, |i| f(stream.child(i as u64)))
    }

    /// The statistics without each sample in turn, where the method asks for them.
    fn jackknife(
        &self,
        n: usize,
        statistic: impl Fn(&[usize]) -> Vec<f64> + Sync + Send,
    ) -> Vec<Vec<f64>> {
        if self.method == Method::Percentile || n < 2 {
            return Vec::new();
        }
        parallel::map(n, usize::MAX, |left_out| {
            let rows: Vec<usize> = (0..n).filter(|row| *row != left_out).collect();
            statistic(&rows)
        })
    }

    fn interval(&self, estimate: f64, replicates: &[f64], jackknife: &[f64]) -> Interval {
        if jackknife.is_empty() || replicates.is_empty() {
            return self.percentiles(estimate, replicates);
        }
        let sorted = sorted(replicates);
        let below = |limit: f64| sorted.partition_point(|v| *v < limit) as f64;
        let ties = sorted.iter().filter(|v| **v == estimate).count() as f64;
        let count = sorted.len() as f64;
        // A metric with few distinct values has ties with its estimate; half of them count as below.
        let share = (below(estimate) + 0.5 * ties) / count;
        let bias = normal::quantile(share.clamp(0.5 / count, 1.0 - 0.5 / count));
        let acceleration = acceleration(jackknife);
        let corrected = |p: f64| {
            let z = bias + normal::quantile(p);
            normal::probability(bias + z / (1.0 - acceleration * z))
        };
        let outside = 0.5 * (1.0 - self.level);
        Interval {
            estimate,
            low: quantile(&sorted, corrected(outside)),
            high: quantile(&sorted, corrected(1.0 - outside)),
        }
    }

    fn percentiles(&self, estimate: f64, replicates: &[f64]) -> Interval {
        if replicates.is_empty() {
            return Interval {
                estimate,
                low: estimate,
                high: estimate,
            };
        }
        let sorted = sorted(replicates);
        let outside = 0.5 * (1.0 - self.level);
        Interval {
            estimate,
            low: quantile(&sorted, outside),
            high: quantile(&sorted, 1.0 - outside),
        }
    }
}

/// Figures of some samples.
fn figures(benchmark: Benchmark, predictions: &[f32], labels: &[f32], rows: &[usize]) -> Vec<f64> {
    let width = predictions.len() / labels.len().max(1);
    let chosen: Vec<f32> = (rows.iter())
        .flat_map(|row| &predictions[row * width..(row + 1) * width])
        .copied()
        .collect();
    let labels: Vec<f32> = rows.iter().map(|row| labels[*row]).collect();
    let metrics = benchmark.evaluate(&chosen, &labels);
    metrics.iter().map(|(_, value)| value).collect()
}

/// Means of the figures of some samples over some runs.
fn mean_figures(
    benchmark: Benchmark,
    runs: &[Vec<f32>],
    labels: &[f32],
    seeds: &[usize],
    rows: &[usize],
) -> Vec<f64> {
    let mut times = BTreeMap::new();
    seeds
        .iter()
        .for_each(|seed| *times.entry(*seed).or_insert(0.0) += 1.0);
    let mut means = vec![0.0; benchmark.evaluate(&[], &[]).iter().count()];
    for (seed, times) in times {
        let values = figures(benchmark, &runs[seed], labels, rows);
        for (mean, value) in means.iter_mut().zip(values) {
            *mean += value * times / seeds.len() as f64;
        }
    }
    means
}
