//! The costs of some pairs of points.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::cost::{Geometry, Kind};
use super::metric::{PointMetric, with_metric};

impl Geometry {
    /// The costs `C[rows[i], columns[i]]` of listed pairs, in plain tensor operations: gradients
    /// reach the costs or the points they are computed from.
    ///
    /// # Shapes
    /// `rows` and `columns` of one length k, below n and m; the result is (k).
    ///
    /// # Errors
    /// When the geometry has a batch, the lengths differ or are 0, or a place is out of range.
    ///
    /// ```
    /// use candle_core::{Device, Tensor};
    /// use decalign_ot::Geometry;
    /// let x = Tensor::new(&[[0.0f64], [1.0]], &Device::Cpu)?;
    /// let y = Tensor::new(&[[3.0f64]], &Device::Cpu)?;
    /// let costs = Geometry::squared_euclidean(&x, &y)?.pair_costs(&[1, 0, 1], &[0, 0, 0])?;
    /// assert_eq!(costs.to_vec1::<f64>()?, [4.0, 9.0, 4.0]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn pair_costs(&self, rows: &[u32], columns: &[u32]) -> Result<Tensor> {
        let (n, m) = self.size();
        if let Some(batch) = self.batch() {
            return Err(Error::value(
                "batch",
                batch,
                "pairs are of one problem: geometry.get(i)",
            ));
        }
        if rows.len() != columns.len() || rows.is_empty() {
            let expected = format!("as many as rows, {}, and not none", rows.len());
            return Err(Error::tensor("columns", expected, columns.len()));
        }
        within("rows", rows, n)?;
        within("columns", columns, m)?;
        match self.kind() {
            Kind::Dense(cost) => pick(cost, (rows, columns), m),
            Kind::Points(x, y, metric) => {
                let difference = (rows_of(x, rows)? - rows_of(y, columns)?)?;
                with_metric!(*metric, metric => metric.costs(&difference))
            }
            Kind::Grid(axes) => {
                let (mut left, mut right) = (rows.to_vec(), columns.to_vec());
                let mut total = None::<Tensor>;
                for axis in axes.iter().rev() {
                    let (n, m) = axis.dims2()?;
                    let digit = |x: &mut Vec<u32>, n: usize| -> Vec<u32> {
                        let digits = x.iter().map(|i| i % n as u32).collect();
                        x.iter_mut().for_each(|i| *i /= n as u32);
                        digits
                    };
                    let part = pick(axis, (&digit(&mut left, n), &digit(&mut right, m)), m)?;
                    total = Some(match total {
                        None => part,
                        Some(total) => (total + part)?,
                    });
                }
                total.ok_or_else(|| Error::value("number of axes", 0, "a grid has at least one"))
            }
        }
    }
}

/// Some rows of a matrix.
fn rows_of(x: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let rows = Tensor::from_slice(rows, rows.len(), x.device())?;
    Ok(x.contiguous()?.index_select(&rows, 0)?)
}

/// Some cells of a matrix of m columns.
fn pick(x: &Tensor, (rows, columns): (&[u32], &[u32]), m: usize) -> Result<Tensor> {
    let places = rows.iter().zip(columns);
    let flat = places.map(|(i, j)| i64::from(*i) * m as i64 + i64::from(*j));
    let flat = Tensor::from_vec(flat.collect::<Vec<i64>>(), rows.len(), x.device())?;
    Ok(x.flatten_all()?.index_select(&flat, 0)?)
}

fn within(name: &str, places: &[u32], count: usize) -> Result<()> {
    match places.iter().position(|i| *i as usize >= count) {
        None => Ok(()),
        Some(at) => {
            let remedy = format!("must be below {count}");
            Err(Error::value(format!("{name}[{at}]"), places[at], remedy))
        }
    }
}
