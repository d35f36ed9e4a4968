//! The distribution of labels.

use serde::Serialize;

use crate::Labels;

/// The distribution of labels.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[non_exhaustive]
pub enum LabelSummary {
    /// Scores.
    Scores {
        /// Least and largest.
        range: [f64; 2],
        /// Their mean.
        mean: f64,
        /// Their standard deviation.
        deviation: f64,
        /// Scores below 0, at 0 and above 0.
        signs: [usize; 3],
        /// Numbers of scores, by the whole number they round to (halves to even).
        histogram: Vec<(i64, usize)>,
    },
    /// Classes.
    Classes {
        /// Name and number of each.
        counts: Vec<(String, usize)>,
    },
}

/// The largest number of bars in a histogram; wider distributions have none.
const BARS: usize = 64;

pub(super) fn summary(labels: &Labels) -> LabelSummary {
    match labels {
        Labels::Classes { values, names } => {
            let mut counts: Vec<(String, usize)> = names.iter().map(|n| (n.clone(), 0)).collect();
            values.iter().for_each(|v| counts[*v as usize].1 += 1);
            LabelSummary::Classes { counts }
        }
        Labels::Scores(scores) => {
            let n = scores.len().max(1) as f64;
            let mean = scores.iter().map(|v| f64::from(*v)).sum::<f64>() / n;
            let square = |v: &f32| (f64::from(*v) - mean).powi(2);
            let mut whole: Vec<i64> = scores.iter().map(|v| v.round_ties_even() as i64).collect();
            whole.sort_unstable();
            let runs = whole.chunk_by(|a, b| a == b);
            let mut histogram: Vec<(i64, usize)> = runs.map(|run| (run[0], run.len())).collect();
            if histogram.len() > BARS {
                histogram.clear();
            }
            let count = |f: fn(&f32) -> bool| scores.iter().filter(|v| f(v)).count();
            let fold = |start, f: fn(f32, f32) -> f32| scores.iter().copied().fold(start, f).into();
            LabelSummary::Scores {
                range: [
                    fold(f32::INFINITY, f32::min),
                    fold(f32::NEG_INFINITY, f32::max),
                ],
                mean,
                deviation: (scores.iter().map(square).sum::<f64>() / n).sqrt(),
                signs: [
                    count(|v| *v < 0.0),
                    count(|v| *v == 0.0),
                    count(|v| *v > 0.0),
                ],
                histogram,
            }
        }
    }
}
