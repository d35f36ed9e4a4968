//! `decalign train`.

mod one;
mod stop;
mod summary;

use std::path::Path;
use std::time::{Duration, Instant};

use candle_core::Device;
use decalign::baseline::baselines;
use decalign::config::Config;
use decalign::metrics::Benchmark;
use decalign::train::DecAlignTrainer;
use decalign::{Dataset, fingerprint};
use decalign_data::Modality;

use crate::args::Train;
use crate::output::{Done, FAILED, Failure, STOPPED, print, print_json};
use crate::run::folder::RunFolder;
use crate::run::metrics::METRICS;
use crate::run::record::{Common, Data, RUN, Record, Status, instruction_set};
use crate::settings;
use crate::side_by_side::{Gate, side_by_side};
use crate::source;
use one::{Ended, Job};
use summary::Summary;

pub(crate) use stop::Stop;

/// A command that is ready to run: everything that can be wrong with the input has been found.
struct Order {
    data: Dataset,
    /// For every seed.
    trainer: DecAlignTrainer,
    seeds: Vec<u64>,
    common: Common,
    folder: RunFolder,
    /// Of the folder.
    record: Record,
}

pub(crate) fn run(arguments: Train) -> Done {
    let stop = Stop::on_ctrl_c();
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
    let mut order = match &arguments.resume {
        Some(folder) => Order::resume(&arguments, folder, device)?,
        None => Order::begin(&arguments, device)?,
    };
    let gate = Gate::new(budget);
    let done = order.train(arguments.jobs, save_every, &stop, &gate);
    let ended = done.map_err(|failure| order.explain(failure))?;
    let benchmark = Benchmark::from_name(&order.record.benchmark);
    let summary = Summary {
        ended: &ended,
        // Not before: training is not to wait for them.
        baselines: &baselines(order.trainer.config(), &order.data)?,
        folder: &order.folder.path,
        benchmark: benchmark.ok_or_else(|| {
            let message = format!("{RUN}: no benchmark is named {}", order.record.benchmark);
            Failure::bad_input(message)
        })?,
    };
    if order.seeds.len() > 1 {
        order.folder.write_json(METRICS, &summary.to_value())?;
        order.record.status = Status::Done;
        order.record.error = None;
        order.folder.write_json(RUN, &order.record)?;
    }
    match arguments.json {
        true => print_json(&summary.to_value()),
        false => print(&summary.to_text()),
    }
}

impl Order {
    /// A new run.
    fn begin(arguments: &Train, device: Device) -> Done<Self> {
        let config = settings::config(&arguments.settings)?;
        let seeds = settings::seeds(&arguments.seeds, &[config.seed])?;
        let path = arguments
            .settings
            .dataset
            .as_deref()
            .unwrap_or(Path::new(source::EMBEDDED));
        let begun = Instant::now();
        let data = source::dataset(path)?;
        let loading = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        source::warn_of_split(config.split.as_deref());
        let trainer = DecAlignTrainer::new(&config, &data, &device)?;
        let common = Common {
            device: arguments.machine.device.clone(),
            data: Data::new(
                path,
                &data,
                fingerprint(&used(&data, trainer.config())?)?,
                &trainer,
            ),
            tensorboard: arguments.tensorboard,
            loading,
            preparing: begun.elapsed().as_secs_f64(),
        };
        let folder = RunFolder::create(arguments.run_dir.as_deref(), &config.dataset_name)?;
        folder.write("config.json", &(trainer.config().to_json()? + "\n"))?;
        let record = Record::new(&trainer, classes(&data), &common, &seeds);
        // Last: from here on the run can be resumed.
        folder.write_json(RUN, &record)?;
        Ok(Self {
            data,
            trainer,
            seeds,
            common,
            folder,
            record,
        })
    }

    /// A run that was begun.
    fn resume(arguments: &Train, folder: &Path, device: Device) -> Done<Self> {
        let folder = RunFolder::open(folder)?;
        let record = Record::open(&folder.path)?;
        let config = Config::open(folder.path.join("config.json"))?;
        let known = &record.data;
        let path = match (&arguments.settings.dataset, &known.path) {
            (Some(path), _) | (None, Some(path)) => path.as_path(),
            (None, None) => Path::new(source::EMBEDDED),
        };
        let begun = Instant::now();
        let data = source::dataset(path)?;
        let loading = begun.elapsed().as_secs_f64();
        let begun = Instant::now();
        let print = fingerprint(&used(&data, &config)?)?;
        if print != known.fingerprint {
            let message = format!(
                "{}: not the data that {} was begun with (its fingerprint is {}, not {}); give that with --dataset",
                path.display(),
                folder.path.display(),
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
        let common = Common {
            device: arguments.machine.device.clone(),
            data: known.clone(),
            tensorboard: record.tensorboard,
            loading,
            preparing: begun.elapsed().as_secs_f64(),
        };
        Ok(Self {
            seeds: record.seeds(),
            data,
            trainer,
            common,
            folder,
            record,
        })
    }

    /// Trains every seed that is not done.
    fn train(
        &self,
        jobs: usize,
        save_every: Duration,
        stop: &Stop,
        gate: &Gate,
    ) -> Done<Vec<Ended>> {
        let job = Job {
            trainer: &self.trainer,
            data: &self.data,
            common: &self.common,
            save_every,
            stop,
            gate,
            named: jobs > 1 && self.seeds.len() > 1,
        };
        if let [seed] = self.seeds[..] {
            return Ok(vec![one::train(&job, seed, &self.folder)?]);
        }
        side_by_side(self.seeds.len(), jobs, gate, |i| {
            let seed = self.seeds[i];
            let done = one::train(&job, seed, &self.folder.seed(seed)?);
            if done.is_err() {
                // The others save and end.
                stop.now();
            }
            done
        })
    }

    /// Says how to go on, and records how the run ended.
    fn explain(&mut self, mut failure: Failure) -> Failure {
        if failure.code != FAILED {
            let folder = self.folder.path.display();
            failure.message += &format!("; go on with: decalign train --resume {folder}");
        }
        if self.seeds.len() > 1 {
            self.record.status = match failure.code {
                STOPPED => Status::Stopped,
                _ => Status::Failed,
            };
            self.record.error = Some(failure.message.clone());
            // Where this fails too, the first failure is the one to tell.
            let _ = self.folder.write_json(RUN, &self.record);
        }
        failure
    }
}

/// What a run depends on: its modalities. Others are not read.
fn used(data: &Dataset, config: &Config) -> Done<Dataset> {
    let Some(names) = &config.modalities else {
        return Ok(data.clone());
    };
    // With a text encoder text may be there as tokens alone.
    let there = data.modalities().iter().map(Modality::name);
    let there: Vec<&str> = there.collect();
    let names: Vec<&String> = (names.iter())
        .filter(|name| there.contains(&name.as_str()))
        .collect();
    Ok(data.select(&names)?)
}

/// The names of the classes; none for scores.
fn classes(data: &Dataset) -> Vec<String> {
    data.labels()
        .map(|l| l.names().to_vec())
        .unwrap_or_default()
}
