//! Products of matrices and vectors, row by row.

use decalign_core::simd::{self, Isa, Kernel, LANES};
use decalign_core::{Real, for_blocks, parallel};

/// Rows computed together: each block of the vector is loaded once for all of them.
const GROUP: usize = 4;
/// Cells of one parallel piece.
const PIECE: usize = 1 << 14;
/// Columns of one parallel piece: its sums stay in the first-level cache while all rows pass.
const COLUMNS: usize = 512;

/// `out_i = sum_j table_ij x_j`.
pub(super) fn matvec<T: Real>(table: &[T], x: &[T], out: &mut [T]) {
    let piece = (PIECE / x.len()).max(1).next_multiple_of(GROUP);
    parallel::for_each_chunk(out, piece, 2 * table.len(), |i, out| {
        let table = &table[i * piece * x.len()..];
        simd::dispatch(Rows { table, x, out });
    });
}

struct Rows<'a, T> {
    table: &'a [T],
    x: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> Kernel for Rows<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let n = self.x.len();
        let groups = self.out.chunks_mut(GROUP);
        for (out, table) in groups.zip(self.table.chunks(GROUP * n)) {
            if out.len() == GROUP {
                out.copy_from_slice(&dots::<T, I, GROUP>(isa, table, self.x));
            } else {
                for (out, row) in out.iter_mut().zip(table.chunks_exact(n)) {
                    *out = dots::<T, I, 1>(isa, row, self.x)[0];
                }
            }
        }
    }
}

/// The products of `N` rows with one vector.
#[inline(always)]
pub(super) fn dots<T: Real, I: Isa, const N: usize>(isa: I, table: &[T], x: &[T]) -> [T; N] {
    let n = x.len();
    let mut sums = [[T::zero(); LANES]; N];
    for_blocks!(at in n, {
        let x = at.load(x);
        for r in 0..N {
            let row = at.load(&table[r * n..][..n]);
            for i in 0..LANES {
                sums[r][i] = isa.mul_add(row[i], x[i], sums[r][i]);
            }
        }
    });
    sums.map(simd::total)
}

/// `out_j = sum_i a_i table_ij`.
pub(super) fn matvec_transposed<T: Real>(table: &[T], a: &[T], out: &mut [T]) {
    let width = out.len();
    parallel::for_each_chunk(out, COLUMNS, 2 * a.len() * width, |i, out| {
        simd::dispatch(Columns {
            table: &table[i * COLUMNS..],
            width,
            a,
            out,
        });
    });
}

struct Columns<'a, T> {
    table: &'a [T],
    width: usize,
    a: &'a [T],
    out: &'a mut [T],
}

impl<T: Real> Kernel for Columns<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<I: Isa>(self, isa: I) {
        let (width, n) = (self.width, self.out.len());
        for_blocks!(at in n, {
            let mut sums = [T::zero(); LANES];
            for (r, a) in self.a.iter().enumerate() {
                let row = at.load(&self.table[r * width..][..n]);
                for i in 0..LANES {
                    sums[i] = isa.mul_add(*a, row[i], sums[i]);
                }
            }
            at.store(sums, self.out);
        });
    }
}

/// `out_ij = a_i x_j`.
pub(super) fn outer_product<T: Real>(a: &[T], x: &[T], out: &mut [T]) {
    struct Outer<'a, T> {
        a: &'a [T],
        x: &'a [T],
        out: &'a mut [T],
    }
    impl<T: Real> Kernel for Outer<'_, T> {
        type Output = ();
        #[inline(always)]
        fn run<I: Isa>(self, _: I) {
            let n = self.x.len();
            for (a, out) in self.a.iter().zip(self.out.chunks_exact_mut(n)) {
                for_blocks!(at in n, {
                    let mut x = at.load(self.x);
                    for v in &mut x {
                        *v *= *a;
                    }
                    at.store(x, out);
                });
            }
        }
    }
    simd::dispatch(Outer { a, x, out });
}
