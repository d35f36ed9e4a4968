//! Many trainings, side by side; finished ones are found again.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use candle_core::Device;
use decalign::config::Config;
use decalign::metrics::Benchmark;
use decalign::train::{DecAlignOutcome, DecAlignTrainer, EpochReport, Silent};
use decalign::{Checkpoint, Dataset, Predictor, fingerprint};
use decalign_data::{Error, Part, write_atomic};
use decalign_report::{Figures, Single, class_accuracy};
use serde::{Deserialize, Serialize};

use crate::output::{Done, FAILED, Failure, to_json};
use crate::side_by_side::{Gate, side_by_side};

/// One setting and one seed.
#[derive(Clone, Debug)]
pub(crate) struct Job {
    /// Of the setting; the folder begins with it.
    pub(crate) name: String,
    pub(crate) config: Config,
}

/// What a job came to.
#[derive(Clone, Debug)]
pub(crate) struct Finished {
    pub(crate) single: Single,
    /// Scores or logits of the test part.
    pub(crate) predictions: Vec<f32>,
}

/// Where jobs run.
pub(crate) struct Workshop<'a> {
    pub(crate) root: &'a Path,
    pub(crate) data: &'a Dataset,
    pub(crate) device: &'a Device,
    pub(crate) threads: Option<usize>,
}

/// What stands in `metrics.json` of a finished run.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    /// Of the data, so that a run on other data is not taken for this one.
    data: String,
    #[serde(flatten)]
    single: Single,
}

impl Workshop<'_> {
    /// Runs all jobs, as many at a time as there are threads; results come in the jobs' order and
    /// do not depend on how many ran at once.
    pub(crate) fn run(&self, jobs: &[Job]) -> Done<Vec<Finished>> {
        let data = fingerprint(self.data)?;
        let done = AtomicUsize::new(0);
        on_all_threads(jobs.len(), self.threads, self.device, |i| {
            let (finished, kept) = self.job(&jobs[i], &data)?;
            let single = &finished.single;
            let figure = single.test.0.first();
            let figure = figure.map_or_else(String::new, |(n, v)| format!("{n} {v:.4}, "));
            let how = if kept {
                "kept".to_owned()
            } else {
                format!("{:.1} s", single.seconds)
            };
            eprintln!(
                "[{:>3}/{}] {}, seed {}: {figure}{how}",
                done.fetch_add(1, Ordering::Relaxed) + 1,
                jobs.len(),
                jobs[i].name,
                single.seed
            );
            Ok(finished)
        })
    }

    /// Trains, or reads what an earlier training left; true when it was there.
    fn job(&self, job: &Job, data: &str) -> Done<(Finished, bool)> {
        let trainer = DecAlignTrainer::new(&job.config, self.data, self.device)?;
        let folder = self.folder(job, trainer.config(), data)?;
        let checkpoint = folder.join("best.safetensors");
        if let Some(single) = finished(&folder, trainer.config(), data) {
            let (predictions, _) = self.predict(Checkpoint::open(&checkpoint)?)?;
            return Ok((
                Finished {
                    single,
                    predictions,
                },
                true,
            ));
        }
        std::fs::create_dir_all(&folder).map_err(|error| Error::io(&folder, error))?;
        let write = |name: &str, text: &str| write_atomic(&folder.join(name), text.as_bytes());
        write("config.json", &(trainer.config().to_json()? + "\n"))?;
        let start = Instant::now();
        let outcome = trainer.run(Some(&checkpoint), &mut Silent)?;
        let seconds = start.elapsed().as_secs_f64();
        write("epochs.csv", &epochs(&outcome.epochs)?)?;
        let finished = self.describe(outcome, job, &folder, seconds)?;
        let record = Record {
            data: data.to_owned(),
            single: finished.single.clone(),
        };
        // Last: it says that the rest is whole.
        write("metrics.json", &(to_json(&record)? + "\n"))?;
        Ok((finished, false))
    }

    /// `NAME-KEY/seed-N`: the key tells configurations and data apart.
    fn folder(&self, job: &Job, resolved: &Config, data: &str) -> Done<PathBuf> {
        let unseeded = Config {
            seed: 0,
            ..resolved.clone()
        };
        let key = blake3::hash(format!("{data}{}", unseeded.to_json()?).as_bytes()).to_hex();
        let name: String = safe(&job.name).chars().take(80).collect();
        let path = self.root.join(format!("{name}-{}", &key[..8]));
        Ok(path.join(format!("seed-{}", job.config.seed)))
    }

    fn predict(&self, checkpoint: Checkpoint) -> Done<(Vec<f32>, Vec<f64>)> {
        let split = checkpoint.config.split.clone();
        let rows = self.data.part(split.as_deref(), Part::Test)?;
        let predictions = Predictor::new(checkpoint, self.device)?.predict(self.data, &rows)?;
        let scores = (0..rows.len()).flat_map(|i| predictions.scores(i).iter().copied());
        let scores: Vec<f32> = scores.collect();
        let classes = class_accuracy(self.data, &rows, &scores);
        Ok((scores, classes))
    }

    fn describe(
        &self,
        outcome: DecAlignOutcome,
        job: &Job,
        folder: &Path,
        seconds: f64,
    ) -> Done<Finished> {
        let parameters = outcome.checkpoint.weights.values();
        let parameters = parameters.map(|w| w.elem_count()).sum();
        let mut valid = Figures::from(&outcome.valid);
        let best = outcome
            .epochs
            .iter()
            .find(|e| e.epoch == outcome.best_epoch);
        valid
            .0
            .extend(best.map(|e| ("loss".to_owned(), e.valid_loss)));
        let (predictions, class_accuracy) = self.predict(outcome.checkpoint)?;
        let inside = folder.strip_prefix(self.root).unwrap_or(folder);
        let single = Single {
            seed: job.config.seed,
            valid,
            test: Figures::from(&outcome.test),
            class_accuracy,
            parameters,
            seconds,
            folder: Some(inside.display().to_string()),
        };
        Ok(Finished {
            single,
            predictions,
        })
    }
}

