//! Eigenvalues of symmetric matrices and singular values in f64.
//!
//! Small matrices use Jacobi's rotations, which keep the digits of small eigenvalues. From [`LIBRARY`] dimensions on
//! `faer` reduces the matrix to tridiagonal or bidiagonal form first, on one thread: results do not depend on the
//! number of threads.

use decalign_core::gemm::{Matrix, Store, matmul};
use faer::diag::DiagMut;
use faer::dyn_stack::{MemBuffer, MemStack};
use faer::linalg::{evd, svd};
use faer::{MatMut, MatRef, Par};

use super::jacobi;

/// Dimensions from which `faer` is used; there it is several times as fast as Jacobi's rotations.
const LIBRARY: usize = 64;

/// Eigenvalues of a symmetric matrix and, one a row, its eigenvectors.
pub(super) struct Eigen {
    pub(super) values: Vec<f64>,
    pub(super) vectors: Vec<f64>,
}

impl Eigen {
    /// The matrix with every eigenvalue replaced by `f` of it.
    pub(super) fn map(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let weights: Vec<f64> = self.values.iter().map(|v| f(*v)).collect();
        weighted_squares(&self.vectors, &weights)
    }

    /// The largest magnitude.
    pub(super) fn norm(&self) -> f64 {
        self.values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))
    }
}

/// `N = sum_i values_i left_i right_i^T`; the vectors are rows, both sets orthonormal and complete.
pub(super) struct Singular {
    pub(super) values: Vec<f64>,
    pub(super) left: Vec<f64>,
    pub(super) right: Vec<f64>,
}

/// The eigenvalues and eigenvectors of a symmetric matrix.
///
/// Those of `faer` are right to rounding of the largest eigenvalue only: what is below that is 0, so that the root of
/// a singular covariance has its rank.
pub(super) fn symmetric(a: &[f64], d: usize) -> Eigen {
    let found = if d < LIBRARY {
        None
    } else {
        library_symmetric(a, d)
    };
    let Some(mut eigen) = found else {
        return jacobi::symmetric(a, d);
    };
    let rounding = d as f64 * f64::EPSILON * eigen.norm();
    for v in eigen.values.iter_mut().filter(|v| v.abs() <= rounding) {
        *v = 0.0;
    }
    eigen
}

/// The singular values and vectors of N, given `N^T`.
pub(super) fn singular(transposed: &[f64], d: usize) -> Singular {
    let found = if d < LIBRARY {
        None
    } else {
        library_singular(transposed, d)
    };
    found.unwrap_or_else(|| jacobi::singular(transposed, d))
}

/// Nothing where the iteration of `faer` fails.
fn library_symmetric(a: &[f64], d: usize) -> Option<Eigen> {
    let (mut values, mut vectors) = (vec![0.0; d], vec![0.0; d * d]);
    let (a, scale) = scaled(a);
    let (par, settings) = (Par::Seq, Default::default());
    let workspace =
        evd::self_adjoint_evd_scratch::<f64>(d, evd::ComputeEigenvectors::Yes, par, settings);
    evd::self_adjoint_evd(
        MatRef::from_column_major_slice(&a, d, d),
        DiagMut::from_slice_mut(&mut values),
        Some(MatMut::from_column_major_slice_mut(&mut vectors, d, d)),
        par,
        MemStack::new(&mut MemBuffer::new(workspace)),
        settings,
    )
    .ok()?;
    values.iter_mut().for_each(|v| *v *= scale);
    Some(Eigen { values, vectors })
}

/// Nothing where the iteration of `faer` fails.
fn library_singular(transposed: &[f64], d: usize) -> Option<Singular> {
    let (mut values, mut left, mut right) = (vec![0.0; d], vec![0.0; d * d], vec![0.0; d * d]);
    let (columns, scale) = scaled(transposed);
    let (par, settings) = (Par::Seq, Default::default());
    let full = svd::ComputeSvdVectors::Full;
    let workspace = svd::svd_scratch::<f64>(d, d, full, full, par, settings);
    svd::svd(
        // The rows of N^T are the columns of N.
        MatRef::from_column_major_slice(&columns, d, d),
        DiagMut::from_slice_mut(&mut values),
        Some(MatMut::from_column_major_slice_mut(&mut left, d, d)),
        Some(MatMut::from_column_major_slice_mut(&mut right, d, d)),
        par,
        MemStack::new(&mut MemBuffer::new(workspace)),
        settings,
    )
    .ok()?;
    values.iter_mut().for_each(|v| *v *= scale);
    Some(Singular {
        values,
        left,
        right,
    })
}

/// The numbers divided by the largest magnitude, so that no square leaves the range, and that magnitude.
pub(super) fn scaled(a: &[f64]) -> (Vec<f64>, f64) {
    let largest = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    let scale = if largest > 0.0 { largest } else { 1.0 };
    (a.iter().map(|v| v / scale).collect(), scale)
}

