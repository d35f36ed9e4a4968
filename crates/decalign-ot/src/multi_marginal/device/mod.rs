//! Joint costs of pairs on a device, and the upstream loss as one launch.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};

use super::joint::Structure;
use super::problem::MultiMarginalProblem;
use crate::device::{JOINED, JointInputs, LANES, Source, cells, fits, pairs, points, program};

pub(super) const UPSTREAM: Source = ("upstream", include_str!("upstream.cu"));

pub(crate) fn upstream_program(sizes: &[usize], dtype: DType) -> Result<Program> {
    program(UPSTREAM, (sizes, &pairs(sizes.len())), dtype)
}

/// True for the sizes that [`upstream_loss`] takes.
pub(super) fn supports_upstream(sizes: &[usize], dtype: DType) -> bool {
    fits(sizes, dtype, (2, 9))
}

/// Joins the marginals and the costs of pairs in one launch; `None` where a kernel has too few parameters for them.
pub(super) fn joined(
    backend: &Backend,
    problem: &MultiMarginalProblem,
    source: Source,
) -> Result<Option<JointInputs>> {
    let (sizes, batch) = (problem.sizes.clone(), problem.count());
    let edges = match &problem.structure {
        Structure::Edges(edges) => edges.clone(),
        Structure::Joint => Vec::new(),
    };
    let (marginals, costs) = (&problem.marginals, &problem.costs);
    if sizes.len() > JOINED.0 || costs.is_empty() || costs.len() > JOINED.1 {
        return Ok(None);
    }
    let ranks = (0..costs.len()).map(|i| problem.cost_shape(i).len());
    let ranks = marginals.iter().map(|_| 1).chain(ranks);
    let inputs: Vec<Tensor> = problem.inputs().into_iter().cloned().collect();
    let rows = inputs.iter().zip(ranks).enumerate();
    let batched = rows.fold(0, |bits, (i, (x, rank))| {
        bits | usize::from(x.rank() > rank) << i
    });
    let dtype = inputs[0].dtype();
    let program = program(source, (&sizes, &edges), dtype)?;
    let (points, cells) = (points(&sizes), cells(&sizes));
    let mut weights = Memory::new(backend, dtype, (batch, points))?;
    let mut cost = Memory::new(backend, dtype, (batch, cells))?;
    let groups = (batch * (points + cells)).div_ceil(LANES);
    let mut launch = Launch::new(&program, "joint", groups);
    for i in 0..JOINED.0 {
        launch = launch.input(marginals.get(i).unwrap_or(&marginals[0]))?;
    }
    for i in 0..JOINED.1 {
        launch = launch.input(costs.get(i).unwrap_or(&costs[0]))?;
    }
    launch
        .output(&mut weights)
        .output(&mut cost)
        .count(batch)?
        .count(batched)?
        .run(backend)?;
    Ok(Some(JointInputs {
        weights: weights.into_tensor(),
        cost: cost.into_tensor(),
        sizes,
        edges,
        inputs,
        batch,
        batched: Some(batched),
    }))
}

/// The upstream loss, of shape (B) or a scalar as `shape` says, with gradients.
pub(super) fn upstream_loss(
    backend: &Backend,
    given: JointInputs,
    shape: &[usize],
    (epsilon, sweeps): (f64, usize),
) -> Result<Tensor> {
    let (program, batch) = (given.program(UPSTREAM)?, given.batch);
    let points = points(&given.sizes);
    let memory = |shape: &[usize]| Memory::new(backend, given.weights.dtype(), shape);
    let mut losses = memory(shape)?;
    let mut d_weights = memory(&[batch, points])?;
    let mut d_cost = memory(&[batch, cells(&given.sizes)])?;
    let mut history = memory(&[batch, sweeps + 1, points])?;
    let mut sums = memory(&[batch, sweeps, points])?;
    let tracked = given.inputs.iter().any(Tensor::track_op);
    Launch::new(&program, "loss", batch)
        .input(&given.weights)?
        .input(&given.cost)?
        .output(&mut losses)
        .output(&mut d_weights)
        .output(&mut d_cost)
        .output(&mut history)
        .output(&mut sums)
        .real(epsilon)
        .count(sweeps)?
        .count(usize::from(tracked))?
        .run(backend)?;
    let named = ("kernel_sinkhorn", program);
    given.record(backend, named, losses, [d_weights, d_cost])
}
