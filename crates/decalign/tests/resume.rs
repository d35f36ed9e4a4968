//! Runs that pause anywhere and go on, from the library.
#![allow(clippy::unwrap_used)]

mod common;

use std::path::Path;

use candle_core::Device;
use common::{clouds, small};
use decalign::train::{
    DecAlignTrainer, EpochReport, Flow, ModelOutcome, Observer, ResumePolicy, Silent, StartReport,
    StepReport,
};
use decalign::{Checkpoint, ErrorKind, Result, fingerprint};

const CPU: Device = Device::Cpu;

/// Pauses after a number of steps, and counts what happened.
#[derive(Default)]
struct Pause {
    after: Option<usize>,
    steps: usize,
    epochs: usize,
    began: Option<(usize, usize)>,
}

impl Observer for Pause {
    fn begin(&mut self, start: &StartReport<'_>) -> Result<()> {
        assert_eq!(start.epochs.len() + 1, start.epoch);
        self.began = Some((start.epoch, start.step));
        Ok(())
    }

    fn step(&mut self, report: &StepReport<'_>) -> Result<Flow> {
        assert_eq!(report.losses.last().unwrap().0, "total");
        self.steps += 1;
        Ok(match self.after == Some(self.steps) {
            true => Flow::Pause,
            false => Flow::Continue,
        })
    }

    fn epoch(&mut self, _: &EpochReport) -> Result<Flow> {
        self.epochs += 1;
        Ok(Flow::Continue)
    }
}

fn trainer(sets: &[&str]) -> DecAlignTrainer {
    let base = [
        "ct_weight=0.1",
        "scheduler_patience=0",
        "factor=0.5",
        "selection_metric=Acc",
    ];
    DecAlignTrainer::new(&small(&[&base, sets].concat()), &clouds(3), &CPU).unwrap()
}

/// Everything of an outcome that time has nothing to do with.
fn bits(outcome: &ModelOutcome<Checkpoint>) -> (Vec<Vec<u32>>, Vec<u32>, Vec<EpochReport>, usize) {
    let weights = outcome.model.weights.values();
    let weights = weights.map(|w| w.flatten_all().unwrap().to_vec1::<f32>().unwrap());
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    let mut epochs = outcome.epochs.clone();
    epochs.iter_mut().for_each(|epoch| epoch.seconds = 0.0);
    (
        weights.map(|w| bits(&w)).collect(),
        bits(outcome.test_predictions.all_scores()),
        epochs,
        outcome.best_epoch,
    )
}

#[test]
fn a_run_paused_after_any_step_ends_as_the_whole_one() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = trainer(&[]);
    let mut count = Pause::default();
    let whole = trainer.run(None, &mut count).unwrap();
    let want = bits(&whole);
    let total = count.steps;
    assert!(total >= 16 && whole.epochs.iter().any(|e| !e.best));
    for after in 1..=total {
        let resume = ResumePolicy::at(folder.path().join(after.to_string()));
        std::fs::create_dir(folder.path().join(after.to_string())).unwrap();
        let mut pause = Pause {
            after: Some(after),
            ..Pause::default()
        };
        let error = trainer
            .run_resumable(None, &resume, &mut pause)
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}");
        assert!(
            error.to_string().starts_with("stopped after step"),
            "{error}"
        );
        assert!(resume.has_state());
        let mut rest = Pause::default();
        let outcome = trainer.run_resumable(None, &resume, &mut rest).unwrap();
        assert_eq!(rest.steps, total - after);
        assert_eq!(
            rest.began,
            Some((
                1 + after / 4 - usize::from(after % 4 == 0),
                if after % 4 == 0 { 4 } else { after % 4 }
            ))
        );
        assert!(bits(&outcome) == want, "after {after}");
        resume.clear().unwrap();
        assert!(!resume.has_state());
    }
}

#[test]
fn a_run_can_be_paused_at_every_step_with_other_threads() {
    let folder = tempfile::tempdir().unwrap();
    let trainer = trainer(&["weight_decay=0.01"]);
    let want = bits(&trainer.run(None, &mut Silent).unwrap());
    let resume = ResumePolicy::at(folder.path());
    for threads in 1.. {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(1 + threads % 3)
            .build()
            .unwrap();
        let mut pause = Pause {
            after: Some(1),
            ..Pause::default()
        };
        match pool.install(|| trainer.run_resumable(None, &resume, &mut pause)) {
            Ok(outcome) => {
                assert!(threads > 10 && bits(&outcome) == want);
                return;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Interrupted, "{error}"),
        }
    }
}

