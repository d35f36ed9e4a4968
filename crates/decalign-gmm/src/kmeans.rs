//! Clusters to start from: k-means++ seeds and Lloyd's iteration.
//!
//! Distances are in units of each column's standard deviation, so that a start follows the scale of the
//! data as the fit does.
//!
//! Source: Arthur and Vassilvitskii (2007).

use decalign_core::random::Stream;
use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, parallel};

use crate::chunk::{BLOCKS, Chunk, ROWS};
use crate::covariance::Covariance;
use crate::data::Data;
use crate::parameters::{Moments, Parameters, Second};
use crate::pass::{Accumulate, Centres, Distances, Tiles, Work};

/// Sweeps of Lloyd's iteration.
const SWEEPS: usize = 100;

/// Rows chosen one after the other, each with probability in proportion to its weight times its squared
/// distance to the rows chosen so far.
pub(crate) fn seeds<T: Real>(
    data: &Data<T>,
    deviations: &[f64],
    components: usize,
    stream: Stream,
) -> Vec<usize> {
    let draws = stream.uniform(components, 0.0, 1.0);
    let mut nearest = vec![f64::INFINITY; data.rows()];
    let mut chosen: Vec<usize> = Vec::new();
    for draw in draws {
        let mass = |i: usize| match chosen.is_empty() {
            true => data.weight(i),
            false => data.weight(i) * nearest[i],
        };
        let total: f64 = (0..data.rows()).map(mass).sum();
        let row = pick(data.rows(), draw * total, mass);
        chosen.push(row);
        let distances = sweep(data, deviations, &points(data, &[row])).distances;
        for (nearest, distance) in nearest.iter_mut().zip(distances) {
            *nearest = nearest.min(distance);
        }
        // Rounding leaves chosen rows a distance that others need not have.
        nearest[row] = 0.0;
    }
    chosen
}

/// The first index at which the running sum of masses passes `target`.
fn pick(n: usize, target: f64, mass: impl Fn(usize) -> f64) -> usize {
    let (mut sum, mut last) = (0.0, 0);
    for i in 0..n {
        let m = mass(i);
        if m > 0.0 {
            sum += m;
            last = i;
            if sum > target {
                break;
            }
        }
    }
    last
}

/// What a sweep over the data finds.
struct Sweep {
    /// Of every sample the nearest point.
    labels: Vec<u32>,
    /// Squared distances to it.
    distances: Vec<f64>,
    /// Of the samples about the points nearest to them.
    moments: Moments,
}

/// Looks for the nearest of some points to every sample.
fn sweep<T: Real>(data: &Data<T>, deviations: &[f64], points: &Parameters) -> Sweep {
    let reciprocals: Vec<f64> = deviations.iter().map(|v| v.recip()).collect();
    let tiles = Tiles::<T>::distances(&points.means, &reciprocals);
    let (d, k, rows) = (data.width, tiles.components, data.rows());
    let centres = Centres::new(points);
    let size = crate::pass::job(rows);
    let parts = parallel::map(rows.div_ceil(size), rows * k * d * 6, |part| {
        let (mut buffer, mut work) = (None, Work::new(k));
        let mut out = Sweep::zeros(k, d);
        for first in (part * size..rows.min((part + 1) * size)).step_by(ROWS) {
            let chunk = data.chunk(first, &mut buffer);
            simd::dispatch(Distances {
                tiles: &tiles,
                chunk,
                out: &mut work.cells,
                scratch: &mut work.scratch,
            });
            simd::dispatch(Nearest {
                components: k,
                chunk,
                cells: &mut work.cells,
                out: &mut out,
            });
            simd::dispatch(Accumulate {
                chunk,
                cells: &work.cells,
                centres: &centres,
                second: Second::Nothing,
                scratch: &mut work.scratch,
                moments: &mut out.moments,
            });
        }
        out
    });
    let mut all = Sweep::zeros(k, d);
    for part in parts {
        all.labels.extend(part.labels);
        all.distances.extend(part.distances);
        all.moments.add(&part.moments);
    }
    all
}

impl Sweep {
    fn zeros(components: usize, width: usize) -> Self {
        Self {
            labels: Vec::new(),
            distances: Vec::new(),
            moments: Moments::zeros(components, width, Second::Nothing),
        }
    }
}

/// Finds the component of largest cell of every sample, the first where several are; cells become the
/// sample's weight there, and 0 elsewhere.
struct Nearest<'a, T> {
    components: usize,
    chunk: &'a Chunk<T>,
    cells: &'a mut [T],
    out: &'a mut Sweep,
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

/// The cluster of every sample.
pub(crate) fn labels<T: Real>(
    data: &Data<T>,
    deviations: &[f64],
    components: usize,
    stream: Stream,
) -> Vec<u32> {
    let d = data.width;
    let rows = seeds(data, deviations, components, stream);
    let mut centres = points(data, &rows);
    let mut labels: Vec<u32> = Vec::new();
    for _ in 0..SWEEPS {
        let next = sweep(data, deviations, &centres);
        if next.labels == labels {
            break;
        }
        labels = next.labels;
        let moments = next.moments.s1.chunks_exact(d).zip(&next.moments.s0);
        for (centre, (s1, s0)) in centres.means.chunks_exact_mut(d).zip(moments) {
            // A cluster that lost its samples stays where it is.
            if *s0 > 0.0 {
                let each = centre.iter_mut().zip(s1);
                each.for_each(|(c, s)| *c += s / s0);
            }
        }
    }
    labels
}

/// Rows as the means of a mixture of which nothing else counts.
fn points<T: Real>(data: &Data<T>, rows: &[usize]) -> Parameters {
    let mut points = Parameters::zeros(Covariance::Spherical, rows.len(), data.width);
    points.means = rows.iter().flat_map(|i| data.row(*i)).collect();
    points
}
