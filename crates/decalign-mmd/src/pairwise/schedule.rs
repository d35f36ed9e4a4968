//! Parallel tasks that write to two blocks each.

use std::sync::{Mutex, MutexGuard, PoisonError};

use decalign_core::{Result, parallel};

use super::pooled_samples::Task;

/// The accumulators of a task: that of its block of rows and that of its block of columns.
pub(crate) struct BlockPair<'a, A> {
    rows: &'a mut A,
    /// `None` where both are the same block.
    columns: Option<&'a mut A>,
}

impl<A> BlockPair<'_, A> {
    pub(crate) fn rows(&mut self) -> &mut A {
        self.rows
    }

    pub(crate) fn columns(&mut self) -> &mut A {
        match &mut self.columns {
            Some(columns) => columns,
            None => self.rows,
        }
    }

    /// Both; the first is `None` where they are the same block.
    pub(crate) fn both(&mut self) -> (Option<&mut A>, &mut A) {
        match &mut self.columns {
            Some(columns) => (Some(self.rows), columns),
            None => (None, self.rows),
        }
    }
}

/// Runs tasks, each with the accumulators of its two blocks; returns the accumulators and the results in order.
///
/// Round r holds the pairs (a, b) of blocks with `a xor b = r`: no block appears twice in it, and
/// every block meets the others in one order, so sums do not depend on the number of threads.
pub(crate) fn run<A: Send, R: Send>(
    tasks: &[Task],
    blocks: Vec<A>,
    work: usize,
    f: impl Fn(Task, &mut BlockPair<A>) -> Result<R> + Sync + Send,
) -> Result<(Vec<A>, Vec<R>)> {
    let blocks: Vec<Mutex<A>> = blocks.into_iter().map(Mutex::new).collect();
    let mut order: Vec<usize> = (0..tasks.len()).collect();
    let round = |t: usize| tasks[t].rows ^ tasks[t].columns;
    order.sort_by_key(|t| round(*t));
    let mut results: Vec<Option<R>> = tasks.iter().map(|_| None).collect();
    for round in order.chunk_by(|a, b| round(*a) == round(*b)) {
        let share = (work / tasks.len().max(1)) * round.len();
        let done = parallel::map(round.len(), share, |t| {
            let task = tasks[round[t]];
            let mut rows = lock(&blocks[task.rows]);
            let mut columns = (task.rows != task.columns).then(|| lock(&blocks[task.columns]));
            let (rows, columns): (&mut A, Option<&mut A>) = (&mut rows, columns.as_deref_mut());
            f(task, &mut BlockPair { rows, columns })
        });
        for (t, done) in round.iter().zip(done) {
            results[*t] = Some(done?);
        }
    }
    let open = |m: Mutex<A>| m.into_inner().unwrap_or_else(PoisonError::into_inner);
    let blocks = blocks.into_iter().map(open).collect();
    Ok((blocks, results.into_iter().flatten().collect()))
}

fn lock<A>(block: &Mutex<A>) -> MutexGuard<'_, A> {
    block.lock().unwrap_or_else(PoisonError::into_inner)
}
