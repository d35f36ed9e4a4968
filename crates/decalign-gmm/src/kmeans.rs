//! Clusters to start from: k-means++ seeds and Lloyd's iteration.
//!
//! Distances are in units of each column's standard deviation, so that a start follows the scale of the
//! data as the fit does.
//!
//! Source: Arthur and Vassilvitskii (2007).

use decalign_core::random::Stream;
use decalign_core::{Real, parallel, simd};

use crate::chunk::{Chunk, ROWS};
use crate::data::Data;
use crate::pass::{Distances, Tiles, Work};

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
        let distances = distances(data, deviations, &data.row(row)).into_iter();
        nearest.iter_mut().zip(distances).for_each(|(n, d)| {
            if d.1 < *n {
                *n = d.1;
            }
        });
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

/// The nearest of some points to every sample, and its squared distance.
fn distances<T: Real>(data: &Data<T>, deviations: &[f64], points: &[f64]) -> Vec<(u32, f64)> {
    let reciprocals: Vec<f64> = deviations.iter().map(|v| v.recip()).collect();
    let tiles = Tiles::<T>::distances(points, &reciprocals);
    let (d, k, rows) = (data.width, tiles.components, data.rows());
    let size = crate::pass::job(rows);
    let parts = parallel::map(rows.div_ceil(size), rows * k * d * 4, |part| {
        let (mut chunk, mut work) = (Chunk::new(d), Work::new(k));
        let mut out = Vec::with_capacity(size);
        for first in (part * size..rows.min((part + 1) * size)).step_by(ROWS) {
            chunk.read(data, first);
            simd::dispatch(Distances {
                tiles: &tiles,
                chunk: &chunk,
                out: &mut work.cells,
                scratch: &mut work.scratch,
            });
            for i in 0..chunk.used {
                let mut cell = |k: usize| *work.cell(i, k);
                let mut nearest = (0, cell(0));
                for k in 1..k {
                    let value = cell(k);
                    if value > nearest.1 {
                        nearest = (k, value);
                    }
                }
                out.push((nearest.0 as u32, -nearest.1.as_f64()));
            }
        }
        out
    });
    parts.concat()
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
    let mut centres: Vec<f64> = rows.into_iter().flat_map(|i| data.row(i)).collect();
    let mut labels: Vec<u32> = Vec::new();
    for _ in 0..SWEEPS {
        let next: Vec<u32> = distances(data, deviations, &centres)
            .into_iter()
            .map(|(label, _)| label)
            .collect();
        if next == labels {
            break;
        }
        labels = next;
        let mut sums = vec![0.0; components * (d + 1)];
        for (i, label) in labels.iter().enumerate() {
            let (sum, w) = (
                &mut sums[*label as usize * (d + 1)..][..d + 1],
                data.weight(i),
            );
            sum[d] += w;
            sum.iter_mut()
                .zip(data.row(i))
                .for_each(|(s, v)| *s += w * v);
        }
        for (centre, sum) in centres.chunks_exact_mut(d).zip(sums.chunks_exact(d + 1)) {
            // A cluster that lost its samples stays where it is.
            if sum[d] > 0.0 {
                centre
                    .iter_mut()
                    .zip(sum)
                    .for_each(|(c, s)| *c = s / sum[d]);
            }
        }
    }
    labels
}
