//! Scaled dot-product attention that keeps no weights: the backward pass computes them again.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::nn;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::random::Stream;
use decalign_core::simd::{self, Isa, Kernel};
use decalign_core::{Elements, Real, Result, parallel, with_real};

use crate::reference;
use crate::size::{AttentionSize, Restriction};

pub(crate) fn attention(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    size: AttentionSize,
    restriction: &Restriction,
) -> Result<Tensor> {
    if !q.device().is_cpu() {
        return reference::attention(q, k, v, size, restriction);
    }
    with_real!("queries", q, T => fused::<T>(q, k, v, size, restriction))
}

/// The loops' view of one call.
#[derive(Clone)]
struct Problem<T> {
    size: AttentionSize,
    causal: bool,
    key_mask: Option<Vec<T>>,
    drop: Option<(f64, Stream)>,
}

impl<T: Real> Problem<T> {
    fn new(size: AttentionSize, restriction: &Restriction) -> Result<Self> {
        let key_mask = match &restriction.key_mask {
            Some(mask) => Some(Elements::<T>::new(mask)?.to_vec()),
            None => None,
        };
        Ok(Self {
            size,
            causal: restriction.causal,
            key_mask,
            drop: restriction.drop,
        })
    }

    fn scale(&self) -> T {
        T::of(1.0 / (self.size.head() as f64).sqrt())
    }

    fn work(&self) -> usize {
        let s = self.size;
        4 * s.batch * s.queries * s.keys * (s.width + 4 * s.heads)
    }

    /// One head of one sample's rows, `rows` of them.
    fn head<'a>(&self, x: &'a [T], head: usize, rows: usize) -> Matrix<'a, T> {
        let (width, size) = (self.size.width, self.size.head());
        Matrix::strided(&x[head * size..], rows, size, width)
    }

    /// Dropout factors of all heads of one sample, one after the other.
    fn mask(&self, sample: usize) -> Option<Vec<T>> {
        let (p, stream) = self.drop?;
        let n = self.size.heads * self.of_head();
        Some(nn::dropout_mask(n, p, stream.child(sample as u64)))
    }

    /// How many weights a head of a sample has.
    fn of_head(&self) -> usize {
        self.size.queries * self.size.keys
    }

    /// Unnormalised logits of one head, -inf where a key is not to be seen.
    fn logits(&self, sample: usize, head: usize, q: &[T], k: &[T], out: &mut [T]) {
        let s = self.size;
        let (q, k) = (self.head(q, head, s.queries), self.head(k, head, s.keys));
        matmul(out, s.keys, q, k.t(), Store::Write);
        let scale = self.scale();
        out.iter_mut().for_each(|x| *x *= scale);
        for (i, row) in out.chunks_exact_mut(s.keys).enumerate() {
            if self.causal {
                row.iter_mut()
                    .skip(i + 1)
                    .for_each(|x| *x = T::neg_infinity());
            }
            if let Some(mask) = &self.key_mask {
                let mask = &mask[sample * s.keys..(sample + 1) * s.keys];
                for (x, m) in row.iter_mut().zip(mask) {
                    if *m == T::zero() {
                        *x = T::neg_infinity();
                    }
                }
            }
        }
    }
}

/// Turns logits into weights row by row and returns each row's log normaliser.
struct Normalise<'a, T> {
    logits: &'a mut [T],
    keys: usize,
    normaliser: &'a mut [T],
}

impl<T: Real> Kernel for Normalise<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (row, normaliser) in self.logits.chunks_exact_mut(self.keys).zip(self.normaliser) {
            let largest = simd::max(row);
            if largest == T::neg_infinity() {
                // Nothing to see: zeros, not NaN. +inf makes the weights 0 when computed again.
                row.fill(T::zero());
                *normaliser = T::infinity();
                continue;
            }
            for x in row.iter_mut() {
                *x = simd::exp_value(isa, *x - largest);
            }
            let sum = simd::sum(row);
            let scale = sum.recip();
            row.iter_mut().for_each(|x| *x *= scale);
            *normaliser = largest + sum.ln();
        }
    }
}

/// Weights from logits and the normalisers of the forward pass.
struct Again<'a, T> {
    logits: &'a mut [T],
    keys: usize,
    normaliser: &'a [T],
}

impl<T: Real> Kernel for Again<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        for (row, normaliser) in self.logits.chunks_exact_mut(self.keys).zip(self.normaliser) {
            for x in row {
                *x = simd::exp_value(isa, *x - *normaliser);
            }
        }
    }
}

fn fused<T: Real>(
    q: &Tensor,
    k: &Tensor,
    v: &Tensor,
    size: AttentionSize,
    restriction: &Restriction,
) -> Result<Tensor> {
    let problem = Problem::<T>::new(size, restriction)?;
    let (out, normalisers) = {
        let (q, k, v) = (
            Elements::<T>::new(q)?,
            Elements::<T>::new(k)?,
            Elements::<T>::new(v)?,
        );
        forward(&problem, &q, &k, &v)
    };
    let output = Output::new(out, (size.batch, size.queries, size.width));
    record_one("attention", &[q, k, v], output, move |b| {
        backward(b, &problem, &normalisers)
    })
}

