//! Squared Euclidean costs between many points: the solve of one problem, by launches of [`super::point_kernels`].

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, bf16x3};
use decalign_core::op::record;
use decalign_core::tensor_convert::scalar;

use super::super::solve::Settings;
use super::point_kernels::{Engine, Finished, SHARES, Side, plan_program, sweep_program};
use super::{DeviceSolution, scaled_to};
use crate::schedule::{
    DEVICE_CHECK_INTERVAL, DEVICE_STAGE_SWEEPS, GENTLE_RESTART_REDUCTION, UNSCALED_RANGE,
    range_fits_f32,
};

/// Solves one problem of weights a (n), b (m) and points x (n, d), y (m, d).
pub(super) fn solve(
    backend: &Backend,
    inputs: &[Tensor; 4],
    dtype: DType,
    settings: &Settings,
) -> Result<DeviceSolution> {
    let typed = |dtype: DType| -> Result<Vec<Tensor>> {
        let each = inputs.iter().map(|x| x.to_dtype(dtype));
        Ok(each.collect::<candle_core::Result<_>>()?)
    };
    let mut inputs = typed(dtype)?;
    let mut measures = scaled(&inputs, settings.schedule.epsilon)?;
    let mut range = range(&measures)?;
    if !range_fits_f32(range) && dtype == DType::F32 && !backend.device().is_metal() {
        inputs = typed(DType::F64)?;
        measures = scaled(&inputs, settings.schedule.epsilon)?;
        range = self::range(&measures)?;
    }
    let (dtype, width) = (inputs[0].dtype(), inputs[2].dim(1)?);
    let in_parts = bf16x3::supports(backend, dtype, width);
    let engine = Engine {
        backend: backend.clone(),
        program: sweep_program(dtype, width, in_parts)?,
        plan: plan_program(dtype, width)?,
        width,
        in_parts,
        most: SHARES,
    };
    engine.load(&mut measures)?;
    let Finished { report, sides, .. } = iterate(&engine, &mut measures, range, settings)?;
    let (n, m) = (measures[0].count, measures[1].count);
    let slopes = sides.narrow(1, 0, 1)?.flatten_all()?;
    // The factor of the points, for their gradients.
    let unit = scale(settings.schedule.epsilon);
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let report = record("sinkhorn", &inputs, vec![report.into()], move |back| {
        let outer = back.gradient(0)?.flatten_all()?.narrow(0, 0, 1)?;
        let slopes = slopes.broadcast_mul(&outer)?;
        let [x, y] = &measures;
        let points = |i: usize, to: &Side, from: &Side| -> Result<Option<Tensor>> {
            match back.needed[i] {
                true => engine.backward(to, from, &outer, 2.0 / unit).map(Some),
                false => Ok(None),
            }
        };
        Ok(vec![
            Some(slopes.narrow(0, 0, n)?.contiguous()?),
            Some(slopes.narrow(0, n, m)?.contiguous()?),
            points(2, x, y)?,
            points(3, y, x)?,
        ])
    })?
    .swap_remove(0);
    Ok(DeviceSolution {
        value: report.narrow(1, 0, 1)?.squeeze(1)?,
        report: report.detach(),
        sides: Some(sides),
    })
}

/// The factor of the points that makes inner products those of the cost in base 2.
fn scale(epsilon: f64) -> f64 {
    (2.0 * std::f64::consts::LOG2_E / epsilon).sqrt()
}

/// Both measures, centred at their common mean and scaled, before the first potentials.
fn scaled(inputs: &[Tensor], epsilon: f64) -> Result<[Side; 2]> {
    let [a, b, x, y] = [0, 1, 2, 3].map(|i| inputs[i].detach());
    let count = x.dim(0)? + y.dim(0)?;
    let mean = ((x.sum_keepdim(0)? + y.sum_keepdim(0)?)? / count as f64)?;
    let side = |x: &Tensor, weights: Tensor| -> Result<Side> {
        let points = (x.broadcast_sub(&mean)? * scale(epsilon))?;
        let halves = (points.sqr()?.sum(1)? * 0.5)?;
        Ok(Side {
            count: x.dim(0)?,
            table: points.clone(),
            points,
            h: halves.clone(),
            halves,
            weights,
        })
    };
    let b = scaled_to(&b, &a)?;
    Ok([side(&x, a)?, side(&y, b)?])
}

