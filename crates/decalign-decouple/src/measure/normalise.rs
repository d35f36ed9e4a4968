//! Features normalised by rows or by columns and their product, each with its backward pass.

use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd;

use crate::table::{Table, without_mean};
use crate::tensor::NORM_FLOOR;

/// Rows scaled to norm 1; a row of norm at most [`NORM_FLOOR`] becomes 0.
pub(crate) struct UnitRows {
    pub(crate) table: Table,
    /// `1 / norm` of every row, or 0.
    inverse: Vec<f64>,
}

impl UnitRows {
    pub(crate) fn new(mut table: Table) -> Self {
        let norms = table.rows().map(|row| simd::sum_squares(row).sqrt());
        let inverse: Vec<f64> = norms.map(inverse_above_floor).collect();
        for (row, scale) in table.data.chunks_exact_mut(table.width).zip(&inverse) {
            row.iter_mut().for_each(|v| *v *= scale);
        }
        Self { table, inverse }
    }

    /// With u = x / |x|: `dx = (g - u (u . g)) / |x|`.
    pub(crate) fn backward(&self, mut gradient: Vec<f64>) -> Vec<f64> {
        let rows = gradient.chunks_exact_mut(self.table.width);
        for ((g, u), scale) in rows.zip(self.table.rows()).zip(&self.inverse) {
            let along = simd::dot(g, u);
            let cells = g.iter_mut().zip(u);
            cells.for_each(|(g, u)| *g = (*g - along * u) * scale);
        }
        gradient
    }
}

/// Columns with mean 0 and variance 1 (dividing by n); constant ones are 0.
pub(crate) struct StandardColumns {
    pub(crate) table: Table,
    /// `1 / deviation` of every column, or 0.
    pub(crate) inverse: Vec<f64>,
}

impl StandardColumns {
    pub(crate) fn new(x: Table) -> Self {
        let mut table = x.centred();
        let mut squares = vec![0.0; table.width];
        for row in table.rows() {
            squares.iter_mut().zip(row).for_each(|(s, v)| *s += v * v);
        }
        let n = table.n() as f64;
        let deviations = squares.iter().map(|s| (s / n).sqrt());
        let inverse: Vec<f64> = deviations.map(inverse_above_floor).collect();
        for row in table.data.chunks_exact_mut(table.width) {
            row.iter_mut().zip(&inverse).for_each(|(v, s)| *v *= s);
        }
        Self { table, inverse }
    }

    /// With z = (x - m) / s: `dx = (g - mean(g) - z mean(g z)) / s`, by columns.
    pub(crate) fn backward(&self, gradient: Vec<f64>) -> Vec<f64> {
        let (width, n) = (self.table.width, self.table.n() as f64);
        let mut along = vec![0.0; width];
        for (g, z) in gradient.chunks_exact(width).zip(self.table.rows()) {
            for ((a, g), z) in along.iter_mut().zip(g).zip(z) {
                *a += g * z / n;
            }
        }
        let mut dx = without_mean(gradient, width);
        for (dx, z) in dx.chunks_exact_mut(width).zip(self.table.rows()) {
            for i in 0..width {
                dx[i] = (dx[i] - z[i] * along[i]) * self.inverse[i];
            }
        }
        dx
    }
}

fn inverse_above_floor(size: f64) -> f64 {
    if size > NORM_FLOOR { size.recip() } else { 0.0 }
}

/// `C = A^T B / n`.
pub(crate) fn product(a: &Table, b: &Table) -> Vec<f64> {
    let mut c = vec![0.0; a.width * b.width];
    matmul(&mut c, b.width, a.matrix().t(), b.matrix(), Store::Write);
    let n = a.n() as f64;
    c.iter_mut().for_each(|v| *v /= n);
    c
}

/// The gradients of A and B given the gradient G of C: `B G^T / n` and `A G / n`.
pub(crate) fn product_backward(a: &Table, b: &Table, gradient: &[f64]) -> [Vec<f64>; 2] {
    let g = Matrix::new(gradient, a.width, b.width);
    let (mut da, mut db) = (a.zeros(), b.zeros());
    matmul(&mut da, a.width, b.matrix(), g.t(), Store::Write);
    matmul(&mut db, b.width, a.matrix(), g, Store::Write);
    let n = a.n() as f64;
    da.iter_mut().chain(&mut db).for_each(|v| *v /= n);
    [da, db]
}
