//! The register tiles of attention: R queries against blocks of [`LANES`] keys.
//!
//! R = 6 in f32 (3 in f64) makes twelve 256-bit vectors of sums, which leaves 4 of the 16 registers of AVX2 for operands. In products over
//! coordinates lanes are keys; in sums over keys lanes are coordinates. Logits are in base 2.

mod backward;
mod forward;

use decalign_core::Real;
use decalign_core::simd::{Isa, LANES};

use super::layout::{QUAD, SLAB};

pub(super) use backward::Backward;
pub(super) use forward::{Forward, OnlineSoftmax};

/// Values of a block of keys for R queries.
pub(super) type Block<T, const R: usize> = [[T; LANES]; R];

/// Values of R queries in a slab of coordinates.
pub(super) type Slab<T, const R: usize> = [[T; SLAB]; R];

/// R queries and some blocks of the keys of their head.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a, T, const R: usize> {
    /// Coordinate by coordinate, multiplied by scale and log2 e.
    pub(super) queries: &'a [[T; R]],
    /// The coordinates of a block of keys, block after block.
    pub(super) keys: &'a [[T; LANES]],
    /// Initial values of the logits of each block: -inf where there is no key.
    pub(super) initial_logits: &'a [[T; LANES]],
    /// Initial values where they differ between queries.
    pub(super) query_logits: Option<&'a [Block<T, R>]>,
    /// The number of blocks that some of the queries see.
    pub(super) blocks: usize,
    /// True if logits are so small that the largest need not be subtracted.
    pub(super) small: bool,
}

impl<T: Real, const R: usize> Tile<'_, T, R> {
    /// The logits of a block of keys; OWN if initial values differ between queries. A constant, because a branch at run time would spill
    /// the sums of both cases to memory.
    #[inline(always)]
    fn logits<I: Isa, const OWN: bool>(&self, isa: I, b: usize) -> Block<T, R> {
        let keys = block(self.keys, b, self.queries.len());
        match self.query_logits {
            Some(initial) if OWN => product(isa, self.queries, keys, initial[b]),
            _ => product(isa, self.queries, keys, [self.initial_logits[b]; R]),
        }
    }
}

/// Sets the weights that dropout drops to 0; one bit for each key.
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

/// Adds `sum_j w[j][r] y[j]` over all blocks for two slabs of coordinates, or for the even and odd keys of one slab: either way 2 R
/// independent sums hide the latency of the additions.
#[inline(always)]
fn over_keys<T: Real, I: Isa, const R: usize>(
    isa: I,
    w: &[Block<T, R>],
    (y, slabs, pair): (&[[T; SLAB]], usize, (usize, usize)),
    step: usize,
    (mut first, mut second): (Slab<T, R>, Slab<T, R>),
) -> (Slab<T, R>, Slab<T, R>) {
    for (w, y) in w.iter().zip(y.chunks_exact(slabs * LANES)) {
        let y = y.as_chunks::<LANES>().0;
        let (a, b) = (&y[pair.0], &y[pair.1]);
        for j in (0..LANES).step_by(step) {
            let k = j + step - 1;
            // Both sums of a weight before the next weight: R broadcast weights do not fit the registers.
            for r in 0..R {
                isa.add_scaled(w[r][j], &a[j], &mut first[r]);
                isa.add_scaled(w[r][k], &b[k], &mut second[r]);
            }
        }
    }
    (first, second)
}

/// Adds `sum_j w[j][r] y[j]` over all blocks for y in quads: a vector holds four keys of four coordinates.
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

/// `out[r] += sum_j w[j][r] y[j]`; y is in quads if a head has at most [`QUAD`] coordinates, in slabs otherwise.
#[inline(always)]
fn add_over_keys<T: Real, I: Isa, const R: usize>(
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
                let pair = (2 * s, 2 * s + 1);
                (*a, *b) = over_keys(isa, w, (y, slabs, pair), 1, (*a, *b));
            }
            rest => {
                let (pair, zero) = ((2 * s, 2 * s), [[T::zero(); SLAB]; R]);
                let (mut a, b) = over_keys(isa, w, (y, slabs, pair), 2, (rest[0], zero));
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
