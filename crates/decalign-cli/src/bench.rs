//! `decalign bench`.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Tensor};
use decalign::config::{Config, PRESET_SHAPES, Resolved, TrainMode};
use decalign::core::gemm::{Matrix, Store, matmul};
use decalign::core::nn::Mode;
use decalign::core::op::{Graph, without_gradients};
use decalign::core::profile::{self, Profile, phase};
use decalign::core::random::Stream;
use decalign::model::DecAlign;
use decalign::objective::Objective;
use decalign::optim::{Adam, AdamSettings};
use decalign_data::Sequence;
use serde::Serialize;

use crate::args;
use crate::output::{CliResult, Failure, print, print_json};
use crate::source::machine;
use crate::table;

/// What was measured; times in milliseconds.
#[derive(Debug, Serialize)]
struct Report {
    preset: String,
    batch_size: usize,
    threads: usize,
    parameters: usize,
    steps_per_second: f64,
    step: f64,
    forward: f64,
    backward: f64,
    optimiser: f64,
    evaluation: f64,
    /// Of a step, on one thread.
    phases: Vec<Row>,
    /// Arithmetic of a step's matrix products.
    gflop: f64,
    gflop_per_second: f64,
    /// What one large matrix product reaches on as many threads.
    machine_gflop_per_second: f64,
    /// The most memory the program held; not on every system.
    peak_memory_mb: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    forward: f64,
    backward: f64,
}

pub(crate) fn run(arguments: args::Bench) -> CliResult {
    if !(arguments.seconds > 0.0 && arguments.seconds <= 3600.0) {
        let message = format!("--seconds {}: expected 0 to 3600", arguments.seconds);
        return Err(Failure::bad_input(message));
    }
    let device = machine(&arguments.machine)?;
    let mut config = Config::preset(&arguments.preset)?;
    let (widths, steps) = sizes(&arguments.preset);
    config.feature_dims = Some(widths.to_vec());
    config.use_bert = false;
    for assignment in &arguments.set {
        config.set(assignment)?;
    }
    if let Some(size) = arguments.batch_size {
        config.batch_size = size;
    }
    let settings = config.resolve_alone()?;
    check_size(&settings, &steps)?;
    let bench = Bench::new(&settings, &steps, arguments.seconds, &device)?;
    let report = bench.report(&arguments.preset)?;
    match arguments.json {
        true => print_json(&report),
        false => print(&text(&report)),
    }
}

/// Numbers of a batch, at most: a step keeps some 100 bytes for each.
const MOST: f64 = 5e7;

/// An error when a batch would not fit.
fn check_size(settings: &Resolved, steps: &[usize]) -> CliResult {
    let size = settings.config.batch_size as f64;
    let modalities = settings.model.modalities.iter().zip(steps);
    let each: f64 = modalities
        .map(|(m, steps)| m.width as f64 * *steps as f64)
        .sum();
    match size * each <= MOST {
        true => Ok(()),
        false => {
            let message = format!(
                "a batch of {size} samples of {each} numbers: expected at most {MOST:.0} numbers; lower --batch-size"
            );
            Err(Failure::bad_input(message))
        }
    }
}

fn sizes(preset: &str) -> ([usize; 3], [usize; 3]) {
    let found = PRESET_SHAPES.iter().find(|shape| shape.name == preset);
    let shape = found.unwrap_or(&PRESET_SHAPES[0]);
    (shape.widths, shape.steps)
}

/// A model, and a batch for it.
struct Bench {
    model: DecAlign,
    objective: Objective,
    sequences: Vec<Sequence>,
    labels: Tensor,
    size: usize,
    time: Duration,
    device: Device,
}

