//! Several trainings at the same time, within a budget of threads and memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::output::{Done, FAILED, Failure};

/// `train(0), ..., train(n - 1)`, at most `jobs` at a time, each on its share of the threads. The first failure in their
/// order counts; those that were not begun by then are left.
pub(crate) fn side_by_side<T: Send>(
    n: usize,
    jobs: usize,
    gate: &Gate,
    train: impl Fn(usize) -> Done<T> + Sync,
) -> Done<Vec<T>> {
    let jobs = jobs.clamp(1, n.max(1));
    if jobs == 1 {
        return (0..n).map(train).collect();
    }
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<Done<T>>>> = (0..n).map(|_| Mutex::new(None)).collect();
    let work = |number: usize| -> Done {
        // What a run takes is known when the first ends, whether or not it came to its first epoch.
        let known = Measured(gate);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Failure {
            message: format!("--jobs {jobs}: {error}"),
            code: FAILED,
        })?;
        while gate.admits(number) && failed.load(Ordering::SeqCst) == 0 {
            let i = next.fetch_add(1, Ordering::SeqCst);
            if i >= n {
                break;
            }
            let result = pool.install(|| train(i));
            known.0.measured();
            failed.fetch_add(usize::from(result.is_err()), Ordering::SeqCst);
            *lock(&done[i]) = Some(result);
        }
        Ok(())
    };
    let watched = gate.watch(|| {
        std::thread::scope(|scope| {
            let work = &work;
            let workers: Vec<_> = (0..jobs).map(|i| scope.spawn(move || work(i))).collect();
            workers
                .into_iter()
                .try_for_each(|worker| match worker.join() {
                    Ok(done) => done,
                    Err(panic) => std::panic::resume_unwind(panic),
                })
        })
    });
    let mut all = Vec::with_capacity(n);
    let results = done
        .into_iter()
        .map(|d| d.into_inner().unwrap_or_else(PoisonError::into_inner));
    // A run that failed has made others pause: its failure is the one to tell.
    let mut stopped = None;
    for result in results {
        match result {
            Some(Ok(value)) => all.push(value),
            Some(Err(failure)) if failure.code == crate::output::STOPPED => {
                stopped.get_or_insert(failure);
            }
            Some(Err(failure)) => return Err(failure),
            None => {}
        }
    }
    watched?;
    match stopped {
        Some(failure) => Err(failure),
        None => Ok(all),
    }
}

/// Lets as many runs in as memory allows: the first runs alone until an epoch has shown what it takes.
#[derive(Debug)]
pub(crate) struct Gate {
    budget: Option<u64>,
    state: Mutex<State>,
    known: Condvar,
}

/// Says so when it is dropped, in a panic too: others wait for it.
struct Measured<'a>(&'a Gate);

impl Drop for Measured<'_> {
    fn drop(&mut self) {
        self.0.measured();
    }
}

#[derive(Debug, Default)]
struct State {
    /// Resident memory before the first run.
    before: u64,
    /// The most there was since.
    peak: u64,
    /// How many may run at a time, once it is known.
    admitted: Option<usize>,
}

impl Gate {
    /// A budget in bytes for the whole process; none lets everyone in.
    pub(crate) fn new(budget: Option<u64>) -> Self {
        Self {
            budget,
            state: Mutex::default(),
            known: Condvar::new(),
        }
    }

    /// Watches the memory while `work` goes on and it is not yet known what a run takes.
    fn watch<T>(&self, work: impl FnOnce() -> T) -> T {
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
            // Nothing may have come to an end that is measured.
            let _known = Measured(self);
            work()
        })
    }

    /// A run has come to the end of an epoch: it takes no more than it took so far.
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

    /// Whether worker `number` may run; waits until that is known.
    fn admits(&self, number: usize) -> bool {
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

/// Resident memory of this process in bytes; 0 where the system does not tell.
fn resident() -> u64 {
    memory_stats::memory_stats().map_or(0, |stats| stats.physical_mem as u64)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
