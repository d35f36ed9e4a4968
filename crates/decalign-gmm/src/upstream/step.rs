//! One E-step and one M-step. Sums stay in registers: lanes are samples where dimensions are
//! summed over, and dimensions where samples are.

use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Real, for_blocks};

use super::settings::{MASS_FLOOR, WEIGHT_FLOOR};
use crate::e_step::exponentials;

/// Components processed together: their sums, parameters and one block of samples fit the 16 vector registers of AVX2.
pub(super) const GROUP: usize = 2;

/// The parameters of a mixture, with the terms that both passes derive from them.
pub(super) struct Mixture<T> {
    pub(super) weights: Vec<T>,
    pub(super) means: Vec<T>,
    /// After the floor.
    pub(super) variances: Vec<T>,
    /// Before the floor.
    pub(super) raw: Vec<T>,
    /// True if a variance is at or above its floor and passes its gradient.
    pub(super) free: Vec<bool>,
    /// Sum of responsibilities before the floor.
    pub(super) mass: Vec<T>,
    pub(super) precisions: Vec<T>,
    /// Means and precisions, see [`tiles`].
    tiles: Vec<T>,
    /// `log pi - (sum log var) / 2` of each component.
    offsets: Vec<T>,
}

impl<T: Real> Mixture<T> {
    pub(super) fn new(weights: Vec<T>, mass: Vec<T>, means: Vec<T>, raw: Vec<T>, floor: T) -> Self {
        let free: Vec<bool> = raw.iter().map(|v| *v >= floor).collect();
        let variances: Vec<T> = raw
            .iter()
            .map(|v| if *v >= floor { *v } else { floor })
            .collect();
        let precisions: Vec<T> = variances.iter().map(|v| v.recip()).collect();
        let mut logs = vec![T::zero(); variances.len()];
        simd::ln(&variances, &mut logs);
        let width = variances.len() / weights.len();
        let least = T::of(WEIGHT_FLOOR);
        let prior = |w: T| if w >= least { w } else { least }.ln();
        let offsets = weights
            .iter()
            .zip(logs.chunks_exact(width))
            .map(|(w, logs)| prior(*w) - T::of(0.5) * simd::sum(logs))
            .collect();
        Self {
            tiles: tiles([&means, &precisions], width),
            weights,
            means,
            variances,
            raw,
            free,
            mass,
            precisions,
            offsets,
        }
    }

    /// `offset - sum_d (x - m)^2 p / 2` of a block of samples and every component.
    #[inline(always)]
    fn logs<I: Isa>(&self, isa: I, columns: &[[T; LANES]], cells: &mut [[T; LANES]]) {
        let tiles = self.tiles.as_chunks::<{ 2 * GROUP }>().0;
        let groups = tiles.chunks_exact(columns.len());
        let outs = cells
            .chunks_exact_mut(GROUP)
            .zip(self.offsets.chunks(GROUP));
        for (tile, (out, offsets)) in groups.zip(outs) {
            let sums = distances(isa, columns, tile);
            for (r, (out, offset)) in out.iter_mut().zip(offsets).enumerate() {
                let mut log = sums[r];
                for i in 0..LANES {
                    log[i] = *offset - T::of(0.5) * log[i];
                }
                *out = log;
            }
        }
    }
}

/// Arrays (K, d) by groups of [`GROUP`] components: for each dimension the values of the group in the first array,
/// in the second, and so on.
pub(super) fn tiles<T: Real, const N: usize>(arrays: [&[T]; N], width: usize) -> Vec<T> {
    let groups = (arrays[0].len() / width).div_ceil(GROUP);
    let mut out = vec![T::zero(); groups * width * N * GROUP];
    for (n, array) in arrays.into_iter().enumerate() {
        for (k, row) in array.chunks(width).enumerate() {
            let tile = &mut out[k / GROUP * width * N * GROUP..][..width * N * GROUP];
            let to = tile[n * GROUP + k % GROUP..].iter_mut();
            to.step_by(N * GROUP).zip(row).for_each(|(t, v)| *t = *v);
        }
    }
    out
}

/// `sum_d (x - m)^2 p` of a group of components; lanes are samples.
#[inline(always)]
fn distances<T: Real, I: Isa>(
    isa: I,
    columns: &[[T; LANES]],
    tile: &[[T; 2 * GROUP]],
) -> [[T; LANES]; GROUP] {
    let mut sums = [[T::zero(); LANES]; GROUP];
    for (x, tile) in columns.iter().zip(tile) {
        let (x, tile) = (*x, *tile);
        for r in 0..GROUP {
            let (m, p) = (tile[r], tile[GROUP + r]);
            let mut e = [T::zero(); LANES];
            for i in 0..LANES {
                e[i] = x[i] - m;
            }
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(e[i] * p, e[i], sums[r][i]);
            }
        }
    }
    sums
}

/// The gradient with respect to the parameters of a mixture.
pub(super) struct ParameterGradient<T> {
    pub(super) weights: Vec<T>,
    pub(super) means: Vec<T>,
    pub(super) variances: Vec<T>,
}

impl<T: Real> ParameterGradient<T> {
    pub(super) fn zeros(k: usize, width: usize) -> Self {
        Self {
            weights: vec![T::zero(); k],
            means: vec![T::zero(); k * width],
            variances: vec![T::zero(); k * width],
        }
    }
}

