//! What is seen of a training run while it lasts.

use std::io::IsTerminal;

use decalign::Result;
use decalign::train::{EpochReport, Observer};
use indicatif::{ProgressBar, ProgressStyle};

use crate::run_folder::EpochsFile;

/// Shows a bar on a terminal, a line an epoch anywhere, and writes the table of epochs.
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    epochs: usize,
    file: EpochsFile,
}

impl Progress {
    pub(crate) fn new(seed: u64, epochs: usize, file: EpochsFile) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style =
                ProgressStyle::with_template("seed {prefix} {bar:30} {msg} {elapsed}/{duration}");
            let bar = ProgressBar::new(0).with_prefix(seed.to_string());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self { bar, epochs, file }
    }

    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
        }
    }
}

impl Observer for Progress {
    fn step(&mut self, epoch: usize, step: usize, steps: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length((self.epochs * steps) as u64);
            bar.set_position(((epoch - 1) * steps + step) as u64);
            bar.set_message(format!("epoch {epoch}/{}", self.epochs));
        }
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<()> {
        let figures: Vec<String> = report
            .validation
            .iter()
            .take(3)
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        self.say(&format!(
            "epoch {:>3}/{}  train {:.4}  valid {:.4}  {}  {:.2} s{}",
            report.epoch,
            self.epochs,
            report.training[5],
            report.validation_loss,
            figures.join("  "),
            report.seconds,
            if report.best { "  best" } else { "" }
        ));
        self.file.write(report)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
