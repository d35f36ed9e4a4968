//! Scaled dot-product attention that keeps no weights: the backward pass computes them again.

use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::{DType, Tensor};
use decalign_core::device::Backend;
use decalign_core::nn;
use decalign_core::op::{Backward, InputGradients, Output, record_one};
use decalign_core::random::{Bits, Choices, Stream};
use decalign_core::{Elements, Real, Result, parallel, with_real};

mod added;
pub(crate) mod device;
mod group;
mod head;
mod pack;
mod packed;
mod small;
mod tiles;

use added::{Added, Bias};
use decalign_core::simd::LANES;
use head::{Room, Rows, Sums};
use pack::{Heads, Place};
use packed::Packed;
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
    if matches!(q.dtype(), DType::BF16 | DType::F16) {
        return of_halves([q, k, v], size, restriction);
    }
    if let Some(backend) = Backend::of(q)? {
        return match device::takes(size) {
            true => device::attention(&backend, [q, k, v], size, restriction),
            false => reference::attention(q, k, v, size, restriction),
        };
    }
    with_real!("queries", q, T => fused::<T>(q, k, v, size, restriction))
}

/// Of 16-bit numbers: on tensor cores, or in f32 and rounded.
fn of_halves(x: [&Tensor; 3], size: AttentionSize, restriction: &Restriction) -> Result<Tensor> {
    if let Some(backend) = Backend::of(x[0])?
        && device::half::takes(&backend, size, restriction)
    {
        return device::half::attention(&backend, x, size, restriction);
    }
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    let [q, k, v] = [single(x[0])?, single(x[1])?, single(x[2])?];
    let restriction = Restriction {
        key_mask: restriction.key_mask.as_ref().map(single).transpose()?,
        bias: restriction.bias.as_ref().map(single).transpose()?,
        ..*restriction
    };
    Ok(attention(&q, &k, &v, size, &restriction)?.to_dtype(x[0].dtype())?)
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
        2 * s.batch * s.queries * s.keys * (s.width + s.value_width + 8 * s.heads)
    }

    /// Dropout factors of all heads of one sample, one after the other.
    fn mask(&self, sample: usize) -> Option<Vec<T>> {
        let (p, stream) = self.drop?;
        let n = self.size.heads * self.size.queries * self.size.keys;
        Some(nn::dropout_mask(n, p, stream.child(sample as u64)))
    }

    /// The same, to be drawn from any place.
    fn choices(&self, sample: usize) -> Option<Choices> {
        let (p, stream) = self.drop?;
        Some(stream.child(sample as u64).choices(1.0 - p))
    }

    /// The choices of a sample for the backward pass, where they take no more memory than the rows: memory stays
    /// linear in the lengths.
    fn kept(&self, sample: usize) -> Option<Bits> {
        let (choices, s) = (self.choices(sample)?, self.size);
        let count = s.heads * s.queries * s.keys;
        let rows = (s.queries + s.keys) * (s.width + s.value_width);
        (count / 8 <= rows * size_of::<T>()).then(|| {
            let mut bits = Bits::default();
            choices.bits(0..count, &mut bits);
            bits
        })
    }

    /// What weights that are not dropped are multiplied by.
    fn make_up(&self) -> T {
        T::of(self.drop.map_or(1.0, |(p, _)| 1.0 / (1.0 - p)))
    }

    /// The heads of queries and keys.
    fn heads(&self) -> Heads {
        Heads {
            count: self.size.heads,
            size: self.size.head(),
        }
    }

    /// Those of values and results.
    fn value_heads(&self) -> Heads {
        Heads {
            count: self.size.heads,
            size: self.size.value_head(),
        }
    }

    fn place(&self, head: usize) -> Place {
        Place {
            width: self.size.width,
            start: head * self.size.head(),
            size: self.size.head(),
        }
    }

    /// Where values and results of a head lie.
    fn value_place(&self, head: usize) -> Place {
        Place {
            width: self.size.value_width,
            start: head * self.size.value_head(),
            size: self.size.value_head(),
        }
    }

    /// What the logits of a sample start from.
    fn starts(&self, sample: usize) -> Vec<[T; LANES]> {
        let keys = self.size.keys;
        let mask = self.key_mask.as_ref();
        pack::starts(keys, mask.map(|m| &m[sample * keys..][..keys]))
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
    let (out, saved) = {
        let (q, k, v) = (
            Elements::<T>::new(q)?,
            Elements::<T>::new(k)?,
            Elements::<T>::new(v)?,
        );
        let bias = restriction.bias.as_ref();
        let bias = bias.map(|bias| bias_of(bias, size)).transpose()?;
        forward(&problem, (&q, &k, &v), bias.as_ref())
    };
    let output = Output::new(out, (size.batch, size.queries, size.value_width));
    let inputs: Vec<&Tensor> = [q, k, v].into_iter().chain(&restriction.bias).collect();
    record_one("attention", &inputs, output, move |b| {
        backward(b, &problem, &saved)
    })
}

