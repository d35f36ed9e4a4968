//! Backward pass of costs: the gradient of `sum_ij W_ij C_ij` with respect to what costs are computed from.
//!
//! Weights are `W = P o (L R^T)`: a plan times a matrix of low rank, which covers the gradients of
//! values (L = R = 1), of applied plans (L the outer gradient, R the vectors) and of potentials.

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd;
use decalign_core::{Real, Result, parallel};

use super::cells::{Cells, ROWS, padded};
use super::cost::{Geometry, Kind};
use super::costs::Costs;
use super::grid::Grid;

/// `W_ij = 2^(f_i + g_j - inverse C_ij) (L R^T)_ij`.
#[derive(Clone)]
pub(crate) struct Weights<T> {
    pub(crate) f: Vec<T>,
    pub(crate) g: Vec<T>,
    pub(crate) inverse: T,
    /// (n, k).
    pub(crate) left: Vec<T>,
    /// (m, k).
    pub(crate) right: Vec<T>,
    pub(crate) k: usize,
}

impl<T: Real> Weights<T> {
    fn transpose(&self) -> Self {
        let Self {
            f, g, left, right, ..
        } = self.clone();
        Self {
            f: g,
            g: f,
            left: right,
            right: left,
            ..*self
        }
    }

    /// Up to whole blocks of columns, which weigh nothing.
    fn pad(mut self) -> Self {
        let m = padded(self.g.len());
        self.g.resize(m, T::neg_infinity());
        self.right.resize(m * self.k, T::zero());
        self
    }
}

impl Geometry {
    /// The gradients of problem `i` with respect to the tensors of [`Geometry::inputs`], where they
    /// are `needed`, each in the shape of the tensor without its batch.
    pub(crate) fn backward<T: Real>(
        &self,
        i: usize,
        weights: &Weights<T>,
        needed: &[bool],
    ) -> Result<Vec<Option<Vec<f64>>>> {
        let wide = |x: Vec<T>| x.into_iter().map(|v| v.as_f64()).collect::<Vec<f64>>();
        match self.kind() {
            Kind::Grid(_) => {
                let Costs::Grid(grid) = self.read::<T>(i)? else {
                    return Ok(vec![None; needed.len()]);
                };
                Ok((0..needed.len())
                    .map(|k| needed[k].then(|| axis(&grid, weights, k)))
                    .collect())
            }
            Kind::Dense(_) => Ok(vec![match needed[0] {
                true => Some(wide(rows(
                    &self.read::<T>(i)?,
                    &weights.clone().pad(),
                    self.size().1,
                ))),
                false => None,
            }]),
            Kind::Points(..) => {
                let one = |geometry: &Self, weights: Weights<T>| -> Result<Vec<f64>> {
                    Ok(wide(rows(&geometry.read::<T>(i)?, &weights.pad(), 0)))
                };
                let x = needed[0].then(|| one(self, weights.clone())).transpose()?;
                let y = needed[1]
                    .then(|| one(&self.transpose()?, weights.transpose()))
                    .transpose()?;
                Ok(vec![x, y])
            }
        }
    }
}

/// Along axis k of a grid: terms of either sign are summed apart, as logarithms have none.
fn axis<T: Real>(grid: &Grid<T>, weights: &Weights<T>, k: usize) -> Vec<f64> {
    let mut sums: Vec<f64> = Vec::new();
    let part = |potential: &[T], factors: &[T], c: usize, sign: f64| -> Vec<T> {
        let factors = factors.iter().skip(c).step_by(weights.k);
        let positive = factors.map(|v| {
            if v.as_f64() * sign > 0.0 {
                v.abs()
            } else {
                T::zero()
            }
        });
        potential
            .iter()
            .zip(positive)
            .map(|(f, v)| *f + v.log2())
            .collect()
    };
    for c in 0..weights.k {
        for (left, right) in [(1.0, 1.0), (1.0, -1.0), (-1.0, 1.0), (-1.0, -1.0)] {
            let f = part(&weights.f, &weights.left, c, left);
            let g = part(&weights.g, &weights.right, c, right);
            if simd::max(&f) == T::neg_infinity() || simd::max(&g) == T::neg_infinity() {
                continue;
            }
            let each = grid.axis_sums(&f, &g, weights.inverse, k);
            sums.resize(each.len(), 0.0);
            sums.iter_mut()
                .zip(each)
                .for_each(|(s, v)| *s += left * right * v);
        }
    }
    match sums.is_empty() {
        true => grid
            .axis_sums(&weights.f, &weights.g, weights.inverse, k)
            .iter()
            .map(|_| 0.0)
            .collect(),
        false => sums,
    }
}

/// Rows of one piece of work.
const PIECE: usize = 8 * ROWS;

/// The gradient with respect to the rows: of points (n, d), of stored costs the weights (n, m).
fn rows<T: Real>(costs: &Costs<T>, weights: &Weights<T>, m: usize) -> Vec<T> {
    let n = weights.f.len();
    let width = match costs {
        Costs::Points(points) => points.width,
        _ => m,
    };
    let mut out = vec![T::zero(); n * width];
    let work = n * weights.g.len() * (8 + 2 * weights.k + 2 * width);
    parallel::for_each_chunk(&mut out, PIECE * width, work, |piece, out| {
        let mut workspace = Workspace {
            factors: vec![T::zero(); ROWS * weights.g.len()],
            ..Workspace::default()
        };
        for (block, out) in out.chunks_mut(ROWS * width).enumerate() {
            workspace.backward(costs, weights, piece * PIECE + block * ROWS, (out, width));
        }
    });
    out
}

/// Buffers for the rows of a block.
#[derive(Default)]
struct Workspace<T> {
    cells: Cells<T>,
    raw: Cells<T>,
    factors: Vec<T>,
}

impl<T: Real> Workspace<T> {
    /// The rows from `first` that `out` has room for.
    fn backward(
        &mut self,
        costs: &Costs<T>,
        weights: &Weights<T>,
        first: usize,
        (out, width): (&mut [T], usize),
    ) {
        let (m, k, count) = (weights.g.len(), weights.k, out.len() / width);
        let f = &weights.f[first..][..count];
        costs.exponentials((first, f), &weights.g, weights.inverse, &mut self.cells);
        let left = Matrix::new(&weights.left[first * k..], count, k);
        matmul(
            &mut self.factors,
            m,
            left,
            Matrix::new(&weights.right, m, k).t(),
            Store::Write,
        );
        let w = &mut self.cells.values[..count * m];
        w.iter_mut().zip(&self.factors).for_each(|(w, s)| *w *= *s);
        match costs {
            Costs::Points(points) => {
                if points.metric.needs_costs() {
                    costs.rows(first, count, m, &mut self.raw);
                }
                points
                    .metric
                    .backward(points, first, (w, &self.raw.values), out);
            }
            _ => {
                for (out, w) in out.chunks_exact_mut(width).zip(w.chunks_exact(m)) {
                    out.copy_from_slice(&w[..width]);
                }
            }
        }
    }
}
