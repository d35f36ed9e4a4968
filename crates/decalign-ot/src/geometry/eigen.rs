//! Eigenvalues of symmetric matrices and singular values, by Jacobi's rotations in f64.

/// Eigenvalues of a symmetric matrix and, one a row, its eigenvectors.
pub(crate) struct Eigen {
    pub(crate) values: Vec<f64>,
    pub(crate) vectors: Vec<f64>,
}

/// Sweeps after which rounding is all that is left; ten are many.
const SWEEPS: usize = 60;

/// Cyclic Jacobi: every pair of dimensions in turn is rotated until it is uncoupled. Small
/// eigenvalues of positive matrices keep their digits where the matrix has them.
///
/// Source: Golub and Van Loan, *Matrix Computations* (2013), section 8.5.
pub(crate) fn symmetric(a: &[f64], d: usize) -> Eigen {
    let mut a = a.to_vec();
    let mut vectors = identity(d);
    let largest = a.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for (p, q) in pairs(d) {
            let (app, aqq, apq) = (a[p * d + p], a[q * d + q], a[p * d + q]);
            let scale = app.abs().sqrt() * aqq.abs().sqrt();
            if apq.abs() <= f64::EPSILON * scale.max(f64::EPSILON * largest) {
                continue;
            }
            rotated = true;
            let rotation = Rotation::new((aqq - app) / (2.0 * apq));
            for k in 0..d {
                let row = &mut a[k * d..][..d];
                (row[p], row[q]) = rotation.of(row[p], row[q]);
            }
            rotation.rows(&mut a, p, q, d);
            rotation.rows(&mut vectors, p, q, d);
            (a[p * d + q], a[q * d + p]) = (0.0, 0.0);
        }
        if !rotated {
            break;
        }
    }
    Eigen {
        values: (0..d).map(|i| a[i * d + i]).collect(),
        vectors,
    }
}

impl Eigen {
    /// The matrix with `f` of each eigenvalue in its place.
    pub(crate) fn map(&self, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let weights: Vec<f64> = self.values.iter().map(|v| f(*v)).collect();
        weighted_squares(&self.vectors, &weights)
    }

    /// The largest magnitude.
    pub(crate) fn norm(&self) -> f64 {
        self.values.iter().fold(0.0, |m: f64, v| m.max(v.abs()))
    }
}

/// `sum_i w_i v_i v_i^T` of rows v.
pub(crate) fn weighted_squares(rows: &[f64], weights: &[f64]) -> Vec<f64> {
    let d = rows.len() / weights.len();
    let mut out = vec![0.0; d * d];
    for (row, weight) in rows.chunks_exact(d).zip(weights) {
        for (out, v) in out.chunks_exact_mut(d).zip(row) {
            let factor = weight * v;
            out.iter_mut().zip(row).for_each(|(o, v)| *o += factor * v);
        }
    }
    out
}

/// `N = sum_i values_i left_i right_i^T`; the vectors are rows, both sets orthonormal and complete.
pub(crate) struct Singular {
    pub(crate) values: Vec<f64>,
    pub(crate) left: Vec<f64>,
    pub(crate) right: Vec<f64>,
}

/// One-sided Jacobi on the rows of `N^T`. Unlike roots of eigenvalues of `N N^T`, singular values
/// near 0 are right to rounding.
///
/// Source: Hestenes (1958); Demmel and Veselic (1992).
pub(crate) fn singular(transposed: &[f64], d: usize) -> Singular {
    let largest = transposed.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    // Of size 1, so that no square leaves the range.
    let scale = if largest > 0.0 { largest } else { 1.0 };
    let mut rows: Vec<f64> = transposed.iter().map(|v| v / scale).collect();
    let mut right = identity(d);
    let null = d as f64 * f64::EPSILON;
    for _ in 0..SWEEPS {
        let mut rotated = false;
        for (p, q) in pairs(d) {
            let (x, y) = (&rows[p * d..][..d], &rows[q * d..][..d]);
            let (xx, yy, xy) = (dot(x, x), dot(y, y), dot(x, y));
            if xy.abs() <= null * xx.sqrt() * yy.sqrt() || xx.min(yy).sqrt() <= null {
                continue;
            }
            rotated = true;
            let rotation = Rotation::new((yy - xx) / (2.0 * xy));
            rotation.rows(&mut rows, p, q, d);
            rotation.rows(&mut right, p, q, d);
        }
        if !rotated {
            break;
        }
    }
    let lengths: Vec<f64> = rows.chunks_exact(d).map(|x| dot(x, x).sqrt()).collect();
    for (row, length) in rows.chunks_exact_mut(d).zip(&lengths) {
        let divisor = if *length > null {
            *length
        } else {
            f64::INFINITY
        };
        row.iter_mut().for_each(|v| *v /= divisor);
    }
    complete(&mut rows, d);
    Singular {
        values: lengths.iter().map(|v| v * scale).collect(),
        left: rows,
        right,
    }
}

/// Fills rows of zeros so that the others, orthonormal, become a whole basis.
fn complete(rows: &mut [f64], d: usize) {
    let absent: Vec<usize> = (0..d)
        .filter(|i| rows[i * d..][..d].iter().all(|v| *v == 0.0))
        .collect();
    if absent.is_empty() {
        return;
    }
    // Eigenvalues of the projector are 1 on the rows that are there and 0 beside them.
    let projector = symmetric(&weighted_squares(rows, &vec![1.0; d]), d);
    let beside = (0..d).filter(|i| projector.values[*i] < 0.5);
    for (to, from) in absent.into_iter().zip(beside) {
        rows[to * d..][..d].copy_from_slice(&projector.vectors[from * d..][..d]);
    }
}

/// A rotation of two dimensions.
#[derive(Clone, Copy)]
struct Rotation {
    cosine: f64,
    sine: f64,
}

impl Rotation {
    /// The smaller of the angles that uncouple, by the cotangent of twice the angle.
    fn new(cotangent: f64) -> Self {
        let tangent = cotangent.signum() / (cotangent.abs() + cotangent.hypot(1.0));
        let cosine = 1.0 / tangent.hypot(1.0);
        Self {
            cosine,
            sine: tangent * cosine,
        }
    }

    fn of(self, x: f64, y: f64) -> (f64, f64) {
        (
            self.cosine * x - self.sine * y,
            self.sine * x + self.cosine * y,
        )
    }

    /// Rotates rows `p < q`.
    fn rows(self, matrix: &mut [f64], p: usize, q: usize, d: usize) {
        let (above, below) = matrix.split_at_mut(q * d);
        for (x, y) in above[p * d..][..d].iter_mut().zip(&mut below[..d]) {
            (*x, *y) = self.of(*x, *y);
        }
    }
}

fn pairs(d: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..d).flat_map(move |p| (p + 1..d).map(move |q| (p, q)))
}

fn identity(d: usize) -> Vec<f64> {
    (0..d * d)
        .map(|i| f64::from(u8::from(i / d == i % d)))
        .collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    decalign_core::simd::dot(x, y)
}

#[cfg(test)]
mod tests {
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
        for (d, rank) in [(1, 1), (2, 0), (3, 3), (8, 3), (20, 20), (33, 1)] {
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
