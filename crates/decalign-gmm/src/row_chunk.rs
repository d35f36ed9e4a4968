//! A chunk of standardised rows, laid out for the register tiles.

use decalign_core::Real;
use decalign_core::simd::{self, Aligned, Isa, Kernel, LANES};

use crate::samples::Samples;

/// Rows processed together: with d up to 64 their coordinates, log-densities and responsibilities stay in the first two caches.
pub(crate) const ROWS: usize = 128;

/// Blocks of [`LANES`] rows in a chunk.
pub(crate) const BLOCKS: usize = ROWS / LANES;

/// The padded length of rows: whole vectors, and whole groups of 6 rows of a tile.
pub(crate) fn stride(width: usize) -> usize {
    width.next_multiple_of(6).next_multiple_of(LANES)
}

/// [`ROWS`] samples in two layouts; unused rows are finite and have weight 0.
pub(crate) struct RowChunk<T> {
    /// Blocks of [`LANES`] dimensions, each with all rows; padding dimensions are 0.
    pub(crate) rows: Aligned<T>,
    /// Blocks of [`LANES`] rows, each with all dimensions.
    pub(crate) columns: Aligned<T>,
    pub(crate) weights: Aligned<T>,
    pub(crate) stride: usize,
    pub(crate) used: usize,
}

impl<T: Real> RowChunk<T> {
    pub(crate) fn new(width: usize) -> Self {
        let stride = stride(width);
        Self {
            rows: Aligned::zeros(ROWS * stride),
            columns: Aligned::zeros(ROWS * width),
            weights: Aligned::zeros(ROWS),
            stride,
            used: 0,
        }
    }

    /// Reads rows from `first` on.
    pub(crate) fn read(&mut self, samples: &Samples<T>, first: usize) {
        self.used = ROWS.min(samples.rows() - first);
        simd::dispatch(Read {
            x: &samples.x[first * samples.width..],
            width: samples.width,
            coordinates: &samples.coordinates,
            chunk: self,
        });
        self.weights.fill(T::zero());
        match &samples.weights {
            None => self.weights[..self.used].fill(T::one()),
            Some(w) => self.weights[..self.used].copy_from_slice(&w[first..][..self.used]),
        }
    }

    /// Blocks of rows that hold a sample.
    pub(crate) fn blocks(&self) -> usize {
        self.used.div_ceil(LANES)
    }
}

struct Read<'a, T> {
    x: &'a [T],
    width: usize,
    /// See [`Samples::coordinates`].
    coordinates: &'a [[[T; LANES]; 2]],
    chunk: &'a mut RowChunk<T>,
}

impl<T: Real> Kernel for Read<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let (d, used) = (self.width, self.chunk.used);
        let rows = self.chunk.rows.as_chunks_mut::<LANES>().0;
        for (block, [centre, scale]) in self.coordinates.iter().enumerate() {
            let to = &mut rows[block * ROWS..][..used];
            let x = &self.x[block * LANES..];
            // The last block of a row reads on into the next row; padding scales of 0 clear those numbers.
            let whole = x.windows(LANES).step_by(d);
            for (to, x) in to.iter_mut().zip(whole) {
                if let Some(x) = x.first_chunk::<LANES>() {
                    *to = standardized(*x, centre, scale);
                }
            }
            // Rows so near the end of the data that a whole vector cannot be read.
            let ended = (x.len() + d).saturating_sub(LANES) / d;
            for (i, to) in to.iter_mut().enumerate().skip(ended) {
                let mut rest = [T::zero(); LANES];
                let x = &x[i * d..];
                rest[..x.len()].copy_from_slice(x);
                *to = standardized(rest, centre, scale);
            }
        }
        let columns = self.chunk.columns.as_chunks_mut::<LANES>().0;
        let samples = columns.chunks_exact_mut(d).enumerate();
        for (i, columns) in samples.take(used.div_ceil(LANES)) {
            for (block, columns) in columns.chunks_mut(LANES).enumerate() {
                let rows = &rows[block * ROWS + i * LANES..][..LANES];
                if let Some(rows) = rows.first_chunk::<LANES>() {
                    let turned = transposed(rows);
                    for (to, from) in columns.iter_mut().zip(&turned) {
                        *to = *from;
                    }
                }
            }
        }
    }
}

#[inline(always)]
fn standardized<T: Real>(mut x: [T; LANES], centre: &[T; LANES], scale: &[T; LANES]) -> [T; LANES] {
    for i in 0..LANES {
        x[i] = (x[i] - centre[i]) * scale[i];
    }
    x
}

/// The transpose of a square block: a perfect shuffle of the rows' halves for every binary digit of [`LANES`].
#[inline(always)]
fn transposed<T: Real>(rows: &[[T; LANES]; LANES]) -> [[T; LANES]; LANES] {
    let mut a = *rows;
    let mut stage = LANES;
    while stage > 1 {
        let mut b = [[T::zero(); LANES]; LANES];
        for i in 0..LANES / 2 {
            let (x, y) = (a[i], a[i + LANES / 2]);
            for l in 0..LANES / 2 {
                b[2 * i][2 * l] = x[l];
                b[2 * i][2 * l + 1] = y[l];
                b[2 * i + 1][2 * l] = x[LANES / 2 + l];
                b[2 * i + 1][2 * l + 1] = y[LANES / 2 + l];
            }
        }
        a = b;
        stage /= 2;
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn riffles_transpose() {
        let at = |i: usize, j: usize| (i * LANES + j) as f32;
        let mut rows = [[0.0; LANES]; LANES];
        for i in 0..LANES {
            for j in 0..LANES {
                rows[i][j] = at(i, j);
            }
        }
        let turned = transposed(&rows);
        for i in 0..LANES {
            for j in 0..LANES {
                assert_eq!(turned[j][i], at(i, j));
            }
        }
    }
}
