//! One pass over the data: expectation and maximisation fused, a chunk of rows at a time.
//!
//! Of a chunk the distances to all components are computed, made responsibilities, and summed into
//! moments while they are in the cache; responsibilities of all samples are never stored. Chunks belong
//! to jobs cut by the number of rows alone and added in a fixed order, so results do not depend on threads.

mod assigned;
pub(crate) mod back;
pub(crate) mod device;
mod distances;
pub(crate) mod mixture_back;
mod moments;
mod softmax;
mod tiles;

use decalign_core::simd::LANES;
use decalign_core::{Real, parallel, simd};

use crate::chunk::{BLOCKS, Chunk, ROWS};
use crate::data::Data;
use crate::parameters::{Moments, Parameters, Second};

pub(crate) use assigned::Assigned;
pub(crate) use device::OnDevice;
pub(crate) use distances::Distances;
pub(crate) use moments::{Accumulate, Centres};
use softmax::Softmax;
pub(crate) use tiles::Tiles;

/// Jobs of a pass.
const JOBS: usize = 32;

/// Rows of a job.
pub(crate) fn job(rows: usize) -> usize {
    rows.div_ceil(JOBS).max(8 * ROWS).next_multiple_of(ROWS)
}

/// Sums over all samples.
pub(crate) struct Totals {
    pub(crate) moments: Moments,
    /// `sum w log p(x)`, in the frame's coordinates.
    pub(crate) log_likelihood: f64,
    /// The sample with weight of least density, and the logarithm of that (base 2).
    pub(crate) farthest: (usize, f64),
}

impl Totals {
    fn zeros(components: usize, width: usize, second: Second) -> Self {
        Self {
            moments: Moments::zeros(components, width, second),
            log_likelihood: 0.0,
            farthest: (0, f64::INFINITY),
        }
    }

    fn add(&mut self, other: &Self) {
        self.moments.add(&other.moments);
        self.log_likelihood += other.log_likelihood;
        if other.farthest.1 < self.farthest.1 {
            self.farthest = other.farthest;
        }
    }
}

/// The work of a pass in floating-point operations.
fn work(rows: usize, components: usize, width: usize, matrix: bool) -> usize {
    rows * components * width * if matrix { 2 * width + 4 } else { 8 }
}

/// Expectation under a mixture and moments about its means.
pub(crate) fn expect<T: Real>(
    data: &Data<T>,
    mixture: &Parameters,
    tiles: &Tiles<T>,
    second: Option<Second>,
) -> Totals {
    each_chunk(data, mixture, second, |_, chunk, work| {
        simd::dispatch(Distances {
            tiles,
            chunk,
            out: &mut work.cells,
            scratch: &mut work.scratch,
        });
        simd::dispatch(Softmax {
            components: tiles.components,
            blocks: chunk.blocks(),
            weights: &chunk.weights,
            cells: &mut work.cells,
            logs: &mut work.logs,
        });
    })
}

/// Moments about the means of `centres`, with responsibilities from elsewhere.
pub(crate) fn assigned<T: Real>(
    data: &Data<T>,
    centres: &Parameters,
    second: Second,
    assigned: &Assigned,
) -> Moments {
    let k = centres.components();
    let totals = each_chunk(data, centres, Some(second), |first, chunk, work| {
        work.cells.fill(T::zero());
        let rows = assigned.of::<T>(first, chunk.used, k);
        for (i, row) in rows.chunks_exact(k).enumerate() {
            for (k, v) in row.iter().enumerate() {
                *work.cell(i, k) = chunk.weights[i] * *v;
            }
        }
    });
    totals.moments
}

/// The buffers of a job.
pub(crate) struct Work<T> {
    /// Blocks of samples, of each all components up to a whole group: distances, then responsibilities
    /// times weights.
    pub(crate) cells: Vec<T>,
    /// `log2 p(x)` a row.
    logs: Vec<T>,
    pub(crate) scratch: Vec<T>,
}

impl<T: Real> Work<T> {
    pub(crate) fn new(components: usize) -> Self {
        Self {
            cells: vec![T::zero(); components.next_multiple_of(6) * ROWS],
            logs: vec![T::zero(); ROWS],
            scratch: Vec::new(),
        }
    }

    /// The cell of a row and a component.
    pub(crate) fn cell(&mut self, row: usize, k: usize) -> &mut T {
        let size = self.cells.len() / BLOCKS;
        &mut self.cells[row / LANES * size + k * LANES + row % LANES]
    }
}

fn each_chunk<T: Real>(
    data: &Data<T>,
    centres: &Parameters,
    second: Option<Second>,
    fill: impl Fn(usize, &Chunk<T>, &mut Work<T>) + Sync + Send,
) -> Totals {
    let (d, k, rows) = (data.width, centres.components(), data.rows());
    let size = job(rows);
    let means = Centres::new(centres);
    let stored = second.unwrap_or(Second::Nothing);
    let work = work(rows, k, d, centres.kind.is_matrix());
    let sum = |part: usize| {
        let mut totals = Totals::zeros(k, d, stored);
        let (mut buffer, mut work) = (None, Work::new(k));
        let end = rows.min((part + 1) * size);
        for first in (part * size..end).step_by(ROWS) {
            let chunk = data.chunk(first, &mut buffer);
            fill(first, chunk, &mut work);
            totals.read_logs(first, chunk, &work.logs);
            if second.is_some() {
                simd::dispatch(Accumulate {
                    chunk,
                    cells: &work.cells,
                    centres: &means,
                    second: stored,
                    scratch: &mut work.scratch,
                    moments: &mut totals.moments,
                });
            }
        }
        totals
    };
    let merge = |a: &mut Totals, b: Totals| a.add(&b);
    let totals = parallel::reduce(rows.div_ceil(size), work, sum, merge);
    let mut totals = totals.unwrap_or_else(|| Totals::zeros(k, d, stored));
    if stored == Second::Matrix {
        totals.moments.fill_upper(d);
    }
    totals
}

impl Totals {
    fn read_logs<T: Real>(&mut self, first: usize, chunk: &Chunk<T>, logs: &[T]) {
        let mut sum = 0.0;
        for (i, (log, w)) in logs[..chunk.used]
            .iter()
            .zip(chunk.weights.iter())
            .enumerate()
        {
            let (log, w) = (log.as_f64(), w.as_f64());
            sum += w * log;
            if w > 0.0 && log < self.farthest.1 {
                self.farthest = (first + i, log);
            }
        }
        self.log_likelihood += sum * std::f64::consts::LN_2;
    }
}
