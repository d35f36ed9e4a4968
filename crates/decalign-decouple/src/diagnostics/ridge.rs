//! Leave-one-out ridge regression.

use decalign_core::cholesky;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::simd;

use super::Prediction;
use crate::measure::StandardColumns;
use crate::table::Table;

/// R^2 of `y` from `x` on samples left out, with the best of the penalties.
pub(super) fn leave_one_out(x: Table, y: Table, penalties: &[f64]) -> Prediction {
    let (x, y) = (StandardColumns::new(x).table, StandardColumns::new(y));
    let varying = y.inverse.iter().filter(|v| **v > 0.0).count();
    let n = x.n() as f64;
    // Errors of the mean alone: y_i - mean of the others = y_i n / (n - 1), and squares sum to n a column.
    let total = varying as f64 * n * (n / (n - 1.0)).powi(2);
    let mut penalties = penalties.to_vec();
    penalties.sort_by(|a, b| b.total_cmp(a));
    let design = Design::new(x);
    let mut best = Prediction {
        r2: None,
        penalty: penalties[0] * n,
    };
    for penalty in penalties.iter().map(|p| p * n) {
        // On ties the largest penalty wins.
        let error = design.error(&y.table, penalty);
        let r2 = error.map(|e| 1.0 - e / total).filter(|r| r.is_finite());
        if r2 > best.r2 {
            best = Prediction { r2, penalty };
        }
    }
    best
}

/// Standardised columns Z, and the smaller of Z^T Z and Z Z^T.
struct Design {
    z: Table,
    gram: Vec<f64>,
    size: usize,
}

impl Design {
    fn new(z: Table) -> Self {
        let size = z.width.min(z.n());
        let mut gram = vec![0.0; size * size];
        let (rows, columns) = match z.width <= z.n() {
            true => (z.matrix().t(), z.matrix()),
            false => (z.matrix(), z.matrix().t()),
        };
        matmul(&mut gram, size, rows, columns, Store::Write);
        Self { z, gram, size }
    }

    /// The sum of squared errors of samples left out: with the intercept a leverage is 1 / n more than
    /// that of the centred columns. `None` where rounding errors hide the penalty.
    fn error(&self, y: &Table, penalty: f64) -> Option<f64> {
        let mut factor = self.gram.clone();
        (0..self.size).for_each(|i| factor[i * self.size + i] += penalty);
        cholesky::factor(&mut factor, self.size, 1e-14).ok()?;
        let inverse = cholesky::inverse(&factor, self.size);
        let (residuals, free) = match self.z.width <= self.z.n() {
            true => self.by_columns(y, &inverse),
            false => self.by_rows(y, &inverse, penalty),
        };
        let intercept = (y.n() as f64).recip();
        let mut sum = 0.0;
        for (row, free) in residuals.chunks_exact(y.width).zip(free) {
            let rest = free - intercept;
            if rest <= 1e-10 {
                return None;
            }
            sum += simd::sum_squares(row) / (rest * rest);
        }
        Some(sum)
    }

    /// With `Z^T Z + p = L L^T` and W = Z L^-T the hat matrix is W W^T. Residuals, and 1 less leverages.
    fn by_columns(&self, y: &Table, inverse: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (n, d) = (self.z.n(), self.size);
        let mut w = vec![0.0; n * d];
        let inverse = Matrix::new(inverse, d, d);
        matmul(&mut w, d, self.z.matrix(), inverse.t(), Store::Write);
        let view = Matrix::new(&w, n, d);
        let mut coefficients = vec![0.0; d * y.width];
        let targets = y.matrix();
        matmul(&mut coefficients, y.width, view.t(), targets, Store::Write);
        let mut residuals = vec![0.0; n * y.width];
        let coefficients = Matrix::new(&coefficients, d, y.width);
        matmul(&mut residuals, y.width, view, coefficients, Store::Write);
        let cells = residuals.iter_mut().zip(&y.data);
        cells.for_each(|(r, y)| *r = y - *r);
        let free = w.chunks_exact(d).map(|w| 1.0 - simd::sum_squares(w));
        (residuals, free.collect())
    }

    /// With B = (Z Z^T + p)^-1, 1 less the hat matrix is p B.
    fn by_rows(&self, y: &Table, inverse: &[f64], penalty: f64) -> (Vec<f64>, Vec<f64>) {
        let n = self.size;
        let mut b = cholesky::inverse_of_product(inverse, n);
        b.iter_mut().for_each(|v| *v *= penalty);
        let mut residuals = vec![0.0; n * y.width];
        let view = Matrix::new(&b, n, n);
        matmul(&mut residuals, y.width, view, y.matrix(), Store::Write);
        (residuals, (0..n).map(|i| b[i * n + i]).collect())
    }
}
