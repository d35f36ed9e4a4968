//! Tiles of pairs: the buffers of a task.

use std::sync::PoisonError;

use decalign_core::pairs::{self, CHUNK, Part, STRIP};
use decalign_core::{Real, Result};

use super::pooled_samples::{PooledSamples, Task};
use crate::kernel::{Buffer, buffer};

/// Buffers for the numbers of one tile of pairs.
pub(crate) struct Tile<T> {
    /// Features of the pairs, a buffer a field.
    pub(crate) features: Vec<Box<Buffer<T>>>,
    pub(crate) values: Box<Buffer<T>>,
    pub(crate) slopes: Box<Buffer<T>>,
    /// The gradient with respect to the features of every field, and whether it was written yet.
    pub(crate) gradients: Vec<(Box<Buffer<T>>, bool)>,
    spare: Box<Buffer<T>>,
}

/// The rows and columns of a tile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TileRange {
    pub(crate) rows: Part,
    pub(crate) columns: Part,
    /// Whether it lies on the diagonal: its first row is its first column, and pairs below the diagonal are
    /// those above it.
    pub(crate) diagonal: bool,
}

impl TileRange {
    pub(crate) fn size(self) -> (usize, usize) {
        (self.rows.len, self.columns.len)
    }
}

impl<T: Real> PooledSamples<T> {
    /// Runs a task with a tile from the stash: allocating one costs as much as a small task.
    pub(crate) fn with_tile<R>(&self, f: impl FnOnce(&mut Tile<T>) -> R) -> R {
        let stash = || self.stash.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stash().pop();
        let mut tile = found.unwrap_or_else(|| Tile::new(self));
        let result = f(&mut tile);
        stash().push(tile);
        result
    }

    /// Calls `f` with every tile of a task after computing its features.
    pub(crate) fn tiles(
        &self,
        task: Task,
        tile: &mut Tile<T>,
        mut f: impl FnMut(&mut Tile<T>, TileRange) -> Result<()>,
    ) -> Result<()> {
        let same = task.rows == task.columns;
        let (n, m) = (self.blocks[task.rows].len, self.blocks[task.columns].len);
        for first in (0..n).step_by(STRIP) {
            let rows = Part {
                first,
                len: STRIP.min(n - first),
            };
            let start = if same { first } else { 0 };
            for first in (start..m).step_by(CHUNK) {
                let columns = Part {
                    first,
                    len: CHUNK.min(m - first),
                };
                for (field, out) in self.fields.iter().zip(&mut tile.features) {
                    let (x, y) = (&field.panels[task.rows], &field.panels[task.columns]);
                    pairs::fill(field.measure, (x, rows), (y, columns), out);
                }
                let range = TileRange {
                    rows,
                    columns,
                    diagonal: same && first == rows.first,
                };
                f(tile, range)?;
            }
        }
        Ok(())
    }
}

impl<T: Real> Tile<T> {
    pub(crate) fn new(pool: &PooledSamples<T>) -> Self {
        Self {
            features: pool.fields.iter().map(|_| buffer()).collect(),
            values: buffer(),
            slopes: buffer(),
            gradients: pool.fields.iter().map(|_| (buffer(), false)).collect(),
            spare: buffer(),
        }
    }

    /// The values of kernel `q`.
    pub(crate) fn evaluate(&mut self, pool: &PooledSamples<T>, q: usize, size: (usize, usize)) {
        let terms = &pool.plan.kernels[q];
        if let [term] = terms.as_slice() {
            return self.product(pool, &term.leaves, term.factor, size);
        }
        let mut sum = buffer();
        for term in terms {
            self.product(pool, &term.leaves, term.factor, size);
            zip(&mut sum, &self.values, |a, b| a + b);
        }
        self.values = sum;
    }

    /// The values of the product of some leaves, times a factor.
    pub(crate) fn product(
        &mut self,
        pool: &PooledSamples<T>,
        leaves: &[usize],
        factor: f64,
        size: (usize, usize),
    ) {
        for (i, leaf) in leaves.iter().enumerate() {
            let leaf = pool.plan.leaves[*leaf];
            let u = &self.features[leaf.field];
            if i == 0 {
                leaf.profile.map(u, size, &mut self.values, None);
            } else {
                leaf.profile.map(u, size, &mut self.spare, None);
                zip(&mut self.values, &self.spare, |a, b| a * b);
            }
        }
        if leaves.is_empty() {
            self.values.fill(T::one());
        }
        if factor != 1.0 {
            let factor = T::of(factor);
            self.values.iter_mut().for_each(|v| *v *= factor);
        }
    }
}

/// `a = f(a, b)`.
pub(crate) fn zip<T: Real>(a: &mut Buffer<T>, b: &Buffer<T>, f: impl Fn(T, T) -> T) {
    a.iter_mut().zip(b).for_each(|(a, b)| *a = f(*a, *b));
}

/// Multiplies the diagonal by `diagonal` and the entries above it by `above`; clears those below.
pub(crate) fn mask<T: Real>(x: &mut Buffer<T>, rows: usize, above: T, diagonal: T) {
    for (r, row) in x
        .as_chunks_mut::<CHUNK>()
        .0
        .iter_mut()
        .enumerate()
        .take(rows)
    {
        row[..r].fill(T::zero());
        row[r] *= diagonal;
        row[r + 1..].iter_mut().for_each(|v| *v *= above);
    }
}
