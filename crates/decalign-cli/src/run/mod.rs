//! One run: training, its display, its files, and how it is interrupted. The files and their schema are those of
//! [`decalign_report::run_folder`].

mod execute;
mod program;
mod progress;
mod stop;
mod tensorboard;

pub(crate) use execute::{BaselineModel, RunContext, RunModel, TrainedRun, classes};
pub(crate) use program::program;
pub(crate) use progress::Display;
pub(crate) use stop::StopSignal;
