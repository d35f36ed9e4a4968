//! Kernel values, added up.

use decalign_core::pairs::CHUNK;
use decalign_core::{Real, Result, parallel};

use super::pool::{Pool, Task};
use super::tile::{Place, Tile, mask};

/// Of one kernel and one pair of samples.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Sum {
    /// `sum a_r b_j k_rj` over pairs; within a sample over r < j.
    pub(crate) pairs: f64,
    /// `sum a_r^2 k_rr`, within a sample.
    pub(crate) diagonal: f64,
}

impl<T: Real> Pool<T> {
    /// The sums of every kernel over pairs of samples, `sums[pair][kernel]`.
    pub(crate) fn sums(&self, pairs: &[(usize, usize)]) -> Result<Vec<Vec<Sum>>> {
        let tasks = self.tasks(pairs);
        let parts = parallel::map(tasks.len(), self.work(&tasks), |t| self.task_sums(tasks[t]));
        let mut sums = vec![vec![Sum::default(); self.program.kernels.len()]; pairs.len()];
        for (task, part) in tasks.iter().zip(parts) {
            for (sum, part) in sums[task.pair].iter_mut().zip(part?) {
                sum.pairs += part.pairs;
                sum.diagonal += part.diagonal;
            }
        }
        Ok(sums)
    }

    fn task_sums(&self, task: Task) -> Result<Vec<Sum>> {
        let mut sums = vec![Sum::default(); self.program.kernels.len()];
        let (a, b) = (&self.weights[task.rows], &self.weights[task.columns]);
        self.with_tile(|tile| {
            self.tiles(task, tile, |tile, place| {
                let (a, b) = (&a[place.rows.first..], &b[place.columns.first..]);
                let a = &a[..place.rows.len];
                let b = &b[..place
                    .columns
                    .len
                    .next_multiple_of(decalign_core::simd::LANES)];
                for (q, sum) in sums.iter_mut().enumerate() {
                    tile.add(self, q, place, (a, b), sum);
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
        pool: &Pool<T>,
        q: usize,
        place: Place,
        (a, b): (&[T], &[T]),
        sum: &mut Sum,
    ) {
        if place.diagonal {
            self.evaluate(pool, q, place.size());
            return self.add_values(place, (a, b), sum);
        }
        for term in &pool.program.kernels[q] {
            let total = match term.leaves.as_slice() {
                [leaf] => {
                    let leaf = pool.program.leaves[*leaf];
                    leaf.shape.total(&self.features[leaf.field], a, b)
                }
                leaves => {
                    self.product(pool, leaves, 1.0, place.size());
                    crate::kernel::Shape::Identity.total(&self.values, a, b)
                }
            };
            sum.pairs += term.factor * total;
        }
    }

    /// Adds up the values; those on and below the diagonal are cleared.
    pub(crate) fn add_values(&mut self, place: Place, (a, b): (&[T], &[T]), sum: &mut Sum) {
        if place.diagonal {
            for (r, a) in a.iter().enumerate() {
                let (a, k) = (a.as_f64(), self.values[r * CHUNK + r].as_f64());
                sum.diagonal += a * a * k;
            }
            mask(&mut self.values, a.len(), T::one(), T::zero());
        }
        sum.pairs += crate::kernel::Shape::Identity.total(&self.values, a, b);
    }
}
