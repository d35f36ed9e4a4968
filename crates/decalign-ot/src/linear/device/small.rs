//! Many small problems: a warp each.

use candle_core::{D, DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record;

use super::super::solve::Settings;
use super::DeviceSolution;
use crate::schedule::{DEVICE_STAGE_SWEEPS, GENTLE_RESTART_REDUCTION, UNSCALED_RANGE};

/// Points of a marginal that a warp takes.
const POINTS: usize = 32;

/// Whether [`solve`] takes problems of n and m points.
pub(super) fn takes(n: usize, m: usize) -> bool {
    n <= POINTS && m <= POINTS
}

pub(crate) fn program(dtype: DType) -> Result<Program> {
    let program = Program::new("sinkhorn_small", include_str!("small.cu"), dtype)?.lanes(32);
    Ok(program
        .constant("UNSCALED_RANGE", UNSCALED_RANGE as usize)
        .constant("STAGE_SWEEPS", DEVICE_STAGE_SWEEPS))
}

/// Solves `count` problems of weights a (n) or (B, n), b (m) or (B, m) and costs (n, m) or (B, n, m).
pub(super) fn solve(
    backend: &Backend,
    (a, b, cost): (&Tensor, &Tensor, &Tensor),
    count: usize,
    settings: &Settings,
) -> Result<DeviceSolution> {
    let (n, m) = (a.dim(D::Minus1)?, b.dim(D::Minus1)?);
    let program = program(cost.dtype())?;
    let memory = |shape: &[usize]| Memory::new(backend, cost.dtype(), shape);
    let with_plan = cost.track_op();
    let mut report = memory(&[count, 4])?;
    let mut sides = memory(&[count, 3, n + m])?;
    let mut plan = memory(&if with_plan { [count, n, m] } else { [1, 1, 1] })?;
    // From one problem to the next; 0 where all share it.
    let step = |x: &Tensor, rank: usize, size: usize| if x.rank() > rank { size } else { 0 };
    Launch::new(&program, "solve", count)
        .input(a)?
        .input(b)?
        .input(cost)?
        .output(&mut report)
        .output(&mut sides)
        .output(&mut plan)
        .count(n)?
        .count(m)?
        .count(step(a, 1, n))?
        .count(step(b, 1, m))?
        .count(step(cost, 2, n * m))?
        .real(settings.schedule.epsilon)
        .real(settings.stopping.tolerance)
        .real(settings.schedule.scaling)
        .count(settings.stopping.max_iterations)?
        .count(usize::from(with_plan))?
        .real(GENTLE_RESTART_REDUCTION)
        .run(backend)?;
    let (sides, plan) = (sides.into_tensor(), plan.into_tensor());
    let slopes = sides.narrow(1, 0, 1)?.squeeze(1)?;
    let report = record(
        "sinkhorn",
        &[a, b, cost],
        vec![report.into()],
        move |back| {
            // Of the value, the first of each row; the others carry no gradient.
            let outer = back.gradient(0)?.narrow(1, 0, 1)?;
            let slopes = slopes.broadcast_mul(&outer)?;
            let of = |x: Tensor, i: usize, rank: usize| -> Result<Option<Tensor>> {
                Ok(Some(match back.inputs[i].rank() > rank {
                    true => x,
                    false => x.sum(0)?,
                }))
            };
            let of_plan = match back.needed[2] {
                true => of(plan.broadcast_mul(&outer.unsqueeze(2)?)?, 2, 2)?,
                false => None,
            };
            Ok(vec![
                of(slopes.narrow(1, 0, n)?.contiguous()?, 0, 1)?,
                of(slopes.narrow(1, n, m)?.contiguous()?, 1, 1)?,
                of_plan,
            ])
        },
    )?
    .swap_remove(0);
    Ok(DeviceSolution {
        value: report.narrow(1, 0, 1)?.squeeze(1)?,
        report: report.detach(),
        sides: Some(sides),
    })
}
