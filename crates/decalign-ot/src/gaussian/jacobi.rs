//! Jacobi's rotations in f64: eigenvalues and singular values that keep their digits, in O(d^3) for each of some
//! ten sweeps.

use super::eigen::{Eigen, Singular, scaled, weighted_squares};

/// Limit of sweeps; about ten reduce the off-diagonal to rounding.
const SWEEPS: usize = 60;

/// Cyclic Jacobi: every pair of dimensions in turn is rotated until it is uncoupled. Small
/// eigenvalues of positive matrices keep their digits where the matrix has them.
///
/// Source: Golub and Van Loan, *Matrix Computations* (2013), section 8.5.
pub(super) fn symmetric(a: &[f64], d: usize) -> Eigen {
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

/// One-sided Jacobi on the rows of `N^T`. Unlike roots of eigenvalues of `N N^T`, singular values
/// near 0 are right to rounding.
///
/// Source: Hestenes (1958); Demmel and Veselic (1992).
pub(super) fn singular(transposed: &[f64], d: usize) -> Singular {
    let (mut rows, scale) = scaled(transposed);
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
    // The projector on the rows has eigenvalue 1 in their span and 0 on its complement.
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

pub(super) fn identity(d: usize) -> Vec<f64> {
    (0..d * d)
        .map(|i| f64::from(u8::from(i / d == i % d)))
        .collect()
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    decalign_core::simd::dot(x, y)
}
