//! Balanced problems on devices.

mod point_clouds;
mod point_kernels;
mod small;

use candle_core::{D, DType, Tensor};
use decalign_core::Result;
use decalign_core::device::Backend;

use super::marginal::Totals;
use super::problem::{Gradient, LinearProblem, Precision, SolvedProblem};
use super::solve::Settings;
use crate::device::{self as joint, JointInputs};
use crate::geometry::{self, Geometry, Kind, Metric};
use crate::schedule::{EpsilonSchedule, UNSCALED_RANGE, range_fits_f32, solving_dtype};
use crate::tensor_convert::{read, select};

pub(crate) use point_kernels::{plan_program, sweep_program};
pub(crate) use small::program as small_program;

/// The solution of a batch of B problems on a device.
pub(super) struct DeviceSolution {
    /// The dual value with its gradients, (B).
    pub(super) value: Tensor,
    /// Value, transport cost, marginal error and sweeps, (B, 4).
    pub(super) report: Tensor,
    /// The gradient of the value by weights, F and G, and the marginals of the plan, (B, 3, n + m); `None` from kernels without them.
    pub(super) sides: Option<Tensor>,
}

impl DeviceSolution {
    /// The solved problems as those of the host; waits for the device.
    pub(super) fn solved(&self, problem: &LinearProblem) -> Result<Option<Vec<SolvedProblem>>> {
        let Some(sides) = &self.sides else {
            return Ok(None);
        };
        let (n, m) = problem.geometry.size();
        let (sides, report) = (read::<f64>(sides)?, read::<f64>(&self.report)?);
        let potential = |x: &[f64]| -> Vec<f64> {
            let finite = |v: &f64| if *v > NOTHING { *v } else { f64::NEG_INFINITY };
            x.iter().map(finite).collect()
        };
        let each = sides.chunks_exact(3 * (n + m)).zip(report.chunks_exact(4));
        let solved = each.enumerate().map(|(i, (sides, report))| {
            let (scaled, sums) = (&sides[n + m..][..n + m], &sides[2 * (n + m)..]);
            Ok(SolvedProblem {
                weights: problem.weights(i)?,
                scaled: (potential(&scaled[..n]), potential(&scaled[n..])),
                precision: match self.report.dtype() {
                    DType::F64 => Precision::Double,
                    _ => Precision::Single,
                },
                iterations: report[3] as usize,
                totals: Totals {
                    cost: report[1],
                    rows: sums[..n].to_vec(),
                    columns: sums[n..].to_vec(),
                },
                tape: Vec::new(),
            })
        });
        solved.collect::<Result<_>>().map(Some)
    }
}

/// Potentials below this are those of points without mass.
const NOTHING: f64 = -1e29;

/// Largest number of coordinate differences that the costs of small problems are computed from in plain tensor operations.
const NUMBERS: usize = 1 << 26;

/// Costs as a matrix a problem, where making them takes no more memory than they do.
fn matrix(geometry: &Geometry) -> Result<Option<Tensor>> {
    let Kind::Points(x, y, metric) = geometry.kind() else {
        return Ok(Some(geometry::cost(geometry)?));
    };
    if !matches!(metric, Metric::SquaredEuclidean(_)) {
        let numbers = x.elem_count().saturating_mul(geometry.size().1);
        return Ok(match numbers <= NUMBERS {
            true => Some(geometry::cost(geometry)?),
            false => None,
        });
    }
    // About their mean, so that distances keep their digits.
    let (n, m) = geometry.size();
    let rows = D::Minus2;
    let mean = (x.detach().sum_keepdim(rows)? + y.detach().sum_keepdim(rows)?)?;
    let mean = (mean / (n + m) as f64)?;
    let (x, y) = (x.broadcast_sub(&mean)?, y.broadcast_sub(&mean)?);
    let squares = |x: &Tensor| x.sqr()?.sum_keepdim(D::Minus1);
    let turned = |x: &Tensor| x.transpose(rows, D::Minus1)?.contiguous();
    let products = (x.matmul(&turned(&y)?)? * -2.0)?;
    let sums = squares(&x)?.broadcast_add(&turned(&squares(&y)?)?)?;
    Ok(Some((products + sums)?))
}

