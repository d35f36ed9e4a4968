//! The memory budget of `--memory`.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Limits how many runs train at a time: the first trains alone until an epoch has shown how much memory a run takes.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    budget: Option<u64>,
    state: Mutex<Measurement>,
    known: Condvar,
}

/// Ends the measurement when it is dropped, in a panic too, because other workers wait for it.
pub(crate) struct EndMeasurement<'a>(pub(crate) &'a MemoryBudget);

impl Drop for EndMeasurement<'_> {
    fn drop(&mut self) {
        self.0.measured();
    }
}

/// The measured memory.
#[derive(Debug, Default)]
struct Measurement {
    /// Resident memory before the first run.
    before: u64,
    /// The largest resident memory since.
    peak: u64,
    /// The number of runs at a time, once it is known.
    admitted: Option<usize>,
}

impl MemoryBudget {
    /// A budget in bytes for the whole process; `None` does not limit.
    pub(crate) fn new(budget: Option<u64>) -> Self {
        Self {
            budget,
            state: Mutex::default(),
            known: Condvar::new(),
        }
    }

    /// Runs `work`, and measures the memory until it is known how much a run takes.
    pub(crate) fn measure<T>(&self, work: impl FnOnce() -> T) -> T {
        if self.budget.is_none() {
            return work();
        }
        let before = resident();
        let mut state = lock(&self.state);
        (state.before, state.peak) = (before, before);
        drop(state);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                loop {
                    let mut state = lock(&self.state);
                    if state.admitted.is_some() {
                        return;
                    }
                    state.peak = state.peak.max(resident());
                    drop(state);
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            // The work may end before any run is measured.
            let _known = EndMeasurement(self);
            work()
        })
    }

    /// Called at the end of an epoch: a run takes no more memory than so far.
    pub(crate) fn measured(&self) {
        let mut state = lock(&self.state);
        let (Some(budget), None) = (self.budget, state.admitted) else {
            return;
        };
        let each = (state.peak.max(resident()) - state.before).max(1);
        let fit = budget.saturating_sub(state.before) / each;
        state.admitted = Some(usize::try_from(fit).unwrap_or(usize::MAX).max(1));
        let mib = |bytes: u64| bytes >> 20;
        let fit = match fit {
            0 => "more than --memory allows; they run one by one".to_owned(),
            fit => format!("{fit} at a time fit in --memory"),
        };
        eprintln!(
            "a run takes {} MiB beside {} MiB of data: {fit}",
            mib(each),
            mib(state.before)
        );
        self.known.notify_all();
    }

    /// True when worker `number` may run; waits until it is known.
    pub(crate) fn admits(&self, number: usize) -> bool {
        if self.budget.is_none() || number == 0 {
            return true;
        }
        let mut state = lock(&self.state);
        loop {
            match state.admitted {
                Some(admitted) => return number < admitted,
                None => {
                    state = self
                        .known
                        .wait(state)
                        .unwrap_or_else(PoisonError::into_inner)
                }
            }
        }
    }
}

/// The resident memory of this process in bytes; 0 where the system does not report it.
fn resident() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
