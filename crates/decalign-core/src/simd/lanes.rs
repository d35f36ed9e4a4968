//! Loops over several slices at once, some of them written to.
//!
//! A compiler makes vector code of a loop over slices only when it can rule out that they overlap.
//! Loading a [`Block`] of each into arrays, computing on those and storing them back needs no such
//! proof.

use crate::Real;

/// Elements of a block: one to four vectors.
pub const LANES: usize = 16;

/// Up to [`LANES`] neighbouring elements of slices of one length.
#[derive(Clone, Copy, Debug)]
pub struct Block {
    start: usize,
    len: usize,
}

/// The blocks of slices of `n` elements, in order; only the last may be short.
///
/// An iterator, not a function that takes a closure: the body of a loop is compiled for the
/// instruction set of the kernel around it, a closure need not be.
///
/// ```
/// use decalign_core::simd;
/// let (x, mut y) = ([1.0, 2.0, 3.0], [10.0, 20.0, 30.0]);
/// for block in simd::blocks(3) {
///     let (a, mut b) = (block.load(&x), block.load(&y));
///     for i in 0..simd::LANES {
///         b[i] += 2.0 * a[i];
///     }
///     block.store(b, &mut y);
/// }
/// assert_eq!(y, [12.0, 24.0, 36.0]);
/// ```
#[inline(always)]
pub fn blocks(n: usize) -> impl Iterator<Item = Block> {
    (0..n).step_by(LANES).map(move |start| Block {
        start,
        len: LANES.min(n - start),
    })
}

impl Block {
    /// The elements of the block, zeros behind the end.
    ///
    /// # Panics
    /// When `x` is shorter than the slices that the block is of.
    #[inline(always)]
    pub fn load<T: Real>(self, x: &[T]) -> [T; LANES] {
        let x = &x[self.start..][..self.len];
        // A copy of known length is a load.
        if let Ok(whole) = x.try_into() {
            return whole;
        }
        let mut lanes = [T::zero(); LANES];
        for (lane, x) in lanes.iter_mut().zip(x) {
            *lane = *x;
        }
        lanes
    }

    /// Writes the elements back.
    ///
    /// # Panics
    /// When `x` is shorter than the slices that the block is of.
    #[inline(always)]
    pub fn store<T: Real>(self, lanes: [T; LANES], x: &mut [T]) {
        let x = &mut x[self.start..][..self.len];
        if let Ok(whole) = <&mut [T; LANES]>::try_from(&mut *x) {
            *whole = lanes;
            return;
        }
        for (x, lane) in x.iter_mut().zip(lanes) {
            *x = lane;
        }
    }
}

/// The sum of the lanes, pairwise.
#[inline(always)]
pub fn total<T: Real>(mut lanes: [T; LANES]) -> T {
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
            for block in blocks(n) {
                let mut s = block.load(&seen);
                s.iter_mut().for_each(|v| *v += 1.0);
                block.store(s, &mut seen);
                sum += total(block.load(&x));
            }
            prop_assert!(seen.iter().all(|v| *v == 1.0));
            prop_assert_eq!(sum, (n * n.saturating_sub(1) / 2) as f64);
        }
    }
}
