//! One run: a seed in a folder of its own.

use std::time::Duration;

use decalign::train::{DecAlignOutcome, DecAlignTrainer, ResumePolicy};
use decalign::{Dataset, ErrorKind};

use super::classes;
use super::stop::Stop;
use crate::output::{Done, Failure};
use crate::progress::Progress;
use crate::run::folder::{RunFolder, write_epochs};
use crate::run::metrics::{Figures, METRICS, intervals};
use crate::run::predictions::{self, Read, TEST, VALID};
use crate::run::record::{Common, RUN, Record, Status};
use crate::side_by_side::Gate;

/// What all runs of one command have in common.
pub(super) struct Job<'a> {
    pub(super) trainer: &'a DecAlignTrainer,
    pub(super) data: &'a Dataset,
    pub(super) common: &'a Common,
    pub(super) save_every: Duration,
    pub(super) stop: &'a Stop,
    pub(super) gate: &'a Gate,
    /// Whether lines say whose they are.
    pub(super) named: bool,
}

/// A run that is done.
pub(super) struct Ended {
    pub(super) figures: Figures,
    /// Of the test part.
    pub(super) predictions: Read,
}

/// Trains a seed, from its beginning or from where its folder says; nothing when it is done already.
pub(super) fn train(job: &Job<'_>, seed: u64, folder: &RunFolder) -> Done<Ended> {
    let begun = folder.path.join(RUN).exists();
    let record = begun.then(|| Record::open(&folder.path)).transpose()?;
    if record
        .as_ref()
        .is_some_and(|record| record.status == Status::Done)
    {
        return ended(job, folder);
    }
    let trainer = job.trainer.clone().with_seed(seed);
    let text = trainer.config().to_json()? + "\n";
    let record = match record {
        Some(record) => record,
        None => {
            folder.write("config.json", &text)?;
            Record::new(&trainer, classes(job.data), job.common, &[seed])
        }
    };
    let resume = ResumePolicy::at(&folder.path)
        .every(job.save_every)
        .identity(format!("{}\n{text}", job.common.data.fingerprint));
    let shown = (trainer.config().num_epochs, job.named);
    let mut progress = Progress::new(record, shown, &folder.path, (job.stop, job.gate));
    let outcome = trainer.run_resumable(Some(&folder.checkpoint()), &resume, &mut progress);
    let (mut record, epochs) = progress.finish();
    match outcome {
        Ok(outcome) => {
            record.seconds.phases = outcome.phases;
            finish(job, &trainer, &outcome, folder, record)?;
            resume.clear()?;
            ended(job, folder)
        }
        Err(error) => {
            record.status = match error.kind() {
                ErrorKind::Interrupted => Status::Stopped,
                _ => Status::Failed,
            };
            record.error = Some(error.to_string());
            // Where this fails too, the first failure is the one to tell.
            let _ = folder.write_json(RUN, &record);
            let _ = write_epochs(&folder.path, &epochs);
            Err(explain(error, folder))
        }
    }
}

/// Writes what a run that is done leaves.
fn finish(
    job: &Job<'_>,
    trainer: &DecAlignTrainer,
    outcome: &DecAlignOutcome,
    folder: &RunFolder,
    mut record: Record,
) -> Done {
    let [_, valid, test] = trainer.rows();
    let text = |rows: &[usize], of| predictions::text(job.data, rows, of);
    folder.write(VALID, &text(valid, &outcome.valid_predictions)?)?;
    folder.write(TEST, &text(test, &outcome.test_predictions)?)?;
    let read = predictions::read(&folder.path.join(TEST), &record.classes)?;
    let weights = outcome.checkpoint.weights.values();
    let figures = Figures {
        seed: trainer.config().seed,
        best_epoch: outcome.best_epoch,
        epochs: outcome.epochs.len(),
        seconds: outcome.seconds,
        parameters: weights.map(|w| w.elem_count()).sum(),
        valid: outcome.valid.clone(),
        test: outcome.test.clone(),
        intervals: intervals(trainer.benchmark(), "test", &read.scores, &read.labels),
    };
    // The last epochs may not be in it yet.
    write_epochs(&folder.path, &outcome.epochs)?;
    folder.write_json(METRICS, &figures)?;
    record.parameters = Some(figures.parameters);
    record.status = Status::Done;
    record.error = None;
    folder.write_json(RUN, &record)
}

/// Reads what a run that is done has left.
fn ended(job: &Job<'_>, folder: &RunFolder) -> Done<Ended> {
    Ok(Ended {
        figures: Figures::open(&folder.path)?,
        predictions: predictions::read(&folder.path.join(TEST), &classes(job.data))?,
    })
}

fn explain(error: decalign::Error, folder: &RunFolder) -> Failure {
    let diverged = error.kind() == ErrorKind::Diverged;
    let mut failure = Failure::from(error);
    let file = folder.checkpoint();
    if diverged && file.exists() {
        failure.message += &format!(" (the last good model is {})", file.display());
    }
    failure
}
