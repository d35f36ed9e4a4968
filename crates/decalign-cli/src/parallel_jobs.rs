//! Running several jobs at the same time, within a budget of threads and memory.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::memory_budget::{EndMeasurement, MemoryBudget, lock};
use crate::output::{CliResult, Failure, STOPPED};

/// The results of `train(0), ..., train(n - 1)`, at most `jobs` at a time, each on an equal number of threads. After a
/// failure no further job begins; the first failure in the order of the jobs is returned.
pub(crate) fn parallel_jobs<T: Send>(
    n: usize,
    jobs: usize,
    budget: &MemoryBudget,
    train: impl Fn(usize) -> CliResult<T> + Sync,
) -> CliResult<Vec<T>> {
    let jobs = jobs.clamp(1, n.max(1));
    if jobs == 1 {
        return (0..n).map(train).collect();
    }
    let threads = (rayon::current_num_threads() / jobs).max(1);
    let next = AtomicUsize::new(0);
    let failed = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<CliResult<T>>>> = (0..n).map(|_| Mutex::new(None)).collect();
    let work = |number: usize| -> CliResult {
        // The first run ends the measurement even if it fails before the end of an epoch.
        let measurement = EndMeasurement(budget);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let pool = pool.map_err(|error| Failure::failed(format!("--jobs {jobs}: {error}")))?;
        while budget.admits(number) && failed.load(Ordering::SeqCst) == 0 {
            let i = next.fetch_add(1, Ordering::SeqCst);
            if i >= n {
                break;
            }
            let result = pool.install(|| train(i));
            measurement.0.measured();
            failed.fetch_add(usize::from(result.is_err()), Ordering::SeqCst);
            *lock(&done[i]) = Some(result);
        }
        Ok(())
    };
    let measured = budget.measure(|| {
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
    // A failed run makes the others pause: its failure is reported before theirs.
    let mut stopped = None;
    for result in results {
        match result {
            Some(Ok(value)) => all.push(value),
            Some(Err(failure)) if failure.code == STOPPED => {
                stopped.get_or_insert(failure);
            }
            Some(Err(failure)) => return Err(failure),
            None => {}
        }
    }
    measured?;
    match stopped {
        Some(failure) => Err(failure),
        None => Ok(all),
    }
}
