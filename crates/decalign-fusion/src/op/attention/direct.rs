//! Attention without tiles, for heads with a few keys such as sequences of one step: packing tiles would cost more than the sums.

use decalign_core::Real;

use super::bias::SampleBias;
use super::layout::HeadLayout;
use super::problem::Problem;
use super::workspace::{SampleGradients, SampleInputs};

/// Most keys, and most pairs of a query and a key.
const MAX_PAIRS: usize = 16;

/// True if heads have few enough pairs.
pub(super) fn supports(queries: usize, keys: usize) -> bool {
    queries * keys <= MAX_PAIRS
}

/// One head of one sample.
pub(super) struct DirectHead<'a, T> {
    problem: &'a Problem<T>,
    sample: usize,
    head: usize,
    layout: HeadLayout,
    value_layout: HeadLayout,
    /// Dropout factors of the head.
    mask: Option<&'a [T]>,
    bias: Option<SampleBias<'a, T>>,
}

impl<'a, T: Real> DirectHead<'a, T> {
    pub(super) fn new(
        problem: &'a Problem<T>,
        (sample, head): (usize, usize),
        mask: Option<&'a [T]>,
        bias: Option<SampleBias<'a, T>>,
    ) -> Self {
        let pairs = problem.shape.queries * problem.shape.keys;
        Self {
            problem,
            sample,
            head,
            layout: problem.layout(head),
            value_layout: problem.value_layout(head),
            mask: mask.map(|m| &m[head * pairs..][..pairs]),
            bias,
        }
    }

    /// True if query i sees key j.
    fn sees(&self, i: usize, j: usize) -> bool {
        let masked = match &self.problem.key_mask {
            Some(mask) => mask[self.sample * self.problem.shape.keys + j] == T::zero(),
            None => false,
        };
        !(masked || (self.problem.causal && j > i))
    }

    fn factor(&self, i: usize, j: usize) -> T {
        self.mask
            .map_or(T::one(), |mask| mask[i * self.problem.shape.keys + j])
    }

    /// Base-2 logits of query i, -inf where a key is not seen.
    fn logits(&self, i: usize, q: &[T], k: &[T]) -> [T; MAX_PAIRS] {
        let scale = self.problem.scale() * T::of(std::f64::consts::LOG2_E);
        let mut logits = [T::neg_infinity(); MAX_PAIRS];
        for (j, logit) in logits.iter_mut().enumerate().take(self.problem.shape.keys) {
            if self.sees(i, j) {
                *logit = scale * dot(self.layout.row(q, i), self.layout.row(k, j));
            }
        }
        if let Some(bias) = self.bias {
            for (logit, v) in logits.iter_mut().zip(bias.row(self.head, i)) {
                let hidden = *logit == T::neg_infinity();
                *logit = if hidden { *logit } else { *logit + v };
            }
        }
        logits
    }

    /// Computes the results, and the logarithms of the sums of weights.
    pub(super) fn forward(&self, q: &[T], k: &[T], v: &[T], out: &mut [T], logs: &mut [T]) {
        let keys = self.problem.shape.keys;
        for (i, log) in logs.iter_mut().enumerate() {
            let mut weights = self.logits(i, q, k);
            let mut largest = T::neg_infinity();
            for w in &weights[..keys] {
                // A NaN is taken over; the exponentials would give it in any case.
                largest = if largest >= *w { largest } else { *w };
            }
            let shift = if largest == T::neg_infinity() {
                T::zero()
            } else {
                largest
            };
            let mut sum = T::zero();
            for w in &mut weights[..keys] {
                *w = (*w - shift).exp2();
                sum += *w;
            }
            *log = T::infinity();
            if sum != T::zero() {
                *log = shift + sum.log2();
                let scale = sum.recip();
                for (j, w) in weights[..keys].iter().enumerate() {
                    add(
                        self.value_layout.row_mut(out, i),
                        self.value_layout.row(v, j),
                        *w * scale * self.factor(i, j),
                    );
                }
            }
        }
    }

    /// See [`super::tile::Backward`].
    pub(super) fn backward(
        &self,
        rows: &SampleInputs<T>,
        logs: &[T],
        sums: &mut SampleGradients<T>,
    ) {
        let (layout, value_layout) = (self.layout, self.value_layout);
        let keys = self.problem.shape.keys;
        for (i, log) in logs.iter().enumerate() {
            let mut p = self.logits(i, rows.q, rows.k);
            let (mut u, mut mean) = ([T::zero(); MAX_PAIRS], T::zero());
            let g = value_layout.row(rows.g, i);
            for j in 0..keys {
                p[j] = (p[j] - *log).exp2();
                u[j] = dot(g, value_layout.row(rows.v, j)) * self.factor(i, j);
                mean += u[j] * p[j];
            }
            for j in 0..keys {
                u[j] = p[j] * (u[j] - mean);
                let d_logit = u[j] * self.problem.scale();
                add(layout.row_mut(sums.q, i), layout.row(rows.k, j), d_logit);
                add(layout.row_mut(sums.k, j), layout.row(rows.q, i), d_logit);
                add(value_layout.row_mut(sums.v, j), g, p[j] * self.factor(i, j));
            }
            if let Some(bias) = self.bias.filter(|_| !sums.bias.is_empty()) {
                bias.add_gradient((self.head, i), 0, u.into_iter(), sums.bias);
            }
        }
    }
}

fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    a.iter().zip(b).map(|(a, b)| *a * *b).sum()
}

/// `to += factor x`.
fn add<T: Real>(to: &mut [T], x: &[T], factor: T) {
    to.iter_mut().zip(x).for_each(|(to, x)| *to += factor * *x);
}
