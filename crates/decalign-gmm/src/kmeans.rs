//! k-means: k-means++ seeds and Lloyd's iteration.
//!
//! Each column is divided by its standard deviation, so that the clusters do not depend on the units of the data, as the fit does
//! not.
//!
//! Source: Arthur and Vassilvitskii (2007).

use decalign_core::Real;
use decalign_core::random::Stream;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use crate::covariance::Covariance;
use crate::e_step::{Accumulate, Buffers, Centres, PackedMixture};
use crate::parameters::MixtureParameters;
use crate::row_chunk::{BLOCKS, RowChunk};
use crate::samples::Samples;
use crate::statistics::{SecondMoment, SufficientStatistics};

/// Most iterations of Lloyd's algorithm.
const MAX_ITERATIONS: usize = 100;

/// Rows chosen one after the other, each with probability in proportion to its weight times its squared
/// distance to the nearest of the rows chosen so far.
pub(crate) fn seeds<T: Real>(
    samples: &Samples<T>,
    deviations: &[f64],
    components: usize,
    stream: Stream,
) -> Vec<usize> {
    let draws = stream.uniform(components, 0.0, 1.0);
    let mut nearest = vec![f64::INFINITY; samples.rows()];
    let mut chosen: Vec<usize> = Vec::new();
    for draw in draws {
        let mass = |i: usize| match chosen.is_empty() {
            true => samples.weight(i),
            false => samples.weight(i) * nearest[i],
        };
        let total: f64 = (0..samples.rows()).map(mass).sum();
        let row = pick((0..samples.rows()).map(mass), draw * total);
        chosen.push(row);
        let distances = assign(samples, deviations, &points(samples, &[row])).distances;
        for (nearest, distance) in nearest.iter_mut().zip(distances) {
            *nearest = nearest.min(distance);
        }
        // Exactly 0, which rounding would not make it.
        nearest[row] = 0.0;
    }
    chosen
}

/// The first index at which the running sum of masses exceeds `target`, else the last with mass.
pub(crate) fn pick(masses: impl Iterator<Item = f64>, target: f64) -> usize {
    let (mut sum, mut last) = (0.0, 0);
    for (i, mass) in masses.enumerate().filter(|(_, mass)| *mass > 0.0) {
        sum += mass;
        last = i;
        if sum > target {
            break;
        }
    }
    last
}

/// The nearest point of every sample.
struct Clusters {
    labels: Vec<u32>,
    /// Squared distances to the nearest point.
    distances: Vec<f64>,
    /// Statistics of the samples about their nearest points.
    statistics: SufficientStatistics,
}

/// Finds the nearest of some points to every sample.
fn assign<T: Real>(
    samples: &Samples<T>,
    deviations: &[f64],
    points: &MixtureParameters,
) -> Clusters {
    let reciprocals: Vec<f64> = deviations.iter().map(|v| v.recip()).collect();
    let packed = PackedMixture::<T>::of_points(&points.means, &reciprocals);
    let (d, k) = (samples.width, packed.components);
    let centres = Centres::new(points);
    let none = || Clusters {
        labels: Vec::new(),
        distances: Vec::new(),
        statistics: SufficientStatistics::zeros(k, d, SecondMoment::None),
    };
    let jobs = samples.map_chunks(
        samples.rows() * k * d * 6,
        || (none(), Buffers::new(k)),
        |(out, buffers), _, chunk| {
            packed.log_densities(chunk, buffers);
            simd::dispatch(Nearest {
                components: k,
                chunk,
                cells: &mut buffers.cells,
                out,
            });
            simd::dispatch(Accumulate {
                chunk,
                cells: &buffers.cells,
                centres: &centres,
                second: SecondMoment::None,
                scratch: &mut buffers.scratch,
                statistics: &mut out.statistics,
            });
        },
    );
    let mut all = none();
    for (job, _) in jobs {
        all.labels.extend(job.labels);
        all.distances.extend(job.distances);
        all.statistics.add(&job.statistics);
    }
    all
}

/// Finds the component with the largest cell of every sample, the first of equal ones; its cell becomes the sample's weight, the
/// others 0.
struct Nearest<'a, T> {
    components: usize,
    chunk: &'a RowChunk<T>,
    cells: &'a mut [T],
    out: &'a mut Clusters,
}

impl<T: Real> Kernel for Nearest<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, _: I) {
        let size = self.cells.len() / BLOCKS;
        let weights = self.chunk.weights.as_chunks::<LANES>().0;
        let blocks = self.cells.chunks_exact_mut(size).zip(weights);
        for (block, (cells, weights)) in blocks.enumerate().take(self.chunk.blocks()) {
            let cells = &mut cells.as_chunks_mut::<LANES>().0[..self.components];
            let mut largest = cells[0];
            let mut which = [T::zero(); LANES];
            for (k, cell) in cells.iter().enumerate().skip(1) {
                let k = T::of(k as f64);
                for i in 0..LANES {
                    let more = cell[i] > largest[i];
                    which[i] = if more { k } else { which[i] };
                    largest[i] = if more { cell[i] } else { largest[i] };
                }
            }
            for (k, cell) in cells.iter_mut().enumerate() {
                let k = T::of(k as f64);
                for i in 0..LANES {
                    cell[i] = if which[i] == k { weights[i] } else { T::zero() };
                }
            }
            let used = LANES.min(self.chunk.used - block * LANES);
            let (mut labels, mut distances) = ([0; LANES], [0.0; LANES]);
            for i in 0..LANES {
                labels[i] = which[i].as_f64() as u32;
            }
            for i in 0..LANES {
                distances[i] = -largest[i].as_f64();
            }
            self.out.labels.extend_from_slice(&labels[..used]);
            self.out.distances.extend_from_slice(&distances[..used]);
        }
    }
}

/// The cluster of every sample by Lloyd's iteration.
pub(crate) fn labels<T: Real>(
    samples: &Samples<T>,
    deviations: &[f64],
    components: usize,
    stream: Stream,
) -> Vec<u32> {
    let d = samples.width;
    let rows = seeds(samples, deviations, components, stream);
    let mut centres = points(samples, &rows);
    let mut labels: Vec<u32> = Vec::new();
    for _ in 0..MAX_ITERATIONS {
        let next = assign(samples, deviations, &centres);
        if next.labels == labels {
            break;
        }
        labels = next.labels;
        let statistics = next.statistics.s1.chunks_exact(d).zip(&next.statistics.s0);
        for (centre, (s1, s0)) in centres.means.chunks_exact_mut(d).zip(statistics) {
            // An empty cluster keeps its centre.
            if *s0 > 0.0 {
                let each = centre.iter_mut().zip(s1);
                each.for_each(|(c, s)| *c += s / s0);
            }
        }
    }
    labels
}

/// Rows as the means of a mixture; its weights and covariances are not used.
fn points<T: Real>(samples: &Samples<T>, rows: &[usize]) -> MixtureParameters {
    let mut points = MixtureParameters::zeros(Covariance::Spherical, rows.len(), samples.width);
    points.means = rows.iter().flat_map(|i| samples.row(*i)).collect();
    points
}
