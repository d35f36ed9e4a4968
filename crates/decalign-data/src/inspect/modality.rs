//! The summary of a modality, in one pass over its features.

use serde::Serialize;

use crate::{Modality, Result};

/// Statistics of a modality over the steps that exist.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct ModalitySummary {
    /// The modality.
    pub name: String,
    /// Steps a sample, padding included.
    pub steps: usize,
    /// Features a step.
    pub width: usize,
    /// True when lengths are given.
    pub lengths_given: bool,
    /// Least, mean and largest number of steps up to the last that is not padding.
    pub length: [f64; 3],
    /// The share of steps that are padding: beyond a sample's length, or zeros at its end.
    pub padding: f64,
    /// Samples without a step.
    pub missing: usize,
    /// Mean of all features.
    pub mean: f64,
    /// Standard deviation of all features about that mean.
    pub deviation: f64,
    /// Least and largest number.
    pub range: [f64; 2],
    /// Least and largest standard deviation of a feature that is not constant.
    pub deviations: [f64; 2],
    /// Features that never change.
    pub constant: Vec<usize>,
    /// Numbers that are NaN or infinite.
    pub non_finite: usize,
}

/// The summary of a modality, and a digest of each sample to find duplicates.
pub(super) struct Scan {
    pub(super) summary: ModalitySummary,
    /// The digest of each sample.
    pub(super) digests: Vec<u64>,
}

/// Sums of a feature after subtraction of a shift, which keeps their rounding errors small.
#[derive(Clone, Copy)]
struct Sums {
    count: f64,
    sum: f64,
    square: f64,
    low: f32,
    high: f32,
}

const NONE: Sums = Sums {
    count: 0.0,
    sum: 0.0,
    square: 0.0,
    low: f32::INFINITY,
    high: f32::NEG_INFINITY,
};

pub(super) fn scan(modality: &Modality) -> Result<Scan> {
    let (steps, width) = (modality.steps(), modality.width());
    let tails = crate::prepare::zero_tails(modality)?;
    let given = modality.lengths();
    let lengths: Vec<usize> = match given {
        Some(given) => given.to_vec(),
        None => tails,
    };
    // The first step of the first sample is the shift: any value of the data's size will do.
    let shift = modality.source().gather(&[0])?;
    let shift: Vec<f64> = shift[..width]
        .iter()
        .map(|v| if v.is_finite() { f64::from(*v) } else { 0.0 })
        .collect();
    let pieces = modality.source().map_chunks(|rows, numbers| {
        let mut sums = vec![NONE; width];
        let (mut bad, mut digests) = (0, Vec::with_capacity(rows.len()));
        for (row, sample) in rows.zip(numbers.chunks_exact(steps * width)) {
            bad += sample.iter().filter(|v| !v.is_finite()).count();
            digests.push(digest(sample));
            for step in sample.chunks_exact(width).take(lengths[row]) {
                add(&mut sums, step, &shift);
            }
        }
        (sums, bad, digests)
    })?;
    let (mut sums, mut non_finite, mut digests) = (vec![NONE; width], 0, Vec::new());
    for (here, bad, own) in pieces {
        non_finite += bad;
        digests.extend(own);
        for (all, here) in sums.iter_mut().zip(here) {
            all.count += here.count;
            all.sum += here.sum;
            all.square += here.square;
            all.low = all.low.min(here.low);
            all.high = all.high.max(here.high);
        }
    }
    let mut summary = summarise(modality, &sums, &shift, &lengths);
    summary.non_finite = non_finite;
    Ok(Scan { summary, digests })
}

fn add(sums: &mut [Sums], step: &[f32], shift: &[f64]) {
    for ((sums, v), shift) in sums.iter_mut().zip(step).zip(shift) {
        if v.is_finite() {
            let about = f64::from(*v) - shift;
            sums.count += 1.0;
            sums.sum += about;
            sums.square += about * about;
            sums.low = sums.low.min(*v);
            sums.high = sums.high.max(*v);
        }
    }
}

/// A hash of the features, equal for equal samples; samples with equal hashes are compared in full.
fn digest(sample: &[f32]) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let add = |hash: u64, v: &f32| {
        // -0 equals 0.
        let bits = if *v == 0.0 { 0 } else { v.to_bits() };
        (hash.rotate_left(23) ^ u64::from(bits)).wrapping_mul(FACTOR)
    };
    sample.iter().fold(0, add)
}

fn summarise(
    modality: &Modality,
    sums: &[Sums],
    shift: &[f64],
    lengths: &[usize],
) -> ModalitySummary {
    let (n, steps) = (lengths.len() as f64, modality.steps());
    let spread = |s: &Sums| {
        let mean = s.sum / s.count.max(1.0);
        (s.square / s.count.max(1.0) - mean * mean).max(0.0).sqrt()
    };
    let constant: Vec<usize> = (0..sums.len())
        .filter(|i| sums[*i].count > 0.0 && sums[*i].low == sums[*i].high)
        .collect();
    let count: f64 = sums.iter().map(|s| s.count).sum::<f64>().max(1.0);
    let total: f64 = sums
        .iter()
        .zip(shift)
        .map(|(s, shift)| s.sum + s.count * shift)
        .sum();
    let mean = total / count;
    let about = |(s, shift): (&Sums, &f64)| {
        let apart = shift - mean;
        s.square + 2.0 * apart * s.sum + s.count * apart * apart
    };
    let square: f64 = sums.iter().zip(shift).map(about).sum();
    let changing = (0..sums.len()).filter(|i| sums[*i].low < sums[*i].high);
    let deviations = changing.map(|i| spread(&sums[i])).fold(None, |range, d| {
        let [low, high] = range.unwrap_or([d, d]);
        Some([f64::min(low, d), f64::max(high, d)])
    });
    let low = sums.iter().map(|s| s.low).fold(f32::INFINITY, f32::min);
    let high = sums
        .iter()
        .map(|s| s.high)
        .fold(f32::NEG_INFINITY, f32::max);
    let range = if low <= high {
        [low.into(), high.into()]
    } else {
        [0.0, 0.0]
    };
    let existing: usize = lengths.iter().sum();
    ModalitySummary {
        name: modality.name().to_owned(),
        steps,
        width: modality.width(),
        lengths_given: modality.lengths().is_some(),
        length: [
            lengths.iter().min().copied().unwrap_or(0) as f64,
            existing as f64 / n,
            lengths.iter().max().copied().unwrap_or(0) as f64,
        ],
        padding: 1.0 - existing as f64 / (n * steps as f64),
        missing: lengths.iter().filter(|l| **l == 0).count(),
        mean,
        deviation: (square / count).max(0.0).sqrt(),
        range,
        deviations: deviations.unwrap_or([0.0, 0.0]),
        constant,
        non_finite: 0,
    }
}
