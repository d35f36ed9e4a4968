//! The buffers of a task.

use std::sync::PoisonError;

use decalign_core::pairs::{self, CHUNK, Part, STRIP};
use decalign_core::{Real, Result};

use super::pool::{Pool, Task};
use crate::kernel::{Buffer, buffer};

/// Room for the numbers of a buffer of pairs.
pub(crate) struct Tile<T> {
    /// Of every field.
    pub(crate) features: Vec<Box<Buffer<T>>>,
    pub(crate) values: Box<Buffer<T>>,
    pub(crate) slopes: Box<Buffer<T>>,
    /// Of every field the gradient with respect to its numbers, and whether there is any yet.
    pub(crate) gradients: Vec<(Box<Buffer<T>>, bool)>,
    spare: Box<Buffer<T>>,
}

/// Which pairs a tile holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) rows: Part,
    pub(crate) columns: Part,
    /// Whether it lies on the diagonal: its first row is its first column, and what is below counts
    /// elsewhere.
    pub(crate) diagonal: bool,
}

impl Place {
    pub(crate) fn size(self) -> (usize, usize) {
        (self.rows.len, self.columns.len)
    }
}

impl<T: Real> Pool<T> {
    /// Runs a task with room for its tiles, which later tasks find again: making it costs as much as a
    /// small task.
    pub(crate) fn with_tile<R>(&self, f: impl FnOnce(&mut Tile<T>) -> R) -> R {
        let stash = || self.stash.lock().unwrap_or_else(PoisonError::into_inner);
        let found = stash().pop();
        let mut tile = found.unwrap_or_else(|| Tile::new(self));
        let result = f(&mut tile);
        stash().push(tile);
        result
    }

    /// Calls `f` with every tile of a task, its features filled in.
    pub(crate) fn tiles(
        &self,
        task: Task,
        tile: &mut Tile<T>,
        mut f: impl FnMut(&mut Tile<T>, Place) -> Result<()>,
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
                let diagonal = same && first == rows.first;
                f(
                    tile,
                    Place {
                        rows,
                        columns,
                        diagonal,
                    },
                )?;
            }
        }
        Ok(())
    }
}

impl<T: Real> Tile<T> {
    pub(crate) fn new(pool: &Pool<T>) -> Self {
        Self {
            features: pool.fields.iter().map(|_| buffer()).collect(),
            values: buffer(),
            slopes: buffer(),
            gradients: pool.fields.iter().map(|_| (buffer(), false)).collect(),
            spare: buffer(),
        }
    }

    /// The values of kernel `q`.
    pub(crate) fn evaluate(&mut self, pool: &Pool<T>, q: usize, size: (usize, usize)) {
        let terms = &pool.program.kernels[q];
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
        pool: &Pool<T>,
        leaves: &[usize],
        factor: f64,
        size: (usize, usize),
    ) {
        for (i, leaf) in leaves.iter().enumerate() {
            let leaf = pool.program.leaves[*leaf];
            let u = &self.features[leaf.field];
            if i == 0 {
                leaf.shape.map(u, size, &mut self.values, None);
            } else {
                leaf.shape.map(u, size, &mut self.spare, None);
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

/// Multiplies the diagonal by `diagonal`, what is above by `above`, and clears what is below.
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
