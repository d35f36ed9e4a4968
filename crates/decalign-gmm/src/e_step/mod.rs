//! The E-step: responsibilities of all samples, summed into sufficient statistics on the way.
//!
//! For each chunk of rows the log-densities of all components are computed, turned into responsibilities and summed while they
//! are in the cache; responsibilities are never stored for all samples. Chunks belong to jobs that depend on the number of rows
//! alone and are added in a fixed order, so results do not depend on the number of threads.

mod accumulate;
mod assignment;
pub(crate) mod backward;
pub(crate) mod device;
mod log_densities;
pub(crate) mod mixture_gradient;
mod packed;
mod responsibilities;

use decalign_core::simd::LANES;
use decalign_core::{Real, parallel, simd};

use crate::parameters::MixtureParameters;
use crate::row_chunk::{BLOCKS, ROWS, RowChunk};
use crate::samples::Samples;
use crate::statistics::{SecondMoment, SufficientStatistics};

pub(crate) use accumulate::{Accumulate, Centres};
pub(crate) use assignment::Assignment;
pub(crate) use device::DeviceSamples;
pub(crate) use packed::PackedMixture;
use responsibilities::Responsibilities;
pub(crate) use responsibilities::exponentials;

/// Sums over all samples.
pub(crate) struct EStepSums {
    pub(crate) statistics: SufficientStatistics,
    /// `sum w log p(x)` of the standardised samples.
    pub(crate) log_likelihood: f64,
    /// The sample with weight of least density, and the logarithm of that (base 2).
    pub(crate) least_likely: (usize, f64),
}

impl EStepSums {
    fn zeros(components: usize, width: usize, second: SecondMoment) -> Self {
        Self {
            statistics: SufficientStatistics::zeros(components, width, second),
            log_likelihood: 0.0,
            least_likely: (0, f64::INFINITY),
        }
    }

    fn add(&mut self, other: &Self) {
        self.statistics.add(&other.statistics);
        self.log_likelihood += other.log_likelihood;
        if other.least_likely.1 < self.least_likely.1 {
            self.least_likely = other.least_likely;
        }
    }

    fn add_logs<T: Real>(&mut self, first: usize, chunk: &RowChunk<T>, logs: &[T]) {
        let mut sum = 0.0;
        let rows = logs[..chunk.used].iter().zip(chunk.weights.iter());
        for (i, (log, w)) in rows.enumerate() {
            let (log, w) = (log.as_f64(), w.as_f64());
            sum += w * log;
            if w > 0.0 && log < self.least_likely.1 {
                self.least_likely = (first + i, log);
            }
        }
        self.log_likelihood += sum * std::f64::consts::LN_2;
    }
}

/// The floating-point operations of a pass.
fn work(rows: usize, components: usize, width: usize, matrix: bool) -> usize {
    rows * components * width * if matrix { 2 * width + 4 } else { 8 }
}

/// Responsibilities under a mixture, and their statistics about its means; without `second` only the log-likelihood.
pub(crate) fn e_step<T: Real>(
    samples: &Samples<T>,
    mixture: &MixtureParameters,
    packed: &PackedMixture<T>,
    second: Option<SecondMoment>,
) -> EStepSums {
    sum_chunks(samples, mixture, second, |_, chunk, buffers| {
        packed.log_densities(chunk, buffers);
        simd::dispatch(Responsibilities {
            components: packed.components,
            blocks: chunk.blocks(),
            weights: &chunk.weights,
            cells: &mut buffers.cells,
            logs: &mut buffers.logs,
        });
    })
}

/// Statistics about the means of `centres` with responsibilities that are given.
pub(crate) fn assigned_statistics<T: Real>(
    samples: &Samples<T>,
    centres: &MixtureParameters,
    second: SecondMoment,
    assignment: &Assignment,
) -> SufficientStatistics {
    let k = centres.components();
    let sums = sum_chunks(samples, centres, Some(second), |first, chunk, buffers| {
        buffers.cells.fill(T::zero());
        let rows = assignment.responsibilities::<T>(first, chunk.used, k);
        for (i, row) in rows.chunks_exact(k).enumerate() {
            for (k, v) in row.iter().enumerate() {
                *buffers.cell(i, k) = chunk.weights[i] * *v;
            }
        }
    });
    sums.statistics
}

/// The buffers of a job.
pub(crate) struct Buffers<T> {
    /// Blocks of samples, each with all components up to a whole group: log-densities, then responsibilities times weights.
    pub(crate) cells: Vec<T>,
    /// `log2 p(x)` of each row.
    logs: Vec<T>,
    pub(crate) scratch: Vec<T>,
}

impl<T: Real> Buffers<T> {
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

fn sum_chunks<T: Real>(
    samples: &Samples<T>,
    centres: &MixtureParameters,
    second: Option<SecondMoment>,
    fill_cells: impl Fn(usize, &RowChunk<T>, &mut Buffers<T>) + Sync + Send,
) -> EStepSums {
    let (d, k) = (samples.width, centres.components());
    let means = Centres::new(centres);
    let stored = second.unwrap_or(SecondMoment::None);
    let work = work(samples.rows(), k, d, centres.kind.is_matrix());
    let sum = |job: usize| {
        let mut sums = EStepSums::zeros(k, d, stored);
        let mut buffers = Buffers::new(k);
        samples.each_chunk(job, |first, chunk| {
            fill_cells(first, chunk, &mut buffers);
            sums.add_logs(first, chunk, &buffers.logs);
            if second.is_some() {
                simd::dispatch(Accumulate {
                    chunk,
                    cells: &buffers.cells,
                    centres: &means,
                    second: stored,
                    scratch: &mut buffers.scratch,
                    statistics: &mut sums.statistics,
                });
            }
        });
        sums
    };
    let merge = |a: &mut EStepSums, b: EStepSums| a.add(&b);
    let sums = parallel::reduce(samples.jobs(), work, sum, merge);
    let mut sums = sums.unwrap_or_else(|| EStepSums::zeros(k, d, stored));
    if stored == SecondMoment::Matrix {
        sums.statistics.fill_upper(d);
    }
    sums
}
