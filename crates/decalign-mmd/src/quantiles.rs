//! Bandwidths from data: quantiles of distances.

use candle_core::{Device, Tensor};
use decalign_core::pairs::CHUNK;
use decalign_core::random::Stream;
use decalign_core::{Error, Real, Result, with_real};

use crate::kernel::Kernel;
use crate::pairwise::{Inputs, KernelPlan, PooledSamples};
use crate::sample::{self, Sample};

/// The median heuristic: the median of the distances `|a - b|` over all pairs of distinct points of the pooled
/// samples, the lower of the two middle ones for an even number of pairs. It is a constant in gradients.
///
/// As the length scale of a Gaussian kernel this is the median rule of Gretton and others (2012).
/// Other rules take the median squared distance for `l^2`, which is the same, or for `2 l^2`: divide by
/// `sqrt(2)`.
///
/// # Shapes
/// One tensor (n_m, d) or more, with at least two points together.
///
/// # Errors
/// When shapes or dtypes differ, an entry is not finite, there is no pair, or more than half of the
/// pairs are of equal points.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::median_heuristic;
/// let x = Tensor::new(&[[0f32], [1.0], [4.0]], &Device::Cpu)?;
/// assert_eq!(median_heuristic(&[x])?, 3.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn median_heuristic(samples: &[Tensor]) -> Result<f64> {
    positive(
        "the median distance",
        distance_quantiles(samples, &[0.5])?[0],
    )
}

/// [`median_heuristic`] of `points` points drawn without replacement from the pooled samples, or of all of them if
/// there are fewer: O(points^2) instead of O(n^2).
///
/// # Errors
/// As [`median_heuristic`], and when `points` is below 2.
pub fn median_heuristic_of_subsample(
    samples: &[Tensor],
    points: usize,
    stream: Stream,
) -> Result<f64> {
    if points < 2 {
        return Err(Error::value("points", points, "a distance takes two"));
    }
    let all: Vec<&Tensor> = samples.iter().collect();
    sample::check_points(&all, 1, 1)?;
    let pooled = Tensor::cat(&all, 0)?;
    let drawn = draw(pooled.dims()[0], points, stream);
    let index = Tensor::from_vec(drawn.clone(), drawn.len(), pooled.device())?;
    median_heuristic(&[pooled.index_select(&index, 0)?])
}

/// `count` of 0..n without replacement, in increasing order.
pub(crate) fn draw(n: usize, count: usize, stream: Stream) -> Vec<u32> {
    let mut keys: Vec<(f64, u32)> = stream.uniform(n, 0.0, 1.0).into_iter().zip(0..).collect();
    keys.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut drawn: Vec<u32> = keys.into_iter().take(count).map(|(_, i)| i).collect();
    drawn.sort_unstable();
    drawn
}

/// `count` bandwidths in equal ratios from the quantile `levels.0` of the distances of the pooled samples to
/// the quantile `levels.1`; their geometric mean for a count of 1.
///
/// # Errors
/// As [`median_heuristic`], when a level is not in [0, 1] or the first quantile is 0, and when `count` is 0.
///
/// Source: the grids of Schrab and others, MMD aggregated two-sample test, JMLR 2023.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_mmd::bandwidths_between_quantiles;
/// let x = Tensor::new(&[[0f32], [1.0], [4.0]], &Device::Cpu)?;
/// // Distances 1, 3 and 4.
/// let middle = bandwidths_between_quantiles(&[x], (0.0, 1.0), 3)?[1];
/// assert!((middle - 2.0).abs() < 1e-6);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn bandwidths_between_quantiles(
    samples: &[Tensor],
    levels: (f64, f64),
    count: usize,
) -> Result<Vec<f64>> {
    if count == 0 {
        return Err(Error::value("count", 0, "must be at least 1"));
    }
    let quantiles = distance_quantiles(samples, &[levels.0, levels.1])?;
    let name = |level: f64| format!("the {level} quantile of distances");
    let low = positive(&name(levels.0), quantiles[0])?;
    let high = positive(&name(levels.1), quantiles[1])?;
    Ok(grid(low, high, count, Spacing::Logarithmic))
}

/// How bandwidths lie between the least and the largest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spacing {
    Even,
    Logarithmic,
}

/// `count` bandwidths from `low` to `high`; the middle for a count of 1.
pub(crate) fn grid(low: f64, high: f64, count: usize, spacing: Spacing) -> Vec<f64> {
    let value = |i: usize| {
        let t = match count {
            1 => 0.5,
            _ => i as f64 / (count - 1) as f64,
        };
        match spacing {
            Spacing::Even => low + t * (high - low),
            Spacing::Logarithmic => low * (high / low).powf(t),
        }
    };
    (0..count).map(value).collect()
}

