//! Folders of runs, read.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use decalign::metrics::Benchmark;
use decalign::model::{DecAlign, Pooled};
use decalign::{Checkpoint, Dataset, Predictor};
use decalign_data::Part;

use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::samples::labels;

/// What a folder holds.
#[derive(Debug)]
pub enum Found {
    /// A run with one seed or several.
    Run(Box<Run>),
    /// An ablation, a sweep, or baselines.
    Experiment(Box<Experiment>),
}

/// A run with one seed or several, on its test part.
#[derive(Debug)]
pub struct Run {
    /// The folder's name.
    pub name: String,
    pub(crate) seeds: Vec<Seed>,
    pub(crate) data: Dataset,
    /// The rows of the test part.
    pub(crate) rows: Vec<usize>,
    pub(crate) labels: Vec<f32>,
    pub(crate) benchmark: Benchmark,
    /// The names of the classes; none for scores.
    pub(crate) classes: Vec<String>,
}

/// One seed of a run.
#[derive(Debug)]
pub(crate) struct Seed {
    pub(crate) checkpoint: Checkpoint,
    /// Column names and rows of `epochs.csv`, where it is there.
    pub(crate) epochs: Epochs,
    /// Scores or logits of the test part.
    pub(crate) scores: Vec<f32>,
}

/// The table of epochs.
#[derive(Debug, Default)]
pub(crate) struct Epochs {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<f64>>,
}

impl Found {
    /// Reads what `train`, `ablate`, `sweep` or `baselines` left in a folder. `data` gives the data
    /// set for a configuration.
    ///
    /// # Errors
    /// When there is no run, or it does not fit the data; the message names the file.
    pub fn open(
        folder: &Path,
        data: impl Fn(&decalign::config::Config) -> Result<Dataset>,
    ) -> Result<Self> {
        let experiment = folder.join("experiment.json");
        if experiment.exists() {
            let text =
                std::fs::read_to_string(&experiment).map_err(|e| Error::file(&experiment, e))?;
            let read = serde_json::from_str(&text).map_err(|e| Error::file(&experiment, e))?;
            return Ok(Self::Experiment(Box::new(read)));
        }
        let places = places(folder)?;
        let mut seeds = Vec::new();
        let mut common: Option<(Dataset, Vec<usize>)> = None;
        for place in &places {
            let file = place.join("best.safetensors");
            let checkpoint = Checkpoint::open(&file)?;
            let (data, rows) = match &common {
                Some(known) => known,
                None => {
                    let data = data(&checkpoint.config)?;
                    let rows = data.part(checkpoint.config.split.as_deref(), Part::Test)?;
                    common.insert((data, rows))
                }
            };
            let predictor = Predictor::new(checkpoint, &Device::Cpu)?;
            let predictions = predictor.predict(data, rows)?;
            let scores = (0..rows.len()).flat_map(|i| predictions.scores(i).iter().copied());
            seeds.push(Seed {
                scores: scores.collect(),
                checkpoint: predictor.checkpoint().clone(),
                epochs: Epochs::open(&place.join("epochs.csv"))?,
            });
        }
        let (Some(first), Some((data, rows))) = (seeds.first(), common) else {
            return Err(nothing(folder));
        };
        let labels = labels(&data, &rows);
        if labels.is_empty() {
            return Err(Error::file(
                folder,
                "the data has no labels, nothing to report on",
            ));
        }
        let name = folder.file_name().map_or_else(
            || folder.display().to_string(),
            |n| n.to_string_lossy().into_owned(),
        );
        Ok(Self::Run(Box::new(Run {
            name,
            labels,
            benchmark: first.checkpoint.config.resolve_alone()?.benchmark(),
            classes: first.checkpoint.classes.clone(),
            seeds,
            data,
            rows,
        })))
    }
}

/// The folders with a model: the folder itself, or its seeds' in order.
fn places(folder: &Path) -> Result<Vec<PathBuf>> {
    if folder.join("best.safetensors").exists() {
        return Ok(vec![folder.to_owned()]);
    }
    let entries = std::fs::read_dir(folder).map_err(|e| Error::file(folder, e))?;
    let seed = |path: PathBuf| -> Option<(u64, PathBuf)> {
        let name = path
            .file_name()?
            .to_str()?
            .strip_prefix("seed-")?
            .parse()
            .ok()?;
        path.join("best.safetensors")
            .exists()
            .then_some((name, path))
    };
    let mut seeds: Vec<(u64, PathBuf)> = entries.flatten().filter_map(|e| seed(e.path())).collect();
    seeds.sort();
    match seeds.is_empty() {
        true => Err(nothing(folder)),
        false => Ok(seeds.into_iter().map(|(_, path)| path).collect()),
    }
}

fn nothing(folder: &Path) -> Error {
    let message =
        "no run here; expected best.safetensors, seed-N/best.safetensors or experiment.json";
    Error::file(folder, message)
}

impl Epochs {
    /// Reads the table; an absent file is an empty one. A line that was cut short ends it.
    fn open(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
        let mut reader = csv::ReaderBuilder::new()
            .flexible(true)
            .from_reader(text.as_bytes());
        let header = reader.headers().map_err(|e| Error::file(path, e))?;
        let columns: Vec<String> = header.iter().map(str::to_owned).collect();
        let mut rows = Vec::new();
        for record in reader.records().map_while(|r| r.ok()) {
            let row: Vec<f64> = record
                .iter()
                .map(|v| v.parse().unwrap_or(f64::NAN))
                .collect();
            if row.len() < columns.len() {
                break;
            }
            rows.push(row);
        }
        Ok(Self { columns, rows })
    }

    /// A column by name, with the epochs.
    pub(crate) fn column(&self, name: &str) -> Vec<(f64, f64)> {
        let Some(i) = self.columns.iter().position(|c| c == name) else {
            return Vec::new();
        };
        self.rows.iter().map(|row| (row[0], row[i])).collect()
    }
}

impl Run {
    /// Numbers a sample.
    pub(crate) fn width(&self) -> usize {
        self.seeds[0].scores.len() / self.rows.len().max(1)
    }

    /// The scores of every seed.
    pub(crate) fn predictions(&self) -> Vec<Vec<f32>> {
        self.seeds.iter().map(|s| s.scores.clone()).collect()
    }

    /// The pooled parts of up to `most` test samples, spread over the part, in a model; and their
    /// rows.
    pub(crate) fn pooled(&self, model: &DecAlign, most: usize) -> Result<(Pooled, Vec<usize>)> {
        let checkpoint = &self.seeds[0].checkpoint;
        let config = &checkpoint.config;
        let step = self.rows.len().div_ceil(most.max(1)).max(1);
        let rows: Vec<usize> = self.rows.iter().step_by(step).copied().collect();
        let mut data = match &config.modalities {
            Some(names) => self.data.select(names)?,
            None => self.data.clone(),
        };
        if config.replace_non_finite {
            data = data.replace_non_finite()?;
        }
        if let Some(standardizer) = &checkpoint.standardizer {
            data = standardizer.apply(&data)?;
        }
        let batch = data.batch(&rows, DType::F32, &Device::Cpu)?;
        Ok((model.pooled_parts(&batch.sequences)?, rows))
    }
}
