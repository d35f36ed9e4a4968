//! Reference points for a model: no features, a linear model of one modality, and networks of the literature.
//!
//! | item | contents |
//! |---|---|
//! | [`baselines`] | the majority class or the median; ridge regression on the best single view |
//! | [`BaselineTrainer`] | trains a network of the literature, by [`Method`], on the same split and seed |

mod network;
mod ridge;
mod trainer;

pub use trainer::{BaselineSettings, BaselineTrainer, Method};

use decalign_core::parallel;
use decalign_data::{Dataset, Labels, Modality, Part};

use crate::Result;
use crate::config::Config;
use crate::metrics::{Benchmark, Metrics};
use crate::preprocess;

/// A baseline's name and its metrics on the test part.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Baseline {
    /// The method's name.
    pub name: String,
    /// Its metrics.
    pub test: Metrics,
}

/// Regularisation strengths that validation chooses from, times the number of samples.
const STRENGTHS: [f64; 6] = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0];

/// The majority class (the median, for scores) of the training part, and the best single view:
/// ridge regression on one modality's mean over time, modality and strength chosen by validation.
///
/// # Errors
/// When the data has no labels or a part is empty.
pub fn baselines(config: &Config, data: &Dataset) -> Result<Vec<Baseline>> {
    let data = preprocess::select(data, config)?;
    let resolved = config.resolve(&data)?;
    let benchmark = resolved.benchmark();
    let part = |part| data.part(config.split.as_deref(), part);
    let rows = [part(Part::Train)?, part(Part::Valid)?, part(Part::Test)?];
    let targets = Targets::new(&data, &rows[0], resolved.model.outputs);
    let evaluate = |predictions: &[f32], rows: &[usize]| {
        benchmark.evaluate(predictions, &preprocess::labels(&data, rows))
    };
    let constant: Vec<f32> = rows[2]
        .iter()
        .flat_map(|_| targets.constant.iter().copied())
        .collect();
    let mut all = vec![Baseline {
        name: targets.constant_name.to_owned(),
        test: evaluate(&constant, &rows[2]),
    }];

    let mut best: Option<(f64, &str, Vec<f32>)> = None;
    for modality in data.modalities() {
        let inputs = ridge::Inputs::new(modality, &rows[0])?;
        let [valid, test] = [pooled(modality, &rows[1])?, pooled(modality, &rows[2])?];
        let fits = parallel::map(STRENGTHS.len(), usize::MAX, |i| {
            let fit = inputs.fit(&targets.training, targets.width, STRENGTHS[i]);
            let error = targets.error(&fit.predict(&valid), &data, &rows[1]);
            (error, fit)
        });
        for (error, fit) in fits {
            if best.as_ref().is_none_or(|(least, ..)| error < *least) {
                best = Some((error, modality.name(), fit.predict(&test)));
            }
        }
    }
    if let Some((_, name, predictions)) = best {
        all.push(Baseline {
            name: format!("ridge on {name}"),
            test: evaluate(&predictions, &rows[2]),
        });
    }
    Ok(all)
}

/// The targets of ridge regression.
struct Targets {
    /// Targets of the training rows, `width` a row: the score, or 1 for the class and 0 elsewhere.
    training: Vec<f64>,
    width: usize,
    /// The prediction without features.
    constant: Vec<f32>,
    constant_name: &'static str,
}

impl Targets {
    fn new(data: &Dataset, rows: &[usize], outputs: usize) -> Self {
        let labels = preprocess::labels(data, rows);
        if let Some(Labels::Scores(_)) = data.labels() {
            let mut sorted = labels.clone();
            sorted.sort_unstable_by(f32::total_cmp);
            return Self {
                training: labels.iter().map(|y| f64::from(*y)).collect(),
                width: 1,
                constant: vec![sorted[sorted.len() / 2]],
                constant_name: "median",
            };
        }
        let hot = |y: f32| (0..outputs).map(move |c| f64::from(u8::from(c == y as usize)));
        let training: Vec<f64> = labels.iter().flat_map(|y| hot(*y)).collect();
        let mut counts = vec![0.0f32; outputs];
        training.chunks_exact(outputs).for_each(|row| {
            counts
                .iter_mut()
                .zip(row)
                .for_each(|(count, v)| *count += *v as f32);
        });
        Self {
            training,
            width: outputs,
            constant: counts,
            constant_name: "majority class",
        }
    }

    /// The error to minimise: the negative accuracy, or the mean absolute error.
    fn error(&self, predictions: &[f32], data: &Dataset, rows: &[usize]) -> f64 {
        let labels = preprocess::labels(data, rows);
        match self.width {
            1 => Benchmark::Regression
                .evaluate(predictions, &labels)
                .get("MAE"),
            _ => Benchmark::Classification
                .evaluate(predictions, &labels)
                .get("Acc")
                .map(|a| -a),
        }
        .unwrap_or(f64::INFINITY)
    }
}

/// The mean over the steps that exist of the samples `rows`, `width` numbers each.
fn pooled(modality: &Modality, rows: &[usize]) -> Result<Vec<f64>> {
    Ok(modality.mean_over_steps(rows)?)
}