fn positive(name: &str, value: f64) -> Result<f64> {
    if value > 0.0 && value.is_finite() {
        return Ok(value);
    }
    let remedy =
        "it cannot be a bandwidth: many points are equal or distances overflow; give a bandwidth";
    Err(Error::value(name, value, remedy))
}

/// Quantiles of the distances `|a - b|` over all pairs of distinct points of the pooled samples: of P
/// sorted distances that of index `floor(level (P - 1))`.
///
/// Exact, in O(n d) memory: a few passes over all pairs (one where there are few) find a level by radix
/// selection.
///
/// # Errors
/// As [`median_heuristic`], and when a level is not in [0, 1].
pub fn distance_quantiles(samples: &[Tensor], levels: &[f64]) -> Result<Vec<f64>> {
    for level in levels {
        if !(0.0..=1.0).contains(level) {
            return Err(Error::value("level", level, "must be between 0 and 1"));
        }
    }
    let host = samples.iter().map(|x| x.to_device(&Device::Cpu));
    let host = host.collect::<candle_core::Result<Vec<_>>>()?;
    let all: Vec<&Tensor> = host.iter().collect();
    sample::check_points(&all, 1, 1)?;
    let pooled = Sample::from(&Tensor::cat(&all, 0)?.detach());
    with_real!("samples", host[0], T => quantiles::<T>(&pooled, levels))
}

/// The largest number of pairs whose distances are stored.
const FEW: usize = 1 << 21;

fn quantiles<T: Real>(pooled: &Sample, levels: &[f64]) -> Result<Vec<f64>> {
    // The energy kernel: minus the distance, computed exactly.
    let plan = KernelPlan::new(&[Kernel::energy()], true);
    let inputs = Inputs::new(std::slice::from_ref(pooled), &plan, (1, 2))?;
    let pool = PooledSamples::<T>::new(&inputs, plan, false)?;
    let n = inputs.points[0].dims()[0];
    let pairs = n * (n - 1) / 2;
    let rank = |level: f64| (level * (pairs - 1) as f64).floor() as usize;
    if pairs <= FEW {
        let mut squares: Vec<u64> = Vec::with_capacity(pairs);
        visit(&pool, |_, row| squares.extend(row.iter().map(|v| key(*v))))?;
        squares.sort_unstable();
        return Ok(levels
            .iter()
            .map(|l| of_key::<T>(squares[rank(*l)]))
            .collect());
    }
    levels
        .iter()
        .map(|level| select(&pool, rank(*level)))
        .collect()
}

/// The distance of a given rank, sixteen bits at a time.
fn select<T: Real>(pool: &PooledSamples<T>, mut rank: usize) -> Result<f64> {
    let mut prefix = 0;
    for digit in 0..size_of::<T>() / 2 {
        let shift = 48 - 16 * digit;
        let mut counts = vec![0usize; 1 << 16];
        visit(pool, |_, row| {
            for key in row.iter().map(|v| key(*v)) {
                // Count only keys with the digits found so far.
                if digit == 0 || key >> (shift + 16) == prefix {
                    counts[((key >> shift) & 0xffff) as usize] += 1;
                }
            }
        })?;
        let mut at = 0;
        while rank >= counts[at] {
            rank -= counts[at];
            at += 1;
        }
        prefix = prefix << 16 | at as u64;
    }
    Ok(of_key::<T>(prefix << (64 - 8 * size_of::<T>())))
}

/// Calls `f` with the index of the field and the row's features of every pair r < j of the first sample.
pub(crate) fn visit<T: Real>(
    pool: &PooledSamples<T>,
    mut f: impl FnMut(usize, &[T]),
) -> Result<()> {
    for task in pool.tasks(&[(0, 0)]) {
        pool.with_tile(|tile| {
            pool.tiles(task, tile, |tile, range| {
                for (field, values) in tile.features.iter().enumerate() {
                    let rows = values.as_chunks::<CHUNK>().0.iter();
                    for (r, row) in rows.enumerate().take(range.rows.len) {
                        let first = if range.diagonal { r + 1 } else { 0 };
                        f(field, row[..range.columns.len].get(first..).unwrap_or(&[]));
                    }
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// The bits of a number that is not negative, left-aligned: keys are in the order of numbers.
fn key<T: Real>(v: T) -> u64 {
    match size_of::<T>() {
        4 => u64::from((v.as_f64() as f32).to_bits()) << 32,
        _ => v.as_f64().to_bits(),
    }
}

fn of_key<T: Real>(key: u64) -> f64 {
    match size_of::<T>() {
        4 => f64::from(f32::from_bits((key >> 32) as u32)).sqrt(),
        _ => f64::from_bits(key).sqrt(),
    }
}