impl Bench {
    fn new(settings: &Resolved, steps: &[usize], seconds: f64, device: &Device) -> CliResult<Self> {
        let (config, size) = (&settings.config, settings.config.batch_size);
        let stream = Stream::new(config.seed, 0);
        let mut sequences = Vec::new();
        for (i, (modality, steps)) in settings.model.modalities.iter().zip(steps).enumerate() {
            let shape = (size, *steps, modality.width);
            let x = stream
                .child(i as u64)
                .normal_tensor(shape)
                .map_err(decalign::Error::from)?;
            let x = x.to_dtype(DType::F32).and_then(|x| x.to_device(device));
            sequences.push(Sequence::new(x.map_err(decalign::Error::from)?, None));
        }
        let labels = match config.train_mode {
            Some(TrainMode::Classification) => {
                let classes = settings.model.outputs.max(1);
                let each: Vec<u32> = (0..size).map(|i| (i % classes) as u32).collect();
                Tensor::from_vec(each, size, &Device::Cpu)
            }
            _ => {
                let each = stream.child(9).uniform(size, -3.0, 3.0);
                let each: Vec<f32> = each.into_iter().map(|v| v as f32).collect();
                Tensor::from_vec(each, (size, 1), &Device::Cpu)
            }
        };
        Ok(Self {
            model: DecAlign::new(&settings.model, config.seed, DType::F32, device)?,
            objective: Objective::new(&settings.objective, None),
            sequences,
            labels: labels
                .and_then(|y| y.to_device(device))
                .map_err(decalign::Error::from)?,
            device: device.clone(),
            size,
            time: Duration::from_secs_f64(seconds),
        })
    }

    /// The loss of the batch, and the graph it is of.
    fn forward(&self) -> CliResult<(Tensor, Graph)> {
        let graph = Graph::on(&self.device);
        let loss = graph.run(|| self.loss())?;
        Ok((loss, graph))
    }

    fn loss(&self) -> CliResult<Tensor> {
        let mode = Mode::Training(Stream::new(1, 1));
        let output = self.model.forward(&self.sequences, true, mode)?;
        let losses = phase("objective", || self.objective.losses(&output, &self.labels))?;
        Ok(losses.total)
    }

    fn report(&self, preset: &str) -> CliResult<Report> {
        let mut adam = Adam::new(self.model.variables(), AdamSettings::new(0.005, 0.6));
        let parameters = self.model.variables();
        let parameters = parameters.iter().map(|(_, v)| v.elem_count()).sum();
        let lost = |error: decalign::core::Error| Failure::from(decalign::Error::from(error));
        let forward = self.least(|| self.forward().map(|_| ()))?;
        let (loss, graph) = self.forward()?;
        let backward = self.least(|| graph.backward(&loss).map(|_| ()).map_err(lost))?;
        let gradients = graph.backward(&loss).map_err(lost)?;
        drop((loss, graph));
        // A rate of 0, so that the model stays what it is.
        let optimiser =
            self.least(|| Ok(adam.step(&gradients, |_| 0.0)?.value().map(|_| ())?))?;
        drop(gradients);
        let step = self.least(|| {
            let (loss, graph) = self.forward()?;
            let gradients = graph.backward(&loss).map_err(lost)?;
            // Read, so that a device is waited for.
            adam.step(&gradients, |_| 0.0)?.value()?;
            Ok(())
        })?;
        let evaluation = self.least(|| {
            let forward = || self.model.forward(&self.sequences, false, Mode::Inference);
            without_gradients(forward)?;
            Ok(())
        })?;
        let memory = peak_memory();
        let (profile, phases) = self.phases()?;
        let gflop = profile.product_flops as f64 / 1e9;
        Ok(Report {
            preset: preset.to_owned(),
            batch_size: self.size,
            threads: rayon::current_num_threads(),
            parameters,
            steps_per_second: step.recip(),
            step: step * 1e3,
            forward: forward * 1e3,
            backward: backward * 1e3,
            optimiser: optimiser * 1e3,
            evaluation: evaluation * 1e3,
            phases,
            gflop,
            gflop_per_second: gflop / step,
            machine_gflop_per_second: self.machine()?,
            peak_memory_mb: memory,
        })
    }

    /// Waits for the device.
    fn wait(&self) -> CliResult {
        Ok(self.device.synchronize().map_err(decalign::Error::from)?)
    }

    /// The shortest of the runs that fit the time, two at least, in seconds.
    fn least(&self, mut run: impl FnMut() -> CliResult) -> CliResult<f64> {
        let (start, mut least, mut runs) = (Instant::now(), f64::INFINITY, 0);
        while runs < 2 || start.elapsed() < self.time {
            let start = Instant::now();
            run()?;
            self.wait()?;
            least = least.min(start.elapsed().as_secs_f64());
            runs += 1;
        }
        Ok(least)
    }