/// Solves where there are kernels for the problem.
pub(super) fn solve(
    backend: &Backend,
    settings: &Settings,
    problem: &LinearProblem,
) -> Result<Option<DeviceSolution>> {
    if !problem.balanced() || settings.gradient != Gradient::Envelope {
        return Ok(None);
    }
    let EpsilonSchedule { epsilon, scaling } = settings.schedule;
    let ((n, m), count) = (problem.geometry.size(), problem.count());
    let given = solving_dtype(backend, problem.a.dtype(), settings.stopping.tolerance);
    let range = problem.geometry.spread() / epsilon;
    let dtype = match range_fits_f32(range) || backend.device().is_metal() {
        true => given,
        false => DType::F64,
    };
    let small = small::takes(n, m);
    // The kernel for any number of marginals has no stages.
    let middle = joint::solves(&[n, m], dtype) && (range <= UNSCALED_RANGE || scaling == 1.0);
    if small || middle {
        let of_type = |x: &Tensor| x.to_dtype(dtype);
        let (a, b) = (of_type(&problem.a)?, of_type(&problem.b)?);
        if let Some(cost) = matrix(&problem.geometry)? {
            let inputs = (&a, &b, &of_type(&cost)?);
            let found = match small {
                true => small::solve(backend, inputs, count, settings),
                false => self::middle(backend, inputs, count, settings),
            };
            return found.map(Some);
        }
    }
    let Kind::Points(x, y, Metric::SquaredEuclidean(_)) = problem.geometry.kind() else {
        return Ok(None);
    };
    // The range of points is known after they are centred; `point_clouds` then leaves f32 where it must.
    let each = (0..count).map(|i| {
        let pick = |t: &Tensor, rank: usize| select(t, rank, i);
        let inputs = [
            pick(&problem.a, 1)?,
            pick(&problem.b, 1)?,
            pick(x, 2)?,
            pick(y, 2)?,
        ];
        point_clouds::solve(backend, &inputs, given, settings)
    });
    joined(&each.collect::<Result<Vec<_>>>()?).map(Some)
}

/// Concatenates solutions, in f64 where one is.
fn joined(parts: &[DeviceSolution]) -> Result<DeviceSolution> {
    let double = parts.iter().any(|part| part.report.dtype() == DType::F64);
    let dtype = if double { DType::F64 } else { DType::F32 };
    let cat = |all: Vec<&Tensor>| -> Result<Tensor> {
        let all = all.into_iter().map(|x| x.to_dtype(dtype));
        Ok(Tensor::cat(
            &all.collect::<candle_core::Result<Vec<_>>>()?,
            0,
        )?)
    };
    let sides: Option<Vec<&Tensor>> = parts.iter().map(|part| part.sides.as_ref()).collect();
    Ok(DeviceSolution {
        value: cat(parts.iter().map(|part| &part.value).collect())?,
        report: cat(parts.iter().map(|part| &part.report).collect())?,
        sides: sides.map(cat).transpose()?,
    })
}

/// Costs that the memory of a group holds, by the kernel for any number of marginals.
fn middle(
    backend: &Backend,
    (a, b, cost): (&Tensor, &Tensor, &Tensor),
    count: usize,
    settings: &Settings,
) -> Result<DeviceSolution> {
    let (n, m) = (a.dim(D::Minus1)?, b.dim(D::Minus1)?);
    let b = scaled_to(b, a)?;
    let weights = [(a, n), (&b, m)].map(|(w, k)| Ok(centring(w)?.broadcast_as((count, k))?));
    let [a, b]: [Result<Tensor>; 2] = weights;
    let weights = Tensor::cat(&[a?, b?], 1)?;
    let cost = cost.broadcast_as((count, n, m))?.flatten_from(1)?;
    let given = JointInputs::dense(&[n, m], weights, cost.contiguous()?);
    let (stopping, epsilon) = (settings.stopping, settings.schedule.epsilon);
    let [value, report] = given.solve(backend, &[count], stopping, epsilon)?;
    Ok(DeviceSolution {
        value,
        report,
        sides: None,
    })
}

/// Weights b scaled to the totals of a.
fn scaled_to(b: &Tensor, a: &Tensor) -> Result<Tensor> {
    let total = |x: &Tensor| x.detach().sum_keepdim(D::Minus1);
    Ok(b.broadcast_mul(&total(a)?.broadcast_div(&total(b)?)?)?)
}

/// The same weights, whose gradient is moved to a weighted mean of 0 over points that have weight.
fn centring(weights: &Tensor) -> Result<Tensor> {
    let fixed = weights.detach();
    let with_mass = (weights * fixed.gt(0.0)?.to_dtype(weights.dtype())?)?;
    let last = D::Minus1;
    let total = fixed.sum_keepdim(last)?;
    let off = with_mass.sum_keepdim(last)?.broadcast_sub(&total)?;
    Ok((&with_mass - fixed.broadcast_div(&total)?.broadcast_mul(&off)?)?)
}
