//! Sums of kernel values.

use decalign_core::pairs::CHUNK;
use decalign_core::simd::LANES;
use decalign_core::{Real, Result, parallel};

use super::pooled_samples::{PooledSamples, Task};
use super::tile::{Tile, TileRange, mask};
use crate::kernel::Profile;

/// Sums of one kernel over one pair of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    /// `sum a_r b_j k_rj` over pairs; within a sample over r < j.
    pub(crate) pairs: f64,
    /// `sum a_r^2 k_rr`, within a sample.
    pub(crate) diagonal: f64,
}

impl<T: Real> PooledSamples<T> {
    /// The sums of every kernel over pairs of samples, `sums[pair][kernel]`.
    pub(crate) fn sums(&self, pairs: &[(usize, usize)]) -> Result<Vec<Vec<Sum>>> {
        let tasks = self.tasks(pairs);
        let parts = parallel::map(tasks.len(), self.work(&tasks), |t| self.task_sums(tasks[t]));
        let mut sums = vec![vec![Sum::default(); self.plan.kernels.len()]; pairs.len()];
        for (task, part) in tasks.iter().zip(parts) {
            for (sum, part) in sums[task.pair].iter_mut().zip(part?) {
                sum.pairs += part.pairs;
                sum.diagonal += part.diagonal;
            }
        }
        Ok(sums)
    }

    fn task_sums(&self, task: Task) -> Result<Vec<Sum>> {
        let mut sums = vec![Sum::default(); self.plan.kernels.len()];
        let (a, b) = (&self.weights[task.rows], &self.weights[task.columns]);
        self.with_tile(|tile| {
            self.tiles(task, tile, |tile, range| {
                let (a, b) = (&a[range.rows.first..], &b[range.columns.first..]);
                let a = &a[..range.rows.len];
                let b = &b[..range.columns.len.next_multiple_of(LANES)];
                for (q, sum) in sums.iter_mut().enumerate() {
                    tile.add(self, q, range, (a, b), sum);
                }
                Ok(())
            })
        })?;
        Ok(sums)
    }
}

impl<T: Real> Tile<T> {
    /// Adds up kernel `q`.
    pub(crate) fn add(
        &mut self,
        pool: &PooledSamples<T>,
        q: usize,
        range: TileRange,
        (a, b): (&[T], &[T]),
        sum: &mut Sum,
    ) {
        if range.diagonal {
            self.evaluate(pool, q, range.size());
            return self.add_values(range, (a, b), sum);
        }
        for term in &pool.plan.kernels[q] {
            let total = match term.leaves.as_slice() {
                [leaf] => {
                    let leaf = pool.plan.leaves[*leaf];
                    leaf.profile.total(&self.features[leaf.field], a, b)
                }
                leaves => {
                    self.product(pool, leaves, 1.0, range.size());
                    Profile::IDENTITY.total(&self.values, a, b)
                }
            };
            sum.pairs += term.factor * total;
        }
    }

    /// Adds up the values; those on and below the diagonal are cleared.
    pub(crate) fn add_values(&mut self, range: TileRange, (a, b): (&[T], &[T]), sum: &mut Sum) {
        if range.diagonal {
            for (r, a) in a.iter().enumerate() {
                let (a, k) = (a.as_f64(), self.values[r * CHUNK + r].as_f64());
                sum.diagonal += a * a * k;
            }
            mask(&mut self.values, a.len(), T::one(), T::zero());
        }
        sum.pairs += Profile::IDENTITY.total(&self.values, a, b);
    }
}
