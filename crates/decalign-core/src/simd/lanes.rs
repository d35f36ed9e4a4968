//! Loops over several slices at once, some of them written to.
//!
//! A compiler makes vector code of a loop over slices only when it can rule out that they overlap.
//! Loading a block of each into arrays, computing on those and storing them back needs no such
//! proof; and it must know how long the arrays are, so whole blocks and the rest are two loops.

use crate::Real;

/// Elements of a block: one to four vectors.
pub const LANES: usize = 16;

/// Runs a loop body on the blocks of slices of `n` elements, in order: [`Whole`] ones of
/// [`LANES`](crate::simd::LANES) elements, then the [`Rest`].
///
/// A macro, because the body must become part of the kernel around it: a closure would not be
/// compiled for its instruction set.
///
/// [`Whole`]: crate::simd::Whole
/// [`Rest`]: crate::simd::Rest
///
/// ```
/// use decalign_core::{for_blocks, simd};
/// let (x, mut y) = ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]);
/// for_blocks!(block in 3, {
///     let (a, mut b) = (block.load(&x), block.load(&y));
///     for i in 0..simd::LANES {
///         b[i] += 2.0 * a[i];
///     }
///     block.store(b, &mut y);
/// });
/// assert_eq!(y, [12.0, 24.0, 36.0]);
/// ```
#[macro_export]
macro_rules! for_blocks {
    ($block:ident in $n:expr, $body:block) => {{
        let n: usize = $n;
        for $block in $crate::simd::Whole::of(n) $body
        if let Some($block) = $crate::simd::Rest::of(n) $body
    }};
}

/// [`LANES`] neighbouring elements.
#[derive(Clone, Copy, Debug)]
pub struct Whole {
    start: usize,
}

/// The last, fewer than [`LANES`] elements.
#[derive(Clone, Copy, Debug)]
pub struct Rest {
    start: usize,
    len: usize,
}

impl Whole {
    /// The whole blocks of `n` elements.
    #[inline(always)]
    pub fn of(n: usize) -> impl Iterator<Item = Self> {
        (0..n / LANES).map(|block| Self {
            start: block * LANES,
        })
    }

    /// The elements of the block.
    ///
    /// # Panics
    /// When `x` is shorter than the slices that the block is of.
    #[inline(always)]
    pub fn load<T: Real>(self, x: &[T]) -> [T; LANES] {
        let mut lanes = [T::zero(); LANES];
        lanes.copy_from_slice(&x[self.start..][..LANES]);
        lanes
    }

    /// The lanes as they are.
    #[inline(always)]
    pub fn within<T: Real>(self, lanes: [T; LANES]) -> [T; LANES] {
        lanes
    }

    /// Writes the elements back.
    ///
    /// # Panics
    /// When `x` is shorter than the slices that the block is of.
    #[inline(always)]
    pub fn store<T: Real>(self, lanes: [T; LANES], x: &mut [T]) {
        x[self.start..][..LANES].copy_from_slice(&lanes);
    }
}

impl Rest {
    /// What whole blocks leave of `n` elements, if anything.
    #[inline(always)]
    pub fn of(n: usize) -> Option<Self> {
        let len = n % LANES;
        (len > 0).then_some(Self {
            start: n - len,
            len,
        })
    }

    /// The elements of the block, zeros behind the end.
    ///
    /// # Panics
    /// When `x` is shorter than the slices that the block is of.
    #[inline(always)]
    pub fn load<T: Real>(self, x: &[T]) -> [T; LANES] {
        let mut lanes = [T::zero(); LANES];
        for (lane, x) in lanes.iter_mut().zip(&x[self.start..][..self.len]) {
            *lane = *x;
        }
        lanes
    }

    /// The lanes with zeros behind the end.
    #[inline(always)]
    pub fn within<T: Real>(self, mut lanes: [T; LANES]) -> [T; LANES] {
        lanes[self.len..].fill(T::zero());
        lanes
    }

    /// Writes the elements back.
    ///
    /// # Panics
    /// When `x` is shorter than the slices that the block is of.
    #[inline(always)]
    pub fn store<T: Real>(self, lanes: [T; LANES], x: &mut [T]) {
        for (x, lane) in x[self.start..][..self.len].iter_mut().zip(lanes) {
            *x = lane;
        }
    }
}

/// The sum of the lanes, pairwise.
#[inline(always)]
pub fn total<T: Real>(lanes: [T; LANES]) -> T {
    // Opaque, or the compiler narrows the loop that made the lanes to the pairs added here.
    let mut lanes = std::hint::black_box(lanes);
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_cover_every_element_once(n in 0usize..100) {
            let x: Vec<f64> = (0..n).map(|i| i as f64).collect();
            let mut seen = vec![0.0; n];
            let mut sum = 0.0;
            for_blocks!(block in n, {
                let mut s = block.load(&seen);
                s.iter_mut().for_each(|v| *v += 1.0);
                block.store(s, &mut seen);
                sum += total(block.load(&x));
            });
            prop_assert!(seen.iter().all(|v| *v == 1.0));
            prop_assert_eq!(sum, (n * n.saturating_sub(1) / 2) as f64);
        }
    }
}
