//! The backward passes of one E-step and one M-step.

use decalign_core::simd::{Isa, LANES};
use decalign_core::{Real, for_blocks};

use super::settings::{MASS_FLOOR, WEIGHT_FLOOR};
use super::step::{EmStep, GROUP, Mixture, ParameterGradient, floored, pair, tiles};

impl<T: Real> EmStep<'_, T> {
    /// Adds the gradient of [`EmStep::e_step`], given that of the responsibilities `gamma`.
    #[inline(always)]
    pub(super) fn e_step_backward<I: Isa>(
        &self,
        isa: I,
        mixture: &Mixture<T>,
        (gamma, given): (&[T], &[T]),
        gradient: &mut ParameterGradient<T>,
        dx: &mut [T],
    ) {
        let (k, width) = (mixture.weights.len(), self.width);
        let ds = softmax_backward(mixture, gamma, given, gradient);
        for first in (0..k).step_by(GROUP) {
            let group = first..k.min(first + GROUP);
            for_blocks!(at in width, {
                let (mut means, mut precisions) = ([[T::zero(); LANES]; GROUP], [[T::zero(); LANES]; GROUP]);
                for j in group.clone() {
                    means[j - first] = at.load(&mixture.means[j * width..][..width]);
                    precisions[j - first] = at.load(&mixture.precisions[j * width..][..width]);
                }
                let (mut to_m, mut to_v) = ([[T::zero(); LANES]; GROUP], [[T::zero(); LANES]; GROUP]);
                let samples = self.x.chunks_exact(width).zip(dx.chunks_exact_mut(width));
                for ((x, dx), ds) in samples.zip(ds.chunks_exact(k)) {
                    let (x, mut to_x, s) = (at.load(x), at.load(dx), pair(ds, first));
                    for r in 0..GROUP {
                        let (s, half) = (s[r], T::of(0.5) * s[r]);
                        for i in 0..LANES {
                            let p = precisions[r][i];
                            let e = (x[i] - means[r][i]) * p;
                            to_x[i] = isa.mul_add(-s, e, to_x[i]);
                            to_m[r][i] = isa.mul_add(s, e, to_m[r][i]);
                            to_v[r][i] = isa.mul_add(half, isa.mul_add(e, e, -p), to_v[r][i]);
                        }
                    }
                    at.store(to_x, dx);
                }
                for j in group.clone() {
                    let to = &mut gradient.means[j * width..][..width];
                    at.store(sum(at.load(to), to_m[j - first]), to);
                    let to = &mut gradient.variances[j * width..][..width];
                    at.store(sum(at.load(to), to_v[j - first]), to);
                }
            });
        }
    }

    /// The gradient with respect to the responsibilities of [`EmStep::m_step`]; adds that with respect to the data to `dx`.
    #[inline(always)]
    pub(super) fn m_step_backward<I: Isa>(
        &self,
        isa: I,
        after: &Mixture<T>,
        gamma: &[T],
        gradient: &ParameterGradient<T>,
        dx: &mut [T],
    ) -> Vec<T> {
        let (k, width) = (after.weights.len(), self.width);
        // Variances at their floor pass no gradient.
        let pass = |(g, free): (&T, &bool)| if *free { *g } else { T::zero() };
        let dv = gradient.variances.iter().zip(&after.free).map(pass);
        let dv: Vec<T> = dv.collect();
        self.m_step_samples_backward(isa, after, gamma, (&gradient.means, &dv), dx);
        let constants: Vec<T> = (0..k)
            .map(|j| after.constant(j, gradient, &dv, self))
            .collect();
        let tiles = tiles([&after.means, &gradient.means, &dv], width);
        let groups = tiles.as_chunks::<{ 3 * GROUP }>().0;
        let mut given = vec![T::zero(); gamma.len()];
        let blocks = self.columns.chunks_exact(width);
        for (columns, rows) in blocks.zip(given.chunks_mut(LANES * k)) {
            for (tile, first) in groups.chunks_exact(width).zip((0..k).step_by(GROUP)) {
                let sums = quadratic_forms(isa, columns, tile);
                for j in first..k.min(first + GROUP) {
                    let (n, sum) = (floored(after.mass[j]), sums[j - first]);
                    for (i, row) in rows.chunks_exact_mut(k).enumerate() {
                        row[j] = sum[i % LANES] / n + constants[j];
                    }
                }
            }
        }
        given
    }

    /// Adds the gradient of [`EmStep::m_step`] with respect to the data: `gamma (g_m + 2 g_v (x - m)) / n`.
    #[inline(always)]
    fn m_step_samples_backward<I: Isa>(
        &self,
        isa: I,
        after: &Mixture<T>,
        gamma: &[T],
        (mean_gradient, variance_gradient): (&[T], &[T]),
        dx: &mut [T],
    ) {
        let (k, width) = (after.weights.len(), self.width);
        let shares: Vec<T> = after.mass.iter().map(|s| floored(*s).recip()).collect();
        for first in (0..k).step_by(GROUP) {
            let group = first..k.min(first + GROUP);
            let share = pair(&shares, first);
            for_blocks!(at in width, {
                let zero = [[T::zero(); LANES]; GROUP];
                let (mut m, mut gm, mut gv) = (zero, zero, zero);
                for j in group.clone() {
                    m[j - first] = at.load(&after.means[j * width..][..width]);
                    gm[j - first] = at.load(&mean_gradient[j * width..][..width]);
                    gv[j - first] = at.load(&variance_gradient[j * width..][..width]);
                }
                let samples = self.x.chunks_exact(width).zip(dx.chunks_exact_mut(width));
                for ((x, dx), gamma) in samples.zip(gamma.chunks_exact(k)) {
                    let (x, mut to_x, gamma) = (at.load(x), at.load(dx), pair(gamma, first));
                    for r in 0..GROUP {
                        let scale = gamma[r] * share[r];
                        for i in 0..LANES {
                            let e = x[i] - m[r][i];
                            let slope = isa.mul_add(T::of(2.0) * gv[r][i], e, gm[r][i]);
                            to_x[i] = isa.mul_add(scale, slope, to_x[i]);
                        }
                    }
                    at.store(to_x, dx);
                }
            });
        }
    }
}

