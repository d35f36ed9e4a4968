//! Dense problems on devices: a launch a batch.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::{record, record_one};

/// Lanes a problem.
const LANES: usize = 256;
/// Bytes of shared memory that every device has.
const SHARED: usize = 32 << 10;
/// Marginals that the kernels count.
const MARGINALS: usize = 8;
const SIZES: [&str; MARGINALS] = ["K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7"];

/// A batch of problems as two tensors: weights (B, K_1 + ... + K_M) and joint costs (B, K_1 ... K_M).
pub(crate) struct Dense<'a> {
    pub(crate) sizes: &'a [usize],
    pub(crate) weights: Tensor,
    pub(crate) cost: Tensor,
}

fn points(sizes: &[usize]) -> usize {
    sizes.iter().sum()
}

fn cells(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// Whether the shared memory of a group holds `tables` tables of all cells and what else it needs.
fn fits(sizes: &[usize], dtype: DType, tables: usize) -> bool {
    let last = sizes.last().copied().unwrap_or(1);
    let Some(cells) = sizes.iter().try_fold(1usize, |n, k| n.checked_mul(*k)) else {
        return false;
    };
    let room = (cells / last).saturating_mul(last | 1);
    let numbers = room
        .saturating_mul(tables)
        .saturating_add(3 * points(sizes) + 2 * LANES / 32);
    sizes.len() <= MARGINALS && numbers.saturating_mul(dtype.size_in_bytes()) <= SHARED
}

fn program(
    name: &'static str,
    source: &'static str,
    sizes: &[usize],
    dtype: DType,
) -> Result<Program> {
    let mut program = Program::new(name, source, dtype)?
        .after(include_str!("cells.cu"))
        .lanes(LANES)
        .constant("M", sizes.len())
        .constant("CELLS", cells(sizes))
        .constant("POINTS", points(sizes))
        .constant("LAST", sizes.last().copied().unwrap_or(1));
    for (i, name) in SIZES.into_iter().enumerate() {
        program = program.constant(name, sizes.get(i).copied().unwrap_or(1));
    }
    Ok(program)
}

pub(crate) fn log_domain_program(sizes: &[usize], dtype: DType) -> Result<Program> {
    program("log_domain", include_str!("log_domain.cu"), sizes, dtype)
}

pub(crate) fn release_program(sizes: &[usize], dtype: DType) -> Result<Program> {
    program("release", include_str!("release.cu"), sizes, dtype)
}

/// Whether [`solve`] takes problems of these sizes.
pub(crate) fn solves(sizes: &[usize], dtype: DType) -> bool {
    fits(sizes, dtype, 1)
}

/// Whether [`release`] does.
pub(super) fn takes_release(sizes: &[usize], dtype: DType) -> bool {
    fits(sizes, dtype, 2)
}

/// Solves in the log domain: the value, (B), with gradients, and a report (B, 4) of value, transport cost,
/// marginal error and sweeps.
pub(crate) fn solve(
    backend: &Backend,
    problem: &Dense,
    (epsilon, tolerance, sweeps): (f64, f64, usize),
) -> Result<[Tensor; 2]> {
    let (weights, cost) = (&problem.weights, &problem.cost);
    let batch = weights.dim(0)?;
    let program = log_domain_program(problem.sizes, weights.dtype())?;
    let memory = |shape: (usize, usize)| Memory::new(backend, weights.dtype(), shape);
    let mut report = memory((batch, 4))?;
    let mut slopes = memory((batch, points(problem.sizes)))?;
    let mut plan = memory((batch, cells(problem.sizes)))?;
    Launch::new(&program, "solve", batch)
        .input(weights)?
        .input(cost)?
        .output(&mut report)
        .output(&mut slopes)
        .output(&mut plan)
        .real(epsilon)
        .real(tolerance)
        .count(sweeps)?
        .run(backend)?;
    let outputs = vec![report.into()];
    let (slopes, plan) = (slopes.into_tensor(), plan.into_tensor());
    let report = record(
        "multi_marginal_sinkhorn",
        &[weights, cost],
        outputs,
        move |b| {
            // Of the value, the first of each row; the others carry no gradient.
            let outer = b.gradient(0)?.narrow(1, 0, 1)?;
            Ok(vec![
                Some(slopes.broadcast_mul(&outer)?),
                Some(plan.broadcast_mul(&outer)?),
            ])
        },
    )?
    .swap_remove(0);
    let value = report.narrow(1, 0, 1)?.squeeze(1)?;
    Ok([value, report.detach()])
}

/// The release's loss, (B), with gradients.
pub(super) fn release(
    backend: &Backend,
    problem: &Dense,
    (epsilon, sweeps): (f64, usize),
) -> Result<Tensor> {
    let (weights, cost) = (&problem.weights, &problem.cost);
    let (batch, points) = (weights.dim(0)?, points(problem.sizes));
    let program = release_program(problem.sizes, weights.dtype())?;
    let memory = |shape: &[usize]| Memory::new(backend, weights.dtype(), shape);
    let mut losses = memory(&[batch])?;
    let mut d_weights = memory(&[batch, points])?;
    let mut d_cost = memory(&[batch, cells(problem.sizes)])?;
    let mut history = memory(&[batch, sweeps + 1, points])?;
    let mut sums = memory(&[batch, sweeps, points])?;
    let tracked = weights.track_op() || cost.track_op();
    Launch::new(&program, "loss", batch)
        .input(weights)?
        .input(cost)?
        .output(&mut losses)
        .output(&mut d_weights)
        .output(&mut d_cost)
        .output(&mut history)
        .output(&mut sums)
        .real(epsilon)
        .count(sweeps)?
        .count(usize::from(tracked))?
        .run(backend)?;
    let (d_weights, d_cost) = (d_weights.into_tensor(), d_cost.into_tensor());
    record_one(
        "kernel_sinkhorn",
        &[weights, cost],
        losses.into(),
        move |b| {
            let outer = b.gradient(0)?.unsqueeze(1)?;
            Ok(vec![
                Some(d_weights.broadcast_mul(&outer)?),
                Some(d_cost.broadcast_mul(&outer)?),
            ])
        },
    )
}