/// The samples of a step.
pub(super) struct EmStep<'a, T> {
    pub(super) x: &'a [T],
    /// `x` in blocks of [`LANES`] samples, each with all dimensions; padding samples are 0.
    pub(super) columns: &'a [[T; LANES]],
    pub(super) width: usize,
}

/// See [`EmStep::columns`].
pub(super) fn columns<T: Real>(x: &[T], width: usize) -> Vec<[T; LANES]> {
    let blocks = (x.len() / width).div_ceil(LANES);
    let mut out = vec![[T::zero(); LANES]; blocks * width];
    for (i, row) in x.chunks_exact(width).enumerate() {
        let block = &mut out[i / LANES * width..][..width];
        for (to, v) in block.iter_mut().zip(row) {
            to[i % LANES] = *v;
        }
    }
    out
}

impl<T: Real> EmStep<'_, T> {
    pub(super) fn batch(&self) -> T {
        T::of((self.x.len() / self.width) as f64)
    }

    /// Responsibilities (B, K); the constant `d log 2 pi` cancels in the softmax.
    #[inline(always)]
    pub(super) fn e_step<I: Isa>(&self, isa: I, mixture: &Mixture<T>) -> Vec<T> {
        let k = mixture.weights.len();
        let mut gamma = vec![T::zero(); self.x.len() / self.width * k];
        let mut cells = vec![[T::zero(); LANES]; k.next_multiple_of(GROUP)];
        let blocks = self.columns.chunks_exact(self.width);
        for (columns, rows) in blocks.zip(gamma.chunks_mut(LANES * k)) {
            mixture.logs(isa, columns, &mut cells);
            softmax(isa, &mut cells[..k]);
            for (i, row) in rows.chunks_exact_mut(k).enumerate() {
                for (to, cell) in row.iter_mut().zip(&cells) {
                    *to = cell[i % LANES];
                }
            }
        }
        gamma
    }

    /// The mixture that maximises the expected log-likelihood under responsibilities `gamma`.
    #[inline(always)]
    pub(super) fn m_step<I: Isa>(&self, isa: I, gamma: &[T], floor: T) -> Mixture<T> {
        let width = self.width;
        let k = gamma.len() / (self.x.len() / width);
        let rows = || self.x.chunks_exact(width).zip(gamma.chunks_exact(k));
        let mut mass = vec![T::zero(); k];
        for gamma in gamma.chunks_exact(k) {
            mass.iter_mut().zip(gamma).for_each(|(m, g)| *m += *g);
        }
        let share: Vec<T> = mass.iter().map(|s| floored(*s)).collect();
        let mut means = vec![T::zero(); k * width];
        // SecondMoment moments about the mean: the difference of squares would cancel. Where the mass
        // was floored they differ by mu^2 (1 - s / n).
        let mut raw = vec![T::zero(); k * width];
        for first in (0..k).step_by(GROUP) {
            let group = first..k.min(first + GROUP);
            for_blocks!(at in width, {
                let mut centres = [[T::zero(); LANES]; GROUP];
                let mut sums = [[T::zero(); LANES]; GROUP];
                for (x, gamma) in rows() {
                    let (x, gamma) = (at.load(x), pair(gamma, first));
                    for r in 0..GROUP {
                        for i in 0..LANES {
                            sums[r][i] = isa.mul_add(gamma[r], x[i], sums[r][i]);
                        }
                    }
                }
                for j in group.clone() {
                    let mut mean = sums[j - first];
                    for i in 0..LANES {
                        mean[i] /= share[j];
                    }
                    at.store(mean, &mut means[j * width..][..width]);
                    centres[j - first] = mean;
                }
                let mut sums = [[T::zero(); LANES]; GROUP];
                for (x, gamma) in rows() {
                    let (x, gamma) = (at.load(x), pair(gamma, first));
                    for r in 0..GROUP {
                        let mut e = [T::zero(); LANES];
                        for i in 0..LANES {
                            e[i] = x[i] - centres[r][i];
                        }
                        for i in 0..LANES {
                            sums[r][i] = isa.mul_add(gamma[r] * e[i], e[i], sums[r][i]);
                        }
                    }
                }
                for j in group.clone() {
                    at.store(sums[j - first], &mut raw[j * width..][..width]);
                }
            });
        }
        for j in 0..k {
            let rest = T::one() - mass[j] / share[j];
            for i in j * width..(j + 1) * width {
                raw[i] = raw[i] / share[j] + means[i] * means[i] * rest;
            }
        }
        let weights = share.iter().map(|n| *n / self.batch()).collect();
        Mixture::new(weights, mass, means, raw, floor)
    }
}

pub(super) fn floored<T: Real>(mass: T) -> T {
    let floor = T::of(MASS_FLOOR);
    if mass >= floor { mass } else { floor }
}

/// The responsibilities of a group of components from `first` on, padded with 0.
#[inline(always)]
pub(super) fn pair<T: Real>(gamma: &[T], first: usize) -> [T; GROUP] {
    let second = gamma.get(first + 1).copied();
    [gamma[first], second.unwrap_or(T::zero())]
}

/// Turns the log-densities of all components into responsibilities; lanes are samples.
#[inline(always)]
fn softmax<T: Real, I: Isa>(isa: I, cells: &mut [[T; LANES]]) {
    let (_, sum) = exponentials::<T, I, false>(isa, cells);
    for cell in cells.iter_mut() {
        let mut x = *cell;
        for i in 0..LANES {
            x[i] /= sum[i];
        }
        *cell = x;
    }
}
