//! One expectation, one maximisation, and their gradients.

use decalign_core::simd::{self, Isa, LANES};
use decalign_core::{Real, for_blocks};

use super::settings::{MASS_FLOOR, WEIGHT_FLOOR};

/// The parameters of a mixture, with what the backward pass asks of them.
pub(super) struct Mixture<T> {
    pub(super) weights: Vec<T>,
    pub(super) means: Vec<T>,
    /// After the floor.
    pub(super) variances: Vec<T>,
    /// Before the floor.
    raw: Vec<T>,
    /// Whether a variance is at or above its floor, so that its gradient passes.
    pub(super) free: Vec<bool>,
    /// Sum of responsibilities before the floor.
    mass: Vec<T>,
    precisions: Vec<T>,
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
        let precisions = variances.iter().map(|v| v.recip()).collect();
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
}

/// The gradient with respect to the parameters of a mixture.
pub(super) struct Gradient<T> {
    pub(super) weights: Vec<T>,
    pub(super) means: Vec<T>,
    pub(super) variances: Vec<T>,
}

impl<T: Real> Gradient<T> {
    pub(super) fn zeros(k: usize, width: usize) -> Self {
        Self {
            weights: vec![T::zero(); k],
            means: vec![T::zero(); k * width],
            variances: vec![T::zero(); k * width],
        }
    }
}

/// The data of a step.
pub(super) struct Step<'a, T> {
    pub(super) x: &'a [T],
    pub(super) width: usize,
}