/// The gradient with respect to the log-densities before the softmax; adds that with respect to the weights.
#[inline(always)]
fn softmax_backward<T: Real>(
    mixture: &Mixture<T>,
    gamma: &[T],
    given: &[T],
    gradient: &mut ParameterGradient<T>,
) -> Vec<T> {
    let k = mixture.weights.len();
    let mut out = vec![T::zero(); gamma.len()];
    let rows = gamma.chunks_exact(k).zip(given.chunks_exact(k));
    for ((gamma, given), out) in rows.zip(out.chunks_exact_mut(k)) {
        let each = gamma.iter().zip(given);
        let mean = each.fold(T::zero(), |s, (a, b)| s + *a * *b);
        for j in 0..k {
            out[j] = gamma[j] * (given[j] - mean);
            if mixture.weights[j] >= T::of(WEIGHT_FLOOR) {
                gradient.weights[j] += out[j] / mixture.weights[j];
            }
        }
    }
    out
}

/// `sum_d e (g_v e + g_m)` with `e = x - m`, for a group of components; lanes are samples.
#[inline(always)]
fn quadratic_forms<T: Real, I: Isa>(
    isa: I,
    columns: &[[T; LANES]],
    tile: &[[T; 3 * GROUP]],
) -> [[T; LANES]; GROUP] {
    let mut sums = [[T::zero(); LANES]; GROUP];
    for (x, tile) in columns.iter().zip(tile) {
        let (x, tile) = (*x, *tile);
        for r in 0..GROUP {
            let (m, gm, gv) = (tile[r], tile[GROUP + r], tile[2 * GROUP + r]);
            let mut e = [T::zero(); LANES];
            for i in 0..LANES {
                e[i] = x[i] - m;
            }
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(e[i], isa.mul_add(gv, e[i], gm), sums[r][i]);
            }
        }
    }
    sums
}

#[inline(always)]
fn sum<T: Real>(mut a: [T; LANES], b: [T; LANES]) -> [T; LANES] {
    for i in 0..LANES {
        a[i] += b[i];
    }
    a
}

impl<T: Real> Mixture<T> {
    /// The part of the gradient with respect to the responsibilities of component `j` that does not depend on the sample.
    fn constant(&self, j: usize, gradient: &ParameterGradient<T>, dv: &[T], step: &EmStep<T>) -> T {
        let n = floored(self.mass[j]);
        let at = j * step.width..(j + 1) * step.width;
        let (m, gm, gv) = (
            &self.means[at.clone()],
            &gradient.means[at.clone()],
            &dv[at.clone()],
        );
        // At the floor n does not move: means and variances are plain weighted sums.
        if self.mass[j] < T::of(MASS_FLOOR) {
            let terms = m.iter().zip(gm).zip(gv);
            return terms.fold(T::zero(), |s, ((m, gm), gv)| s + *gm * *m - *gv * *m * *m) / n;
        }
        gradient.weights[j] / step.batch() - decalign_core::simd::dot(gv, &self.raw[at]) / n
    }
}
