//! The common part of ablations, sweeps and baselines.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use candle_core::Device;
use decalign::config::{Config, Goal};
use decalign::metrics::{Benchmark, Metrics};
use decalign::train::DecAlignTrainer;
use decalign::{Dataset, fingerprint};
use decalign_data::{Error, write_atomic};
use decalign_report::run_folder::{
    DataRecord, EXPERIMENT, PhaseSeconds, RunFolder, RunRecord, RunStatus, safe_name, write_json,
};
use decalign_report::{Experiment, ExperimentKind, Figure, SettingResult, figures_of};

use crate::args;
use crate::job_runner::{Job, JobResult, JobRunner};
use crate::memory_budget::MemoryBudget;
use crate::output::{CliResult, Failure, STOPPED, print, print_json};
use crate::run::{Display, RunContext, StopSignal, classes, program};
use crate::{settings, source};

/// The interval at which the state of a run is saved within an epoch.
const SAVE_EVERY: Duration = Duration::from_secs(60);

/// An experiment that is ready to run.
pub(crate) struct ExperimentSession {
    pub(crate) config: Config,
    pub(crate) data: Dataset,
    pub(crate) device: Device,
    pub(crate) seeds: Vec<u64>,
    pub(crate) benchmark: Benchmark,
    /// Labels of the test part.
    pub(crate) labels: Vec<f32>,
    kind: ExperimentKind,
    /// The content of `run.json`.
    record: RunRecord,
    source: PathBuf,
    device_name: String,
    path: PathBuf,
    threads: Option<usize>,
    json: bool,
    stop: StopSignal,
    budget: MemoryBudget,
    /// The locked folder, once it exists.
    folder: OnceLock<RunFolder>,
}

impl ExperimentSession {
    /// Checks everything that can be checked before a folder is created.
    pub(crate) fn open(
        given: &args::Settings,
        experiment: &args::Experiment,
        kind: ExperimentKind,
        default_seeds: Option<&[u64]>,
    ) -> CliResult<Self> {
        let stop = StopSignal::on_ctrl_c();
        let device = source::machine(&experiment.machine)?;
        let config = settings::config(given)?;
        let source = settings::source(given).to_owned();
        let data = source::dataset(&source)?;
        let seeds = default_seeds.unwrap_or(std::slice::from_ref(&config.seed));
        let seeds = settings::seeds(&experiment.seeds, seeds)?;
        let name = format!("{}-{}", config.dataset_name, kind.name());
        let path = match &experiment.run_dir {
            Some(path) => path.clone(),
            None => Path::new("runs").join(safe_name(&name, "=+", '-')),
        };
        let trainer = DecAlignTrainer::new(&config, &data, &device)?;
        let [_, _, test] = trainer.rows();
        let used = fingerprint(&source::used_modalities(&data, &config)?)?;
        let known = DataRecord::new(&source, &data, used, &trainer);
        let name = &experiment.machine.device;
        let classes = classes(&data);
        let mut record = RunRecord::begin(program(), &trainer, classes, known, name, &seeds);
        record.experiment = Some(kind);
        (record.seed, record.seeds) = (None, Some(seeds.clone()));
        Ok(Self {
            benchmark: trainer.benchmark(),
            labels: (data.labels()).map_or_else(Vec::new, |labels| labels.numbers(test)),
            record,
            kind,
            source,
            device_name: experiment.machine.device.clone(),
            path,
            threads: experiment.machine.threads,
            json: experiment.json,
            stop,
            budget: MemoryBudget::new(None),
            folder: OnceLock::new(),
            config,
            data,
            device,
            seeds,
        })
    }

