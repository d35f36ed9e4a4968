//! Cholesky factors of small positive definite matrices, in f64.
//!
//! ```text
//! A = L L^T, L lower triangular
//! ```
//!
//! Matrices are slices, row after row.

use crate::simd;

/// Replaces a symmetric matrix (its lower triangle is read) by its factor L, zeros above the diagonal.
///
/// # Errors
/// The row whose pivot is not above `tolerance` times its diagonal entry, or not finite: the matrix is
/// singular, to that precision, or not positive.
///
/// ```
/// use decalign_core::cholesky;
/// let mut a = [4.0, 2.0, 2.0, 5.0];
/// cholesky::factor(&mut a, 2, 1e-15).unwrap();
/// assert_eq!(a, [2.0, 0.0, 1.0, 2.0]);
/// // A matrix of rank 1.
/// assert_eq!(cholesky::factor(&mut [1.0, 1.0, 1.0, 1.0], 2, 1e-15), Err(1));
/// ```
pub fn factor(a: &mut [f64], n: usize, tolerance: f64) -> Result<(), usize> {
    for i in 0..n {
        let diagonal = a[i * n + i];
        for j in 0..=i {
            let sum = simd::dot(&a[i * n..i * n + j], &a[j * n..j * n + j]);
            let rest = a[i * n + j] - sum;
            if i > j {
                a[i * n + j] = rest / a[j * n + j];
            } else if rest > tolerance * diagonal && rest.is_finite() {
                a[i * n + i] = rest.sqrt();
            } else {
                return Err(i);
            }
        }
        a[i * n + i + 1..(i + 1) * n].fill(0.0);
    }
    Ok(())
}

/// `L^-1` of a factor, lower triangular too.
pub fn inverse(l: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for i in 0..n {
        let (above, row) = out.split_at_mut(i * n);
        let row = &mut row[..=i];
        // L[i, i] X[i, :] = e_i - sum_k L[i, k] X[k, :]
        for (k, x) in above.chunks_exact(n).enumerate() {
            let factor = l[i * n + k];
            row[..=k]
                .iter_mut()
                .zip(x)
                .for_each(|(r, x)| *r -= factor * x);
        }
        row[i] = 1.0;
        row.iter_mut().for_each(|r| *r /= l[i * n + i]);
    }
    out
}

/// `A^-1 = L^-T L^-1`, given `L^-1`.
pub fn inverse_of_product(inverse: &[f64], n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    for row in inverse.chunks_exact(n) {
        for (i, factor) in row.iter().enumerate().filter(|(_, v)| **v != 0.0) {
            out[i * n..(i + 1) * n]
                .iter_mut()
                .zip(row)
                .for_each(|(o, v)| *o += factor * v);
        }
    }
    out
}

/// `log det A` of a factor.
pub fn log_determinant(l: &[f64], n: usize) -> f64 {
    (0..n).map(|i| 2.0 * l[i * n + i].ln()).sum()
}

/// Solves `A x = b` in place of b.
pub fn solve(l: &[f64], b: &mut [f64]) {
    let n = b.len();
    for i in 0..n {
        b[i] = (b[i] - simd::dot(&l[i * n..i * n + i], &b[..i])) / l[i * n + i];
    }
    for i in (0..n).rev() {
        let sum: f64 = (i + 1..n).map(|k| l[k * n + i] * b[k]).sum();
        b[i] = (b[i] - sum) / l[i * n + i];
    }
}
