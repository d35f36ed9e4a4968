//! The kernel matrix times vectors.

use decalign_core::pairs::{Panels, add_product, add_transposed, rows_of_slabs};
use decalign_core::{Real, Result};

use super::pooled_samples::PooledSamples;
use super::schedule;
use super::tile::mask;

impl<T: Real> PooledSamples<T> {
    /// `K V` of kernel `q` for the given pairs of samples, in one pass that meets each pair of points
    /// once: V is (N, k), row after row in the order of the pooled samples, and so is the result. It
    /// ignores the weights of the samples.
    ///
    /// With all pairs (i, j), i <= j, of samples K is the kernel matrix of the pooled sample.
    pub(crate) fn kernel_product(
        &self,
        q: usize,
        pairs: &[(usize, usize)],
        vectors: &[T],
        k: usize,
    ) -> Result<Vec<T>> {
        let mut start = 0;
        let panels = self.blocks.iter().map(|b| {
            let rows = &vectors[start * k..][..b.len * k];
            start += b.len;
            Panels::with_slabs(rows, k)
        });
        let panels: Vec<Panels<T>> = panels.collect();
        let outs = panels
            .iter()
            .map(|p| vec![T::zero(); p.slab_len()])
            .collect();
        let tasks = self.tasks(pairs);
        let work = self.work(&tasks) * (self.width + k) / self.width;
        let (outs, _) = schedule::run(&tasks, outs, work, |task, blocks| {
            let (v, w) = (&panels[task.rows], &panels[task.columns]);
            self.with_tile(|tile| {
                self.tiles(task, tile, |tile, range| {
                    tile.evaluate(self, q, range.size());
                    if range.diagonal {
                        mask(&mut tile.values, range.rows.len, T::one(), T::one());
                    }
                    let (rows, columns) = (range.rows, range.columns);
                    add_product(
                        &tile.values,
                        (v.padded(), rows),
                        (w, columns),
                        blocks.rows(),
                    );
                    if range.diagonal {
                        mask(&mut tile.values, rows.len, T::one(), T::zero());
                    }
                    add_transposed(
                        &tile.values,
                        (v, rows),
                        (w.padded(), columns),
                        blocks.columns(),
                    );
                    Ok(())
                })
            })
        })?;
        let rows = outs.iter().zip(&panels);
        Ok(rows
            .flat_map(|(out, p)| rows_of_slabs(out, p.padded(), p.len(), k))
            .collect())
    }
}