    /// The phases of the shortest forward and backward pass on one thread, and what is in none of them.
    fn phases(&self) -> CliResult<(Profile, Vec<Row>)> {
        let one = rayon::ThreadPoolBuilder::new().num_threads(1).build();
        let failed = |error| Failure::failed(format!("a pool of one thread: {error}"));
        let one = one.map_err(failed)?;
        let mut best: Option<([f64; 2], Profile)> = None;
        self.least(|| {
            let (times, profile) = one.install(|| profile::measure(|| self.both()));
            let times = times?;
            let total = |times: &[f64; 2]| times.iter().sum::<f64>();
            if best.as_ref().is_none_or(|(b, _)| total(&times) < total(b)) {
                best = Some((times, profile));
            }
            Ok(())
        })?;
        let (times, profile) = best.unwrap_or_default();
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let mut rows: Vec<Row> = profile
            .phases
            .iter()
            .map(|(name, phase)| Row {
                name: (*name).to_owned(),
                forward: ms(phase.forward),
                backward: ms(phase.backward),
            })
            .collect();
        let rest =
            |i: usize, of: fn(&Row) -> f64| times[i] * 1e3 - rows.iter().map(of).sum::<f64>();
        let other = Row {
            name: "the rest".to_owned(),
            forward: rest(0, |r| r.forward),
            backward: rest(1, |r| r.backward),
        };
        rows.push(other);
        Ok((profile, rows))
    }

    /// Seconds forward and backward.
    fn both(&self) -> CliResult<[f64; 2]> {
        let start = Instant::now();
        let (loss, graph) = self.forward()?;
        let forward = start.elapsed().as_secs_f64();
        graph.backward(&loss).map_err(decalign::Error::from)?;
        Ok([forward, start.elapsed().as_secs_f64() - forward])
    }

    /// Gflop/s of a matrix product.
    fn machine(&self) -> CliResult<f64> {
        let n = 1024;
        let (a, b, mut c) = (vec![0.5f32; n * n], vec![0.25; n * n], vec![0.0; n * n]);
        let seconds = self.least(|| {
            let (a, b) = (Matrix::new(&a, n, n), Matrix::new(&b, n, n));
            matmul(&mut c, n, a, b, Store::Write);
            Ok(())
        })?;
        Ok(2e-9 * (n as f64).powi(3) / seconds)
    }
}

/// The most memory that this process has held, in MB, where the system says so.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    let kilobytes: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kilobytes * 1024.0 / 1e6)
}

fn text(r: &Report) -> String {
    let memory = r
        .peak_memory_mb
        .map_or(String::new(), |mb| format!(", {mb:.0} MB at most"));
    let plural = if r.threads == 1 { "" } else { "s" };
    // A device's products are not counted.
    let products = match r.gflop > 0.0 {
        true => format!(
            "; {:.2} Gflop of products a step, {:.0} Gflop/s of the machine's {:.0}",
            r.gflop, r.gflop_per_second, r.machine_gflop_per_second
        ),
        false => String::new(),
    };
    let head = format!(
        "{}: batch of {}, {} parameters, {} thread{plural}{memory}\n{:.2} steps a second{products}\n\n",
        r.preset, r.batch_size, r.parameters, r.threads, r.steps_per_second,
    );
    let ms = |v: f64| format!("{v:.2}");
    let row = |name: &str, v: f64| (name.to_owned(), vec![ms(v)]);
    let times = vec![
        row("step", r.step),
        row("  forward", r.forward),
        row("  backward", r.backward),
        row("  optimiser", r.optimiser),
        row("evaluation", r.evaluation),
    ];
    let phases = r.phases.iter();
    let phases = phases.map(|p| (p.name.clone(), vec![ms(p.forward), ms(p.backward)]));
    let times = table::lines(vec!["ms".to_owned()], times);
    let header = ["ms forward", "ms backward"].map(str::to_owned).to_vec();
    let phases = table::lines(header, phases.collect());
    format!("{head}{times}\nphases, on one thread\n{phases}")
}
