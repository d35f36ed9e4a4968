//! The command line.

mod experiment;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

pub(crate) use experiment::{Ablate, Baselines, Experiment, Report, Settings, Sweep};

/// Cross-modal alignment: train, evaluate, predict with, verify and time DecAlign models.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true, max_term_width = 100)]
#[command(
    after_help = "Start with `decalign train`: it trains on embedded data in a few seconds.\n\
    Exit status: 0 done, 1 a run or a verification failed, 2 the input is bad, 130 stopped by Ctrl-C."
)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Train a model; on the embedded digits when no data is given
    Train(Train),
    /// Train without parts of the method, and tell what each is worth
    Ablate(Ablate),
    /// Train with values of settings, and tell which are best
    Sweep(Sweep),
    /// Train the methods of the literature beside the model
    Baselines(Baselines),
    /// Make one HTML page of runs and experiments: figures, intervals, the hardest samples
    Report(Report),
    /// Compute a benchmark's figures for a trained model, with intervals
    Evaluate(Evaluate),
    /// Compare two runs on the same samples, with intervals
    Compare(Compare),
    /// Predict with a trained model, one row a sample
    Predict(Predict),
    /// Print settings as JSON: a start for a file of one's own
    Config(Config),
    /// Hold the model against recorded numbers of another implementation
    Verify(Verify),
    /// Time a training step by its phases, on random data of a benchmark's size
    Bench(Bench),
}

/// What is settled when a run begins.
const BEGIN: [&str; 11] = [
    "config",
    "preset",
    "set",
    "modalities",
    "split",
    "seeds",
    "epochs",
    "batch_size",
    "learning_rate",
    "run_dir",
    "tensorboard",
];

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    decalign train\n  \
    decalign train --modalities fou,kar,pix --seeds 1 2 3\n  \
    decalign train --dataset mine.safetensors --set nlevels=2 --epochs 50\n  \
    decalign train --dataset mosi.safetensors --preset mosi --split bc\n  \
    decalign train --resume runs/mfeat\n\n\
    Writes the model, its predictions and figures, the history of epochs, and what is needed to repeat or\n\
    resume the run to the run's folder (docs/runs.md). Ctrl-C finishes the step and saves; again, it stops at once.")]
pub(crate) struct Train {
    /// A safetensors file (docs/data-format.md), or `mfeat`, the embedded digits
    #[arg(long, value_name = "FILE")]
    pub(crate) dataset: Option<PathBuf>,
    /// A JSON file of settings, this project's or the PyTorch release's
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub(crate) config: Option<PathBuf>,
    /// Named settings: mosi, mosei, sims, iemocap, mfeat
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Change one setting, see `decalign config`; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// The modalities to use, in order
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) modalities: Vec<String>,
    /// The split of the data to use
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    /// One run a seed; several give mean and deviation
    #[arg(long, value_name = "SEED", num_args = 1.., value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Passes over the training part, at most
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Samples a batch
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE")]
    pub(crate) learning_rate: Option<f64>,
    /// Where the results go [default: runs/<dataset_name>, numbered]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Go on with a run that was interrupted; it ends as if it had not been
    #[arg(long, value_name = "RUN", conflicts_with_all = BEGIN)]
    pub(crate) resume: Option<PathBuf>,
    /// Seconds after which a state is saved within an epoch (at its end, always)
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub(crate) save_every: f64,
    /// Seeds to train at the same time; they share the threads. Results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) jobs: usize,
    /// Memory that seeds trained at the same time may take, in GiB: as many run as fit, one at least
    #[arg(long, value_name = "GIB")]
    pub(crate) memory: Option<f64>,
    /// Write TensorBoard event files
    #[arg(long)]
    pub(crate) tensorboard: bool,
    /// Print the results as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// What to compute on.
#[derive(Debug, Args)]
pub(crate) struct Machine {
    /// cpu, cuda, cuda:1, metal
    #[arg(long, value_name = "NAME", default_value = "cpu")]
    pub(crate) device: String,
    /// CPU threads; results do not depend on it [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
}

