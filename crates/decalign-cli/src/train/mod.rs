//! `decalign train`.

mod summary;

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::Device;
use decalign::baseline::baselines;
use decalign::config::Config;
use decalign::metrics::Benchmark;
use decalign::train::DecAlignTrainer;
use decalign::{Dataset, fingerprint};
use decalign_data::write_atomic;
use decalign_report::run_folder::{
    CONFIG, DataRecord, METRICS, PhaseSeconds, RUN, RunFolder, RunRecord, RunStatus,
    instruction_set, write_json,
};

use crate::args::Train;
use crate::memory_budget::MemoryBudget;
use crate::output::{CliResult, FAILED, Failure, STOPPED, print, print_json};
use crate::parallel_jobs::parallel_jobs;
use crate::run::{Display, RunContext, RunModel, StopSignal, TrainedRun, classes, program};
use crate::{settings, source};
use summary::Summary;

/// A command whose input is checked completely.
struct TrainCommand {
    data: Dataset,
    /// For every seed.
    trainer: DecAlignTrainer,
    seeds: Vec<u64>,
    folder: RunFolder,
    /// The record of the folder.
    record: RunRecord,
    /// Wall time before training.
    seconds: PhaseSeconds,
    /// The name of the device.
    device: String,
}

pub(crate) fn run(arguments: Train) -> CliResult {
    let stop = StopSignal::on_ctrl_c();
    let device = source::machine(&arguments.machine)?;
    let save_every = Duration::try_from_secs_f64(arguments.save_every).map_err(|_| {
        let message = format!(
            "--save-every {}: expected seconds, 0 or more",
            arguments.save_every
        );
        Failure::bad_input(message)
    })?;
    if arguments.jobs == 0 {
        return Err(Failure::bad_input("--jobs 0: expected 1 or more"));
    }
    let budget = match arguments.memory {
        Some(_) if arguments.jobs == 1 => {
            let message = "--memory: nothing to limit, add --jobs 2 or more";
            return Err(Failure::bad_input(message));
        }
        Some(gib) if gib > 0.0 && gib < 1e9 => Some((gib * f64::from(1 << 30)) as u64),
        Some(gib) => {
            let message = format!("--memory {gib}: expected GiB, more than 0");
            return Err(Failure::bad_input(message));
        }
        None => None,
    };
    let mut command = match &arguments.resume {
        Some(folder) => TrainCommand::resume(&arguments, folder, device)?,
        None => TrainCommand::begin(&arguments, device)?,
    };
    let budget = MemoryBudget::new(budget);
    let done = command.train(arguments.jobs, save_every, &stop, &budget);
    let runs = done.map_err(|failure| command.explain(failure))?;
    let benchmark = Benchmark::from_name(&command.record.benchmark);
    let summary = Summary {
        runs: &runs,
        // Computed last, so that training does not wait for them.
        baselines: &baselines(command.trainer.config(), &command.data)?,
        folder: command.folder.path(),
        benchmark: benchmark.ok_or_else(|| {
            let name = &command.record.benchmark;
            Failure::bad_input(format!("{RUN}: no benchmark is named {name}"))
        })?,
    };
    if command.seeds.len() > 1 {
        let path = command.folder.path();
        write_json(&path.join(METRICS), &summary.to_value())?;
        command.record.status = RunStatus::Done;
        command.record.error = None;
        command.record.save(path)?;
    }
    match arguments.json {
        true => print_json(&summary.to_value()),
        false => print(&summary.to_text()),
    }
}

impl TrainCommand {
    /// A new run.
    fn begin(arguments: &Train, device: Device) -> CliResult<Self> {
        let config = settings::config(&arguments.settings)?;
        let seeds = settings::seeds(&arguments.seeds, &[config.seed])?;
        let path = settings::source(&arguments.settings);
        let begun = Instant::now();
        let data = source::dataset(path)?;
        let mut seconds = PhaseSeconds::default();
        seconds.loading = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        source::warn_of_split(config.split.as_deref());
        let trainer = DecAlignTrainer::new(&config, &data, &device)?;
        let used = fingerprint(&source::used_modalities(&data, trainer.config())?)?;
        let known = DataRecord::new(path, &data, used, &trainer);
        seconds.preparing = begun.elapsed().as_secs_f64();
        let folder = RunFolder::create(arguments.run_dir.as_deref(), &config.dataset_name)?;
        let text = trainer.config().to_json()? + "\n";
        write_atomic(&folder.path().join(CONFIG), text.as_bytes())?;
        let device = arguments.machine.device.clone();
        let mut record =
            RunRecord::begin(program(), &trainer, classes(&data), known, &device, &seeds);
        record.tensorboard = arguments.tensorboard;
        record.seconds = seconds;
        // Written last: from here on the run can be resumed.
        record.save(folder.path())?;
        Ok(Self {
            data,
            trainer,
            seeds,
            folder,
            record,
            seconds,
            device,
        })
    }

