//! The backward pass of the E-step: responsibilities are computed again, one row at a time; lanes are dimensions.
//!
//! With `e = x - m_k`, P the precision of component k, `h_k(x)` the gradient with respect to a
//! responsibility (a quadratic function of e, see [`ResponsibilityGradient`]) and w the sample's weight:
//!
//! ```text
//! l_k = log pi_k - log det / 2 - e^T P e / 2,   gamma = softmax(l)
//! s_k = w gamma_k (h_k - sum_j gamma_j h_j)
//! dx  = sum_k ( w gamma_k grad h_k - s_k P e ),   dw = sum_k gamma_k h_k
//! ```
//!
//! and the gradients with respect to the mixture follow from the statistics of s about the means
//! ([`add_mixture_gradient`](super::mixture_gradient::add_mixture_gradient)).

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::Assignment;
use super::mixture_gradient::precisions;
use crate::m_step::ResponsibilityGradient;
use crate::parameters::{Factors, MixtureParameters};
use crate::row_chunk::{ROWS, RowChunk};
use crate::samples::Samples;
use crate::statistics::{SecondMoment, SufficientStatistics};

/// Where the coefficients s of a sample come from.
pub(crate) enum Source<'a, T> {
    /// Responsibilities under the mixture and their gradient.
    Responsibilities,
    /// Responsibilities that do not depend on the mixture, and their gradient.
    Assignment(&'a Assignment),
    /// s itself: the gradient with respect to every `log (pi_k p_k(x))`, (n, K).
    Given(&'a [T]),
}

/// Gradients with respect to the samples, and the statistics of s.
pub(crate) struct Gradients<T> {
    /// With respect to the standardised rows.
    pub(crate) x: Vec<T>,
    /// With respect to the weights divided by the largest.
    pub(crate) weights: Vec<f64>,
    /// Statistics of s about the means.
    pub(crate) statistics: SufficientStatistics,
}

/// A mixture in padded rows.
struct PaddedMixture<T> {
    components: usize,
    width: usize,
    stride: usize,
    matrix: bool,
    offsets: Vec<T>,
    means: Vec<T>,
    precisions: Vec<T>,
    constant: Vec<T>,
    linear: Vec<T>,
    square: Vec<T>,
}

/// The backward pass of an E-step over all samples.
pub(crate) fn backward<T: Real>(
    samples: &Samples<T>,
    mixture: &MixtureParameters,
    factors: Option<&Factors>,
    responsibility_gradient: &ResponsibilityGradient,
    source: &Source<T>,
) -> Gradients<T> {
    let mixture_rows = PaddedMixture::new(mixture, factors, responsibility_gradient);
    let (d, k, rows) = (samples.width, mixture.components(), samples.rows());
    let matrix = mixture.kind.is_matrix();
    let work = 3 * super::work(rows, k, d, matrix);
    let second = SecondMoment::of(mixture.kind);
    let zeros = |rows: usize| Gradients {
        x: Vec::with_capacity(rows * d),
        weights: Vec::with_capacity(rows),
        statistics: SufficientStatistics::zeros(k, d, second),
    };
    let jobs = samples.map_chunks(
        work,
        || zeros(0),
        |out, first, chunk| {
            simd::dispatch(Rows {
                mixture: &mixture_rows,
                chunk,
                first,
                source,
                out,
            });
        },
    );
    let mut all = zeros(rows);
    for job in jobs {
        all.x.extend(job.x);
        all.weights.extend(job.weights);
        all.statistics.add(&job.statistics);
    }
    all
}

impl<T: Real> PaddedMixture<T> {
    fn new(
        mixture: &MixtureParameters,
        factors: Option<&Factors>,
        gradient: &ResponsibilityGradient,
    ) -> Self {
        let (k, d, kind) = (mixture.components(), mixture.width, mixture.kind);
        let stride = d.next_multiple_of(LANES);
        let pad = |rows: &[f64]| -> Vec<T> {
            let mut out = Vec::with_capacity(rows.len() / d * stride);
            for row in rows.chunks_exact(d) {
                out.extend(row.iter().map(|v| T::of(*v)));
                out.resize(out.len() + stride - d, T::zero());
            }
            out
        };
        let narrow = |x: &[f64]| x.iter().map(|v| T::of(*v)).collect::<Vec<T>>();
        let (offsets, precisions) = match factors {
            Some(f) => {
                let log = |k: usize| mixture.weights[k].ln() - 0.5 * f.log_determinants[k];
                ((0..k).map(log).collect(), precisions(mixture, f))
            }
            None => (vec![0.0; k], vec![0.0; gradient.square.len()]),
        };
        Self {
            components: k,
            width: d,
            stride,
            matrix: kind.is_matrix(),
            offsets: narrow(&offsets),
            means: pad(&mixture.means),
            precisions: pad(&precisions),
            constant: narrow(&gradient.constant),
            linear: pad(&gradient.linear),
            square: pad(&gradient.square),
        }
    }
}

struct Rows<'a, 'b, T> {
    mixture: &'a PaddedMixture<T>,
    chunk: &'a RowChunk<T>,
    first: usize,
    source: &'a Source<'b, T>,
    out: &'a mut Gradients<T>,
}

/// The terms of every component at one sample.
struct Terms<T> {
    e: Vec<T>,
    /// `P e`.
    precision_e: Vec<T>,
    /// `grad h`.
    grad_h: Vec<T>,
    gamma: Vec<T>,
    h: Vec<T>,
    s: Vec<T>,
}

impl<T: Real> Kernel for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let PaddedMixture {
            components: k,
            width: d,
            stride,
            matrix,
            ..
        } = *self.mixture;
        let padded_rows = || vec![T::zero(); k * stride];
        let row = || vec![T::zero(); k];
        let mut terms = Terms {
            e: padded_rows(),
            precision_e: padded_rows(),
            grad_h: padded_rows(),
            gamma: row(),
            h: row(),
            s: row(),
        };
        let mut first = padded_rows();
        let mut second = vec![T::zero(); if matrix { k * d * stride } else { k * stride }];
        let mut zeroth = row();
        let mut x = vec![T::zero(); stride];
        let assigned = match self.source {
            Source::Assignment(assignment) => {
                assignment.responsibilities::<T>(self.first, self.chunk.used, k)
            }
            _ => Vec::new(),
        };
        for n in 0..self.chunk.used {
            for (block, x) in x.chunks_exact_mut(LANES).enumerate() {
                x.copy_from_slice(&self.chunk.rows[(block * ROWS + n) * LANES..][..LANES]);
            }
            let w = self.chunk.weights[n];
            for k in 0..k {
                self.mixture.component(isa, k, &x, &mut terms);
            }
            let dw = self.coefficients(isa, self.first + n, w, &assigned, &mut terms);
            self.out.weights.push(dw.as_f64());
            let start = self.out.x.len();
            for block in (0..stride).step_by(LANES) {
                let mut sum = [T::zero(); LANES];
                for k in 0..k {
                    let at = k * stride + block;
                    let (pe, grad) = (load(&terms.precision_e, at), load(&terms.grad_h, at));
                    let (s, gamma) = (terms.s[k], w * terms.gamma[k]);
                    for i in 0..LANES {
                        let both = isa.mul_add(gamma, grad[i], -s * pe[i]);
                        sum[i] += both;
                    }
                }
                let len = LANES.min(d - block);
                self.out.x.extend_from_slice(&sum[..len]);
            }
            debug_assert_eq!(self.out.x.len(), start + d);
            for k in 0..k {
                let s = terms.s[k];
                if s == T::zero() {
                    continue;
                }
                zeroth[k] += s;
                let e = &terms.e[k * stride..][..stride];
                axpy(isa, s, e, &mut first[k * stride..][..stride]);
                if matrix {
                    let rows = second[k * d * stride..].chunks_exact_mut(stride);
                    for (row, v) in rows.zip(&e[..d]) {
                        axpy(isa, s * *v, e, row);
                    }
                } else {
                    let squares = &mut second[k * stride..][..stride];
                    for block in (0..stride).step_by(LANES) {
                        let (e, mut sum) = (load(e, block), load(squares, block));
                        for i in 0..LANES {
                            sum[i] = isa.mul_add(s * e[i], e[i], sum[i]);
                        }
                        squares[block..][..LANES].copy_from_slice(&sum);
                    }
                }
            }
        }
        let statistics = &mut self.out.statistics;
        let flush = |to: &mut [f64], from: &[T]| {
            let rows = to.chunks_exact_mut(d).zip(from.chunks_exact(stride));
            rows.flat_map(|(to, from)| to.iter_mut().zip(from))
                .for_each(|(t, v)| *t += v.as_f64());
        };
        flush(&mut statistics.s1, &first);
        flush(&mut statistics.s2, &second);
        let zeroth = statistics.s0.iter_mut().zip(&zeroth);
        zeroth.for_each(|(t, v)| *t += v.as_f64());
    }
}

