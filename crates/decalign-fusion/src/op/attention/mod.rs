//! Scaled dot-product attention that keeps no weights: the backward pass computes them again.

use candle_core::Tensor;
use decalign_core::nn;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::random::{Choices, Stream};
use decalign_core::{Elements, Real, Result, parallel, with_real};

mod head;
mod pack;
mod rows;
mod small;

use head::{Room, Rows};
use pack::Place;
use small::Small;

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

    /// Dropout factors of all heads of one sample, one after the other.
    fn mask(&self, sample: usize) -> Option<Vec<T>> {
        let (p, stream) = self.drop?;
        let n = self.size.heads * self.size.queries * self.size.keys;
        Some(nn::dropout_mask(n, p, stream.child(sample as u64)))
    }

    /// The same, drawn a few at a time, and what they are where nothing is dropped.
    fn choices(&self, sample: usize) -> Option<(Choices, T)> {
        let (p, stream) = self.drop?;
        let choices = stream.child(sample as u64).choices(1.0 - p);
        Some((choices, T::of(1.0 / (1.0 - p))))
    }

    fn place(&self, head: usize) -> Place {
        Place {
            width: self.size.width,
            start: head * self.size.head(),
            size: self.size.head(),
        }
    }

    /// What the logits of a sample start from.
    fn biases(&self, sample: usize) -> Vec<T> {
        let keys = self.size.keys;
        let mask = self.key_mask.as_ref();
        pack::biases(keys, mask.map(|m| &m[sample * keys..][..keys]))
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
    // As many sums as the registers hold.
    match size_of::<T>() {
        4 => forward_by::<T, 6>(problem, q, k, v),
        _ => forward_by::<T, 3>(problem, q, k, v),
    }
}

fn forward_by<T: Real, const R: usize>(
    problem: &Problem<T>,
    q: &[T],
    k: &[T],
    v: &[T],
) -> (Vec<T>, Vec<T>) {
    let s = problem.size;
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let mut out = vec![T::zero(); s.batch * of_q];
    let mut logs = vec![T::zero(); s.batch * s.heads * s.queries];
    parallel::for_each_pair(
        (&mut out, of_q),
        (&mut logs, s.heads * s.queries),
        problem.work(),
        |sample, out, logs| {
            let (q, k) = (&q[sample * of_q..][..of_q], &k[sample * of_k..][..of_k]);
            let v = &v[sample * of_k..][..of_k];
            if small::fits(s.queries, s.keys) {
                let mask = problem.mask(sample);
                for (head, logs) in logs.chunks_exact_mut(s.queries.max(1)).enumerate() {
                    let small = Small::new(problem, (sample, head), mask.as_deref());
                    small.forward(q, k, v, out, logs);
                }
                return;
            }
            let mut room = Room::<T, R>::new(problem, sample);
            for (head, logs) in logs.chunks_exact_mut(s.queries.max(1)).enumerate() {
                room.forward(problem, head, (q, k, v), out, logs);
            }
        },
    );
    (out, logs)
}

fn backward<T: Real>(b: &Backward, problem: &Problem<T>, logs: &[T]) -> Result<InputGradients> {
    match size_of::<T>() {
        4 => backward_by::<T, 6>(b, problem, logs),
        _ => backward_by::<T, 3>(b, problem, logs),
    }
}

fn backward_by<T: Real, const R: usize>(
    b: &Backward,
    problem: &Problem<T>,
    logs: &[T],
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
            let logs = |head| &logs[(sample * s.heads + head) * s.queries..][..s.queries];
            if small::fits(s.queries, s.keys) {
                let mask = problem.mask(sample);
                for head in 0..s.heads {
                    let small = Small::new(problem, (sample, head), mask.as_deref());
                    small.backward(&rows, logs(head), (dq, dk, dv));
                }
                return;
            }
            let mut room = Room::<T, R>::new(problem, sample);
            for head in 0..s.heads {
                let logs = logs(head);
                room.backward(problem, head, &rows, logs, (dq, dk, dv));
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
