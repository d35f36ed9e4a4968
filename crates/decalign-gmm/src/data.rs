//! Samples as loops see them: checked, with the frame whose coordinates chunks of rows are read in.

use candle_core::Tensor;
use decalign_core::simd::LANES;
use decalign_core::{Error, Real, Result};

use crate::chunk::{Chunk, ROWS};
use crate::frame::Frame;

/// Data of no more rows is kept as its chunks: batches of small problems read it once, not in every pass.
const KEPT: usize = 8 * ROWS;

/// Samples and their weights.
pub(crate) struct Data<'a, T> {
    pub(crate) x: &'a [T],
    pub(crate) width: usize,
    pub(crate) frame: Frame<T>,
    /// The frame's centre and scale by blocks of dimensions, 0 behind the last.
    pub(crate) coordinates: Vec<[[T; LANES]; 2]>,
    /// The chunks, where they are so few that passes need not read them anew.
    kept: Vec<Chunk<T>>,
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
        let mut data = Self::unread(x, width, frame, weights);
        if data.rows() <= KEPT {
            data.kept = (0..data.rows())
                .step_by(ROWS)
                .map(|first| Chunk::of(&data, first))
                .collect();
        }
        data
    }

    fn unread(x: &'a [T], width: usize, frame: Frame<T>, weights: Option<&[T]>) -> Self {
        let rows = x.len() / width;
        let coordinates = frame.blocks();
        let Some(given) = weights else {
            return Self {
                x,
                width,
                frame,
                coordinates,
                kept: Vec::new(),
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
            coordinates,
            kept: Vec::new(),
            total: weights.iter().map(|w| w.as_f64()).sum(),
            counted: weights.iter().filter(|w| **w > T::zero()).count(),
            weights: Some(weights),
            weight_scale: scale,
        }
    }

    /// The chunk that begins at row `first`: kept, or read into the buffer.
    pub(crate) fn chunk<'b>(
        &'b self,
        first: usize,
        buffer: &'b mut Option<Chunk<T>>,
    ) -> &'b Chunk<T> {
        if let Some(kept) = self.kept.get(first / ROWS) {
            return kept;
        }
        let chunk = buffer.get_or_insert_with(|| Chunk::new(self.width));
        chunk.read(self, first);
        chunk
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