impl<T: Real> Rows<'_, '_, T> {
    /// Responsibilities and s; returns the gradient with respect to the sample's weight.
    #[inline(always)]
    fn coefficients<I: Isa>(
        &self,
        isa: I,
        row: usize,
        w: T,
        assigned: &[T],
        terms: &mut Terms<T>,
    ) -> T {
        match self.source {
            Source::Given(given) => {
                let k = terms.s.len();
                terms.s.copy_from_slice(&given[row * k..][..k]);
                terms.gamma.fill(T::zero());
                return T::zero();
            }
            Source::Assignment(_) => {
                let k = terms.s.len();
                let own = &assigned[(row - self.first) * k..][..k];
                terms.gamma.copy_from_slice(own);
                terms.s.fill(T::zero());
                let each = own.iter().zip(&terms.h);
                return each.fold(T::zero(), |sum, (g, h)| sum + *g * *h);
            }
            Source::Responsibilities => {}
        }
        let largest = simd::max(&terms.gamma);
        let mut sum = T::zero();
        for g in terms.gamma.iter_mut() {
            *g = simd::exp_value(isa, *g - largest);
            sum += *g;
        }
        let mut mean = T::zero();
        for (g, h) in terms.gamma.iter_mut().zip(&terms.h) {
            *g /= sum;
            mean += *g * *h;
        }
        let each = terms.s.iter_mut().zip(&terms.gamma).zip(&terms.h);
        each.for_each(|((s, g), h)| *s = w * *g * (*h - mean));
        mean
    }
}