fn forward<T: Real>(problem: &Problem<T>, q: &[T], k: &[T], v: &[T]) -> (Vec<T>, Vec<T>) {
    let s = problem.size;
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let mut out = vec![T::zero(); s.batch * of_q];
    let mut normalisers = vec![T::zero(); s.batch * s.heads * s.queries];
    parallel::for_each_pair(
        (&mut out, of_q),
        (&mut normalisers, s.heads * s.queries),
        problem.work(),
        |sample, out, normalisers| {
            let (q, k) = (&q[sample * of_q..][..of_q], &k[sample * of_k..][..of_k]);
            let v = &v[sample * of_k..][..of_k];
            let mut weights = vec![T::zero(); problem.of_head()];
            let mask = problem.mask(sample);
            for (head, normaliser) in normalisers.chunks_exact_mut(s.queries).enumerate() {
                problem.logits(sample, head, q, k, &mut weights);
                let (logits, keys) = (&mut weights[..], s.keys);
                simd::dispatch(Normalise {
                    logits,
                    keys,
                    normaliser,
                });
                if let Some(mask) = &mask {
                    let mask = &mask[head * problem.of_head()..];
                    weights.iter_mut().zip(mask).for_each(|(w, m)| *w *= *m);
                }
                let weights = Matrix::new(&weights, s.queries, s.keys);
                let v = problem.head(v, head, s.keys);
                matmul(
                    &mut out[head * s.head()..],
                    s.width,
                    weights,
                    v,
                    Store::Write,
                );
            }
        },
    );
    (out, normalisers)
}

fn backward<T: Real>(
    b: &Backward,
    problem: &Problem<T>,
    normalisers: &[T],
) -> Result<InputGradients> {
    let (s, gradient) = (problem.size, b.gradient(0)?);
    let input = |i: usize| Elements::<T>::new(&b.inputs[i]);
    let (q, k, v, g) = (
        input(0)?,
        input(1)?,
        input(2)?,
        Elements::<T>::new(&gradient)?,
    );
    let (q, k, v, g): (&[T], &[T], &[T], &[T]) = (&q, &k, &v, &g);
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let mut dq = vec![T::zero(); s.batch * of_q];
    // Keys and values side by side, so that one sample is one piece.
    let mut dkv = vec![T::zero(); s.batch * 2 * of_k];
    parallel::for_each_pair(
        (&mut dq, of_q),
        (&mut dkv, 2 * of_k),
        2 * problem.work(),
        |sample, dq, dkv| {
            let rows = Rows {
                q: &q[sample * of_q..][..of_q],
                k: &k[sample * of_k..][..of_k],
                v: &v[sample * of_k..][..of_k],
                g: &g[sample * of_q..][..of_q],
            };
            let (dk, dv) = dkv.split_at_mut(of_k);
            let normalisers = &normalisers[sample * s.heads * s.queries..];
            let mask = problem.mask(sample);
            for head in 0..s.heads {
                let normaliser = &normalisers[head * s.queries..][..s.queries];
                let mask = mask.as_ref().map(|mask| &mask[head * problem.of_head()..]);
                let place = (sample, head);
                head_backward(problem, place, &rows, normaliser, mask, (dq, dk, dv));
            }
        },
    );
    let device = gradient.device();
    let (mut dk, mut dv) = (
        Vec::with_capacity(s.batch * of_k),
        Vec::with_capacity(s.batch * of_k),
    );
    for sample in dkv.chunks_exact((2 * of_k).max(1)) {
        dk.extend_from_slice(&sample[..of_k]);
        dv.extend_from_slice(&sample[of_k..]);
    }
    Ok(vec![
        Some(Tensor::from_vec(dq, b.inputs[0].dims(), device)?),
        Some(Tensor::from_vec(dk, b.inputs[1].dims(), device)?),
        Some(Tensor::from_vec(dv, b.inputs[2].dims(), device)?),
    ])
}

/// One sample.
struct Rows<'a, T> {
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    g: &'a [T],
}

/// With P the weights, D the dropout factors, G the gradient of the result:
/// `dV = (P D)^T G`, `U = (G V^T) D`, `dS = P (U - rowsum(U P))`, `dQ = dS K scale`,
/// `dK = dS^T Q scale`.
fn head_backward<T: Real>(
    problem: &Problem<T>,
    (sample, head): (usize, usize),
    rows: &Rows<T>,
    normaliser: &[T],
    mask: Option<&[T]>,
    (dq, dk, dv): (&mut [T], &mut [T], &mut [T]),
) {
    let (s, start) = (problem.size, head * problem.size.head());
    let mut weights = vec![T::zero(); s.queries * s.keys];
    problem.logits(sample, head, rows.q, rows.k, &mut weights);
    let keys = s.keys;
    simd::dispatch(Again {
        logits: &mut weights,
        keys,
        normaliser,
    });
    let g = problem.head(rows.g, head, s.queries);
    let dropped: Option<Vec<T>> =
        mask.map(|mask| weights.iter().zip(mask).map(|(w, m)| *w * *m).collect());
    let seen = Matrix::new(dropped.as_deref().unwrap_or(&weights), s.queries, s.keys);
    matmul(&mut dv[start..], s.width, seen.t(), g, Store::Write);
    let mut u = vec![T::zero(); s.queries * s.keys];
    matmul(
        &mut u,
        s.keys,
        g,
        problem.head(rows.v, head, s.keys).t(),
        Store::Write,
    );
    if let Some(mask) = mask {
        u.iter_mut().zip(mask).for_each(|(u, m)| *u *= *m);
    }
    let scale = problem.scale();
    for (u, p) in u.chunks_exact_mut(s.keys).zip(weights.chunks_exact(s.keys)) {
        let mean = simd::dot(u, p);
        for (u, p) in u.iter_mut().zip(p) {
            *u = *p * (*u - mean) * scale;
        }
    }
    let ds = Matrix::new(&u, s.queries, s.keys);
    let (q, k) = (
        problem.head(rows.q, head, s.queries),
        problem.head(rows.k, head, s.keys),
    );
    matmul(&mut dq[start..], s.width, ds, k, Store::Write);
    matmul(&mut dk[start..], s.width, ds.t(), q, Store::Write);
}