/// The bias as the loops see it; its rank is 4.
fn bias_of<T: Real>(bias: &Tensor, size: AttentionSize) -> Result<Bias<'_, T>> {
    let (b, h, l, s) = bias.dims4()?;
    Ok(Bias::new(Elements::new(bias)?, [b, h, l, s], size.keys))
}

/// What the backward pass takes from the forward pass beside its operands.
struct Saved<T> {
    /// The logarithms of the sums of weights.
    logs: Vec<T>,
    /// Which weights dropout left, of samples for which that was kept.
    chosen: Vec<OnceLock<Bits>>,
}

fn forward<T: Real>(
    problem: &Problem<T>,
    rows: (&[T], &[T], &[T]),
    bias: Option<&Bias<T>>,
) -> (Vec<T>, Saved<T>) {
    // As many sums as the registers hold.
    match size_of::<T>() {
        4 => forward_by::<T, 6>(problem, rows, bias),
        _ => forward_by::<T, 3>(problem, rows, bias),
    }
}

fn forward_by<T: Real, const R: usize>(
    problem: &Problem<T>,
    (q, k, v): (&[T], &[T], &[T]),
    bias: Option<&Bias<T>>,
) -> (Vec<T>, Saved<T>) {
    let s = problem.size;
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let (of_v, of_out) = (s.keys * s.value_width, s.queries * s.value_width);
    let mut out = vec![T::zero(); s.batch * of_out];
    let mut logs = vec![T::zero(); s.batch * s.heads * s.queries];
    let chosen: Vec<_> = (0..s.batch).map(|_| OnceLock::new()).collect();
    parallel::for_each_pair(
        (&mut out, of_out),
        (&mut logs, s.heads * s.queries),
        problem.work(),
        |sample, out, logs| {
            let (q, k) = (&q[sample * of_q..][..of_q], &k[sample * of_k..][..of_k]);
            let v = &v[sample * of_v..][..of_v];
            let added = bias.map(|bias| bias.of(sample));
            if small::fits(s.queries, s.keys) {
                let mask = problem.mask(sample);
                for (head, logs) in logs.chunks_exact_mut(s.queries.max(1)).enumerate() {
                    let small = Small::new(problem, (sample, head), mask.as_deref(), added);
                    small.forward(q, k, v, out, logs);
                }
                return;
            }
            let packed = Packed::<T, R>::forward(problem, sample, (q, k, v));
            if let Some(bits) = problem.kept(sample) {
                // Nobody else was here.
                let _ = chosen[sample].set(bits);
            }
            let mut room = Room::new(problem, sample, packed, (added, chosen[sample].get()));
            for (head, logs) in logs.chunks_exact_mut(s.queries.max(1)).enumerate() {
                room.forward(problem, head, out, logs);
            }
        },
    );
    (out, Saved { logs, chosen })
}

fn backward<T: Real>(
    b: &Backward,
    problem: &Problem<T>,
    saved: &Saved<T>,
) -> Result<InputGradients> {
    match size_of::<T>() {
        4 => backward_by::<T, 6>(b, problem, saved),
        _ => backward_by::<T, 3>(b, problem, saved),
    }
}

