//! A few queries against some blocks of keys, forward and backward: the tiles of attention.
//!
//! `R` queries and [`LANES`] keys at a time, twelve vectors of sums. Sums over coordinates run over keys side by
//! side, sums over keys over coordinates. Logits count in base 2.

use decalign_core::Real;
use decalign_core::simd::{self, Isa, Kernel, LANES};

use super::pack::{QUAD, SLAB};

/// The numbers of a block of keys for R queries.
pub(super) type Block<T, const R: usize> = [[T; LANES]; R];

/// Numbers of R queries in a slab of coordinates.
pub(super) type Slab<T, const R: usize> = [[T; SLAB]; R];

/// R queries and some blocks of their head's keys.
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
    /// How many of the blocks some of the queries see.
    pub(super) blocks: usize,
    /// Whether logits are so small that weights need not be counted from the largest.
    pub(super) small: bool,
}

impl<T: Real, const R: usize> Head<'_, T, R> {
    /// The logits of a block of keys; OWN says that queries start from their own. (Known when compiled: otherwise the
    /// sums of both cases go through memory.)
    #[inline(always)]
    fn logits<I: Isa, const OWN: bool>(&self, isa: I, b: usize) -> Block<T, R> {
        let keys = block(self.keys, b, self.queries.len());
        match self.starts {
            Some(starts) if OWN => product(isa, self.queries, keys, starts[b]),
            _ => product(isa, self.queries, keys, [self.start[b]; R]),
        }
    }
}

