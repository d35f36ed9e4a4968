//! Bandwidths from the distances of pooled points.

use candle_core::Tensor;
use decalign_core::pairs::CHUNK;
use decalign_core::random::Stream;
use decalign_core::{Error, Real, Result, with_real};

use super::pooled::on_cpu;
use super::scheme::choose;
use crate::kernel::{Feature, Kernel};
use crate::pass::{Inputs, Pool, Program, Tile};
use crate::sample::{Sample, check_points};

/// How bandwidths lie between the least and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    Even,
    Logarithmic,
}

/// The most points whose distances are looked at, 2 million of them.
const MOST: usize = 2000;
const STREAM: u64 = 0x6261_6e64;

/// Bandwidths of Euclidean and of city-block distances, from half the 5% to twice the 95% quantile.
pub(crate) fn gaussian_and_laplace(
    (x, y): (&Tensor, &Tensor),
    count: usize,
    spacing: Spacing,
    seed: u64,
) -> Result<(Vec<f64>, Vec<f64>)> {
    if count == 0 {
        let remedy = "must be at least 1";
        return Err(Error::value("number of bandwidths", 0, remedy));
    }
    check_points(&[x, y], 2, 2)?;
    let mut pooled = Tensor::cat(&[on_cpu(x)?, on_cpu(y)?], 0)?;
    let rows = pooled.dims()[0];
    if rows > MOST {
        let some = choose(rows, MOST, Stream::new(seed, STREAM));
        let some: Vec<u32> = some.into_iter().map(|i| i as u32).collect();
        pooled = pooled.index_select(&Tensor::from_vec(some, MOST, pooled.device())?, 0)?;
    }
    let (euclidean, city) = with_real!("x", pooled, T => distances::<T>(&pooled))?;
    let grid = |distances| grid(distances, count, spacing);
    Ok((grid(euclidean)?, grid(city)?))
}

/// The distances of all pairs of points that are not equal.
fn distances<T: Real>(points: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
    // Kernels of the two distances; it is only the distances that are read.
    let program = Program::new(&[Kernel::energy(), Kernel::laplace(1.0)?], true);
    let inputs = Inputs::new(&[Sample::from(points)], &program, (1, 2))?;
    let pool = Pool::<T>::new(&inputs, program, false)?;
    let (mut euclidean, mut city) = (Vec::new(), Vec::new());
    for task in pool.tasks(&[(0, 0)]) {
        pool.tiles(task, &mut Tile::new(&pool), |tile, place| {
            for (field, values) in pool.fields.iter().zip(&tile.features) {
                for r in 0..place.rows.len {
                    let start = if place.diagonal { r + 1 } else { 0 };
                    let row = &values[r * CHUNK..][..place.columns.len];
                    let row = row.iter().skip(start).map(|v| v.as_f64());
                    let row = row.filter(|v| *v > 0.0);
                    match field.feature {
                        Feature::CityBlock => city.extend(row),
                        _ => euclidean.extend(row.map(f64::sqrt)),
                    }
                }
            }
            Ok(())
        })?;
    }
    Ok((euclidean, city))
}

fn grid(mut distances: Vec<f64>, count: usize, spacing: Spacing) -> Result<Vec<f64>> {
    if distances.is_empty() {
        let remedy = "must be positive somewhere: all points are equal; give kernels instead";
        return Err(Error::value("largest distance of two points", 0, remedy));
    }
    let mut at = |share: f64| {
        let place = (share * distances.len() as f64) as usize;
        *distances.select_nth_unstable_by(place, f64::total_cmp).1
    };
    let (low, high) = (at(0.05) / 2.0, at(0.95) * 2.0);
    if !high.is_finite() {
        let remedy = "must be finite: scale the samples down";
        return Err(Error::value("largest distance of two points", high, remedy));
    }
    let step = |i: usize| {
        if count == 1 {
            0.5
        } else {
            i as f64 / (count - 1) as f64
        }
    };
    let value = |t: f64| match spacing {
        Spacing::Even => low + t * (high - low),
        Spacing::Logarithmic => low * (high / low).powf(t),
    };
    Ok((0..count).map(|i| value(step(i))).collect())
}
