//! What is seen of a training run while it lasts, and what is written of it.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use decalign::Result;
use decalign::train::{EpochReport, Flow, Observer, StartReport, StepReport};
use decalign_data::{Error, write_atomic};
use indicatif::{ProgressBar, ProgressStyle};

use crate::run::events::Events;
use crate::run::folder::write_epochs;
use crate::run::record::{RUN, Record, Session, instruction_set, now};
use crate::side_by_side::Gate;
use crate::train::Stop;

/// Shows a bar on a terminal and a line an epoch anywhere, writes the tables of epochs, and pauses the run when it is
/// asked to.
pub(crate) struct Progress<'a> {
    bar: Option<ProgressBar>,
    /// Before every line.
    name: String,
    epochs: usize,
    folder: PathBuf,
    record: Record,
    history: Vec<EpochReport>,
    /// When the tables of epochs were.
    written: Instant,
    events: Option<Events>,
    stop: &'a Stop,
    gate: &'a Gate,
}

impl<'a> Progress<'a> {
    /// `named`: one of several at the same time, whose lines say whose they are and which have no bar.
    pub(crate) fn new(
        record: Record,
        (epochs, named): (usize, bool),
        folder: &Path,
        (stop, gate): (&'a Stop, &'a Gate),
    ) -> Self {
        let seed = record.seed.map(|seed| seed.to_string()).unwrap_or_default();
        let bar = (std::io::stderr().is_terminal() && !named).then(|| {
            let style =
                ProgressStyle::with_template("seed {prefix} {bar:30} {msg} {elapsed}/{duration}");
            let bar = ProgressBar::new(0).with_prefix(seed.clone());
            bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        });
        Self {
            bar,
            name: if named {
                format!("seed {seed}  ")
            } else {
                String::new()
            },
            epochs,
            folder: folder.to_owned(),
            record,
            history: Vec::new(),
            written: Instant::now(),
            events: None,
            stop,
            gate,
        }
    }

    /// The record as it is now, and the epochs that are done.
    pub(crate) fn finish(mut self) -> (Record, Vec<EpochReport>) {
        (self.record.clone(), std::mem::take(&mut self.history))
    }

    fn say(&self, line: &str) {
        let line = format!("{}{line}", self.name);
        match &self.bar {
            Some(bar) => bar.println(line),
            None => eprintln!("{line}"),
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
            self.say(&format!("note: {damaged}"));
        }
        if start.epoch > 1 || start.step > 0 {
            let done = match (start.epoch > self.epochs, start.step) {
                (true, _) => "all epochs are done".to_owned(),
                (_, 0) => format!("going on with epoch {}", start.epoch),
                (_, step) => format!("going on with epoch {} after step {step}", start.epoch),
            };
            self.say(&done);
        }
        self.history = start.epochs.to_vec();
        write_epochs(&self.folder, &self.history)?;
        if self.record.tensorboard {
            self.events = Some(Events::create(&self.folder, start)?);
        }
        self.record.status = crate::run::record::Status::Running;
        self.record.error = None;
        self.record.sessions.push(Session {
            started: now(),
            epoch: start.epoch,
            step: start.step,
            threads: rayon::current_num_threads(),
            instruction_set: instruction_set(),
        });
        let path = self.folder.join(RUN);
        let text = serde_json::to_string_pretty(&self.record);
        let text = text.map_err(|error| Error::io(&path, error.into()))? + "\n";
        Ok(write_atomic(&path, text.as_bytes())?)
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
        let figures: Vec<String> = report
            .valid
            .iter()
            .take(3)
            .map(|(name, value)| format!("{name} {value:.4}"))
            .collect();
        self.say(&format!(
            "epoch {:>3}/{}  train {:.4}  valid {:.4}  {}  {:.2} s{}",
            report.epoch,
            self.epochs,
            report.total(),
            report.valid_loss,
            figures.join("  "),
            report.seconds,
            if report.best { "  best" } else { "" }
        ));
        self.gate.measured();
        self.history.push(report.clone());
        // Epochs of less than a second need not wait for the disk each; in the end they are written.
        if self.written.elapsed() >= Duration::from_secs(1) {
            write_epochs(&self.folder, &self.history)?;
            self.written = Instant::now();
        }
        if let Some(events) = &mut self.events {
            events.epoch(report)?;
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