impl<T: Real> Step<'_, T> {
    fn batch(&self) -> T {
        T::of((self.x.len() / self.width) as f64)
    }

    /// Responsibilities (B, K); the constant `d log 2 pi` cancels in the softmax.
    #[inline(always)]
    pub(super) fn expect<I: Isa>(&self, isa: I, mixture: &Mixture<T>) -> Vec<T> {
        let (k, width) = (mixture.weights.len(), self.width);
        let mut gamma = vec![T::zero(); self.x.len() / width * k];
        for (x, row) in self.x.chunks_exact(width).zip(gamma.chunks_exact_mut(k)) {
            for (j, l) in row.iter_mut().enumerate() {
                let (m, p) = (
                    &mixture.means[j * width..],
                    &mixture.precisions[j * width..],
                );
                *l = mixture.offsets[j] - T::of(0.5) * distance(isa, x, &m[..width], &p[..width]);
            }
            let largest = simd::max(row);
            let mut sum = T::zero();
            for l in row.iter_mut() {
                *l = simd::exp_value(isa, *l - largest);
                sum += *l;
            }
            row.iter_mut().for_each(|l| *l /= sum);
        }
        gamma
    }

    #[inline(always)]
    pub(super) fn maximise<I: Isa>(&self, isa: I, gamma: &[T], floor: T) -> Mixture<T> {
        let width = self.width;
        let k = gamma.len() / (self.x.len() / width);
        let rows = || self.x.chunks_exact(width).zip(gamma.chunks_exact(k));
        let mut mass = vec![T::zero(); k];
        let mut means = vec![T::zero(); k * width];
        for (x, gamma) in rows() {
            for (j, g) in gamma.iter().enumerate() {
                mass[j] += *g;
                axpy(isa, *g, x, &mut means[j * width..][..width]);
            }
        }
        let share: Vec<T> = mass.iter().map(|s| floored(*s)).collect();
        for (row, n) in means.chunks_exact_mut(width).zip(&share) {
            row.iter_mut().for_each(|v| *v /= *n);
        }
        // Second moments about the mean: the difference of squares would cancel. Where the mass
        // was floored they differ by mu^2 (1 - s / n).
        let mut raw = vec![T::zero(); k * width];
        for (x, gamma) in rows() {
            for (j, g) in gamma.iter().enumerate() {
                let (m, v) = (&means[j * width..][..width], &mut raw[j * width..][..width]);
                for_blocks!(at in width, {
                    let (x, m, mut sum) = (at.load(x), at.load(m), at.load(v));
                    for i in 0..LANES {
                        let e = x[i] - m[i];
                        sum[i] = isa.mul_add(*g * e, e, sum[i]);
                    }
                    at.store(sum, v);
                });
            }
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

    /// Adds the gradient of [`Step::expect`] given that of its result.
    #[inline(always)]
    pub(super) fn expect_back<I: Isa>(
        &self,
        isa: I,
        mixture: &Mixture<T>,
        gamma: &[T],
        given: &[T],
        gradient: &mut Gradient<T>,
        dx: &mut [T],
    ) {
        let (k, width) = (mixture.weights.len(), self.width);
        let samples = self.x.chunks_exact(width).zip(dx.chunks_exact_mut(width));
        let rows = gamma.chunks_exact(k).zip(given.chunks_exact(k));
        for ((x, dx), (gamma, given)) in samples.zip(rows) {
            let mean = gamma
                .iter()
                .zip(given)
                .fold(T::zero(), |s, (a, b)| s + *a * *b);
            for j in 0..k {
                let slope = gamma[j] * (given[j] - mean);
                if mixture.weights[j] >= T::of(WEIGHT_FLOOR) {
                    gradient.weights[j] += slope / mixture.weights[j];
                }
                let at = j * width..(j + 1) * width;
                let (m, p) = (&mixture.means[at.clone()], &mixture.precisions[at.clone()]);
                let (gm, gv) = (&mut gradient.means[at.clone()], &mut gradient.variances[at]);
                let half = T::of(0.5) * slope;
                for_blocks!(at in width, {
                    let (x, m, p) = (at.load(x), at.load(m), at.load(p));
                    let (mut to_x, mut to_m, mut to_v) = (at.load(dx), at.load(gm), at.load(gv));
                    for i in 0..LANES {
                        let e = (x[i] - m[i]) * p[i];
                        to_x[i] = isa.mul_add(-slope, e, to_x[i]);
                        to_m[i] = isa.mul_add(slope, e, to_m[i]);
                        to_v[i] = isa.mul_add(half, isa.mul_add(e, e, -p[i]), to_v[i]);
                    }
                    at.store(to_x, dx);
                    at.store(to_m, gm);
                    at.store(to_v, gv);
                });
            }
        }
    }

    /// The gradient with respect to the responsibilities of [`Step::maximise`]; adds that with
    /// respect to the data.
    #[inline(always)]
    pub(super) fn maximise_back<I: Isa>(
        &self,
        isa: I,
        after: &Mixture<T>,
        gamma: &[T],
        gradient: &Gradient<T>,
        dx: &mut [T],
    ) -> Vec<T> {
        let (k, width) = (after.weights.len(), self.width);
        // Variances at their floor pass no gradient.
        let pass = |(g, free): (&T, &bool)| if *free { *g } else { T::zero() };
        let slopes: Vec<T> = gradient
            .variances
            .iter()
            .zip(&after.free)
            .map(pass)
            .collect();
        let constants: Vec<T> = (0..k)
            .map(|j| after.constant(j, gradient, &slopes, self))
            .collect();
        let mut given = vec![T::zero(); gamma.len()];
        let samples = self.x.chunks_exact(width).zip(dx.chunks_exact_mut(width));
        let rows = gamma.chunks_exact(k).zip(given.chunks_exact_mut(k));
        for ((x, dx), (gamma, given)) in samples.zip(rows) {
            for j in 0..k {
                let at = j * width..(j + 1) * width;
                let (m, gm, gv) = (
                    &after.means[at.clone()],
                    &gradient.means[at.clone()],
                    &slopes[at],
                );
                let n = floored(after.mass[j]);
                let scale = gamma[j] / n;
                let mut sums = [T::zero(); LANES];
                for_blocks!(at in width, {
                    let (x, m, gm, gv) = (at.load(x), at.load(m), at.load(gm), at.load(gv));
                    let mut to_x = at.load(dx);
                    for i in 0..LANES {
                        let e = x[i] - m[i];
                        let slope = isa.mul_add(T::of(2.0) * gv[i], e, gm[i]);
                        to_x[i] = isa.mul_add(scale, slope, to_x[i]);
                        sums[i] = isa.mul_add(e, isa.mul_add(gv[i], e, gm[i]), sums[i]);
                    }
                    at.store(to_x, dx);
                });
                given[j] = simd::total(sums) / n + constants[j];
            }
        }
        given
    }
}

impl<T: Real> Mixture<T> {
    /// What the gradient with respect to the responsibilities of component `j` has whatever the
    /// sample.
    fn constant(&self, j: usize, gradient: &Gradient<T>, slopes: &[T], step: &Step<T>) -> T {
        let n = floored(self.mass[j]);
        let at = j * step.width..(j + 1) * step.width;
        let (m, gm, gv) = (
            &self.means[at.clone()],
            &gradient.means[at.clone()],
            &slopes[at.clone()],
        );
        // At the floor n does not move: means and variances are plain weighted sums.
        if self.mass[j] < T::of(MASS_FLOOR) {
            let terms = m.iter().zip(gm).zip(gv);
            return terms.fold(T::zero(), |s, ((m, gm), gv)| s + *gm * *m - *gv * *m * *m) / n;
        }
        gradient.weights[j] / step.batch() - simd::dot(gv, &self.raw[at]) / n
    }
}

fn floored<T: Real>(mass: T) -> T {
    let floor = T::of(MASS_FLOOR);
    if mass >= floor { mass } else { floor }
}

#[inline(always)]
fn axpy<T: Real, I: Isa>(isa: I, a: T, x: &[T], y: &mut [T]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y = isa.mul_add(a, *x, *y);
    }
}

/// `sum_d (x - m)^2 p`.
#[inline(always)]
fn distance<T: Real, I: Isa>(isa: I, x: &[T], m: &[T], p: &[T]) -> T {
    let mut sums = [T::zero(); LANES];
    for_blocks!(at in x.len(), {
        let (x, m, p) = (at.load(x), at.load(m), at.load(p));
        for i in 0..LANES {
            let e = x[i] - m[i];
            sums[i] = isa.mul_add(e * e, p[i], sums[i]);
        }
    });
    simd::total(sums)
}
