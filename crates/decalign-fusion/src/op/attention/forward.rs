//! The forward pass: all samples on all threads.

use std::sync::OnceLock;

use decalign_core::random::Bits;
use decalign_core::{Real, parallel};

use super::bias::Bias;
use super::direct::{self, DirectHead};
use super::packed::PackedSample;
use super::problem::Problem;
use super::workspace::Workspace;

/// The record of the forward pass for the backward pass, besides its operands.
pub(super) struct Saved<T> {
    /// The logarithms (base 2) of the sums of weights.
    pub(super) logs: Vec<T>,
    /// The dropout bits of each sample, if stored.
    pub(super) dropout_bits: Vec<OnceLock<Bits>>,
}

pub(super) fn forward<T: Real>(
    problem: &Problem<T>,
    rows: (&[T], &[T], &[T]),
    bias: Option<&Bias<T>>,
) -> (Vec<T>, Saved<T>) {
    // See the tile sizes in `tile`.
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
    let s = problem.shape;
    let (of_q, of_k) = (s.queries * s.width, s.keys * s.width);
    let (of_v, of_out) = (s.keys * s.value_width, s.queries * s.value_width);
    let mut out = vec![T::zero(); s.batch * of_out];
    let mut logs = vec![T::zero(); s.batch * s.heads * s.queries];
    let dropout_bits: Vec<_> = (0..s.batch).map(|_| OnceLock::new()).collect();
    parallel::for_each_pair(
        (&mut out, of_out),
        (&mut logs, s.heads * s.queries),
        problem.work(),
        |sample, out, logs| {
            let (q, k) = (&q[sample * of_q..][..of_q], &k[sample * of_k..][..of_k]);
            let v = &v[sample * of_v..][..of_v];
            let bias = bias.map(|bias| bias.sample(sample));
            if direct::supports(s.queries, s.keys) {
                let mask = problem.dropout_mask(sample);
                for (head, logs) in logs.chunks_exact_mut(s.queries.max(1)).enumerate() {
                    let head = DirectHead::new(problem, (sample, head), mask.as_deref(), bias);
                    head.forward(q, k, v, out, logs);
                }
                return;
            }
            let packed = PackedSample::<T, R>::forward(problem, sample, (q, k, v));
            if let Some(bits) = problem.dropout_bits(sample) {
                // Each sample sets its own cell once.
                let _ = dropout_bits[sample].set(bits);
            }
            let mut workspace =
                Workspace::new(problem, sample, packed, (bias, dropout_bits[sample].get()));
            for (head, logs) in logs.chunks_exact_mut(s.queries.max(1)).enumerate() {
                workspace.forward(problem, head, out, logs);
            }
        },
    );
    (out, Saved { logs, dropout_bits })
}
