//! A few queries against all keys, forward and backward: the tiles of attention.
//!
//! `R` queries and [`LANES`] keys at a time, twelve vectors of sums. Sums over coordinates run over keys side by
//! side, sums over keys over coordinates. Logits count in base 2.

use decalign_core::Real;
use decalign_core::random::{Number, is_below};
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::pack::SLAB;

/// The numbers of a block of keys for R queries.
pub(super) type Block<T, const R: usize> = [[T; LANES]; R];

/// Numbers of R queries in a slab of coordinates.
pub(super) type Slab<T, const R: usize> = [[T; SLAB]; R];

/// R queries and the keys of their head.
#[derive(Clone, Copy)]
pub(super) struct Head<'a, T, const R: usize> {
    /// One coordinate after the other, times scale and log2 e.
    pub(super) queries: &'a [[T; R]],
    /// The coordinates of a block of keys, block after block.
    pub(super) keys: &'a [[T; LANES]],
    /// What the logits of a block start from: -inf where there is no key.
    pub(super) start: &'a [[T; LANES]],
    /// The same where it differs from query to query.
    pub(super) starts: Option<&'a [Block<T, R>]>,
    /// The first query's number, where no query sees a later key.
    pub(super) causal: Option<usize>,
}

impl<T: Real, const R: usize> Head<'_, T, R> {
    /// How many blocks of keys some of the queries see.
    fn blocks(&self) -> usize {
        match self.causal {
            Some(first) => self.start.len().min((first + R).div_ceil(LANES)),
            None => self.start.len(),
        }
    }

    /// The logits of a block of keys.
    #[inline(always)]
    fn logits<I: Isa>(&self, isa: I, b: usize) -> Block<T, R> {
        let start = match self.starts {
            Some(starts) => starts[b],
            None => [self.start[b]; R],
        };
        let mut x = product(
            isa,
            self.queries,
            block(self.keys, b, self.queries.len()),
            start,
        );
        if let Some(first) = self.causal.filter(|first| (b + 1) * LANES > *first) {
            for r in 0..R {
                for i in 0..LANES {
                    let later = b * LANES + i > first + r;
                    x[r][i] = if later { T::neg_infinity() } else { x[r][i] };
                }
            }
        }
        x
    }
}

/// Which weights dropout leaves: those whose number is below a bound.
#[derive(Clone, Copy)]
pub(super) struct Chosen<'a> {
    /// Query after query, and a block more behind the end.
    pub(super) numbers: &'a [Number],
    /// How many numbers a query has.
    pub(super) keys: usize,
    pub(super) below: u32,
}

impl Chosen<'_> {
    #[inline(always)]
    fn keep<T: Real, const R: usize>(&self, b: usize, x: &mut Block<T, R>) {
        for r in 0..R {
            let mut numbers = [[0; 2]; LANES];
            numbers.copy_from_slice(&self.numbers[r * self.keys + b * LANES..][..LANES]);
            for i in 0..LANES {
                // A factor: the compiler would make a choice of x itself a masked store, which is slow.
                x[r][i] *= T::kept(T::one(), is_below(numbers[i], self.below));
            }
        }
    }
}

/// The rows of block b.
#[inline(always)]
fn block<T, const N: usize>(x: &[[T; N]], b: usize, size: usize) -> &[[T; N]] {
    &x[b * size..][..size]
}

/// `x[r] + sum_c a[c][r] b[c]`.
#[inline(always)]
fn product<T: Real, I: Isa, const R: usize>(
    isa: I,
    a: &[[T; R]],
    b: &[[T; LANES]],
    mut x: Block<T, R>,
) -> Block<T, R> {
    for (a, b) in a.iter().zip(b) {
        for r in 0..R {
            isa.add_scaled(a[r], b, &mut x[r]);
        }
    }
    x
}

/// `out[c] += sum_r a[c][r] x[r]`.
#[inline(always)]
fn add_product<T: Real, I: Isa, const R: usize>(
    isa: I,
    a: &[[T; R]],
    x: &Block<T, R>,
    out: &mut [[T; LANES]],
) {
    let x = *x;
    for (a, out) in a.iter().zip(out) {
        let mut sum = *out;
        for r in 0..R {
            isa.add_scaled(a[r], &x[r], &mut sum);
        }
        *out = sum;
    }
}

/// `sum_j w[j][r] y[j]` over all blocks, of one slab or of two; with one, even and odd keys are summed apart, so that there are as
/// many sums.
#[inline(always)]
fn over_keys<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    y: (&[[T; SLAB]], &[[T; SLAB]]),
    step: usize,
) -> (Slab<T, R>, Slab<T, R>) {
    let (mut first, mut second) = ([[T::zero(); SLAB]; R], [[T::zero(); SLAB]; R]);
    let blocks =
        y.0.as_chunks::<LANES>()
            .0
            .iter()
            .zip(y.1.as_chunks::<LANES>().0);
    for (w, (a, b)) in w.iter().zip(blocks) {
        for j in (0..LANES).step_by(step) {
            let k = j + step - 1;
            for r in 0..R {
                isa.add_scaled(w[r][j], &a[j], &mut first[r]);
            }
            for r in 0..R {
                isa.add_scaled(w[r][k], &b[k], &mut second[r]);
            }
        }
    }
    (first, second)
}

