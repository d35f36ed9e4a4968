//! The command line.

mod experiment;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use decalign::config::{PRESET_SHAPES, PRESETS};

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
    /// Turn a data set into the project's container, into npz, or into a pickle
    Convert(Convert),
    /// Look a data set over: what is in it, what is wrong with it, what to do
    Inspect(Inspect),
    /// Print settings as JSON: a start for a file of one's own
    Config(Config),
    /// Hold the model against recorded numbers of another implementation
    Verify(Verify),
    /// Time a training step by its phases, on random data of a benchmark's size
    Bench(Bench),
    /// Turn transcripts into features, or into tokens to fine-tune on, with a text encoder of your own
    Encode(Encode),
}

/// What becomes of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pool {
    /// The mean of its tokens' states: one step a sample
    Mean,
    /// The state of its first token: one step a sample
    Cls,
    /// The states of all its tokens
    Tokens,
    /// The numbers of its tokens, to fine-tune the encoder on (use_bert)
    Ids,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    decalign encode mosi.safetensors --encoder minilm --out with-text.safetensors\n  \
    decalign encode mosi.safetensors --encoder minilm --pool ids --out tokens.safetensors\n  \
    decalign train --dataset tokens.safetensors --set use_bert=true --set pretrained=minilm\n\n\
    Nothing is downloaded. The folder holds config.json, model.safetensors and tokenizer.json (or\n\
    vocab.txt) of a BERT, as the model pages of Hugging Face offer them.")]
pub(crate) struct Encode {
    /// A safetensors file (docs/data-format.md) with transcripts
    pub(crate) data: PathBuf,
    /// The folder of the text encoder
    #[arg(long, value_name = "FOLDER")]
    pub(crate) encoder: PathBuf,
    /// The file to write
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Transcripts as JSON lines with "text", and "id" where the data has ids
    #[arg(long, value_name = "FILE")]
    pub(crate) texts: Option<PathBuf>,
    /// The modality to write; one of this name is replaced
    #[arg(long, value_name = "NAME", default_value = "text")]
    pub(crate) name: String,
    /// What becomes of a text
    #[arg(long, default_value = "mean")]
    pub(crate) pool: Pool,
    /// Divide every vector by its length
    #[arg(long)]
    pub(crate) normalize: bool,
    /// Cut texts at so many tokens [default: what the encoder takes]
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<usize>,
    /// Print number of texts, shape and seconds as JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// CPU threads; results do not depend on it [default: one a core]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
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
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// One run a seed; several give mean and deviation
    #[arg(long, value_name = "SEED", num_args = 1.., value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Where the results go [default: runs/<dataset_name>, numbered]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Go on with a run that was interrupted; it ends as if it had not been
    #[arg(long, value_name = "RUN", conflicts_with_all = BEGIN)]
    pub(crate) resume: Option<PathBuf>,
    /// Seconds after which a state is saved within an epoch (at its end, once a second at most)
    #[arg(
        long,
        value_name = "SECONDS",
        default_value_t = 60.0,
        allow_negative_numbers = true
    )]
    pub(crate) save_every: f64,
    /// Seeds to train at the same time; they share the threads. Results do not depend on it
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) jobs: usize,
    /// With --jobs: memory that the program may take, in GiB; as many seeds run as fit, one at least
    #[arg(long, value_name = "GIB", allow_negative_numbers = true)]
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
    /// cpu, cuda, cuda:1, metal, or auto for the first device there is
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
    /// A file or folder of data (docs/data-format.md), or `mfeat`
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

/// A format to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    Safetensors,
    Npz,
    Pickle,
}

/// Bits a feature takes in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Width {
    F32,
    F16,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    decalign convert aligned_50.pkl mosi.safetensors\n  \
    decalign convert mine.npz mine.safetensors --fractions 0.7,0.1,0.2 --grouped --stratified\n  \
    decalign convert mosi.safetensors mosi.pkl\n\n\
    docs/data-format.md says what is read. Files are written whole or not at all.")]
pub(crate) struct Convert {
    /// Any data that `train` takes
    #[arg(value_name = "IN")]
    pub(crate) input: PathBuf,
    /// The file to write: .safetensors, .npz or .pkl
    #[arg(value_name = "OUT")]
    pub(crate) output: PathBuf,
    /// The format [default: by the name of OUT]
    #[arg(long)]
    pub(crate) to: Option<FileFormat>,
    /// What features are kept in
    #[arg(long, default_value = "f32")]
    pub(crate) precision: Width,
    /// These modalities only, in order
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) modalities: Vec<String>,
    /// Take zeros at the end of a sequence as padding, where lengths are not given
    #[arg(long)]
    pub(crate) zero_tails: bool,
    /// Take NaN and infinities as 0
    #[arg(long)]
    pub(crate) replace_non_finite: bool,
    /// Keep this split only, as the default one
    #[arg(long, value_name = "NAME")]
    pub(crate) split: Option<String>,
    /// Make a split: shares for training, validation and test
    #[arg(long, value_name = "A,B,C", value_delimiter = ',')]
    pub(crate) fractions: Option<Vec<f64>>,
    /// Make splits for cross-validation, as many as folds
    #[arg(long, value_name = "K")]
    pub(crate) folds: Option<usize>,
    /// What the made split is called
    #[arg(long, value_name = "NAME", default_value = "")]
    pub(crate) name: String,
    /// Keep the samples of a group (a video) in one part
    #[arg(long)]
    pub(crate) grouped: bool,
    /// Give each part its share of every class or rounded score
    #[arg(long)]
    pub(crate) stratified: bool,
    /// What chance in a made split depends on
    #[arg(long, value_name = "SEED", default_value_t = 1)]
    pub(crate) seed: u64,
}

#[derive(Debug, Args)]
#[command(after_help = "Findings come with the gravest first, each with what to do about it.")]
pub(crate) struct Inspect {
    /// Any data that `train` takes, or `mfeat`
    pub(crate) data: PathBuf,
    /// Print everything as JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Without a preset: the settings of your data. The keys are those of the upstream\n\
    PyTorch files, and a few more; docs/configuration.md says what each means."
)]
pub(crate) struct Config {
    #[arg(long, value_name = "NAME", help = PRESETS.join(", "))]
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

/// The help of `bench`, with the sizes of every preset.
fn bench_help() -> String {
    let sizes = PRESET_SHAPES.iter().map(|shape| {
        let (widths, steps) = (shape.widths, shape.steps);
        format!("\n  {}: {widths:?} features at {steps:?} steps", shape.name)
    });
    let text = "Times are the least of all steps made; phases are measured on one thread, apart. Arithmetic\n\
        counts matrix products. Data is random, of the sizes of the public files without text encoder:";
    text.to_owned() + &sizes.collect::<String>()
}

#[derive(Debug, Args)]
#[command(after_help = bench_help())]
pub(crate) struct Bench {
    #[arg(default_value = "mosi", help = format!("Named settings and sizes: {}", PRESETS.join(", ")))]
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
    #[command(flatten)]
    pub(crate) machine: Machine,
    /// Print the figures as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
