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
