//! The way back through a pass: responsibilities are computed again, a row at a time; lanes are
//! dimensions.
//!
//! With `e = x - m_k`, P the precision of component k, `h_k(x)` the gradient with respect to a
//! responsibility (a quadratic function of e, see [`Quadratics`]) and w the sample's weight:
//!
//! ```text
//! l_k = log pi_k - log det / 2 - e^T P e / 2,   gamma = softmax(l)
//! s_k = w gamma_k (h_k - sum_j gamma_j h_j)
//! dx  = sum_k ( w gamma_k grad h_k - s_k P e ),   dw = sum_k gamma_k h_k
//! ```
//!
//! and the gradients with respect to the mixture follow from the moments of s about the means
//! ([`to_mixture`](super::mixture_back::to_mixture)).

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, parallel};

use super::mixture_back::precisions;
use super::{Assigned, job};
use crate::chunk::{Chunk, ROWS};
use crate::data::Data;
use crate::maximise::Quadratics;
use crate::parameters::{Factors, Moments, Parameters, Second};

/// Where a sample's coefficients come from.
pub(crate) enum Source<'a, T> {
    /// The expectation under the mixture, then [`Quadratics`].
    Responsibilities,
    /// Responsibilities whatever the mixture, then [`Quadratics`].
    Assigned(&'a Assigned),
    /// The gradients with respect to every `log (pi_k p_k(x))`, (n, K).
    Given(&'a [T]),
}

/// What comes back.
pub(crate) struct Gradients<T> {
    /// In the frame's coordinates.
    pub(crate) x: Vec<T>,
    /// Of the weights in use (largest 1).
    pub(crate) weights: Vec<f64>,
    /// Of the s.
    pub(crate) moments: Moments,
}

/// A mixture as the loop reads it: rows of padded length.
struct Reader<T> {
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

/// Walks back through a pass over all samples.
pub(crate) fn back<T: Real>(
    data: &Data<T>,
    mixture: &Parameters,
    factors: Option<&Factors>,
    quadratics: &Quadratics,
    source: &Source<T>,
) -> Gradients<T> {
    let reader = Reader::new(mixture, factors, quadratics);
    let (d, k, rows) = (data.width, mixture.components(), data.rows());
    let (size, matrix) = (job(rows), mixture.kind.is_matrix());
    let work = 3 * super::work(rows, k, d, matrix);
    let second = if matrix {
        Second::Matrix
    } else {
        Second::Diagonal
    };
    let parts = parallel::map(rows.div_ceil(size), work, |part| {
        let mut out = Gradients {
            x: Vec::new(),
            weights: Vec::new(),
            moments: Moments::zeros(k, d, second),
        };
        let mut buffer = None;
        let end = rows.min((part + 1) * size);
        for first in (part * size..end).step_by(ROWS) {
            let chunk = data.chunk(first, &mut buffer);
            simd::dispatch(Rows {
                reader: &reader,
                chunk,
                first,
                source,
                out: &mut out,
            });
        }
        out
    });
    let mut all = Gradients {
        x: Vec::with_capacity(rows * d),
        weights: Vec::with_capacity(rows),
        moments: Moments::zeros(k, d, second),
    };
    for part in parts {
        all.x.extend(part.x);
        all.weights.extend(part.weights);
        all.moments.add(&part.moments);
    }
    all
}

impl<T: Real> Reader<T> {
    fn new(mixture: &Parameters, factors: Option<&Factors>, quadratics: &Quadratics) -> Self {
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
            None => (vec![0.0; k], vec![0.0; quadratics.square.len()]),
        };
        Self {
            components: k,
            width: d,
            stride,
            matrix: kind.is_matrix(),
            offsets: narrow(&offsets),
            means: pad(&mixture.means),
            precisions: pad(&precisions),
            constant: narrow(&quadratics.constant),
            linear: pad(&quadratics.linear),
            square: pad(&quadratics.square),
        }
    }
}

struct Rows<'a, 'b, T> {
    reader: &'a Reader<T>,
    chunk: &'a Chunk<T>,
    first: usize,
    source: &'a Source<'b, T>,
    out: &'a mut Gradients<T>,
}

/// Of every component at one sample.
struct Cells<T> {
    e: Vec<T>,
    /// `P e`.
    pull: Vec<T>,
    /// `grad h`.
    slope: Vec<T>,
    gamma: Vec<T>,
    h: Vec<T>,
    s: Vec<T>,
}

impl<T: Real> Kernel for Rows<'_, '_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let Reader {
            components: k,
            width: d,
            stride,
            matrix,
            ..
        } = *self.reader;
        let lines = || vec![T::zero(); k * stride];
        let row = || vec![T::zero(); k];
        let mut cells = Cells {
            e: lines(),
            pull: lines(),
            slope: lines(),
            gamma: row(),
            h: row(),
            s: row(),
        };
        let mut first = lines();
        let mut second = vec![T::zero(); if matrix { k * d * stride } else { k * stride }];
        let mut zeroth = row();
        let mut x = vec![T::zero(); stride];
        let assigned = match self.source {
            Source::Assigned(assigned) => assigned.of::<T>(self.first, self.chunk.used, k),
            _ => Vec::new(),
        };
        for n in 0..self.chunk.used {
            for (block, x) in x.chunks_exact_mut(LANES).enumerate() {
                x.copy_from_slice(&self.chunk.rows[(block * ROWS + n) * LANES..][..LANES]);
            }
            let w = self.chunk.weights[n];
            for k in 0..k {
                self.reader.component(isa, k, &x, &mut cells);
            }
            let dw = self.coefficients(isa, self.first + n, w, &assigned, &mut cells);
            self.out.weights.push(dw.as_f64());
            let start = self.out.x.len();
            for block in (0..stride).step_by(LANES) {
                let mut sum = [T::zero(); LANES];
                for k in 0..k {
                    let at = k * stride + block;
                    let (pull, slope) = (load(&cells.pull, at), load(&cells.slope, at));
                    let (s, gamma) = (cells.s[k], w * cells.gamma[k]);
                    for i in 0..LANES {
                        let both = isa.mul_add(gamma, slope[i], -s * pull[i]);
                        sum[i] += both;
                    }
                }
                let len = LANES.min(d - block);
                self.out.x.extend_from_slice(&sum[..len]);
            }
            debug_assert_eq!(self.out.x.len(), start + d);
            for k in 0..k {
                let s = cells.s[k];
                if s == T::zero() {
                    continue;
                }
                zeroth[k] += s;
                let e = &cells.e[k * stride..][..stride];
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
        let moments = &mut self.out.moments;
        let flush = |to: &mut [f64], from: &[T]| {
            let rows = to.chunks_exact_mut(d).zip(from.chunks_exact(stride));
            rows.flat_map(|(to, from)| to.iter_mut().zip(from))
                .for_each(|(t, v)| *t += v.as_f64());
        };
        flush(&mut moments.s1, &first);
        flush(&mut moments.s2, &second);
        let zeroth = moments.s0.iter_mut().zip(&zeroth);
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
        cells: &mut Cells<T>,
    ) -> T {
        match self.source {
            Source::Given(given) => {
                let k = cells.s.len();
                cells.s.copy_from_slice(&given[row * k..][..k]);
                cells.gamma.fill(T::zero());
                return T::zero();
            }
            Source::Assigned(_) => {
                let k = cells.s.len();
                let own = &assigned[(row - self.first) * k..][..k];
                cells.gamma.copy_from_slice(own);
                cells.s.fill(T::zero());
                let each = own.iter().zip(&cells.h);
                return each.fold(T::zero(), |sum, (g, h)| sum + *g * *h);
            }
            Source::Responsibilities => {}
        }
        let largest = simd::max(&cells.gamma);
        let mut sum = T::zero();
        for g in cells.gamma.iter_mut() {
            *g = simd::exp_value(isa, *g - largest);
            sum += *g;
        }
        let mut mean = T::zero();
        for (g, h) in cells.gamma.iter_mut().zip(&cells.h) {
            *g /= sum;
            mean += *g * *h;
        }
        let each = cells.s.iter_mut().zip(&cells.gamma).zip(&cells.h);
        each.for_each(|((s, g), h)| *s = w * *g * (*h - mean));
        mean
    }
}

impl<T: Real> Reader<T> {
    /// Distances and slopes of one component; its logarithm goes to `gamma`.
    #[inline(always)]
    fn component<I: Isa>(&self, isa: I, k: usize, x: &[T], cells: &mut Cells<T>) {
        let (stride, at) = (self.stride, k * self.stride);
        let e = &mut cells.e[at..at + stride];
        for block in (0..stride).step_by(LANES) {
            let (mut x, m) = (load(x, block), load(&self.means, at + block));
            for i in 0..LANES {
                x[i] -= m[i];
            }
            e[block..][..LANES].copy_from_slice(&x);
        }
        let (mut distance, mut height) = ([T::zero(); LANES], [T::zero(); LANES]);
        for block in (0..stride).step_by(LANES) {
            let here = load(e, block);
            let (mut pull, mut turned) = ([T::zero(); LANES], [T::zero(); LANES]);
            if self.matrix {
                let start = k * self.width * stride + block;
                for (j, e) in e[..self.width].iter().enumerate() {
                    let p = load(&self.precisions, start + j * stride);
                    let q = load(&self.square, start + j * stride);
                    for i in 0..LANES {
                        pull[i] = isa.mul_add(*e, p[i], pull[i]);
                        turned[i] = isa.mul_add(*e, q[i], turned[i]);
                    }
                }
            } else {
                let p = load(&self.precisions, at + block);
                let q = load(&self.square, at + block);
                for i in 0..LANES {
                    pull[i] = here[i] * p[i];
                    turned[i] = here[i] * q[i];
                }
            }
            let mut slope = load(&self.linear, at + block);
            for i in 0..LANES {
                distance[i] = isa.mul_add(pull[i], here[i], distance[i]);
                slope[i] += turned[i];
                height[i] = isa.mul_add(slope[i], here[i], height[i]);
                slope[i] += turned[i];
            }
            cells.pull[at + block..][..LANES].copy_from_slice(&pull);
            cells.slope[at + block..][..LANES].copy_from_slice(&slope);
        }
        cells.gamma[k] = self.offsets[k] - T::of(0.5) * simd::total(distance);
        cells.h[k] = self.constant[k] + simd::total(height);
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
