//! The costs of some pairs of points.

use candle_core::Tensor;
use decalign_core::{Error, Result};

use super::cost::Geometry;

impl Geometry {
    /// The costs `C[rows[i], columns[i]]` of listed pairs, in plain tensor operations: gradients
    /// reach the costs or the points they are computed from.
    ///
    /// # Shapes
    /// `rows` and `columns` of one length k, below n and m; the result is (k).
    ///
    /// # Errors
    /// When the lengths differ or are 0, or a place is out of range.
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
        if rows.len() != columns.len() || rows.is_empty() {
            let expected = format!("as many as rows, {}, and not none", rows.len());
            return Err(Error::tensor("columns", expected, columns.len()));
        }
        within("rows", rows, n)?;
        within("columns", columns, m)?;
        let inputs = self.inputs();
        let device = inputs[0].device();
        let pick = |x: &Tensor, places: &[u32]| -> Result<Tensor> {
            let places = Tensor::from_slice(places, places.len(), device)?;
            Ok(x.contiguous()?.index_select(&places, 0)?)
        };
        match inputs[..] {
            [x, y] => {
                let difference = (pick(x, rows)? - pick(y, columns)?)?;
                Ok(difference.sqr()?.sum(1)?)
            }
            _ => {
                let places = rows.iter().zip(columns);
                let flat = places.map(|(i, j)| i64::from(*i) * m as i64 + i64::from(*j));
                let flat = Tensor::from_vec(flat.collect::<Vec<i64>>(), rows.len(), device)?;
                Ok(inputs[0].flatten_all()?.index_select(&flat, 0)?)
            }
        }
    }
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
