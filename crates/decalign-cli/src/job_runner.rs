//! The runs of an experiment: many at the same time, each in a folder that is found again by its configuration.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use decalign::config::Config;
use decalign::train::DecAlignTrainer;
use decalign::{Checkpoint, Predictor, fingerprint};
use decalign_data::Part;
use decalign_report::run_folder::{
    CHECKPOINT, CONFIG, DataRecord, EpochTable, METRICS, RUN, RunFolder, RunRecord, RunStatus,
    read_json, safe_name, seed_folder,
};
use decalign_report::{MetricValues, SeedResult, class_accuracy};
use serde::Deserialize;

use crate::memory_budget::MemoryBudget;
use crate::output::CliResult;
use crate::parallel_jobs::parallel_jobs;
use crate::run::{BaselineModel, RunContext, RunModel, TrainedRun};
use crate::source;

/// One setting with one seed.
#[derive(Clone, Debug)]
pub(crate) struct Job<'a> {
    /// The name of the setting; the folder's name begins with it.
    pub(crate) name: String,
    pub(crate) config: Config,
    pub(crate) baseline: Option<BaselineModel<'a>>,
}

/// The result of a job.
#[derive(Clone, Debug)]
pub(crate) struct JobResult {
    pub(crate) seed: SeedResult,
    /// Scores or logits of the test part.
    pub(crate) predictions: Vec<f32>,
}

/// Runs jobs in the folder of an experiment.
pub(crate) struct JobRunner<'a> {
    pub(crate) root: &'a Path,
    /// The path of the data as given.
    pub(crate) source: &'a Path,
    pub(crate) device: &'a Device,
    pub(crate) threads: Option<usize>,
    pub(crate) context: RunContext<'a>,
}

