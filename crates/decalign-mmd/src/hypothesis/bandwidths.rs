//! Collections of kernels with bandwidths from the distances of pooled points.

use candle_core::Tensor;
use decalign_core::random::Stream;
use decalign_core::{Error, Real, Result, with_real};

use super::relabelling::choose;
use super::two_samples::on_cpu;
use crate::kernel::{Feature, Kernel};
use crate::pairwise::{Inputs, KernelPlan, PooledSamples};
use crate::quantiles::{Spacing, grid, visit};
use crate::sample::{Sample, check_points};

/// The largest number of points whose distances are computed: 2 million distances.
const MAX_POINTS: usize = 2000;
const STREAM: u64 = 0x6261_6e64;

/// `count` Gaussian and `count` Laplace kernels, their bandwidths from half the 5% to twice the 95% quantile of the
/// Euclidean and the city-block distances; the length scales of the Gaussians times `scale`.
pub(crate) fn kernels_over_distances(
    (x, y): (&Tensor, &Tensor),
    (count, spacing): (usize, Spacing),
    seed: u64,
    scale: f64,
) -> Result<Vec<Kernel>> {
    if count == 0 {
        let remedy = "must be at least 1";
        return Err(Error::value("number of bandwidths", 0, remedy));
    }
    check_points(&[x, y], 2, 2)?;
    let mut pooled = Tensor::cat(&[on_cpu(x)?, on_cpu(y)?], 0)?;
    let rows = pooled.dims()[0];
    if rows > MAX_POINTS {
        let some = choose(rows, MAX_POINTS, Stream::new(seed, STREAM));
        let some: Vec<u32> = some.into_iter().map(|i| i as u32).collect();
        pooled = pooled.index_select(&Tensor::from_vec(some, MAX_POINTS, pooled.device())?, 0)?;
    }
    let (euclidean, city) = with_real!("x", pooled, T => distances::<T>(&pooled))?;
    let gaussian = range(euclidean)?;
    let gaussian = grid(gaussian.0, gaussian.1, count, spacing).into_iter();
    let laplace = range(city)?;
    let laplace = grid(laplace.0, laplace.1, count, spacing).into_iter();
    gaussian
        .map(|b| Kernel::gaussian_length_scale(b * scale))
        .chain(laplace.map(Kernel::laplace))
        .collect()
}

/// The Euclidean and city-block distances of all pairs of points that are not equal.
fn distances<T: Real>(points: &Tensor) -> Result<(Vec<f64>, Vec<f64>)> {
    // One kernel of either distance: only their features are read.
    let plan = KernelPlan::new(&[Kernel::energy(), Kernel::laplace(1.0)?], true);
    let inputs = Inputs::new(&[Sample::from(points)], &plan, (1, 2))?;
    let pool = PooledSamples::<T>::new(&inputs, plan, false)?;
    let (mut euclidean, mut city) = (Vec::new(), Vec::new());
    visit(&pool, |field, row| {
        let row = row.iter().map(|v| v.as_f64()).filter(|v| *v > 0.0);
        match pool.fields[field].feature {
            Feature::CityBlock => city.extend(row),
            _ => euclidean.extend(row.map(f64::sqrt)),
        }
    })?;
    Ok((euclidean, city))
}

/// Half the 5% and twice the 95% quantile.
fn range(mut distances: Vec<f64>) -> Result<(f64, f64)> {
    if distances.is_empty() {
        let remedy = "must be positive somewhere: all points are equal; give kernels instead";
        return Err(Error::value("largest distance of two points", 0, remedy));
    }
    let mut at = |share: f64| {
        let position = (share * distances.len() as f64) as usize;
        *distances.select_nth_unstable_by(position, f64::total_cmp).1
    };
    let (low, high) = (at(0.05) / 2.0, at(0.95) * 2.0);
    if !high.is_finite() {
        let remedy = "must be finite: scale the samples down";
        return Err(Error::value("largest distance of two points", high, remedy));
    }
    Ok((low, high))
}
