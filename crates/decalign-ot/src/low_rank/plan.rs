//! A plan of low rank.

use candle_core::Tensor;
use decalign_core::gemm::{Matrix, Store, matmul};
use decalign_core::{Error, Result};

use crate::tensor_convert::{read, tensor};
use crate::validate;

/// A coupling `P = Q diag(1 / g) R^T` of n points and m points, kept as its factors: memory is
/// O((n + m) r). Nothing here carries gradients.
#[derive(Clone, Debug)]
pub struct LowRankPlan {
    pub(super) q: Vec<f64>,
    pub(super) r: Vec<f64>,
    pub(super) g: Vec<f64>,
    /// Whose type and device results have.
    pub(super) like: Tensor,
}

impl LowRankPlan {
    /// n and m.
    pub fn size(&self) -> (usize, usize) {
        (self.q.len() / self.rank(), self.r.len() / self.rank())
    }

    /// r.
    pub fn rank(&self) -> usize {
        self.g.len()
    }

    /// Q, (n, r), R, (m, r), and g, (r).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn factors(&self) -> Result<(Tensor, Tensor, Tensor)> {
        let ((n, m), r) = (self.size(), self.rank());
        Ok((
            tensor(&self.q, (n, r), &self.like)?,
            tensor(&self.r, (m, r), &self.like)?,
            tensor(&self.g, r, &self.like)?,
        ))
    }

    /// `P v`, in O((n + m) r k).
    ///
    /// # Shapes
    /// `v` (m, k); the result is (n, k) of its type.
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply(&self, v: &Tensor) -> Result<Tensor> {
        let (n, m) = self.size();
        self.tensor((&self.q, n), (&self.r, m), v)
    }

    /// `P^T v`, in O((n + m) r k).
    ///
    /// # Shapes
    /// `v` (n, k); the result is (m, k) of its type.
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply_transposed(&self, v: &Tensor) -> Result<Tensor> {
        let (n, m) = self.size();
        self.tensor((&self.r, m), (&self.q, n), v)
    }

    /// The sums over columns, (n), and over rows, (m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn marginals(&self) -> Result<(Tensor, Tensor)> {
        let (rows, columns) = self.sums();
        Ok((
            tensor(&rows, rows.len(), &self.like)?,
            tensor(&columns, columns.len(), &self.like)?,
        ))
    }

    /// The whole plan, (n, m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let ((n, m), r) = (self.size(), self.rank());
        let mut scaled = self.q.clone();
        for row in scaled.chunks_exact_mut(r) {
            row.iter_mut().zip(&self.g).for_each(|(q, g)| *q /= g);
        }
        let mut plan = vec![0.0; n * m];
        let (q, r) = (Matrix::new(&scaled, n, r), Matrix::new(&self.r, m, r).t());
        matmul(&mut plan, m, q, r, Store::Write);
        tensor(&plan, (n, m), &self.like)
    }

    pub(super) fn sums(&self) -> (Vec<f64>, Vec<f64>) {
        let (n, m) = self.size();
        let rows = self.product((&self.q, n), (&self.r, m), &vec![1.0; m], 1);
        let columns = self.product((&self.r, m), (&self.q, n), &vec![1.0; n], 1);
        (rows, columns)
    }

    fn tensor(&self, left: (&[f64], usize), right: (&[f64], usize), v: &Tensor) -> Result<Tensor> {
        validate::real("v", v)?;
        let k = match v.dims() {
            [rows, k] if *rows == right.1 => *k,
            _ => {
                let expected = format!("shape ({}, k)", right.1);
                return Err(Error::tensor("v", expected, v.shape()));
            }
        };
        let out = self.product(left, right, &read::<f64>(v)?, k);
        tensor(&out, (left.1, k), v)
    }

    /// `left diag(1 / g) right^T v`.
    fn product(
        &self,
        (left, n): (&[f64], usize),
        (right, m): (&[f64], usize),
        v: &[f64],
        k: usize,
    ) -> Vec<f64> {
        let r = self.rank();
        let (mut small, mut out) = (vec![0.0; r * k], vec![0.0; n * k]);
        let right = Matrix::new(right, m, r).t();
        matmul(&mut small, k, right, Matrix::new(v, m, k), Store::Write);
        for (at, v) in small.iter_mut().enumerate() {
            *v /= self.g[at / k];
        }
        let (left, small) = (Matrix::new(left, n, r), Matrix::new(&small, r, k));
        matmul(&mut out, k, left, small, Store::Write);
        out
    }
}