/// Sets weights to 0 that dropout does not leave; a bit a key.
#[inline(always)]
fn keep<T: Real, I: Isa, const R: usize>(isa: I, bits: &[u16; R], x: &mut Block<T, R>) {
    for r in 0..R {
        x[r] = isa.kept(&x[r], bits[r]);
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

/// Adds `sum_j w[j][r] y[j]` over all blocks, in two places of the slabs of each; if they are the same, even and odd keys
/// are summed apart, so that there are as many sums.
#[inline(always)]
fn over_keys<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    (y, slabs, places): (&[[T; SLAB]], usize, (usize, usize)),
    step: usize,
    (mut first, mut second): (Slab<T, R>, Slab<T, R>),
) -> (Slab<T, R>, Slab<T, R>) {
    for (w, y) in w.iter().zip(y.chunks_exact(slabs * LANES)) {
        let y = y.as_chunks::<LANES>().0;
        let (a, b) = (&y[places.0], &y[places.1]);
        for j in (0..LANES).step_by(step) {
            let k = j + step - 1;
            // Both sums of a weight before the next weight: there are no registers for all R.
            for r in 0..R {
                isa.add_scaled(w[r][j], &a[j], &mut first[r]);
                isa.add_scaled(w[r][k], &b[k], &mut second[r]);
            }
        }
    }
    (first, second)
}

/// Adds `sum_j w[j][r] y[j]` over all blocks, y being in quads: four keys and four coordinates a vector.
#[inline(always)]
fn over_quads<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    y: &[[T; SLAB]],
    out: &mut Slab<T, R>,
) {
    let mut sums = [[T::zero(); LANES]; R];
    for (w, y) in w.iter().zip(y.as_flattened().chunks_exact(QUAD * LANES)) {
        for (g, y) in y.as_chunks::<LANES>().0.iter().enumerate() {
            for r in 0..R {
                isa.add_repeated(&w[r].as_chunks::<QUAD>().0[g], y, &mut sums[r]);
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(&sums) {
        for (out, s) in out.iter_mut().zip(sums.as_chunks::<QUAD>().0) {
            *out += (s[0] + s[1]) + (s[2] + s[3]);
        }
    }
}

/// `out[r] += sum_j w[j][r] y[j]`, slabs of `out` being stored one after the other, those of y block by block, if a head
/// has more than a quad of coordinates.
#[inline(always)]
fn all_over_keys<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    (y, size): (&[[T; SLAB]], usize),
    out: &mut [Slab<T, R>],
) {
    if size <= QUAD {
        return over_quads(isa, w, y, &mut out[0]);
    }
    let slabs = out.len();
    for (s, out) in out.chunks_mut(2).enumerate() {
        match out {
            [a, b] => {
                let places = (2 * s, 2 * s + 1);
                (*a, *b) = over_keys(isa, w, (y, slabs, places), 1, (*a, *b));
            }
            rest => {
                let (places, zero) = ((2 * s, 2 * s), [[T::zero(); SLAB]; R]);
                let (mut a, b) = over_keys(isa, w, (y, slabs, places), 2, (rest[0], zero));
                for r in 0..R {
                    for i in 0..SLAB {
                        a[r][i] += b[r][i];
                    }
                }
                rest[0] = a;
            }
        }
    }
}

/// What R queries have seen of their keys.
#[derive(Clone, Copy)]
pub(super) struct Seen<T, const R: usize> {
    /// What weights are counted from: the largest logits, or 0 where logits are small.
    most: [T; SLAB],
    /// The sums of weights by lanes, each divided by two to the power of the largest logit.
    sums: Block<T, R>,
}

impl<T: Real, const R: usize> Seen<T, R> {
    /// Nothing yet.
    pub(super) fn new() -> Self {
        Self {
            most: [T::neg_infinity(); SLAB],
            sums: [[T::zero(); LANES]; R],
        }
    }

    /// For each query what its results are to be multiplied by, and the base-2 logarithm of its sum of weights.
    #[inline(always)]
    pub(super) fn end<I: Isa>(&self, isa: I) -> ([T; SLAB], [T; SLAB]) {
        let mut halves = [[T::zero(); SLAB]; SLAB];
        for r in 0..R {
            for i in 0..SLAB {
                halves[r][i] = self.sums[r][i] + self.sums[r][i + SLAB];
            }
        }
        let mut totals = [T::zero(); SLAB];
        for column in &isa.transposed(halves.each_ref()) {
            for i in 0..SLAB {
                totals[i] += column[i];
            }
        }
        let (mut scale, mut logs) = ([T::zero(); SLAB], [T::zero(); SLAB]);
        for i in 0..SLAB {
            let sum = totals[i];
            let log = simd::ln_value(isa, sum) * T::of(std::f64::consts::LOG2_E);
            // Where nothing was seen, weights are 0 and not NaN.
            let seen = sum != T::zero();
            scale[i] = if seen { sum.recip() } else { sum };
            logs[i] = if seen {
                shift(self.most[i]) + log
            } else {
                T::infinity()
            };
        }
        (scale, logs)
    }
}

/// What logits are counted from: the largest, if there is one.
#[inline(always)]
fn shift<T: Real>(most: T) -> T {
    if most == T::neg_infinity() {
        T::zero()
    } else {
        most
    }
}

/// Results of R queries, still to be divided by their weights' sums: those over the keys seen so far, and these.
pub(super) struct Forward<'a, T, const R: usize> {
    pub(super) head: Head<'a, T, R>,
    /// Where weights are dropped, times what makes up for it; and how many coordinates each has.
    pub(super) values: (&'a [[T; SLAB]], usize),
    /// Which weights dropout leaves, block after block.
    pub(super) chosen: Option<&'a [[u16; R]]>,
    /// Room for the weights of the blocks.
    pub(super) weights: &'a mut [Block<T, R>],
    pub(super) seen: &'a mut Seen<T, R>,
    /// Slab after slab.
    pub(super) out: &'a mut [Slab<T, R>],
}

impl<T: Real, const R: usize> Forward<'_, T, R> {
    /// Logits, and where they are not small what is counted from: the largest so far.
    #[inline(always)]
    fn logits<I: Isa, const OWN: bool>(&mut self, isa: I) {
        if !OWN && self.head.small {
            for b in 0..self.head.blocks {
                self.weights[b] = self.head.logits::<I, false>(isa, b);
            }
            self.seen.most = [T::zero(); SLAB];
            return;
        }
        let mut most = [[T::neg_infinity(); LANES]; R];
        for b in 0..self.head.blocks {
            let x = self.head.logits::<I, OWN>(isa, b);
            for r in 0..R {
                larger(&mut most[r], &x[r]);
            }
            self.weights[b] = x;
        }
        let before = self.seen.most;
        let most = largest(isa, &most, before);
        rescale(isa, (&before, &most), &mut self.seen.sums, self.out);
        self.seen.most = most;
    }

    /// Logits become weights, of which some are dropped.
    #[inline(always)]
    fn weigh<I: Isa>(&mut self, isa: I) {
        let (mut sums, mut shifts) = (self.seen.sums, [T::zero(); R]);
        for r in 0..R {
            shifts[r] = shift(self.seen.most[r]);
        }
        for (b, w) in self.weights[..self.head.blocks].iter_mut().enumerate() {
            for r in 0..R {
                for i in 0..LANES {
                    w[r][i] = simd::exp2_below_value(isa, w[r][i] - shifts[r]);
                }
                for i in 0..LANES {
                    sums[r][i] += w[r][i];
                }
            }
            if let Some(chosen) = &self.chosen {
                keep(isa, &chosen[b], w);
            }
        }
        self.seen.sums = sums;
    }
}

impl<T: Real, const R: usize> Kernel for Forward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        match self.head.starts {
            Some(_) => self.logits::<I, true>(isa),
            None => self.logits::<I, false>(isa),
        }
        self.weigh(isa);
        let weights = &self.weights[..self.head.blocks];
        all_over_keys(isa, weights, self.values, self.out);
    }
}