impl<T: Real> PaddedMixture<T> {
    /// LogDensities and grads of one component; its logarithm goes to `gamma`.
    #[inline(always)]
    fn component<I: Isa>(&self, isa: I, k: usize, x: &[T], terms: &mut Terms<T>) {
        let (stride, at) = (self.stride, k * self.stride);
        let e = &mut terms.e[at..at + stride];
        for block in (0..stride).step_by(LANES) {
            let (mut x, m) = (load(x, block), load(&self.means, at + block));
            for i in 0..LANES {
                x[i] -= m[i];
            }
            e[block..][..LANES].copy_from_slice(&x);
        }
        let (mut distance, mut h_sum) = ([T::zero(); LANES], [T::zero(); LANES]);
        for block in (0..stride).step_by(LANES) {
            let here = load(e, block);
            let (mut pe, mut qe) = ([T::zero(); LANES], [T::zero(); LANES]);
            if self.matrix {
                let start = k * self.width * stride + block;
                for (j, e) in e[..self.width].iter().enumerate() {
                    let p = load(&self.precisions, start + j * stride);
                    let q = load(&self.square, start + j * stride);
                    for i in 0..LANES {
                        pe[i] = isa.mul_add(*e, p[i], pe[i]);
                        qe[i] = isa.mul_add(*e, q[i], qe[i]);
                    }
                }
            } else {
                let p = load(&self.precisions, at + block);
                let q = load(&self.square, at + block);
                for i in 0..LANES {
                    pe[i] = here[i] * p[i];
                    qe[i] = here[i] * q[i];
                }
            }
            let mut grad = load(&self.linear, at + block);
            for i in 0..LANES {
                distance[i] = isa.mul_add(pe[i], here[i], distance[i]);
                grad[i] += qe[i];
                h_sum[i] = isa.mul_add(grad[i], here[i], h_sum[i]);
                grad[i] += qe[i];
            }
            terms.precision_e[at + block..][..LANES].copy_from_slice(&pe);
            terms.grad_h[at + block..][..LANES].copy_from_slice(&grad);
        }
        terms.gamma[k] = self.offsets[k] - T::of(0.5) * simd::total(distance);
        terms.h[k] = self.constant[k] + simd::total(h_sum);
    }
}

#[inline(always)]
fn load<T: Real>(x: &[T], at: usize) -> [T; LANES] {
    let mut out = [T::zero(); LANES];
    out.copy_from_slice(&x[at..][..LANES]);
    out
}

#[inline(always)]
fn axpy<T: Real, I: Isa>(isa: I, a: T, x: &[T], y: &mut [T]) {
    for block in (0..y.len()).step_by(LANES) {
        let (x, mut sum) = (load(x, block), load(y, block));
        for i in 0..LANES {
            sum[i] = isa.mul_add(a, x[i], sum[i]);
        }
        y[block..][..LANES].copy_from_slice(&sum);
    }
}
