//! Standardisation: clipping and z-scores with the statistics of the training part.

use std::collections::BTreeMap;

use candle_core::Tensor;
use decalign_core::parallel;
use serde::{Deserialize, Serialize};

use crate::features::elements;
use crate::{Dataset, Error, Result};

/// Standardises each feature: `(clamp(x, low, high) - mean) / std`, with the statistics of the training part.
///
/// `low` and `high` are percentiles over samples and steps (linear interpolation), `mean` and
/// `std` (dividing by N, at least 1e-6) are those of the clipped values.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct Standardizer {
    modalities: BTreeMap<String, Statistics>,
}

/// The statistics of one modality, one entry a feature.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Smaller values are replaced by this.
    pub low: Vec<f32>,
    /// Larger values are replaced by this.
    pub high: Vec<f32>,
    /// Mean of the clipped values.
    pub mean: Vec<f32>,
    /// Standard deviation of the clipped values.
    pub std: Vec<f32>,
}

/// The smallest standard deviation that is divided by: a constant feature becomes 0.
const STD_FLOOR: f64 = 1e-6;

/// Numbers that a thread standardises at a time: 256 KiB, which fits its cache.
const CHUNK: usize = 1 << 16;

/// Features that a thread summarises at a time: 16 f32 are a cache line.
const COLUMNS: usize = 16;

impl Standardizer {
    /// The statistics of the samples `rows` of every modality that `wanted` accepts.
    ///
    /// `percentiles` is a pair such as (0.5, 99.5); (0, 100) clips nothing of the training part.
    ///
    /// # Errors
    /// When there is no row or the percentiles are not 0 <= low < high <= 100.
    pub fn fit(
        data: &Dataset,
        rows: &[usize],
        percentiles: (f64, f64),
        wanted: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let (low, high) = percentiles;
        if !(0.0 <= low && low < high && high <= 100.0) {
            let message = format!("({low}, {high}) is not a range within 0 to 100");
            return Err(Error::field(data.origin(), "percentiles", message));
        }
        if rows.is_empty() || rows.iter().any(|row| *row >= data.len()) {
            return Err(data.error(
                "rows",
                "expected at least one sample, all of them in the data set",
            ));
        }
        let mut modalities = BTreeMap::new();
        for modality in data.modalities().iter().filter(|m| wanted(m.name())) {
            let numbers = elements(modality.features())?;
            let (steps, width) = (modality.steps(), modality.width());
            let sample = |row: &usize| &numbers[row * steps * width..][..steps * width];
            let samples: Vec<&[f32]> = rows.iter().map(sample).collect();
            modalities.insert(
                modality.name().to_owned(),
                Statistics::of(&samples, width, percentiles),
            );
        }
        Ok(Self { modalities })
    }

    /// The data set with its fitted modalities standardised; the others are unchanged.
    ///
    /// # Errors
    /// When a modality has another width than the one that was fitted.
    pub fn apply(&self, data: &Dataset) -> Result<Dataset> {
        data.map_features(|modality| {
            let name = modality.name();
            let Some(statistics) = self.modalities.get(name) else {
                return Ok(None);
            };
            let (features, width) = (modality.features(), modality.width());
            if statistics.mean.len() != width {
                let message = format!(
                    "{width} features, but the statistics are of {}",
                    statistics.mean.len()
                );
                return Err(data.error(name, message));
            }
            let mut numbers = elements(features)?.to_vec();
            let (piece, work) = (width * (CHUNK / width).max(1), 4 * numbers.len());
            parallel::for_each_chunk(&mut numbers, piece, work, |_, rows| {
                rows.chunks_exact_mut(width)
                    .for_each(|row| statistics.apply(row));
            });
            let numbers = Tensor::from_vec(numbers, features.shape(), features.device())?;
            Ok(Some(numbers))
        })
    }

    /// The statistics of a modality, if it was fitted.
    pub fn statistics(&self, modality: &str) -> Option<&Statistics> {
        self.modalities.get(modality)
    }

    /// Checks that every feature has its four statistics, which a file may lack.
    ///
    /// # Errors
    /// When the lists differ in length.
    pub fn check(&self) -> Result<()> {
        for (
            name,
            Statistics {
                low,
                high,
                mean,
                std,
            },
        ) in &self.modalities
        {
            let width = mean.len();
            if [low, high, std].iter().any(|list| list.len() != width) {
                let message = format!(
                    "lists of {}, {}, {width} and {} numbers",
                    low.len(),
                    high.len(),
                    std.len()
                );
                return Err(Error::field("standardizer", name, message));
            }
        }
        Ok(())
    }
}

impl Statistics {
    /// The statistics over all steps of some samples.
    fn of(samples: &[&[f32]], width: usize, percentiles: (f64, f64)) -> Self {
        let numbers: usize = samples.iter().map(|sample| sample.len()).sum();
        let rows = numbers / width.max(1);
        // Blocks of features, so that each cache line of a step is read once.
        let blocks = parallel::map(width.div_ceil(COLUMNS), 20 * numbers, |i| {
            let features = i * COLUMNS..width.min((i + 1) * COLUMNS);
            let mut columns = vec![Vec::with_capacity(rows); features.len()];
            for step in samples.iter().flat_map(|s| s.chunks_exact(width)) {
                for (column, v) in columns.iter_mut().zip(&step[features.clone()]) {
                    column.push(*v);
                }
            }
            let summary = |column: &mut Vec<f32>| Summary::of(column, percentiles);
            columns.iter_mut().map(summary).collect::<Vec<_>>()
        });
        let list = |of: fn(&Summary) -> f32| blocks.iter().flatten().map(of).collect();
        Self {
            low: list(|s| s.low),
            high: list(|s| s.high),
            mean: list(|s| s.mean),
            std: list(|s| s.std),
        }
    }

    fn apply(&self, row: &mut [f32]) {
        let Self {
            low,
            high,
            mean,
            std,
        } = self;
        for (i, v) in row.iter_mut().enumerate() {
            *v = (v.max(low[i]).min(high[i]) - mean[i]) / std[i];
        }
    }
}

/// The statistics of one feature.
struct Summary {
    low: f32,
    high: f32,
    mean: f32,
    std: f32,
}

impl Summary {
    /// The statistics of a column, which must not be empty and is reordered.
    fn of(column: &mut [f32], percentiles: (f64, f64)) -> Self {
        let low = percentile(column, percentiles.0);
        let high = percentile(column, percentiles.1);
        let n = column.len() as f64;
        let clipped = || column.iter().map(|v| f64::from(v.max(low).min(high)));
        let mean = clipped().sum::<f64>() / n;
        let variance = clipped().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n;
        Self {
            low,
            high,
            mean: mean as f32,
            std: variance.sqrt().max(STD_FLOOR) as f32,
        }
    }
}

/// Linear interpolation between the neighbours of position `p / 100 * (n - 1)` in sorted order.
fn percentile(column: &mut [f32], p: f64) -> f32 {
    let position = p / 100.0 * (column.len() - 1) as f64;
    let (below, share) = (position.floor() as usize, position.fract());
    let (_, a, rest) = column.select_nth_unstable_by(below, f32::total_cmp);
    let a = f64::from(*a);
    let next = rest.iter().copied().min_by(f32::total_cmp);
    // At an exact position the neighbour has no weight; after the last element there is none.
    let b = next.filter(|_| share > 0.0).map_or(a, f64::from);
    (a + (b - a) * share) as f32
}