impl JobRunner<'_> {
    /// Runs all jobs, as many at a time as there are threads. Results are in the order of the jobs and do not depend on
    /// the number of threads.
    pub(crate) fn run(&self, jobs: &[Job<'_>]) -> CliResult<Vec<JobResult>> {
        let data = fingerprint(self.context.data)?;
        // Modalities that a run does not use are not part of its record's fingerprint.
        let mut used: BTreeMap<_, String> = BTreeMap::new();
        for Job { config, .. } in jobs {
            if !used.contains_key(&config.modalities) {
                let print = fingerprint(&source::used_modalities(self.context.data, config)?)?;
                used.insert(config.modalities.clone(), print);
            }
        }
        let done = AtomicUsize::new(0);
        let jobs_at_once = match self.device.is_cpu() {
            true => self.threads.unwrap_or_else(rayon::current_num_threads),
            // A device would be shared.
            false => 1,
        };
        parallel_jobs(jobs.len(), jobs_at_once, &MemoryBudget::new(None), |i| {
            let job = &jobs[i];
            let result = self.job(job, &data, &used[&job.config.modalities]);
            if result.is_err() {
                // The other runs save their states and end.
                self.context.stop.set();
            }
            let (result, reused) = result?;
            let metric = result.seed.test.0.first();
            let metric = metric.map_or_else(String::new, |(n, v)| format!("{n} {v:.4}, "));
            let how = match reused {
                true => "kept".to_owned(),
                false => format!("{:.1} s", result.seed.seconds),
            };
            eprintln!(
                "[{:>3}/{}] {}, seed {}: {metric}{how}",
                done.fetch_add(1, Ordering::Relaxed) + 1,
                jobs.len(),
                job.name,
                result.seed.seed
            );
            Ok(result)
        })
    }

    fn job(&self, job: &Job<'_>, data: &str, used: &str) -> CliResult<(JobResult, bool)> {
        let trainer = DecAlignTrainer::new(&job.config, self.context.data, self.device)?;
        let model = RunModel {
            trainer,
            baseline: job.baseline,
        };
        let path = self.folder(job, &model, data)?;
        if let Some(result) = self.old_format(&path, &model, data)? {
            return Ok((result, true));
        }
        let folder = RunFolder::open_or_create(&path)?;
        let record = DataRecord::new(
            self.source,
            self.context.data,
            used.to_owned(),
            &model.trainer,
        );
        self.discard_unusable(&folder, &model, &record)?;
        let run = self.context.run(&model, &record, &folder)?;
        let reused = run.reused;
        Ok((self.result(run, &model, &path)?, reused))
    }

    /// `NAME-KEY/seed-N`. The key is a hash of data and configuration.
    fn folder(&self, job: &Job<'_>, model: &RunModel<'_>, data: &str) -> CliResult<PathBuf> {
        let unseeded = RunModel {
            trainer: model.trainer.clone().with_seed(0),
            baseline: model.baseline,
        };
        let text = format!("{data}{}", unseeded.config()?.trim_end());
        let key = blake3::hash(text.as_bytes()).to_hex();
        let name: String = safe_name(&job.name, "=+", '-').chars().take(80).collect();
        let setting = self.root.join(format!("{name}-{}", &key[..8]));
        Ok(seed_folder(&setting, job.config.seed))
    }

    /// Discards a run that cannot be continued: its metrics were removed, or its key is equal to this one by chance.
    fn discard_unusable(
        &self,
        folder: &RunFolder,
        model: &RunModel<'_>,
        data: &DataRecord,
    ) -> CliResult {
        let path = folder.path();
        if !path.join(RUN).exists() {
            return Ok(());
        }
        let config = std::fs::read_to_string(path.join(CONFIG)).unwrap_or_default();
        let record = RunRecord::open(path)?;
        let same = config == model.config()? && record.data.fingerprint == data.fingerprint;
        let complete = record.status != RunStatus::Done || path.join(METRICS).exists();
        if !(same && complete) {
            decalign::train::ResumePolicy::at(path).clear()?;
            let _ = std::fs::remove_file(path.join(RUN));
        }
        Ok(())
    }

    fn result(&self, run: TrainedRun, model: &RunModel<'_>, path: &Path) -> CliResult<JobResult> {
        let TrainedRun {
            metrics,
            predictions,
            ..
        } = run;
        let mut valid = MetricValues::from(&metrics.valid);
        let losses = EpochTable::open(path)?.column("valid_loss");
        let best = losses
            .iter()
            .find(|(epoch, _)| *epoch == metrics.best_epoch as f64);
        valid
            .0
            .extend(best.map(|(_, loss)| ("loss".to_owned(), *loss)));
        let [_, _, test] = model.trainer.rows();
        let mut seed = SeedResult::new(metrics.seed, valid, MetricValues::from(&metrics.test));
        seed.class_accuracy = class_accuracy(self.context.data, test, &predictions.scores);
        seed.parameters = metrics.parameters;
        seed.seconds = metrics.seconds;
        seed.folder = Some(self.inside(path));
        Ok(JobResult {
            seed,
            predictions: predictions.scores,
        })
    }

    fn inside(&self, path: &Path) -> String {
        let inside = path.strip_prefix(self.root).unwrap_or(path);
        inside.display().to_string()
    }

    /// The result of a finished run that an older version left: without `run.json` and predictions.
    fn old_format(
        &self,
        path: &Path,
        model: &RunModel<'_>,
        data: &str,
    ) -> CliResult<Option<JobResult>> {
        #[derive(Deserialize)]
        struct OldMetrics {
            /// The fingerprint of the data.
            data: String,
            #[serde(flatten)]
            seed: SeedResult,
        }
        if path.join(RUN).exists() || !path.join(CHECKPOINT).exists() {
            return Ok(None);
        }
        let config = std::fs::read_to_string(path.join(CONFIG)).unwrap_or_default();
        let config = Config::from_json(&config);
        let same = config.is_ok_and(|config| config == *model.trainer.config());
        let metrics = read_json::<OldMetrics>(&path.join(METRICS)).ok();
        let Some(metrics) = metrics.filter(|metrics| same && metrics.data == data) else {
            return Ok(None);
        };
        let checkpoint = Checkpoint::open(path.join(CHECKPOINT))?;
        let rows = self
            .context
            .data
            .part(checkpoint.config.split.as_deref(), Part::Test)?;
        let predictions =
            Predictor::new(checkpoint, self.device)?.predict(self.context.data, &rows)?;
        let scores = (0..rows.len()).flat_map(|i| predictions.scores(i).iter().copied());
        Ok(Some(JobResult {
            seed: metrics.seed,
            predictions: scores.collect(),
        }))
    }
}