#[test]
fn states_that_are_damaged_or_of_another_run_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let resume = ResumePolicy::at(folder.path())
        .identity("one")
        .every(std::time::Duration::ZERO);
    let mut pause = Pause {
        after: Some(6),
        ..Pause::default()
    };
    trainer(&[])
        .run_resumable(None, &resume, &mut pause)
        .unwrap_err();
    let message = |trainer: &DecAlignTrainer, resume: &ResumePolicy| {
        trainer
            .run_resumable(None, resume, &mut Silent)
            .unwrap_err()
            .to_string()
    };
    for (other, resume) in [
        (trainer(&["batch_size=9"]), &resume),
        (trainer(&["seed=9"]), &resume),
        (trainer(&["nlevels=2"]), &resume),
        (
            trainer(&[]),
            &ResumePolicy::at(folder.path()).identity("two"),
        ),
    ] {
        let said = message(&other, resume);
        assert!(
            said.contains("state.safetensors: belongs to another run"),
            "{said}"
        );
    }
    // The newest state damaged, any bit: the one before it serves, and is told of.
    let (newest, aside) = (
        folder.path().join("state.safetensors"),
        folder.path().join("state-damaged.safetensors"),
    );
    let want = bits(&trainer(&[]).run(None, &mut Silent).unwrap());
    let bytes = std::fs::read(&newest).unwrap();
    let previous = std::fs::read(folder.path().join("state-previous.safetensors")).unwrap();
    for at in [3, 20, 500, bytes.len() / 2, bytes.len() - 1] {
        restore(folder.path(), &previous);
        let mut damaged = bytes.clone();
        damaged[at] ^= 8;
        std::fs::write(&newest, &damaged).unwrap();
        let mut told = Told(None);
        let outcome = trainer(&[])
            .run_resumable(None, &resume, &mut told)
            .unwrap();
        let said = told.0.unwrap();
        assert!(
            said.contains("state.safetensors: ") && said.contains("resuming from"),
            "{said}"
        );
        assert!(std::fs::read(&aside).unwrap() == damaged);
        assert!(bits(&outcome) == want);
    }
    // Both damaged: an error, and both stay.
    restore(folder.path(), b"nothing");
    std::fs::write(&newest, b"").unwrap();
    let said = message(&trainer(&[]), &resume);
    assert!(
        said.contains("remove state*.safetensors to start again"),
        "{said}"
    );
    assert!(newest.exists());
}

fn restore(folder: &Path, previous: &[u8]) {
    std::fs::write(folder.join("state-previous.safetensors"), previous).unwrap();
}

struct Told(Option<String>);

impl Observer for Told {
    fn begin(&mut self, start: &StartReport<'_>) -> Result<()> {
        self.0 = start.damaged.clone();
        Ok(())
    }
}

/// Ends the run after its second epoch.
struct Finish;

impl Observer for Finish {
    fn epoch(&mut self, report: &EpochReport) -> Result<Flow> {
        Ok(if report.epoch == 2 {
            Flow::Finish
        } else {
            Flow::Continue
        })
    }
}

#[test]
fn an_observer_may_end_a_run_and_a_full_disk_names_itself() {
    let outcome = trainer(&[]).run(None, &mut Finish).unwrap();
    assert_eq!(outcome.epochs.len(), 2);
    let nowhere = ResumePolicy::at("/dev/null/no/folder");
    let error = trainer(&[])
        .run_resumable(None, &nowhere, &mut Silent)
        .unwrap_err();
    assert!(
        error
            .to_string()
            .contains("/dev/null/no/folder/state.safetensors"),
        "{error}"
    );
}

#[test]
fn a_fingerprint_sees_everything_but_the_place() {
    let data = clouds(3);
    let print = |data: &decalign::Dataset| fingerprint(data).unwrap();
    let folder = tempfile::tempdir().unwrap();
    data.save(folder.path().join("a.safetensors")).unwrap();
    let again = decalign::Dataset::open(folder.path().join("a.safetensors")).unwrap();
    assert_eq!(print(&data), print(&again));
    let ids = (0..72).map(|i| i.to_string()).collect::<Vec<_>>();
    let others = [
        data.clone().with_ids(ids.clone()).unwrap(),
        data.clone().with_texts(ids).unwrap(),
        data.clone()
            .with_split("other", vec![Some(decalign::data::Part::Test); 72])
            .unwrap(),
        data.select(&["view1", "view0", "view2"]).unwrap(),
        clouds(4),
    ];
    let mut all: Vec<String> = others.iter().map(print).chain([print(&data)]).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), 6);
}