    /// Trains every setting with every seed. Where it is interrupted, the same command resumes it.
    pub(crate) fn train(&self, jobs: &[Job<'_>]) -> CliResult<Vec<Vec<JobResult>>> {
        // A setting that cannot run is reported before the first one runs.
        for job in jobs {
            DecAlignTrainer::new(&job.config, &self.data, &self.device)?;
        }
        let runner = JobRunner {
            root: &self.path,
            source: &self.source,
            device: &self.device,
            threads: self.threads,
            context: RunContext {
                data: &self.data,
                save_every: SAVE_EVERY,
                stop: &self.stop,
                budget: &self.budget,
                display: Display::Quiet,
                device: self.device_name.clone(),
                tensorboard: false,
                seconds: PhaseSeconds::default(),
            },
        };
        self.begin()?;
        let mut all = Vec::with_capacity(jobs.len() * self.seeds.len());
        for job in jobs {
            for seed in &self.seeds {
                let mut job = job.clone();
                job.config.seed = *seed;
                all.push(job);
            }
        }
        let results = runner.run(&all).map_err(|failure| self.explain(failure))?;
        let each = results.chunks(self.seeds.len());
        Ok(each.map(<[JobResult]>::to_vec).collect())
    }

    /// Creates and locks the folder, and records the experiment in its `run.json`.
    fn begin(&self) -> CliResult {
        if self.folder.get().is_none() {
            let folder = RunFolder::open_or_create(&self.path)?;
            self.record.save(&self.path)?;
            let _ = self.folder.set(folder);
        }
        Ok(())
    }

    /// Sets the status in `run.json`.
    fn record(&self, status: RunStatus, error: Option<String>) -> CliResult {
        let mut record = self.record.clone();
        (record.status, record.error) = (status, error);
        Ok(record.save(&self.path)?)
    }

    fn explain(&self, mut failure: Failure) -> Failure {
        let status = match failure.code {
            STOPPED => RunStatus::Stopped,
            _ => RunStatus::Failed,
        };
        if failure.code == STOPPED {
            failure.message += "; the same command again goes on where it stopped";
        }
        // The first failure is the one to report.
        let _ = self.record(status, Some(failure.message.clone()));
        failure
    }

    /// The jobs of DecAlign under named configurations.
    pub(crate) fn jobs(settings: &[(String, Config)]) -> Vec<Job<'static>> {
        let job = |(name, config): &(String, Config)| Job {
            name: name.clone(),
            config: config.clone(),
            baseline: None,
        };
        settings.iter().map(job).collect()
    }

    /// The experiment of some settings.
    pub(crate) fn experiment(&self, keys: Vec<String>, rows: Vec<SettingResult>) -> Experiment {
        // The PyTorch code calls the validation loss by the data set's name.
        let named = self.config.selection_metric.as_deref();
        let is_loss =
            |name: &&str| *name == "loss" || name.eq_ignore_ascii_case(&self.config.dataset_name);
        let selection = named.filter(|name| !is_loss(name)).unwrap_or("loss");
        let goal = self
            .config
            .selection_mode
            .unwrap_or_else(|| Metrics::goal(selection));
        let mut experiment = Experiment::new(self.kind, &self.config.dataset_name, rows);
        experiment.classes = self.record.classes.clone();
        experiment.keys = keys;
        experiment.selection = selection.to_owned();
        experiment.smaller_is_better = goal == Goal::Min;
        experiment
    }

    /// Writes tables and figures to the folder and prints the table.
    pub(crate) fn finish(&self, experiment: &Experiment) -> CliResult {
        let (table, figures) = (experiment.text(), figures_of(experiment));
        let write = |name: &str, text: &str| write_atomic(&self.path.join(name), text.as_bytes());
        write_json(&self.path.join(EXPERIMENT), experiment)?;
        write("table.csv", &experiment.table().csv())?;
        write("table.txt", &table)?;
        write_figures(&self.path.join("figures"), &figures)?;
        self.record(RunStatus::Done, None)?;
        match self.json {
            true => print_json(experiment),
            false => print(&format!(
                "\n{table}\nruns, table and figures in {}\n",
                self.path.display()
            )),
        }
    }
}

/// Writes SVG, CSV and JSON of figures.
pub(crate) fn write_figures(folder: &Path, figures: &[Figure]) -> CliResult {
    std::fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    for figure in figures {
        let path = |ending: &str| folder.join(format!("{}.{ending}", figure.name));
        write_atomic(&path("svg"), figure.svg().as_bytes())?;
        write_atomic(&path("csv"), figure.data.csv().as_bytes())?;
        write_json(&path("json"), &figure.data.json())?;
    }
    Ok(())
}
