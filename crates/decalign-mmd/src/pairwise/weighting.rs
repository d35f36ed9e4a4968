//! Products of slopes and weights, and their sums.

use decalign_core::Real;
use decalign_core::pairs::CHUNK;
use decalign_core::simd::{self, Isa, LANES};

use crate::kernel::Buffer;

/// `to = scale slope a b`, added to `to` if `add`; returns `sum to u` where the bandwidth is learned.
pub(super) struct WeightedSlopes<'a, T> {
    pub(super) slopes: &'a Buffer<T>,
    pub(super) u: &'a Buffer<T>,
    pub(super) weights: (&'a [T], &'a [T]),
    /// Takes the place of `a b`.
    pub(super) outer: Option<&'a Buffer<T>>,
    pub(super) scale: T,
    pub(super) add: bool,
    pub(super) learned: bool,
    pub(super) to: &'a mut Buffer<T>,
}

impl<T: Real> simd::Kernel for WeightedSlopes<'_, T> {
    type Output = T;
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> T {
        let (a, b) = self.weights;
        let mut total = T::zero();
        let rows = self.to.as_chunks_mut::<CHUNK>().0.iter_mut().zip(a);
        for (r, (to, a)) in rows.enumerate() {
            let a = *a * self.scale;
            let slopes = &self.slopes.as_chunks::<CHUNK>().0[r][..b.len()];
            // Flat loops over slices: the compiler does not vectorise loops over arrays of lanes here.
            let to = to[..b.len()].iter_mut().zip(slopes);
            let mut row = [T::zero(); CHUNK];
            let w = &mut row[..b.len()];
            match self.outer {
                None => w.iter_mut().zip(b).for_each(|(w, b)| *w = a * *b),
                Some(outer) => {
                    let outer = &outer.as_chunks::<CHUNK>().0[r];
                    w.iter_mut()
                        .zip(outer)
                        .for_each(|(w, o)| *w = self.scale * *o);
                }
            }
            match self.add {
                false => to.zip(&*w).for_each(|((to, s), w)| *to = *w * *s),
                true => to
                    .zip(&*w)
                    .for_each(|((to, s), w)| *to = isa.mul_add(*w, *s, *to)),
            }
            if self.learned {
                let u = &self.u.as_chunks::<CHUNK>().0[r];
                let each = w.iter().zip(slopes).zip(u);
                total = each.fold(total, |sum, ((w, s), u)| isa.mul_add(*w * *s, *u, sum));
            }
        }
        total
    }
}

/// Row sums `W b` and column sums `W^T a`.
pub(super) struct RowColumnSums<'a, T>(
    pub(super) &'a Buffer<T>,
    pub(super) &'a [T],
    pub(super) &'a [T],
);

impl<T: Real> simd::Kernel for RowColumnSums<'_, T> {
    type Output = ([T; CHUNK], [T; CHUNK]);
    #[inline(always)]
    fn run<I: Isa>(self, isa: I) -> Self::Output {
        let (mut rows, mut columns) = ([T::zero(); CHUNK], [T::zero(); CHUNK]);
        let (a, b) = (self.1, self.2.as_chunks::<LANES>().0);
        for ((w, a), out) in self.0.as_chunks::<CHUNK>().0.iter().zip(a).zip(&mut rows) {
            let mut sums = [T::zero(); LANES];
            let down = columns.as_chunks_mut::<LANES>().0;
            for ((w, b), down) in w.as_chunks::<LANES>().0.iter().zip(b).zip(down) {
                for i in 0..LANES {
                    sums[i] = isa.mul_add(w[i], b[i], sums[i]);
                    down[i] = isa.mul_add(w[i], *a, down[i]);
                }
            }
            *out = simd::total(sums);
        }
        (rows, columns)
    }
}