/// What a folder holds, if it is a finished run of this configuration on this data.
fn finished(folder: &Path, config: &Config, data: &str) -> Option<Single> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let same = Config::from_json(&read("config.json")?).ok()? == *config;
    let record: Record = serde_json::from_str(&read("metrics.json")?).ok()?;
    (same && record.data == data && folder.join("best.safetensors").exists())
        .then_some(record.single)
}

/// The table of epochs.
fn epochs(reports: &[EpochReport]) -> Done<String> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = reports.first().map(EpochReport::header);
    let rows = reports.iter().map(EpochReport::row);
    let failed = |error: csv::Error| Failure {
        message: error.to_string(),
        code: FAILED,
    };
    for row in header.into_iter().chain(rows) {
        writer.write_record(row).map_err(failed)?;
    }
    let bytes = writer.into_inner().unwrap_or_default();
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// `f(0), ..., f(n - 1)`, as many at a time as there are threads; one on a device that they would have to share.
pub(crate) fn on_all_threads<R: Send>(
    n: usize,
    threads: Option<usize>,
    device: &Device,
    f: impl Fn(usize) -> Done<R> + Sync,
) -> Done<Vec<R>> {
    let cores = threads.unwrap_or_else(rayon::current_num_threads);
    let jobs = if device.is_cpu() { cores } else { 1 };
    side_by_side(n, jobs, &Gate::new(None), f)
}

/// Labels of the test part, and how predictions of it are judged.
pub(crate) fn test_labels(config: &Config, data: &Dataset) -> Done<(Benchmark, Vec<f32>)> {
    let selected = match &config.modalities {
        Some(names) => data.select(names)?,
        None => data.clone(),
    };
    let benchmark = config.resolve(&selected)?.benchmark();
    let rows = data.part(config.split.as_deref(), Part::Test)?;
    Ok((benchmark, decalign_report::labels(data, &rows)))
}

/// The folder asked for, or `runs/<name>`.
pub(crate) fn root(asked: Option<&Path>, name: &str) -> PathBuf {
    asked.map_or_else(
        || Path::new("runs").join(safe(name).trim_matches('.')),
        Path::to_owned,
    )
}

/// A name that a folder can have.
fn safe(name: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-_.=+".contains(c);
    let each = name.chars().map(|c| if safe(c) { c } else { '-' });
    each.take(100).collect()
}