/// `sum_i w_i v_i v_i^T` of rows v.
pub(super) fn weighted_squares(rows: &[f64], weights: &[f64]) -> Vec<f64> {
    let d = rows.len() / weights.len();
    let mut out = vec![0.0; d * d];
    if d >= LIBRARY {
        let mut weighted = rows.to_vec();
        for (row, weight) in weighted.chunks_exact_mut(d).zip(weights) {
            row.iter_mut().for_each(|v| *v *= weight);
        }
        let n = weights.len();
        let (weighted, rows) = (Matrix::new(&weighted, n, d), Matrix::new(rows, n, d));
        matmul(&mut out, d, weighted.t(), rows, Store::Write);
        return out;
    }
    for (row, weight) in rows.chunks_exact(d).zip(weights) {
        for (out, v) in out.chunks_exact_mut(d).zip(row) {
            let factor = weight * v;
            out.iter_mut().zip(row).for_each(|(o, v)| *o += factor * v);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::jacobi::identity;
    use super::*;
    use decalign_core::random::Stream;

    fn product(a: &[f64], b: &[f64], d: usize) -> Vec<f64> {
        let cell = |i: usize, j: usize| (0..d).map(|k| a[i * d + k] * b[k * d + j]).sum();
        (0..d * d).map(|at| cell(at / d, at % d)).collect()
    }

    fn transpose(a: &[f64], d: usize) -> Vec<f64> {
        (0..d * d).map(|at| a[(at % d) * d + at / d]).collect()
    }

    fn close(a: &[f64], b: &[f64], tolerance: f64) {
        for (a, b) in a.iter().zip(b) {
            assert!((a - b).abs() <= tolerance, "{a} {b}");
        }
    }

    /// Matrices of a rank, at several sizes and scales.
    fn cases() -> Vec<(Vec<f64>, usize, usize, f64)> {
        let mut cases = Vec::new();
        for (d, rank) in [
            (1, 1),
            (2, 0),
            (3, 3),
            (8, 3),
            (20, 20),
            (33, 1),
            (63, 63),
            (64, 64),
            (70, 5),
            (80, 0),
        ] {
            for scale in [1.0, 1e-120, 1e120] {
                let stream = Stream::new(3, d as u64);
                let (left, right) = (stream.normal(d * d), stream.child(1).normal(d * d));
                let cut = |x: &[f64]| -> Vec<f64> {
                    let kept = x.iter().enumerate();
                    kept.map(|(at, v)| if at % d < rank { *v } else { 0.0 })
                        .collect()
                };
                let mut matrix = product(&cut(&left), &transpose(&cut(&right), d), d);
                matrix.iter_mut().for_each(|v| *v *= scale);
                cases.push((matrix, d, rank, scale));
            }
        }
        cases
    }

    #[test]
    fn eigenvectors_rebuild_the_matrix() {
        for (matrix, d, _, scale) in cases() {
            let matrix: Vec<f64> = matrix
                .iter()
                .zip(transpose(&matrix, d))
                .map(|(a, b)| a + b)
                .collect();
            let eigen = symmetric(&matrix, d);
            close(&eigen.map(|v| v), &matrix, 1e-13 * d as f64 * scale);
            let gram = product(&eigen.vectors, &transpose(&eigen.vectors, d), d);
            close(&gram, &identity(d), 1e-13);
        }
    }

    #[test]
    fn singular_vectors_rebuild_the_matrix() {
        for (matrix, d, rank, scale) in cases() {
            let found = singular(&transpose(&matrix, d), d);
            let mut scaled = found.left.clone();
            for (row, value) in scaled.chunks_exact_mut(d).zip(&found.values) {
                row.iter_mut().for_each(|v| *v *= value);
            }
            let rebuilt = product(&transpose(&scaled, d), &found.right, d);
            close(&rebuilt, &matrix, 1e-13 * d as f64 * scale);
            for basis in [&found.left, &found.right] {
                close(
                    &product(basis, &transpose(basis, d), d),
                    &identity(d),
                    1e-12,
                );
            }
            let some = found.values.iter().filter(|v| **v > 1e-12 * scale).count();
            assert_eq!(some, rank);
        }
    }

    #[test]
    fn small_eigenvalues_keep_their_digits() {
        // Diagonal but for a coupling of the size that positive matrices may have.
        let (a, c) = (1.0, 1e-20);
        let b = 0.5e-10;
        let eigen = symmetric(&[a, b, b, c], 2);
        let least = eigen.values.iter().fold(f64::INFINITY, |m, v| v.min(m));
        assert!((least / (c - b * b) - 1.0).abs() < 1e-12, "{least}");
    }
}
