//! The command line of ablations, sweeps, baselines and reports.

use std::path::PathBuf;

use clap::Args;
use decalign::config::PRESETS;

use super::Machine;

/// The data, and how to train on it.
#[derive(Debug, Args)]
pub(crate) struct Settings {
    /// A file or folder of data (docs/data-format.md), or `mfeat`, the embedded digits
    #[arg(long, value_name = "FILE")]
    pub(crate) dataset: Option<PathBuf>,
    /// A JSON file of settings, this project's or the PyTorch release's
    #[arg(long, value_name = "FILE", conflicts_with = "preset")]
    pub(crate) config: Option<PathBuf>,
    #[arg(long, value_name = "NAME", help = format!("Named settings: {}", PRESETS.join(", ")))]
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
    /// Passes over the training part, at most
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<usize>,
    /// Samples a batch
    #[arg(long, value_name = "N")]
    pub(crate) batch_size: Option<usize>,
    /// Learning rate of Adam
    #[arg(long, value_name = "RATE")]
    pub(crate) learning_rate: Option<f64>,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    decalign ablate\n  \
    decalign ablate --dataset mosi.safetensors --preset mosi --split bc --seeds 1 2 3 4 5\n\n\
    Trains the whole model and nine models without parts of it, as tables 3 and 4 of the paper do.\n\
    Differences are to the whole model, with 95 % intervals of a paired bootstrap over seeds and\n\
    test samples. Finished runs are kept: the same command again goes on where it stopped.")]
pub(crate) struct Ablate {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(flatten)]
    pub(crate) experiment: Experiment,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    decalign sweep --preset paper\n  \
    decalign sweep --grid alpha=.01,.05,.1 --grid num_prototypes=4,6,8\n  \
    decalign sweep --random learning_rate=log:1e-4..1e-2 --random nlevels=int:1..4 --trials 20\n\n\
    Without --grid and --random: alpha and beta, as --preset paper. Finished runs are kept and\n\
    found again by their configuration: the same command again goes on where it stopped.")]
pub(crate) struct Sweep {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Values of a key, all combinations with other keys; may be given again
    #[arg(long, value_name = "KEY=V,V,...")]
    pub(crate) grid: Vec<String>,
    /// Draw a key: a..b, log:a..b, int:a..b, or one of a,b,...; may be given again
    #[arg(long, value_name = "KEY=RANGE", requires = "trials")]
    pub(crate) random: Vec<String>,
    /// Settings to draw for --random
    #[arg(long, value_name = "N", requires = "random")]
    pub(crate) trials: Option<usize>,
    #[command(flatten)]
    pub(crate) experiment: Experiment,
}

#[derive(Debug, Args)]
#[command(
    after_help = "Trains, on the same split and seeds: the majority class or the median, ridge regression on the\n\
    best single modality, early fusion (linear, MLP), late fusion, TFN (Zadeh and others, 2017),\n\
    LMF (Liu and others, 2018), MulT (Tsai and others, 2019), MISA (Hazarika and others, 2020), and\n\
    the model. Networks have settings of their own (docs/experiments.md)."
)]
pub(crate) struct Baselines {
    #[command(flatten)]
    pub(crate) settings: Settings,
    /// Leave the model itself out
    #[arg(long)]
    pub(crate) without_model: bool,
    #[command(flatten)]
    pub(crate) experiment: Experiment,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    decalign report runs/mfeat\n  \
    decalign report runs/mfeat runs/mfeat-ablation runs/mfeat-sweep --out all.html --figures all\n\n\
    The page needs no network and no scripts. Folders are those of train, ablate, sweep and baselines.")]
pub(crate) struct Report {
    /// Folders of runs and experiments
    #[arg(required = true, value_name = "RUN")]
    pub(crate) runs: Vec<PathBuf>,
    /// The page
    #[arg(long, short, value_name = "FILE", default_value = "report.html")]
    pub(crate) out: PathBuf,
    /// The data of the runs [default: what each was trained on]
    #[arg(long, value_name = "FILE")]
    pub(crate) dataset: Option<PathBuf>,
    /// Write SVG, CSV and JSON of every figure to this folder too
    #[arg(long, value_name = "FOLDER")]
    pub(crate) figures: Option<PathBuf>,
    /// And PNG
    #[cfg(feature = "png")]
    #[arg(long, requires = "figures")]
    pub(crate) png: bool,
}

/// Several settings with several seeds.
#[derive(Debug, Args)]
pub(crate) struct Experiment {
    /// Every setting is trained with each [default: 1 2 3; a sweep: the configuration's]
    #[arg(long, value_name = "SEED", num_args = 1.., value_delimiter = ',')]
    pub(crate) seeds: Vec<u64>,
    /// Where runs, tables and figures go [default: runs/<dataset_name>-<command>]
    #[arg(long, value_name = "FOLDER")]
    pub(crate) run_dir: Option<PathBuf>,
    /// Print the results as JSON
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) machine: Machine,
}
