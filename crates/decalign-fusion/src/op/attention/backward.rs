//! The backward pass: all samples on all threads.

use std::sync::{Mutex, PoisonError};

use candle_core::Tensor;
use decalign_core::op::{Backward, InputGradients};
use decalign_core::{Elements, Real, Result, parallel};

use super::bias::{Bias, SampleBias};
use super::direct::{self, DirectHead};
use super::forward::Saved;
use super::packed::PackedSample;
use super::problem::Problem;
use super::workspace::{SampleGradients, SampleInputs, Workspace};

pub(super) fn backward<T: Real>(
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
    let (s, gradient) = (problem.shape, b.gradient(0)?);
    let input = |i: usize| Elements::<T>::new(&b.inputs[i]);
    let out = Elements::<T>::new(&b.outputs[0])?;
    let given = [
        input(0)?,
        input(1)?,
        input(2)?,
        out,
        Elements::new(&gradient)?,
    ];
    let bias = b
        .inputs
        .get(3)
        .map(|bias| super::bias_of(bias, s))
        .transpose()?;
    let zeros = |i: usize| vec![T::zero(); b.inputs[i].elem_count()];
    let (mut dq, mut dk, mut dv) = (zeros(0), zeros(1), zeros(2));
    let rows = |count: usize, width: usize| (count * width).max(1);
    let pieces = dq.chunks_mut(rows(s.queries, s.width));
    let pieces = pieces.zip(dk.chunks_mut(rows(s.keys, s.width)));
    let pieces = pieces.zip(dv.chunks_mut(rows(s.keys, s.value_width)));
    let mut pieces: Vec<SampleGradients<T>> = pieces
        .map(|((q, k), v)| SampleGradients {
            q,
            k,
            v,
            bias: &mut [],
        })
        .collect();
    let sample = |i: usize, sums: SampleGradients<T>| {
        let bias = bias.as_ref().map(|bias| bias.sample(i));
        sample_backward::<T, R>(problem, i, &given, saved, bias, sums);
    };
    let work = 2 * problem.work();
    let dbias = match bias.as_ref().filter(|_| b.needed[3]) {
        Some(bias) => Some(samples_with_bias(bias, pieces, work, sample)),
        None => {
            parallel::for_each_chunk(&mut pieces, 1, work, |i, pieces| {
                pieces
                    .iter_mut()
                    .for_each(|sums| sample(i, sums.reborrow()));
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

/// The backward pass of one sample.
fn sample_backward<T: Real, const R: usize>(
    problem: &Problem<T>,
    sample: usize,
    [q, k, v, out, g]: &[Elements<T>; 5],
    saved: &Saved<T>,
    bias: Option<SampleBias<T>>,
    mut sums: SampleGradients<T>,
) {
    let s = problem.shape;
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let (of_v, of_out) = (s.keys * s.value_width, s.queries * s.value_width);
    let rows = SampleInputs {
        q: &q[sample * of_q..][..of_q],
        k: &k[sample * of_k..][..of_k],
        v: &v[sample * of_v..][..of_v],
        out: &out[sample * of_out..][..of_out],
        g: &g[sample * of_out..][..of_out],
    };
    let logs = |head| &saved.logs[(sample * s.heads + head) * s.queries..][..s.queries];
    if direct::supports(s.queries, s.keys) {
        let mask = problem.dropout_mask(sample);
        for head in 0..s.heads {
            let direct = DirectHead::new(problem, (sample, head), mask.as_deref(), bias);
            direct.backward(&rows, logs(head), &mut sums);
        }
        return;
    }
    let packed = PackedSample::<T, R>::backward(problem, sample, &rows);
    let dropout_bits = saved.dropout_bits[sample].get();
    let mut workspace = Workspace::new(problem, sample, packed, (bias, dropout_bits));
    workspace.backward(problem, &rows, logs, &mut sums);
}

/// Runs all samples and gives the gradient of the bias. Where samples share it, theirs are bias up in a tree, of
/// which no more than a few wait at a time.
fn samples_with_bias<T: Real>(
    bias: &Bias<T>,
    pieces: Vec<SampleGradients<T>>,
    work: usize,
    run: impl Fn(usize, SampleGradients<T>) + Sync + Send,
) -> Vec<T> {
    let pieces: Vec<_> = pieces.into_iter().map(Mutex::new).collect();
    let sample = |i: usize| {
        let mut piece = pieces[i].lock().unwrap_or_else(PoisonError::into_inner);
        let mut sums = vec![T::zero(); bias.len()];
        run(
            i,
            SampleGradients {
                bias: &mut sums,
                ..piece.reborrow()
            },
        );
        vec![sums]
    };
    let merge = |a: &mut Vec<Vec<T>>, mut b: Vec<Vec<T>>| match bias.per_sample() {
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
