//! Sums of a few rows at once, where one row alone is too short to keep the vectors busy.

use super::isa::Isa;
use crate::Real;

/// Rows that are summed at once.
pub const ROWS: usize = 8;

/// The sum of each of at most [`ROWS`] rows of length `d`, stored one after the other.
///
/// # Shapes
/// `x` (r, d) with r <= 8; the sums of rows that are not there are 0.
#[inline(always)]
pub fn row_sums<T: Real, I: Isa>(isa: I, x: &[T], d: usize) -> [T; ROWS] {
    let mut parts = [[T::zero(); ROWS]; ROWS];
    for (part, row) in parts.iter_mut().zip(x.chunks_exact(d)) {
        let (whole, rest) = row.as_chunks::<ROWS>();
        let mut sums = [T::zero(); ROWS];
        for x in whole {
            for i in 0..ROWS {
                sums[i] += x[i];
            }
        }
        *part = sums;
        for (part, x) in part.iter_mut().zip(rest) {
            *part += *x;
        }
    }
    totals(isa, &parts)
}

/// The sum of the products of each of at most [`ROWS`] rows of length `d` with its partner.
///
/// # Shapes
/// `x` and `y` (r, d) with r <= 8; the sums of rows that are not there are 0.
#[inline(always)]
pub fn row_dots<T: Real, I: Isa>(isa: I, x: &[T], y: &[T], d: usize) -> [T; ROWS] {
    let mut parts = [[T::zero(); ROWS]; ROWS];
    let rows = x.chunks_exact(d).zip(y.chunks_exact(d));
    for (part, (x, y)) in parts.iter_mut().zip(rows) {
        let (whole_x, rest_x) = x.as_chunks::<ROWS>();
        let (whole_y, rest_y) = y.as_chunks::<ROWS>();
        let mut sums = [T::zero(); ROWS];
        for (x, y) in whole_x.iter().zip(whole_y) {
            for i in 0..ROWS {
                sums[i] = isa.mul_add(x[i], y[i], sums[i]);
            }
        }
        *part = sums;
        for ((part, x), y) in part.iter_mut().zip(rest_x).zip(rest_y) {
            *part = isa.mul_add(*x, *y, *part);
        }
    }
    totals(isa, &parts)
}

/// The sum of each row.
#[inline(always)]
fn totals<T: Real, I: Isa>(isa: I, parts: &[[T; ROWS]; ROWS]) -> [T; ROWS] {
    let columns = isa.transposed(parts.each_ref());
    let mut totals = [T::zero(); ROWS];
    for column in &columns {
        for i in 0..ROWS {
            totals[i] += column[i];
        }
    }
    totals
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Kernel, dispatch};

    struct Both<'a>(&'a [f64], &'a [f64], usize);

    impl Kernel for Both<'_> {
        type Output = [[f64; ROWS]; 2];
        #[inline(always)]
        fn run<I: Isa>(self, isa: I) -> Self::Output {
            let Self(x, y, d) = self;
            [row_sums(isa, x, d), row_dots(isa, x, y, d)]
        }
    }

    #[test]
    fn sums_are_those_of_single_rows() {
        for (rows, d) in [(8, 32), (3, 1), (8, 11), (1, 8), (0, 5)] {
            let x: Vec<f64> = (0..rows * d).map(|i| (i as f64 * 0.7).sin()).collect();
            let y: Vec<f64> = (0..rows * d).map(|i| (i as f64 * 0.3).cos()).collect();
            let [sums, dots] = dispatch(Both(&x, &y, d));
            for r in 0..ROWS {
                let row = |x: &[f64]| x.iter().skip(r * d).take(d).copied().collect::<Vec<_>>();
                let (x, y) = (row(&x), row(&y));
                let dot: f64 = x.iter().zip(&y).map(|(x, y)| x * y).sum();
                assert!((sums[r] - x.iter().sum::<f64>()).abs() < 1e-13);
                assert!((dots[r] - dot).abs() < 1e-13);
            }
        }
    }
}