/// The larger of two numbers, place by place.
#[inline(always)]
fn larger<T: Real, const N: usize>(a: &mut [T; N], b: &[T; N]) {
    for i in 0..N {
        a[i] = if a[i] >= b[i] { a[i] } else { b[i] };
    }
}

/// The largest number of each row, and of what was there before.
#[inline(always)]
fn largest<T: Real, I: Isa, const R: usize>(
    isa: I,
    rows: &Block<T, R>,
    mut before: [T; SLAB],
) -> [T; SLAB] {
    let mut halves = [[T::neg_infinity(); SLAB]; SLAB];
    for r in 0..R {
        for i in 0..SLAB {
            let (a, b) = (rows[r][i], rows[r][i + SLAB]);
            halves[r][i] = if a >= b { a } else { b };
        }
    }
    for column in &isa.transposed(halves.each_ref()) {
        larger(&mut before, column);
    }
    before
}

/// Counts what was summed so far from a new largest logit.
#[inline(always)]
fn rescale<T: Real, I: Isa, const R: usize>(
    isa: I,
    (before, now): (&[T; SLAB], &[T; SLAB]),
    sums: &mut Block<T, R>,
    out: &mut [Slab<T, R>],
) {
    let mut factors = [T::zero(); SLAB];
    let mut same = true;
    for r in 0..R {
        // Sums of nothing are 0 whatever they are counted from.
        if before[r] != now[r] && before[r] != T::neg_infinity() {
            factors[r] = before[r] - now[r];
            same = false;
        }
    }
    if same {
        return;
    }
    for factor in &mut factors {
        *factor = simd::exp2_below_value(isa, *factor);
    }
    for r in 0..R {
        sums[r] = isa.scaled(factors[r], &sums[r]);
        for out in &mut *out {
            out[r] = isa.scaled(factors[r], &out[r]);
        }
    }
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
    pub(super) key_slabs: &'a [[T; SLAB]],
    /// Which weights dropout leaves, block after block.
    pub(super) chosen: Option<&'a [[u16; R]]>,
    /// dS comes back here, block after block.
    pub(super) slopes: &'a mut [Block<T, R>],
    /// Of the keys so far and these, slab after slab.
    pub(super) dq: &'a mut [Slab<T, R>],
    /// As keys and values.
    pub(super) dk: &'a mut [[T; LANES]],
    pub(super) dv: &'a mut [[T; LANES]],
}

impl<T: Real, const R: usize> Backward<'_, T, R> {
    /// Slopes, and gradients of keys and values.
    #[inline(always)]
    fn slopes<I: Isa, const OWN: bool>(&mut self, isa: I) {
        let (size, value_size) = (self.head.queries.len(), self.gradients.len());
        for b in 0..self.head.blocks {
            let mut p = self.head.logits::<I, OWN>(isa, b);
            for r in 0..R {
                for i in 0..LANES {
                    p[r][i] = simd::exp2_below_value(isa, p[r][i] - self.logs[r]);
                }
            }
            let values = block(self.values, b, value_size);
            let mut u = product(isa, self.gradients, values, [[T::zero(); LANES]; R]);
            if let Some(chosen) = &self.chosen {
                keep(isa, &chosen[b], &mut u);
            }
            for r in 0..R {
                for i in 0..LANES {
                    u[r][i] = p[r][i] * (u[r][i] - self.mean[r]);
                }
            }
            self.slopes[b] = u;
            let dk = &mut self.dk[b * size..][..size];
            add_product(isa, self.head.queries, &u, dk);
            if let Some(chosen) = &self.chosen {
                keep(isa, &chosen[b], &mut p);
            }
            let dv = &mut self.dv[b * value_size..][..value_size];
            add_product(isa, self.gradients, &p, dv);
        }
    }
}

impl<T: Real, const R: usize> Kernel for Backward<'_, T, R> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(mut self, isa: I) {
        match self.head.starts {
            Some(_) => self.slopes::<I, true>(isa),
            None => self.slopes::<I, false>(isa),
        }
        let (seen, hidden) = self.slopes.split_at_mut(self.head.blocks);
        hidden.fill([[T::zero(); LANES]; R]);
        let keys = (self.key_slabs, self.head.queries.len());
        all_over_keys(isa, seen, keys, self.dq);
    }
}
