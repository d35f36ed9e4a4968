//! A few queries against all keys, forward and backward: the tiles of attention.
//!
//! `R` queries at a time. Their weights live in a buffer `[block][query][LANES]`, block after block of keys, that
//! stays in the nearest cache; sums over head coordinates run over keys side by side, sums over keys
//! over coordinates side by side. Logits count in base 2.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::pack::SLAB;

/// The numbers of a block of keys for R queries.
pub(super) type Block<T, const R: usize> = [[T; LANES]; R];

/// Numbers of R queries in a slab of coordinates.
pub(super) type Slab<T, const R: usize> = [[T; SLAB]; R];

/// One head's packed numbers, for R queries.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T, const R: usize> {
    /// `[coordinate][R]`, times scale and log2 e.
    pub(super) queries: &'a [T],
    /// `[block][coordinate][LANES]`.
    pub(super) keys: &'a [T],
    /// What a logit starts from.
    pub(super) bias: &'a [T],
    /// The same where it differs from query to query.
    pub(super) biases: Option<&'a [Block<T, R>]>,
    pub(super) size: usize,
    /// The first query's number, where no query sees a later key.
    pub(super) causal: Option<usize>,
}

impl<T: Real, const R: usize> Head<'_, T, R> {
    /// The logits of a block of keys.
    #[inline(always)]
    fn logits<I: Isa>(&self, isa: I, b: usize) -> Block<T, R> {
        let mut x = match self.biases {
            Some(biases) => biases[b],
            None => {
                let mut start = [T::zero(); LANES];
                start.copy_from_slice(&self.bias[b * LANES..][..LANES]);
                [start; R]
            }
        };
        product(isa, self.queries, self.keys, (b, self.size), &mut x);
        if let Some(first) = self.causal {
            for (r, x) in x.iter_mut().enumerate() {
                for (i, x) in x.iter_mut().enumerate() {
                    if b * LANES + i > first + r {
                        *x = T::neg_infinity();
                    }
                }
            }
        }
        x
    }
}

/// `x[r] += sum_c a[c][r] b[block][c]`.
#[inline(always)]
fn product<T: Real, I: Isa, const R: usize>(
    isa: I,
    a: &[T],
    b: &[T],
    (block, size): (usize, usize),
    x: &mut Block<T, R>,
) {
    let b = &b[block * size * LANES..][..size * LANES];
    let mut sums = *x;
    for (a, b) in a.as_chunks::<R>().0.iter().zip(b.as_chunks::<LANES>().0) {
        for r in 0..R {
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(a[r], b[i], sums[r][i]);
            }
        }
    }
    *x = sums;
}

/// `out[r] += sum_j w[j][r] y[j]` over all blocks.
#[inline(always)]
fn over_keys<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    y: &[[T; SLAB]],
    out: &mut Slab<T, R>,
) {
    let mut sums = *out;
    for (w, y) in w.iter().zip(y.as_chunks::<LANES>().0) {
        for j in 0..LANES {
            for r in 0..R {
                for i in 0..SLAB {
                    sums[r][i] = isa.mul_add(w[r][j], y[j][i], sums[r][i]);
                }
            }
        }
    }
    *out = sums;
}

/// `out[j] += sum_r w[j][r] y[r]` of every key.
#[inline(always)]
fn over_queries<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    y: &Slab<T, R>,
    out: &mut [[T; SLAB]],
) {
    for (w, out) in w.iter().zip(out.as_chunks_mut::<LANES>().0) {
        for j in 0..LANES {
            let mut sum = out[j];
            for r in 0..R {
                for i in 0..SLAB {
                    sum[i] = isa.mul_add(w[r][j], y[r][i], sum[i]);
                }
            }
            out[j] = sum;
        }
    }
}

/// Results of R queries, and the base-2 logarithms of their weights' sums.
pub(super) struct Forward<'a, T, const R: usize> {
    pub(super) head: Head<'a, T, R>,
    /// `[slab][key][SLAB]`.
    pub(super) values: &'a [[T; SLAB]],
    /// Factors of dropout.
    pub(super) drop: Option<&'a [Block<T, R>]>,
    pub(super) weights: &'a mut [Block<T, R>],
    /// `[slab][R][SLAB]`.
    pub(super) out: &'a mut [Slab<T, R>],
}

