//! Samples as loops see them: checked, and a chunk of rows at a time in the coordinates of a frame.

use candle_core::Tensor;
use decalign_core::simd::LANES;
use decalign_core::{Error, Real, Result};

use crate::frame::Frame;

/// Rows handled together: what is known of them stays in the first caches.
pub(crate) const ROWS: usize = 128;

/// Blocks of rows of a chunk.
pub(crate) const BLOCKS: usize = ROWS / LANES;

/// Samples and their weights.
pub(crate) struct Data<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) width: usize,
    pub(crate) frame: Frame<T>,
    /// Of largest value 1; none if all are.
    pub(crate) weights: Option<Vec<T>>,
    /// The sum of these weights.
    pub(crate) total: f64,
    /// What given weights were multiplied with.
    pub(crate) weight_scale: f64,
    /// Rows with weight.
    pub(crate) counted: usize,
}

impl<'a, T: Real> Data<'a, T> {
    pub(crate) fn new(x: &'a [T], width: usize, frame: Frame<T>, weights: Option<&[T]>) -> Self {
        let rows = x.len() / width;
        let Some(given) = weights else {
            return Self {
                x,
                width,
                frame,
                weights: None,
                total: rows as f64,
                weight_scale: 1.0,
                counted: rows,
            };
        };
        let largest = given.iter().fold(0.0f64, |m, w| m.max(w.as_f64()));
        let scale = if largest > 0.0 { 1.0 / largest } else { 1.0 };
        let weights: Vec<T> = given.iter().map(|w| T::of(w.as_f64() * scale)).collect();
        Self {
            x,
            width,
            frame,
            total: weights.iter().map(|w| w.as_f64()).sum(),
            counted: weights.iter().filter(|w| **w > T::zero()).count(),
            weights: Some(weights),
            weight_scale: scale,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.x.len() / self.width
    }

    pub(crate) fn weight(&self, row: usize) -> f64 {
        self.weights.as_ref().map_or(1.0, |w| w[row].as_f64())
    }

    /// A row in the frame's coordinates.
    pub(crate) fn row(&self, i: usize) -> Vec<f64> {
        let row = &self.x[i * self.width..][..self.width];
        let frame = self.frame.centre.iter().zip(&self.frame.inverse);
        let each = row.iter().zip(frame);
        each.map(|(v, (c, s))| ((*v - *c) * *s).as_f64()).collect()
    }

    /// The mass below which a component has nothing to say: a millionth of a sample.
    pub(crate) fn least_mass(&self) -> f64 {
        1e-6 * self.total / self.counted.max(1) as f64
    }

    /// Reads rows `first..` into a chunk.
    pub(crate) fn load(&self, first: usize, chunk: &mut Chunk<T>) {
        let d = self.width;
        chunk.used = ROWS.min(self.rows() - first);
        let rows = self.x[first * d..].chunks_exact(d).take(chunk.used);
        for (i, row) in rows.enumerate() {
            let frame = self.frame.centre.chunks(LANES);
            let frame = frame.zip(self.frame.inverse.chunks(LANES));
            for (block, (x, (c, s))) in row.chunks(LANES).zip(frame).enumerate() {
                let to = &mut chunk.rows[(block * ROWS + i) * LANES..][..x.len()];
                for (((to, x), c), s) in to.iter_mut().zip(x).zip(c).zip(s) {
                    *to = (*x - *c) * *s;
                }
            }
        }
        let rows = chunk.rows.as_chunks::<LANES>().0;
        let columns = chunk.columns.as_chunks_mut::<LANES>().0;
        for (block, columns) in columns.chunks_exact_mut(d).enumerate() {
            for (j, column) in columns.iter_mut().enumerate() {
                let rows = &rows[j / LANES * ROWS + block * LANES..][..LANES];
                for (to, row) in column.iter_mut().zip(rows) {
                    *to = row[j % LANES];
                }
            }
        }
        chunk.weights.fill(T::zero());
        match &self.weights {
            None => chunk.weights[..chunk.used].fill(T::one()),
            Some(w) => chunk.weights[..chunk.used].copy_from_slice(&w[first..][..chunk.used]),
        }
    }
}

/// The length of rows: whole blocks, and whole groups of a tile.
pub(crate) fn stride(width: usize) -> usize {
    width.next_multiple_of(6).next_multiple_of(LANES)
}

/// [`ROWS`] samples, twice; what is behind the end has weight 0.
pub(crate) struct Chunk<T> {
    /// Blocks of [`LANES`] dimensions, of each all rows.
    pub(crate) rows: Vec<T>,
    /// Blocks of [`LANES`] rows, of each all dimensions.
    pub(crate) columns: Vec<T>,
    pub(crate) weights: Vec<T>,
    pub(crate) stride: usize,
    pub(crate) used: usize,
}

impl<T: Real> Chunk<T> {
    pub(crate) fn new(width: usize) -> Self {
        let stride = stride(width);
        Self {
            rows: vec![T::zero(); ROWS * stride],
            columns: vec![T::zero(); ROWS * width],
            weights: vec![T::zero(); ROWS],
            stride,
            used: 0,
        }
    }
}

/// Shape (n, d), or (B, n, d), with at least one row and column; and finite.
pub(crate) struct Shape {
    pub(crate) batch: Option<usize>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
}

impl Shape {
    pub(crate) fn of(x: &Tensor) -> Result<Self> {
        let shape = match *x.dims() {
            [rows, width] => Self {
                batch: None,
                rows,
                width,
            },
            [batch, rows, width] => Self {
                batch: Some(batch),
                rows,
                width,
            },
            _ => {
                return Err(Error::tensor(
                    "data",
                    "shape (n, d) or (B, n, d)",
                    x.shape(),
                ));
            }
        };
        if x.elem_count() == 0 {
            let expected = "at least one problem, row and column";
            return Err(Error::tensor("data", expected, x.shape()));
        }
        Ok(shape)
    }