/// A trained model and data for it.
#[derive(Debug, Args)]
pub(crate) struct ModelAndData {
    /// A checkpoint, such as runs/mfeat/best.safetensors
    pub(crate) checkpoint: PathBuf,
    /// A safetensors file (docs/data-format.md), or `mfeat`
    pub(crate) data: PathBuf,
    /// The split that parts are taken from [default: that of training]
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    #[command(flatten)]
    pub(crate) machine: Machine,
}

/// Which samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Samples {
    Train,
    Valid,
    Test,
    All,
}

#[derive(Debug, Args)]
pub(crate) struct Evaluate {
    #[command(flatten)]
    pub(crate) input: ModelAndData,
    /// Which samples [default: test where the data has a split, else all]
    #[arg(long)]
    pub(crate) part: Option<Samples>,
    /// Print the figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Both runs must be done, on the same test samples. Differences are second minus first; intervals are\n\
    paired bootstrap intervals at 95 %, over samples (bias-corrected and accelerated), or over seeds\n\
    and samples where a run has several seeds (percentiles)."
)]
pub(crate) struct Compare {
    /// The folder of a run, such as runs/mfeat
    pub(crate) first: PathBuf,
    /// The folder of another
    pub(crate) second: PathBuf,
    /// How many times samples are drawn
    #[arg(long, value_name = "N", default_value_t = 2000)]
    pub(crate) replicates: usize,
    /// Decides the draws
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// How predictions are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Csv,
    Jsonl,
}

#[derive(Debug, Args)]
pub(crate) struct Predict {
    #[command(flatten)]
    pub(crate) input: ModelAndData,
    /// Which samples
    #[arg(long, default_value = "all")]
    pub(crate) part: Samples,
    /// CSV, or one JSON object a line
    #[arg(long, default_value = "csv")]
    pub(crate) format: Format,
    /// Write to a file instead of the standard output
    #[arg(long, short, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without a preset: the settings of data of one's own. The keys are those of the PyTorch\n\
    release's files, and a few more; docs/configuration.md says what each means."
)]
pub(crate) struct Config {
    /// mosi, mosei, sims, iemocap, mfeat
    #[arg(long, value_name = "NAME")]
    pub(crate) preset: Option<String>,
    /// Change one setting; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
}

/// The type to compute in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Dtype {
    F32,
    F64,
}

#[derive(Debug, Args)]
#[command(
    after_help = "The folder holds config.json, weights.safetensors or weights.pth, batch.safetensors\n\
    and expected.safetensors; docs/verify.md says what is in them. A tensor holds when\n\
    max|got - want| <= tolerance * max(max|want|, 1e-3)."
)]
pub(crate) struct Verify {
    /// The folder
    pub(crate) folder: PathBuf,
    /// The type to compute in [default: that of the weights]
    #[arg(long)]
    pub(crate) dtype: Option<Dtype>,
    /// What each tensor is held to [default: 1e-8 in f64, 1e-3 in f32]
    #[arg(long, value_name = "X")]
    pub(crate) tolerance: Option<f64>,
    /// Judge elements whose recorded gradient is rounding too (docs/verify.md)
    #[arg(long)]
    pub(crate) strict: bool,
    /// The file of weights, in place of the folder's
    #[arg(long, value_name = "FILE")]
    pub(crate) weights: Option<PathBuf>,
    /// Show every tensor, not only the worst
    #[arg(long)]
    pub(crate) all: bool,
    /// Print the comparison as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Times are the least of all steps made; phases are measured on one thread, apart. Arithmetic\n\
    counts matrix products. Data is random, of the sizes of the public files without text encoder:\n\
    mosi 768, 5, 20 features at 50 steps; mosei 768, 74, 35 at 50; sims 768, 33, 709 at 39, 400, 55;\n\
    iemocap 1024, 512, 1024 at 1; mfeat 76, 64, 47 at 1."
)]
pub(crate) struct Bench {
    /// Named settings and sizes: mosi, mosei, sims, iemocap, mfeat
    #[arg(default_value = "mosi")]
    pub(crate) preset: String,
    /// Change one setting; may be given again
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) set: Vec<String>,
    /// Samples a batch [default: the preset's]
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// How long each measurement goes on
    #[arg(long, value_name = "SECONDS", default_value_t = 3.0)]
    pub(crate) seconds: f64,
    /// CPU threads [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Print the figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
