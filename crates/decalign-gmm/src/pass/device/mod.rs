//! The pass on devices, of diagonal and spherical covariances: two launches, and what a step needs read back.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::{Real, Result};

use super::Totals;
use crate::covariance::Covariance;
use crate::data::Data;
use crate::parameters::{Factors, Moments, Parameters, Second};

const LANES: usize = 256;
/// Rows that shared memory holds.
const ROWS: usize = 32;
/// Groups that fill a large device.
const GROUPS: usize = 264;
/// Bytes of shared memory that every device has.
const SHARED: usize = 32 << 10;
/// Bytes of sums that a lane holds in registers, with as many for second moments and means.
const HELD: usize = 64;

/// Data on a device.
pub(crate) struct OnDevice {
    backend: Backend,
    program: Program,
    x: Tensor,
    weights: Option<Tensor>,
    /// The frame's centre and scale.
    frame: Vec<f64>,
}

pub(crate) fn program(k: usize, d: usize, weighted: bool, dtype: DType) -> Result<Program> {
    Ok(Program::new("em_pass", include_str!("pass.cu"), dtype)?
        .lanes(LANES)
        .constant("K", k)
        .constant("WIDTH", d)
        .constant("WEIGHTED", usize::from(weighted)))
}

/// Whether the kernel takes so many components and columns.
fn takes(kind: Covariance, k: usize, d: usize, dtype: DType) -> bool {
    let size = dtype.size_in_bytes();
    let shared = (ROWS * ((d | 1) + (k | 1)) + 32) * size;
    let held = (k * d).div_ceil(LANES) * size;
    matches!(kind, Covariance::Diagonal | Covariance::Spherical)
        && (k <= LANES && shared <= SHARED && held <= HELD)
}

impl OnDevice {
    /// Of `x` (n, d), which `data` has on the host; `None` where there is no kernel.
    pub(crate) fn new<T: Real>(
        backend: &Backend,
        x: &Tensor,
        data: &Data<T>,
        (kind, k): (Covariance, usize),
    ) -> Result<Option<Self>> {
        if !takes(kind, k, data.width, x.dtype()) {
            return Ok(None);
        }
        let weights = match &data.weights {
            Some(w) => Some(Tensor::from_vec(w.clone(), w.len(), x.device())?),
            None => None,
        };
        let frame = data.frame.centre.iter().chain(&data.frame.inverse);
        Ok(Some(Self {
            backend: backend.clone(),
            program: program(k, data.width, weights.is_some(), x.dtype())?,
            x: x.clone(),
            weights,
            frame: frame.map(|v| v.as_f64()).collect(),
        }))
    }

    /// As [`super::expect`].
    pub(crate) fn expect<T: Real>(
        &self,
        mixture: &Parameters,
        factors: &Factors,
        second: Option<Second>,
    ) -> Result<Totals> {
        let (rows, d) = self.x.dims2()?;
        let (k, dtype) = (mixture.components(), self.x.dtype());
        let share = rows.div_ceil(GROUPS).next_multiple_of(ROWS);
        let groups = rows.div_ceil(share);
        let numbers = self.numbers::<T>(mixture, factors)?;
        let count = 2 * k * d + k;
        let mut parts = Memory::new(&self.backend, dtype, (groups, count))?;
        let mut report = Memory::new(&self.backend, dtype, (groups, 2))?;
        let mut farthest = Memory::new(&self.backend, DType::U32, groups)?;
        Launch::new(&self.program, "expect", groups)
            .input(&self.x)?
            .input(self.weights.as_ref().unwrap_or(&self.x))?
            .input(&numbers)?
            .output(&mut parts)
            .output(&mut report)
            .output(&mut farthest)
            .count(rows)?
            .count(share)?
            .run(&self.backend)?;
        let mut sums = Memory::new(&self.backend, dtype, count)?;
        Launch::new(&self.program, "totals", count.div_ceil(LANES))
            .input(&parts.into_tensor())?
            .output(&mut sums)
            .count(groups)?
            .run(&self.backend)?;
        let wide = |x: Tensor| -> Result<Vec<f64>> {
            let all = x.flatten_all()?.to_vec1::<T>()?;
            Ok(all.iter().map(|v| v.as_f64()).collect())
        };
        let (sums, report) = (wide(sums.into_tensor())?, wide(report.into_tensor())?);
        let farthest = farthest.into_tensor().to_vec1::<u32>()?;
        let mut totals = Totals {
            moments: Moments::zeros(k, d, second.unwrap_or(Second::Nothing)),
            log_likelihood: 0.0,
            farthest: (0, f64::INFINITY),
        };
        for (report, row) in report.chunks_exact(2).zip(farthest) {
            totals.log_likelihood += report[0] * std::f64::consts::LN_2;
            if report[1] < totals.farthest.1 {
                totals.farthest = (row as usize, report[1]);
            }
        }
        let Moments { s0, s1, s2 } = &mut totals.moments;
        s1.copy_from_slice(&sums[..k * d]);
        s0.copy_from_slice(&sums[2 * k * d..]);
        if second == Some(Second::Diagonal) {
            s2.copy_from_slice(&sums[k * d..2 * k * d]);
        }
        Ok(totals)
    }

    /// What the kernel reads of a mixture: `log2 (pi p(x)) = offset - |W x + b|^2`, means, and the frame.
    fn numbers<T: Real>(&self, mixture: &Parameters, factors: &Factors) -> Result<Tensor> {
        let d = mixture.width;
        let unit = (0.5 * std::f64::consts::LOG2_E).sqrt();
        let constant = d as f64 * std::f64::consts::TAU.ln();
        let logs = mixture.weights.iter().zip(&factors.log_determinants);
        let mut all: Vec<f64> = logs
            .map(|(w, log)| (w.ln() - 0.5 * (log + constant)) * std::f64::consts::LOG2_E)
            .collect();
        all.extend(factors.inverse.iter().map(|v| v * unit));
        let biases = factors.inverse.iter().zip(&mixture.means);
        all.extend(biases.map(|(v, m)| -v * unit * m));
        all.extend(&mixture.means);
        all.extend(&self.frame);
        let all: Vec<T> = all.into_iter().map(T::of).collect();
        let count = all.len();
        Ok(Tensor::from_vec(all, count, self.x.device())?)
    }
}
