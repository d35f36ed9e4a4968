//! Costs as something to multiply by.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_core::gemm::{Matrix, Store, matmul};

use crate::geometry::Geometry;
use crate::tensor_convert::read;

/// A matrix of costs divided by its largest size, so that steps do not depend on units.
pub(super) struct Cost {
    kind: Kind,
    pub(super) n: usize,
    pub(super) m: usize,
    /// What was divided by.
    pub(super) scale: f64,
}

enum Kind {
    /// `left right^T`, of so many columns.
    Factors(Vec<f64>, Vec<f64>, usize),
    Dense(Vec<f64>),
}

impl Cost {
    pub(super) fn new(geometry: &Geometry) -> Result<Self> {
        let (n, m) = geometry.size();
        let (mut kind, largest) = match geometry.inputs()[..] {
            [x, y] => squared_euclidean(x, y)?,
            _ => {
                let cost = read::<f64>(geometry.inputs()[0])?;
                let largest = cost.iter().fold(0.0, |a: f64, v| a.max(v.abs()));
                (Kind::Dense(cost), largest)
            }
        };
        let scale = if largest > 0.0 { largest } else { 1.0 };
        match &mut kind {
            Kind::Factors(x, ..) | Kind::Dense(x) => x.iter_mut().for_each(|v| *v /= scale),
        }
        Ok(Self { kind, n, m, scale })
    }

    /// `C v`, `v` (m, r).
    pub(super) fn apply(&self, v: &[f64], r: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.n * r];
        match &self.kind {
            Kind::Factors(left, right, k) => product(&mut out, (left, right, *k), v, r),
            Kind::Dense(cost) => {
                let cost = Matrix::new(cost, self.n, self.m);
                matmul(&mut out, r, cost, Matrix::new(v, self.m, r), Store::Write);
            }
        }
        out
    }

    /// `C^T v`, `v` (n, r).
    pub(super) fn apply_transposed(&self, v: &[f64], r: usize) -> Vec<f64> {
        let mut out = vec![0.0; self.m * r];
        match &self.kind {
            Kind::Factors(left, right, k) => product(&mut out, (right, left, *k), v, r),
            Kind::Dense(cost) => {
                let cost = Matrix::new(cost, self.n, self.m).t();
                matmul(&mut out, r, cost, Matrix::new(v, self.n, r), Store::Write);
            }
        }
        out
    }
}

/// `out = left (right^T v)`.
fn product(out: &mut [f64], (left, right, k): (&[f64], &[f64], usize), v: &[f64], r: usize) {
    let (rows, inner) = (left.len() / k, right.len() / k);
    let mut small = vec![0.0; k * r];
    let right = Matrix::new(right, inner, k).t();
    matmul(&mut small, r, right, Matrix::new(v, inner, r), Store::Write);
    let left = Matrix::new(left, rows, k);
    matmul(out, r, left, Matrix::new(&small, k, r), Store::Write);
}

/// `|x|^2 + |y|^2 - 2 <x, y>` of points about their common mean, as factors of d + 2 columns, and a
/// bound on the largest.
fn squared_euclidean(x: &Tensor, y: &Tensor) -> Result<(Kind, f64)> {
    let d = x.dim(1)?;
    let (x, y) = (read::<f64>(x)?, read::<f64>(y)?);
    let rows = ((x.len() + y.len()) / d) as f64;
    let mut mean = vec![0.0; d];
    for row in x.chunks_exact(d).chain(y.chunks_exact(d)) {
        mean.iter_mut().zip(row).for_each(|(m, v)| *m += v / rows);
    }
    let mut norms = [0.0f64; 2];
    let mut factor = |x: &[f64], side: usize| -> Vec<f64> {
        let mut factor = Vec::with_capacity(x.len() / d * (d + 2));
        for row in x.chunks_exact(d) {
            let about: Vec<f64> = row.iter().zip(&mean).map(|(v, m)| v - m).collect();
            let norm: f64 = about.iter().map(|v| v * v).sum();
            norms[side] = norms[side].max(norm);
            match side {
                0 => factor.extend([norm, 1.0]),
                _ => factor.extend([1.0, norm]),
            }
            let times = if side == 0 { -2.0 } else { 1.0 };
            factor.extend(about.iter().map(|v| times * v));
        }
        factor
    };
    let (left, right) = (factor(&x, 0), factor(&y, 1));
    let largest = (norms[0].sqrt() + norms[1].sqrt()).powi(2);
    Ok((Kind::Factors(left, right, d + 2), largest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use decalign_core::random::Stream;

    #[test]
    fn factors_are_the_distances() -> Result<()> {
        let draw = |n: usize, k: u64| Stream::new(3, k).normal_tensor((n, 3));
        let (x, y) = ((draw(7, 0)? + 50.0)?, (draw(5, 1)? + 50.0)?);
        let squares = x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?;
        let dense = Cost::new(&Geometry::dense(&squares.sqr()?.sum(2)?)?)?;
        let lazy = Cost::new(&Geometry::squared_euclidean(&x, &y)?)?;
        let close = |a: Vec<f64>, b: Vec<f64>| {
            let pairs = a.iter().zip(&b);
            assert!(a.len() == b.len() && a.len() > 9);
            for (a, b) in pairs {
                assert!((a * lazy.scale - b * dense.scale).abs() < 1e-10);
            }
        };
        let v = Stream::new(3, 2).normal(7 * 2);
        close(lazy.apply_transposed(&v, 2), dense.apply_transposed(&v, 2));
        close(lazy.apply(&v[..10], 2), dense.apply(&v[..10], 2));
        assert!(lazy.scale >= dense.scale);
        Ok(())
    }
}