/// `out[r] = factor[r] sum_j w[j][r] y[j]`, slabs being stored one after the other.
#[inline(always)]
fn all_over_keys<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    y: &[[T; SLAB]],
    factor: &[T; R],
    out: &mut [Slab<T, R>],
) {
    let keys = y.len() / out.len().max(1);
    for (s, out) in out.chunks_mut(2).enumerate() {
        let first = &y[2 * s * keys..][..keys];
        match out {
            [a, b] => {
                let sums = over_keys(isa, w, (first, &y[(2 * s + 1) * keys..][..keys]), 1);
                (*a, *b) = (scaled(sums.0, factor), scaled(sums.1, factor));
            }
            rest => {
                let (mut a, b) = over_keys(isa, w, (first, first), 2);
                for r in 0..R {
                    for i in 0..SLAB {
                        a[r][i] += b[r][i];
                    }
                }
                rest[0] = scaled(a, factor);
            }
        }
    }
}

#[inline(always)]
fn scaled<T: Real, const R: usize>(mut x: Slab<T, R>, factor: &[T; R]) -> Slab<T, R> {
    for r in 0..R {
        for i in 0..SLAB {
            x[r][i] *= factor[r];
        }
    }
    x
}

/// Results of R queries, and the base-2 logarithms of their weights' sums.
pub(super) struct Forward<'a, T, const R: usize> {
    pub(super) head: Head<'a, T, R>,
    /// Slab after slab; where weights are dropped, times what makes up for it.
    pub(super) values: &'a [[T; SLAB]],
    pub(super) chosen: Option<Chosen<'a>>,
    /// Room for the weights of all blocks.
    pub(super) weights: &'a mut [Block<T, R>],
    /// Slab after slab.
    pub(super) out: &'a mut [Slab<T, R>],
}

impl<T: Real, const R: usize> Kernel for Forward<'_, T, R> {
    type Output = [T; R];

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> [T; R] {
        let weights = &mut self.weights[..self.head.blocks()];
        let mut most = [[T::neg_infinity(); LANES]; R];
        for (b, w) in weights.iter_mut().enumerate() {
            let x = self.head.logits(isa, b);
            for r in 0..R {
                for i in 0..LANES {
                    // NaN is taken.
                    let keep = most[r][i] >= x[r][i];
                    most[r][i] = if keep { most[r][i] } else { x[r][i] };
                }
            }
            *w = x;
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
        for (b, w) in weights.iter_mut().enumerate() {
            for r in 0..R {
                for i in 0..LANES {
                    w[r][i] = simd::exp2_below_value(isa, w[r][i] - shift[r]);
                }
                for i in 0..LANES {
                    sums[r][i] += w[r][i];
                }
            }
            if let Some(chosen) = &self.chosen {
                chosen.keep(b, w);
            }
        }
        let (mut scale, mut logs) = ([T::zero(); R], [T::infinity(); R]);
        for r in 0..R {
            let sum = simd::total(sums[r]);
            if sum != T::zero() {
                (scale[r], logs[r]) = (sum.recip(), shift[r] + sum.log2());
            }
        }
        all_over_keys(isa, weights, self.values, &scale, self.out);
        logs
    }
}

/// The largest of some numbers; NaN where there is one.
fn largest<T: Real>(x: &[T; LANES]) -> T {
    x.iter()
        .fold(T::neg_infinity(), |a, v| if a >= *v { a } else { *v })
}

/// Gradients of R queries: P being their weights, D the factors of dropout, G the gradient of the result,
/// `dV += (P D)^T G`, `U = (G V^T) D`, `dS = P (U - rowsum(U P))`, `dQ = dS K`, `dK += dS^T Q`, each but
/// for a factor. The sum of `U P` is `G` times the result (Dao and others, 2022, section 3.1 of the appendix).
pub(super) struct Backward<'a, T, const R: usize> {
    pub(super) head: Head<'a, T, R>,
    /// Of the forward pass.
    pub(super) logs: [T; R],
    /// G times the result, of each query.
    pub(super) mean: [T; R],
    /// G, one coordinate after the other.
    pub(super) gradients: &'a [[T; R]],
    /// As the keys; where weights are dropped, times what makes up for it.
    pub(super) values: &'a [[T; LANES]],
    /// Slab after slab.
    pub(super) key_slabs: &'a [[T; SLAB]],
    pub(super) scale: T,
    pub(super) chosen: Option<Chosen<'a>>,
    /// dS comes back here, block after block.
    pub(super) slopes: &'a mut [Block<T, R>],
    /// Slab after slab.
    pub(super) dq: &'a mut [Slab<T, R>],
    /// As keys and values.
    pub(super) dk: &'a mut [[T; LANES]],
    pub(super) dv: &'a mut [[T; LANES]],
}

impl<T: Real, const R: usize> Kernel for Backward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (size, value_size) = (self.head.queries.len(), self.gradients.len());
        let (seen, hidden) = self.slopes.split_at_mut(self.head.blocks());
        hidden.fill([[T::zero(); LANES]; R]);
        for (b, slopes) in seen.iter_mut().enumerate() {
            let mut p = self.head.logits(isa, b);
            for r in 0..R {
                for i in 0..LANES {
                    p[r][i] = simd::exp2_below_value(isa, p[r][i] - self.logs[r]);
                }
            }
            let values = block(self.values, b, value_size);
            let mut u = product(isa, self.gradients, values, [[T::zero(); LANES]; R]);
            if let Some(chosen) = &self.chosen {
                chosen.keep(b, &mut u);
            }
            for r in 0..R {
                for i in 0..LANES {
                    u[r][i] = p[r][i] * (u[r][i] - self.mean[r]);
                }
            }
            *slopes = u;
            let dk = &mut self.dk[b * size..][..size];
            add_product(isa, self.head.queries, &u, dk);
            if let Some(chosen) = &self.chosen {
                chosen.keep(b, &mut p);
            }
            let dv = &mut self.dv[b * value_size..][..value_size];
            add_product(isa, self.gradients, &p, dv);
        }
        all_over_keys(isa, seen, self.key_slabs, &[self.scale; R], self.dq);
    }
}