fn backward_by<T: Real, const R: usize>(
    b: &Backward,
    problem: &Problem<T>,
    saved: &Saved<T>,
) -> Result<InputGradients> {
    let (s, gradient) = (problem.size, b.gradient(0)?);
    let input = |i: usize| Elements::<T>::new(&b.inputs[i]);
    let out = Elements::<T>::new(&b.outputs[0])?;
    let given = [
        input(0)?,
        input(1)?,
        input(2)?,
        out,
        Elements::new(&gradient)?,
    ];
    let bias = b.inputs.get(3).map(|bias| bias_of(bias, s)).transpose()?;
    let zeros = |i: usize| vec![T::zero(); b.inputs[i].elem_count()];
    let (mut dq, mut dk, mut dv) = (zeros(0), zeros(1), zeros(2));
    let rows = |count: usize, width: usize| (count * width).max(1);
    let pieces = dq.chunks_mut(rows(s.queries, s.width));
    let pieces = pieces.zip(dk.chunks_mut(rows(s.keys, s.width)));
    let pieces = pieces.zip(dv.chunks_mut(rows(s.keys, s.value_width)));
    let mut pieces: Vec<Sums<T>> = pieces
        .map(|((q, k), v)| Sums {
            q,
            k,
            v,
            bias: &mut [],
        })
        .collect();
    let sample = |i: usize, sums: Sums<T>| {
        let added = bias.as_ref().map(|bias| bias.of(i));
        of_sample::<T, R>(problem, i, &given, saved, added, sums);
    };
    let work = 2 * problem.work();
    let dbias = match bias.as_ref().filter(|_| b.needed[3]) {
        Some(bias) => Some(with_bias(bias, pieces, work, sample)),
        None => {
            parallel::for_each_chunk(&mut pieces, 1, work, |i, pieces| {
                pieces.iter_mut().for_each(|sums| sample(i, sums.again()));
            });
            None
        }
    };
    let gradients = [Some(dq), Some(dk), Some(dv), dbias];
    let tensor = |(x, input): (Option<Vec<T>>, &Tensor)| {
        let tensor = x.map(|x| Tensor::from_vec(x, input.dims(), gradient.device()));
        Ok(tensor.transpose()?)
    };
    gradients.into_iter().zip(b.inputs).map(tensor).collect()
}

/// Gradients of one sample.
fn of_sample<T: Real, const R: usize>(
    problem: &Problem<T>,
    sample: usize,
    [q, k, v, out, g]: &[Elements<T>; 5],
    saved: &Saved<T>,
    added: Option<Added<T>>,
    mut sums: Sums<T>,
) {
    let s = problem.size;
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let (of_v, of_out) = (s.keys * s.value_width, s.queries * s.value_width);
    let rows = Rows {
        q: &q[sample * of_q..][..of_q],
        k: &k[sample * of_k..][..of_k],
        v: &v[sample * of_v..][..of_v],
        out: &out[sample * of_out..][..of_out],
        g: &g[sample * of_out..][..of_out],
    };
    let logs = |head| &saved.logs[(sample * s.heads + head) * s.queries..][..s.queries];
    if small::fits(s.queries, s.keys) {
        let mask = problem.mask(sample);
        for head in 0..s.heads {
            let small = Small::new(problem, (sample, head), mask.as_deref(), added);
            small.backward(&rows, logs(head), &mut sums);
        }
        return;
    }
    let packed = Packed::<T, R>::backward(problem, sample, &rows);
    let chosen = saved.chosen[sample].get();
    let mut room = Room::new(problem, sample, packed, (added, chosen));
    room.backward(problem, &rows, logs, &mut sums);
}

/// Runs all samples and gives the gradient of the bias. Where samples share it, theirs are added up in a tree, of
/// which no more than a few wait at a time.
fn with_bias<T: Real>(
    bias: &Bias<T>,
    pieces: Vec<Sums<T>>,
    work: usize,
    run: impl Fn(usize, Sums<T>) + Sync + Send,
) -> Vec<T> {
    let pieces: Vec<_> = pieces.into_iter().map(Mutex::new).collect();
    let sample = |i: usize| {
        let mut piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = vec![T::zero(); bias.len()];
        run(
            i,
            Sums {
                bias: &mut sums,
                ..piece.again()
            },
        );
        vec![sums]
    };
    let merge = |a: &mut Vec<Vec<T>>, mut b: Vec<Vec<T>>| match bias.of_samples() {
        true => a.append(&mut b),
        false => {
            for (a, b) in a.iter_mut().flatten().zip(b.iter().flatten()) {
                *a += *b;
            }
        }
    };
    let all = parallel::reduce(pieces.len(), work, sample, merge);
    all.map_or_else(|| vec![T::zero(); bias.total()], |all| all.concat())
}
