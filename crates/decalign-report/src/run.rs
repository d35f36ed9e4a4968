//! Reading the folders of runs and experiments.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use decalign::metrics::Benchmark;
use decalign::model::{DecAlign, Pooled};
use decalign::{Checkpoint, Dataset, Predictor};
use decalign_data::Part;

use crate::error::{Error, Result};
use crate::experiment::Experiment;
use crate::figure::Figure;
use crate::node::Node;
use crate::run_folder::{CHECKPOINT, EXPERIMENT, EpochTable, read_json};
use crate::table::Table;

/// The content of a folder: a run or an experiment.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReportInput {
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
    /// The content of `epochs.csv`; empty where there is none.
    pub(crate) epochs: EpochTable,
    /// Scores or logits of the test part.
    pub(crate) scores: Vec<f32>,
}

impl ReportInput {
    /// Reads the folder of a run or an experiment. `data` opens the data set of a configuration.
    ///
    /// # Errors
    /// When there is no run, or it does not fit the data; the message names the file.
    pub fn open(
        folder: &Path,
        data: impl Fn(&decalign::config::Config) -> Result<Dataset>,
    ) -> Result<Self> {
        let experiment = folder.join(EXPERIMENT);
        if experiment.exists() {
            return Ok(Self::Experiment(Box::new(read_json(&experiment)?)));
        }
        let places = places(folder)?;
        let mut seeds = Vec::new();
        let mut common: Option<(Dataset, Vec<usize>)> = None;
        for place in &places {
            let file = place.join(CHECKPOINT);
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
                epochs: EpochTable::open(place)?,
            });
        }
        let (Some(first), Some((data, rows))) = (seeds.first(), common) else {
            return Err(nothing(folder));
        };
        let labels = (data.labels()).map_or_else(Vec::new, |labels| labels.numbers(&rows));
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
    if folder.join(CHECKPOINT).exists() {
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
        path.join(CHECKPOINT).exists().then_some((name, path))
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

impl Run {
    /// A figure of this run.
    pub(crate) fn figure(&self, name: &str, title: &str, drawing: Node, data: Table) -> Figure {
        Figure::new(&format!("{name}-{}", self.name), title, drawing, data)
    }

    /// The number of scores a sample.
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