impl<T: Real, const R: usize> Kernel for Forward<'_, T, R> {
    type Output = [T; R];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [T; R] {
        let mut most = [[T::neg_infinity(); LANES]; R];
        for (b, x) in self.weights.iter_mut().enumerate() {
            *x = self.head.logits(isa, b);
            for r in 0..R {
                for i in 0..LANES {
                    let keep = most[r][i] >= x[r][i];
                    most[r][i] = if keep { most[r][i] } else { x[r][i] };
                }
            }
        }
        let mut shift = [T::zero(); R];
        for r in 0..R {
            let largest = largest(&most[r]);
            // Where there is nothing to see, weights are 0 and not NaN.
            shift[r] = if largest == T::neg_infinity() {
                T::zero()
            } else {
                largest
            };
        }
        let mut sums = [[T::zero(); LANES]; R];
        for x in self.weights.iter_mut() {
            for r in 0..R {
                for i in 0..LANES {
                    x[r][i] = simd::exp2_below_value(isa, x[r][i] - shift[r]);
                }
                for i in 0..LANES {
                    sums[r][i] += x[r][i];
                }
            }
        }
        if let Some(drop) = self.drop {
            multiply(self.weights, drop);
        }
        let (mut scale, mut logs) = ([T::zero(); R], [T::infinity(); R]);
        for r in 0..R {
            let sum = simd::total(sums[r]);
            if sum != T::zero() {
                (scale[r], logs[r]) = (sum.recip(), shift[r] + sum.log2());
            }
        }
        let keys = self.values.len() / self.out.len().max(1);
        for (s, out) in self.out.iter_mut().enumerate() {
            let mut sums = [[T::zero(); SLAB]; R];
            over_keys(
                isa,
                self.weights,
                &self.values[s * keys..][..keys],
                &mut sums,
            );
            for r in 0..R {
                for i in 0..SLAB {
                    out[r][i] = sums[r][i] * scale[r];
                }
            }
        }
        logs
    }
}

/// The largest of some numbers; NaN where there is one.
fn largest<T: Real>(x: &[T; LANES]) -> T {
    x.iter()
        .fold(T::neg_infinity(), |a, v| if a >= *v { a } else { *v })
}

#[inline(always)]
fn multiply<T: Real, const R: usize>(x: &mut [Block<T, R>], y: &[Block<T, R>]) {
    for (x, y) in x.iter_mut().zip(y) {
        for r in 0..R {
            for i in 0..LANES {
                x[r][i] *= y[r][i];
            }
        }
    }
}

/// Gradients of R queries: P being their weights, D the factors of dropout, G the gradient of the result,
/// `dV += (P D)^T G`, `U = (G V^T) D`, `dS = P (U - rowsum(U P)) scale`, `dQ = dS K`, `dK += dS^T Q`.
pub(super) struct Backward<'a, T, const R: usize> {
    pub(super) head: Head<'a, T, R>,
    /// Of the forward pass.
    pub(super) logs: [T; R],
    pub(super) scale: T,
    /// G as `[coordinate][R]`, and the values as `[block][coordinate][LANES]`.
    pub(super) gradients: &'a [T],
    pub(super) values: &'a [T],
    /// Coordinates of a value.
    pub(super) value_size: usize,
    /// `[slab][key][SLAB]`.
    pub(super) keys: &'a [[T; SLAB]],
    /// Queries and G as `[slab][R][SLAB]`.
    pub(super) rows: (&'a [Slab<T, R>], &'a [Slab<T, R>]),
    pub(super) drop: Option<&'a [Block<T, R>]>,
    /// Room for P and U.
    pub(super) room: (&'a mut [Block<T, R>], &'a mut [Block<T, R>]),
    /// Slopes come back in the room of U. `[slab][R][SLAB]`.
    pub(super) dq: &'a mut [Slab<T, R>],
    /// `[slab][key][SLAB]`.
    pub(super) dk: &'a mut [[T; SLAB]],
    pub(super) dv: &'a mut [[T; SLAB]],
}

impl<T: Real, const R: usize> Kernel for Backward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (p, u) = self.room;
        let mut along = [[T::zero(); LANES]; R];
        for (b, (p, u)) in p.iter_mut().zip(u.iter_mut()).enumerate() {
            *p = self.head.logits(isa, b);
            for r in 0..R {
                for i in 0..LANES {
                    p[r][i] = simd::exp2_below_value(isa, p[r][i] - self.logs[r]);
                }
            }
            let mut x = [[T::zero(); LANES]; R];
            product(
                isa,
                self.gradients,
                self.values,
                (b, self.value_size),
                &mut x,
            );
            if let Some(drop) = self.drop {
                for r in 0..R {
                    for i in 0..LANES {
                        x[r][i] *= drop[b][r][i];
                    }
                }
            }
            for r in 0..R {
                for i in 0..LANES {
                    along[r][i] = isa.mul_add(p[r][i], x[r][i], along[r][i]);
                }
            }
            *u = x;
        }
        let mut mean = [T::zero(); R];
        for r in 0..R {
            mean[r] = simd::total(along[r]);
        }
        for (p, u) in p.iter().zip(u.iter_mut()) {
            for r in 0..R {
                for i in 0..LANES {
                    u[r][i] = p[r][i] * (u[r][i] - mean[r]) * self.scale;
                }
            }
        }
        if let Some(drop) = self.drop {
            multiply(p, drop);
        }
        let keys = self.keys.len() / self.dq.len().max(1);
        for (s, dq) in self.dq.iter_mut().enumerate() {
            let part = s * keys..(s + 1) * keys;
            over_keys(isa, u, &self.keys[part.clone()], dq);
            over_queries(isa, u, &self.rows.0[s], &mut self.dk[part]);
        }
        for (s, rows) in self.rows.1.iter().enumerate() {
            over_queries(isa, p, rows, &mut self.dv[s * keys..(s + 1) * keys]);
        }
    }
}