/// A bound on the costs, in units of epsilon.
fn range([x, y]: &[Side; 2]) -> Result<f64> {
    let length = |side: &Side| -> Result<f64> { Ok((2.0 * scalar(&side.halves.max(0)?)?).sqrt()) };
    Ok(0.5 * (length(x)? + length(y)?).powi(2) * std::f64::consts::LN_2)
}

impl Side {
    /// The measure at an epsilon larger by `factor`.
    fn at(&self, factor: f64) -> Result<Self> {
        Ok(Self {
            points: (&self.points / factor.sqrt())?,
            halves: (&self.halves / factor)?,
            ..self.clone()
        })
    }
}

/// All sweeps: the stages, then sweeps until the plan's own marginals are within the tolerance.
fn iterate(
    engine: &Engine,
    measures: &mut [Side; 2],
    range: f64,
    settings: &Settings,
) -> Result<Finished> {
    let mut done = 0;
    prepare(engine, measures, range, settings, &mut done)?;
    let mass = scalar(&measures[0].weights.sum_all()?)?;
    let target = settings.stopping.tolerance * mass;
    let mut goal = target;
    loop {
        let [x, y] = measures;
        while done < settings.stopping.max_iterations {
            // The error of the plan before the sweep, whose columns are exact.
            let error = engine.half_sweep(x, y)?;
            engine.half_sweep(y, x)?;
            done += 1;
            if done % DEVICE_CHECK_INTERVAL == 0
                && done < settings.stopping.max_iterations
                && scalar(&error.sum_all()?)? <= goal
            {
                break;
            }
        }
        let masses = engine.transport_cost(x, y)?;
        let end = engine.finish(measures, &masses, None, (settings.schedule.epsilon, done))?;
        let rows = scalar(&end.error)?;
        if rows > target || rows.is_nan() {
            if done == settings.stopping.max_iterations || rows.is_nan() {
                return Ok(end);
            }
        } else {
            let [x, y] = measures;
            let columns = engine.meet(&engine.scan(y, x)?, y)?.1;
            let end = engine.finish(
                measures,
                &masses,
                Some(&columns),
                (settings.schedule.epsilon, done),
            )?;
            if done == settings.stopping.max_iterations || scalar(&end.error)? <= target {
                return Ok(end);
            }
        }
        goal *= GENTLE_RESTART_REDUCTION;
    }
}

/// Initial potentials: 0, or those of the stages at larger epsilons where epsilon is small beside the costs.
fn prepare(
    engine: &Engine,
    measures: &mut [Side; 2],
    range: f64,
    settings: &Settings,
    done: &mut usize,
) -> Result<()> {
    let mut factor = 1.0;
    if settings.schedule.scaling < 1.0 && range > UNSCALED_RANGE {
        while factor < range {
            factor /= settings.schedule.scaling;
        }
    }
    let mut at = [measures[0].at(factor)?, measures[1].at(factor)?];
    engine.load(&mut at)?;
    for side in &mut at {
        side.h = engine.begin(side)?;
    }
    while factor > 1.0 {
        let [x, y] = &mut at;
        for _ in 0..DEVICE_STAGE_SWEEPS {
            if *done + 1 < settings.stopping.max_iterations {
                engine.half_sweep(x, y)?;
                engine.half_sweep(y, x)?;
                *done += 1;
            }
        }
        let next = (factor * settings.schedule.scaling).max(1.0);
        for (side, whole) in at.iter_mut().zip(measures.iter()) {
            let h = engine.cool(side, factor / next)?;
            *side = Side {
                h,
                ..whole.at(next)?
            };
        }
        engine.load(&mut at)?;
        factor = next;
    }
    for (side, start) in measures.iter_mut().zip(at) {
        side.h = start.h;
    }
    Ok(())
}