    pub(crate) fn count(&self) -> usize {
        self.batch.unwrap_or(1)
    }

    /// With the batch dimension in front, if there is one.
    pub(crate) fn with(&self, dims: &[usize]) -> Vec<usize> {
        self.batch.iter().chain(dims).copied().collect()
    }
}

pub(crate) fn check_finite<T: Real>(name: &str, x: &[T], width: usize) -> Result<()> {
    let Some(first) = x.iter().position(|v| !v.is_finite()) else {
        return Ok(());
    };
    let count = x.iter().filter(|v| !v.is_finite()).count();
    let name = format!("{name} at row {}, column {}", first / width, first % width);
    let remedy = format!("must be finite ({count} entries are not)");
    Err(Error::value(name, x[first], remedy))
}

/// Finite, not negative, of positive total.
pub(crate) fn check_weights<T: Real>(weights: &[T]) -> Result<()> {
    let bad = |w: &T| !(*w >= T::zero() && w.is_finite());
    if let Some(i) = weights.iter().position(bad) {
        let remedy = "sample weights are finite and not negative";
        return Err(Error::value(
            format!("sample weight {i}"),
            weights[i],
            remedy,
        ));
    }
    match weights.iter().any(|w| *w > T::zero()) {
        true => Ok(()),
        false => Err(Error::value(
            "the total of sample weights",
            0,
            "must be positive",
        )),
    }
}

/// More components than different rows with weight cannot be told apart.
pub(crate) fn check_distinct<T: Real>(data: &Data<T>, components: usize) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for (i, row) in data.x.chunks_exact(data.width).enumerate() {
        if data.weight(i) > 0.0 {
            // Adding 0 makes both zeros one.
            let bits: Vec<u64> = row.iter().map(|v| (v.as_f64() + 0.0).to_bits()).collect();
            seen.insert(bits);
        }
        if seen.len() >= components {
            return Ok(());
        }
    }
    let remedy = format!(
        "more than the {} different samples with weight: take fewer components, or give more data",
        seen.len()
    );
    Err(Error::value("components", components, remedy))
}
