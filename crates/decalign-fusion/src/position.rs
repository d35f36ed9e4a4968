//! Positions of steps in their sequence.

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::{Init, Parameters};
use decalign_core::{Error, Result};

/// How an encoder knows the order of steps.
///
/// A step's position is the number of steps before it that exist, so padding in front changes nothing,
/// and padded steps get no embedding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Position {
    /// It does not: steps are a set. As in DecAlign.
    #[default]
    None,
    /// Sines and cosines are added to the inputs (Vaswani and others, 2017, section 3.5):
    /// coordinates 2 i and 2 i + 1 are sine and cosine of `position / 10000^(2 i / d)`.
    Sinusoidal,
    /// A learned vector for each position is added to the inputs.
    Learned {
        /// The longest sequence that can be encoded.
        longest: usize,
    },
    /// Queries and keys are [rotated](crate::rotate()) by `position / 10000^(2 i / (d / H))`
    /// (Su and others, 2021).
    Rotary,
}

/// Positions of a batch: one row for all samples, or one row for each.
pub(crate) struct Positions {
    /// `None` where a step does not exist.
    numbers: Vec<Option<u32>>,
    rows: usize,
    steps: usize,
}

impl Positions {
    /// Positions of sequences (B, T, ...) with a mask (B, T).
    pub(crate) fn new(x: &Tensor, mask: Option<&Tensor>) -> Result<Self> {
        let (_, steps, _) = x.dims3()?;
        let Some(mask) = mask else {
            let numbers = (0..steps as u32).map(Some).collect();
            return Ok(Self {
                numbers,
                rows: 1,
                steps,
            });
        };
        let mask = mask.to_dtype(DType::F64)?.to_vec2::<f64>()?;
        let mut numbers = Vec::with_capacity(mask.len() * steps);
        for row in &mask {
            let mut next = 0;
            for there in row.iter().map(|m| *m != 0.0) {
                numbers.push(there.then_some(next));
                next += u32::from(there);
            }
        }
        Ok(Self {
            numbers,
            rows: mask.len(),
            steps,
        })
    }

    /// `position / 10000^(2 i / size)` for i below size / 2 rounded up; 0 where a step does not exist.
    fn angles(&self, size: usize) -> Vec<f64> {
        let frequency = |i: usize| 1e4f64.powf(-2.0 * i as f64 / size as f64);
        let frequencies: Vec<f64> = (0..size.div_ceil(2)).map(frequency).collect();
        let of = |n: &Option<u32>| f64::from(n.unwrap_or(0));
        let all = self.numbers.iter().map(of);
        all.flat_map(|n| frequencies.iter().map(move |f| n * f))
            .collect()
    }

    /// The angles of [`crate::rotate`].
    fn rotation(&self, head: usize) -> Result<Tensor> {
        let shape = (self.rows, self.steps, head.div_ceil(2));
        Ok(Tensor::from_vec(self.angles(head), shape, &Device::Cpu)?)
    }

    /// Sines and cosines, zeros where a step does not exist, (rows, T, d).
    fn sinusoids(&self, like: &Tensor, width: usize) -> Result<Tensor> {
        let half = width.div_ceil(2).max(1);
        let angles = self.angles(width);
        let mut values = Vec::with_capacity(self.numbers.len() * width);
        for (n, angles) in self.numbers.iter().zip(angles.chunks_exact(half)) {
            let both = angles.iter().flat_map(|a| [a.sin(), a.cos()]);
            let exists = f64::from(u8::from(n.is_some()));
            values.extend(both.take(width).map(|v| v * exists));
        }
        tensor_like(values, &[self.rows, self.steps, width], like)
    }

    /// Rows of a table, zeros where a step does not exist, (rows, T, d).
    fn look_up(&self, table: &Tensor) -> Result<Tensor> {
        let (longest, width) = table.dims2()?;
        let last = self.numbers.iter().flatten().max();
        if let Some(last) = last.filter(|last| **last as usize >= longest) {
            let remedy = format!("longer than the {longest} positions that are learned");
            return Err(Error::value("sequence length", last + 1, remedy));
        }
        let ids = self.numbers.iter().map(|n| n.unwrap_or(0)).collect();
        let ids = Tensor::from_vec(ids, self.numbers.len(), table.device())?;
        let found = table.index_select(&ids, 0)?;
        let exists = self
            .numbers
            .iter()
            .map(|n| f64::from(u8::from(n.is_some())));
        let exists = tensor_like(exists.collect(), &[self.numbers.len(), 1], table)?;
        let found = found.broadcast_mul(&exists)?;
        Ok(found.reshape((self.rows, self.steps, width))?)
    }
}

/// A tensor of the dtype and on the device of another.
fn tensor_like(numbers: Vec<f64>, shape: &[usize], like: &Tensor) -> Result<Tensor> {
    let numbers = Tensor::from_vec(numbers, shape, &Device::Cpu)?;
    Ok(numbers.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// A [`Position`] with its parameters.
#[derive(Clone, Debug)]
pub(crate) struct PositionalEmbedding {
    position: Position,
    table: Option<Tensor>,
}

impl PositionalEmbedding {
    /// A learned table is named `positions.weight`.
    pub(crate) fn new(parameters: &Parameters, position: Position, width: usize) -> Result<Self> {
        let table = match position {
            Position::Learned { longest: 0 } => {
                let remedy = "must be the longest sequence, at least 1";
                return Err(Error::value("learned positions", 0, remedy));
            }
            Position::Learned { longest } => {
                let init = Init::KaimingUniform { fan_in: width };
                let scope = parameters.scope("positions");
                Some(scope.get("weight", (longest, width), init)?)
            }
            _ => None,
        };
        Ok(Self { position, table })
    }

    /// Adds sinusoidal or learned positions to inputs (B, T, d).
    pub(crate) fn add(&self, x: &Tensor, mask: Option<&Tensor>) -> Result<Tensor> {
        let positions = || Positions::new(x, mask);
        let vectors = match (self.position, &self.table) {
            (Position::Sinusoidal, _) => positions()?.sinusoids(x, x.dim(2)?)?,
            (_, Some(table)) => positions()?.look_up(table)?,
            _ => return Ok(x.clone()),
        };
        Ok(x.broadcast_add(&vectors)?)
    }

    /// The rotary angles of queries or keys of these inputs; none for other positions.
    pub(crate) fn rotation(
        &self,
        x: &Tensor,
        mask: Option<&Tensor>,
        heads: usize,
    ) -> Result<Option<Tensor>> {
        match self.position {
            Position::Rotary => {
                let head = x.dim(2)? / heads;
                Ok(Some(Positions::new(x, mask)?.rotation(head)?))
            }
            _ => Ok(None),
        }
    }
}
