//! The observer of a run: it shows the progress, writes `run.json` and the epochs, and pauses the run on request.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use decalign::Result;
use decalign::train::{EpochReport, Flow, Observer, StartReport, StepReport};
use decalign_report::run_folder::{RunRecord, RunStatus, SessionRecord, write_epochs};
use indicatif::ProgressBar;

use super::stop::StopSignal;
use super::tensorboard::EventFile;
use crate::memory_budget::MemoryBudget;
use crate::output::progress_bar;

/// The display of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Display {
    /// A bar on a terminal, and a line an epoch.
    Bar,
    /// A line an epoch, with the seed: several runs at the same time.
    NamedLines,
    /// Nothing.
    Quiet,
}

/// Follows one run.
pub(super) struct Progress<'a> {
    bar: Option<ProgressBar>,
    display: Display,
    /// The beginning of every line.
    prefix: String,
    epochs: usize,
    folder: PathBuf,
    record: RunRecord,
    history: Vec<EpochReport>,
    /// The time of the last write of the epochs.
    written: Instant,
    events: Option<EventFile>,
    stop: &'a StopSignal,
    budget: &'a MemoryBudget,
}

impl<'a> Progress<'a> {
    pub(super) fn new(
        record: RunRecord,
        epochs: usize,
        display: Display,
        folder: &Path,
        (stop, budget): (&'a StopSignal, &'a MemoryBudget),
    ) -> Self {
        let seed = record.seed.map(|seed| seed.to_string()).unwrap_or_default();
        let bar = (display == Display::Bar && std::io::stderr().is_terminal()).then(|| {
            let template = "seed {prefix} {bar:30} {msg} {elapsed}/{duration}";
            progress_bar(template, 0).with_prefix(seed.clone())
        });
        Self {
            bar,
            display,
            prefix: match display {
                Display::NamedLines => format!("seed {seed}  "),
                _ => String::new(),
            },
            epochs,
            folder: folder.to_owned(),
            record,
            history: Vec::new(),
            written: Instant::now(),
            events: None,
            stop,
            budget,
        }
    }

    /// The current record, and the finished epochs.
    pub(super) fn finish(mut self) -> (RunRecord, Vec<EpochReport>) {
        (self.record.clone(), std::mem::take(&mut self.history))
    }

    fn print(&self, line: &str) {
        let line = format!("{}{line}", self.prefix);
        match (&self.bar, self.display) {
            (_, Display::Quiet) => {}
            (Some(bar), _) => bar.println(line),
            (None, _) => eprintln!("{line}"),
        }
    }

    fn flow(&self) -> Flow {
        match self.stop.is_set() {
            true => Flow::Pause,
            false => Flow::Continue,
        }
    }
}

impl Observer for Progress<'_> {
    fn begin(&mut self, start: &StartReport<'_>) -> Result<()> {
        if let Some(damaged) = &start.damaged {
            self.print(&format!("note: {damaged}"));
        }
        if start.epoch > 1 || start.step > 0 {
            let resumed = match (start.epoch > self.epochs, start.step) {
                (true, _) => "all epochs are done".to_owned(),
                (_, 0) => format!("going on with epoch {}", start.epoch),
                (_, step) => format!("going on with epoch {} after step {step}", start.epoch),
            };
            self.print(&resumed);
        }
        self.history = start.epochs.to_vec();
        write_epochs(&self.folder, &self.history)?;
        if self.record.tensorboard {
            self.events = Some(EventFile::create(&self.folder, start)?);
        }
        self.record.status = RunStatus::Running;
        self.record.error = None;
        let session = SessionRecord::begin(start.epoch, start.step);
        self.record.sessions.push(session);
        Ok(self.record.save(&self.folder)?)
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow> {
        if let Some(bar) = &self.bar {
            let StepReport {
                epoch, step, steps, ..
            } = *report;
            bar.set_length((self.epochs * steps) as u64);
            bar.set_position(((epoch - 1) * steps + step) as u64);
            bar.set_message(format!("epoch {epoch}/{}", self.epochs));
        }
        Ok(self.flow())
    }

    fn epoch(&mut self, report: &EpochReport) -> Result<Flow> {
        let metrics: Vec<String> = report
            .valid
            .iter()
            .take(3)
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        self.print(&format!(
            "epoch {:>3}/{}  train {:.4}  valid {:.4}  {}  {:.2} s{}",
            report.epoch,
            self.epochs,
            report.total(),
            report.valid_loss,
            metrics.join("  "),
            report.seconds,
            if report.best { "  best" } else { "" }
        ));
        self.budget.measured();
        self.history.push(report.clone());
        // Short epochs do not wait for the disk each; the end of the run writes them all.
        if self.written.elapsed() >= Duration::from_secs(1) {
            write_epochs(&self.folder, &self.history)?;
            self.written = Instant::now();
        }
        if let Some(events) = &mut self.events {
            events.write_epoch(report)?;
        }
        Ok(self.flow())
    }
}

impl Drop for Progress<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
