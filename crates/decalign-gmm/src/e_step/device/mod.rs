//! The E-step on devices, for diagonal and spherical covariances: two launches, then the sums are read back.

use candle_core::{DType, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::{Real, Result};

use super::EStepSums;
use crate::covariance::Covariance;
use crate::parameters::{Factors, MixtureParameters};
use crate::samples::Samples;
use crate::standardization::Standardization;
use crate::statistics::{SecondMoment, SufficientStatistics};

const LANES: usize = 256;
/// Rows in shared memory at a time: a warp.
const ROWS: usize = 32;
/// Groups that fill a large device: two for each of 132 multiprocessors.
const GROUPS: usize = 264;
/// Bytes of shared memory that every supported device has.
const SHARED: usize = 32 << 10;
/// Bytes of first statistics that a lane keeps in registers; second statistics and means take as many each.
const LANE_SUMS: usize = 64;

/// Samples on a device.
pub(crate) struct DeviceSamples {
    backend: Backend,
    program: Program,
    x: Tensor,
    weights: Option<Tensor>,
    /// Centre and scale of the columns.
    standardization: Vec<f64>,
}

pub(crate) fn program(k: usize, d: usize, weighted: bool, dtype: DType) -> Result<Program> {
    Ok(Program::new("e_step", include_str!("e_step.cu"), dtype)?
        .lanes(LANES)
        .constant("K", k)
        .constant("WIDTH", d)
        .constant("WEIGHTED", usize::from(weighted)))
}

/// True if the kernel supports these components and columns.
fn supports(kind: Covariance, k: usize, d: usize, dtype: DType) -> bool {
    let size = dtype.size_in_bytes();
    let shared = (ROWS * ((d | 1) + (k | 1)) + 32) * size;
    let lane_sums = (k * d).div_ceil(LANES) * size;
    matches!(kind, Covariance::Diagonal | Covariance::Spherical)
        && (k <= LANES && shared <= SHARED && lane_sums <= LANE_SUMS)
}

impl DeviceSamples {
    /// `x` (n, d) on the device, whose values `samples` has on the host; `None` where the kernel does not support them.
    pub(crate) fn new<T: Real>(
        backend: &Backend,
        x: &Tensor,
        samples: &Samples<T>,
        (kind, k): (Covariance, usize),
    ) -> Result<Option<Self>> {
        if !supports(kind, k, samples.width, x.dtype()) {
            return Ok(None);
        }
        let weights = match &samples.weights {
            Some(w) => Some(Tensor::from_vec(w.clone(), w.len(), x.device())?),
            None => None,
        };
        let Standardization { centre, scale } = &samples.standardization;
        Ok(Some(Self {
            backend: backend.clone(),
            program: program(k, samples.width, weights.is_some(), x.dtype())?,
            x: x.clone(),
            weights,
            standardization: centre.iter().chain(scale).map(|v| v.as_f64()).collect(),
        }))
    }

    /// As [`super::e_step`].
    pub(crate) fn e_step<T: Real>(
        &self,
        mixture: &MixtureParameters,
        factors: &Factors,
        second: Option<SecondMoment>,
    ) -> Result<EStepSums> {
        let (rows, d) = self.x.dims2()?;
        let (k, dtype) = (mixture.components(), self.x.dtype());
        let rows_per_group = rows.div_ceil(GROUPS).next_multiple_of(ROWS);
        let groups = rows.div_ceil(rows_per_group);
        let packed = self.packed::<T>(mixture, factors)?;
        let count = 2 * k * d + k;
        let mut partial_sums = Memory::new(&self.backend, dtype, (groups, count))?;
        let mut report = Memory::new(&self.backend, dtype, (groups, 2))?;
        let mut least_likely = Memory::new(&self.backend, DType::U32, groups)?;
        Launch::new(&self.program, "e_step", groups)
            .input(&self.x)?
            .input(self.weights.as_ref().unwrap_or(&self.x))?
            .input(&packed)?
            .output(&mut partial_sums)
            .output(&mut report)
            .output(&mut least_likely)
            .count(rows)?
            .count(rows_per_group)?
            .run(&self.backend)?;
        let mut totals = Memory::new(&self.backend, dtype, count)?;
        Launch::new(&self.program, "totals", count.div_ceil(LANES))
            .input(&partial_sums.into_tensor())?
            .output(&mut totals)
            .count(groups)?
            .run(&self.backend)?;
        let wide = |x: Tensor| -> Result<Vec<f64>> {
            let all = x.flatten_all()?.to_vec1::<T>()?;
            Ok(all.iter().map(|v| v.as_f64()).collect())
        };
        let (totals, report) = (wide(totals.into_tensor())?, wide(report.into_tensor())?);
        let least_likely = least_likely.into_tensor().to_vec1::<u32>()?;
        let mut sums = EStepSums::zeros(k, d, second.unwrap_or(SecondMoment::None));
        for (report, row) in report.chunks_exact(2).zip(least_likely) {
            sums.log_likelihood += report[0] * std::f64::consts::LN_2;
            if report[1] < sums.least_likely.1 {
                sums.least_likely = (row as usize, report[1]);
            }
        }
        let SufficientStatistics { s0, s1, s2 } = &mut sums.statistics;
        s1.copy_from_slice(&totals[..k * d]);
        s0.copy_from_slice(&totals[2 * k * d..]);
        if second == Some(SecondMoment::Diagonal) {
            s2.copy_from_slice(&totals[k * d..2 * k * d]);
        }
        Ok(sums)
    }

    /// A mixture as the kernel reads it: the offsets, W and b of `log2 (pi p(x)) = offset - |W x + b|^2`, means, centre and scale.
    fn packed<T: Real>(&self, mixture: &MixtureParameters, factors: &Factors) -> Result<Tensor> {
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
        all.extend(&self.standardization);
        let all: Vec<T> = all.into_iter().map(T::of).collect();
        let count = all.len();
        Ok(Tensor::from_vec(all, count, self.x.device())?)
    }
}
