//! A plan of few cells.

use candle_core::{DType, Tensor};
use decalign_core::{Error, Real, Result, with_real};

use crate::geometry::Geometry;
use crate::tensor_convert::read;

/// A coupling of n points and m points with mass in at most n + m - 1 cells. Nothing here carries
/// gradients.
#[derive(Clone, Debug)]
pub struct SparsePlan {
    rows: Vec<u32>,
    columns: Vec<u32>,
    masses: Vec<f64>,
    size: (usize, usize),
    dtype: DType,
}

impl SparsePlan {
    pub(super) fn new(geometry: &Geometry, cells: &[(usize, usize, f64)]) -> Self {
        Self {
            rows: cells.iter().map(|cell| cell.0 as u32).collect(),
            columns: cells.iter().map(|cell| cell.1 as u32).collect(),
            masses: cells.iter().map(|cell| cell.2).collect(),
            size: geometry.size(),
            dtype: geometry.dtype(),
        }
    }

    /// The source point of each cell, ascending.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// The target point of each cell, ascending within a row.
    pub fn columns(&self) -> &[u32] {
        &self.columns
    }

    /// The mass of each cell, positive.
    pub fn masses(&self) -> &[f64] {
        &self.masses
    }

    /// `P v`.
    ///
    /// # Shapes
    /// `v` (m, k); the result is (n, k) of its type.
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply(&self, v: &Tensor) -> Result<Tensor> {
        product(
            (&self.rows, self.size.0),
            (&self.columns, self.size.1),
            &self.masses,
            v,
        )
    }

    /// `P^T v`.
    ///
    /// # Shapes
    /// `v` (n, k); the result is (m, k) of its type.
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn apply_transposed(&self, v: &Tensor) -> Result<Tensor> {
        product(
            (&self.columns, self.size.1),
            (&self.rows, self.size.0),
            &self.masses,
            v,
        )
    }

    /// The mean of the points that each source point is sent to: `P y / (P 1)`, zeros where a
    /// point has no mass.
    ///
    /// # Shapes
    /// `y` (m, d); the result is (n, d).
    ///
    /// # Errors
    /// When the shape or dtype is another.
    pub fn barycentric_projection(&self, y: &Tensor) -> Result<Tensor> {
        let (n, m) = self.size;
        let mut sums = vec![0.0; n];
        self.cells().for_each(|(i, _, mass)| sums[i] += mass);
        // Shares, not masses: a mass may be too small for the type.
        let shares: Vec<f64> = self.cells().map(|(i, _, mass)| mass / sums[i]).collect();
        product((&self.rows, n), (&self.columns, m), &shares, y)
    }

    /// The sums over columns, (n), and over rows, (m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn marginals(&self) -> Result<(Tensor, Tensor)> {
        let (n, m) = self.size;
        let (mut rows, mut columns) = (vec![0.0; n], vec![0.0; m]);
        for (i, j, mass) in self.cells() {
            rows[i] += mass;
            columns[j] += mass;
        }
        let device = &candle_core::Device::Cpu;
        let rows = Tensor::from_vec(rows, n, device)?.to_dtype(self.dtype)?;
        Ok((
            rows,
            Tensor::from_vec(columns, m, device)?.to_dtype(self.dtype)?,
        ))
    }

    /// The whole plan, (n, m).
    ///
    /// # Errors
    /// When memory runs out.
    pub fn to_tensor(&self) -> Result<Tensor> {
        let (n, m) = self.size;
        let mut plan = vec![0.0; n * m];
        self.cells().for_each(|(i, j, mass)| plan[i * m + j] = mass);
        let plan = Tensor::from_vec(plan, (n, m), &candle_core::Device::Cpu)?;
        Ok(plan.to_dtype(self.dtype)?)
    }

    /// Row, column, mass.
    fn cells(&self) -> impl Iterator<Item = (usize, usize, f64)> {
        let places = self.rows.iter().zip(&self.columns);
        places
            .zip(&self.masses)
            .map(|((i, j), mass)| (*i as usize, *j as usize, *mass))
    }
}

/// The product of the matrix with these cells and a matrix, summed in f64.
fn product(
    (to, n): (&[u32], usize),
    (from, m): (&[u32], usize),
    masses: &[f64],
    v: &Tensor,
) -> Result<Tensor> {
    let k = match v.dims() {
        [rows, k] if *rows == m => *k,
        _ => return Err(Error::tensor("v", format!("shape ({m}, k)"), v.shape())),
    };
    with_real!("v", v, T => {
        let numbers = read::<f64>(v)?;
        let mut out = vec![0.0; n * k];
        for ((to, from), mass) in to.iter().zip(from).zip(masses) {
            let out = &mut out[*to as usize * k..][..k];
            let v = &numbers[*from as usize * k..][..k];
            out.iter_mut().zip(v).for_each(|(out, v)| *out += mass * v);
        }
        let out: Vec<T> = out.into_iter().map(T::of).collect();
        Ok(Tensor::from_vec(out, (n, k), v.device())?)
    })
}