    /// A run that was begun before.
    fn resume(arguments: &Train, folder: &Path, device: Device) -> CliResult<Self> {
        let folder = RunFolder::open(folder)?;
        let record = RunRecord::open(folder.path())?;
        if let Some(kind) = record.experiment {
            let message = format!(
                "{}: an experiment; the same decalign {} command again goes on where it stopped",
                folder.path().display(),
                kind.command()
            );
            return Err(Failure::bad_input(message));
        }
        if record.model != "DecAlign" {
            let message = format!(
                "{}: a run of the baseline {}; decalign baselines resumes it",
                folder.path().display(),
                record.model
            );
            return Err(Failure::bad_input(message));
        }
        let config = Config::open(folder.path().join(CONFIG))?;
        let known = &record.data;
        let path = match (&arguments.settings.dataset, &known.path) {
            (Some(path), _) | (None, Some(path)) => path.as_path(),
            (None, None) => Path::new(source::EMBEDDED),
        };
        let begun = Instant::now();
        let data = source::dataset(path)?;
        let mut seconds = PhaseSeconds::default();
        seconds.loading = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let print = fingerprint(&source::used_modalities(&data, &config)?)?;
        if print != known.fingerprint {
            let message = format!(
                "{}: not the data that {} was begun with (its fingerprint is {}, not {}); give that with --dataset",
                path.display(),
                folder.path().display(),
                &print[..12],
                known.fingerprint.get(..12).unwrap_or(&known.fingerprint)
            );
            return Err(Failure::bad_input(message));
        }
        if record.machine.instruction_set != instruction_set() {
            eprintln!(
                "note: begun on {}, going on on {}: the last bits may differ",
                record.machine.instruction_set,
                instruction_set()
            );
        }
        let trainer = DecAlignTrainer::new(&config, &data, &device)?;
        seconds.preparing = begun.elapsed().as_secs_f64();
        Ok(Self {
            seeds: record.seeds(),
            data,
            trainer,
            folder,
            record,
            seconds,
            device: arguments.machine.device.clone(),
        })
    }

    /// Trains every seed that is not done.
    fn train(
        &self,
        jobs: usize,
        save_every: Duration,
        stop: &StopSignal,
        budget: &MemoryBudget,
    ) -> CliResult<Vec<TrainedRun>> {
        let context = RunContext {
            data: &self.data,
            save_every,
            stop,
            budget,
            display: match jobs > 1 && self.seeds.len() > 1 {
                true => Display::NamedLines,
                false => Display::Bar,
            },
            device: self.device.clone(),
            tensorboard: self.record.tensorboard,
            seconds: self.seconds,
        };
        let train = |seed: u64, folder: &RunFolder| {
            let model = RunModel {
                trainer: self.trainer.clone().with_seed(seed),
                baseline: None,
            };
            context.run(&model, &self.record.data, folder)
        };
        if let [seed] = self.seeds[..] {
            return Ok(vec![train(seed, &self.folder)?]);
        }
        parallel_jobs(self.seeds.len(), jobs, budget, |i| {
            let seed = self.seeds[i];
            let done = train(seed, &self.folder.seed(seed)?);
            if done.is_err() {
                // The other runs save their states and end.
                stop.set();
            }
            done
        })
    }

    /// Adds the command that resumes the run to the message, and records how the run ended.
    fn explain(&mut self, mut failure: Failure) -> Failure {
        let path = self.folder.path();
        if failure.code != FAILED {
            failure.message += &format!("; go on with: decalign train --resume {}", path.display());
        }
        if self.seeds.len() > 1 {
            self.record.status = match failure.code {
                STOPPED => RunStatus::Stopped,
                _ => RunStatus::Failed,
            };
            self.record.error = Some(failure.message.clone());
            // The first failure is the one to report.
            let _ = self.record.save(path);
        }
        failure
    }
}
