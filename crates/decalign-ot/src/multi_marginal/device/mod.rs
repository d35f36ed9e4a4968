//! Dense problems on devices: a launch a batch.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::{InputGradients, record_one};

use super::joint::Structure;
use super::problem::MultiMarginalProblem;

/// Lanes a problem.
const LANES: usize = 256;
/// Bytes of shared memory that every device has.
const SHARED: usize = 32 << 10;
/// Marginals that the kernels count.
const MARGINALS: usize = 8;
const SIZES: [&str; MARGINALS] = ["K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7"];

/// Marginals, and costs of pairs, that the kernels put together.
const JOINED: (usize, usize) = (4, 6);
const FROM: [&str; JOINED.1] = ["A0", "A1", "A2", "A3", "A4", "A5"];
const TO: [&str; JOINED.1] = ["B0", "B1", "B2", "B3", "B4", "B5"];

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

/// Whether the shared memory of a group holds tables of all cells, and of all points.
fn fits(sizes: &[usize], dtype: DType, (tables, rows): (usize, usize)) -> bool {
    let last = sizes.last().copied().unwrap_or(1);
    let Some(cells) = sizes.iter().try_fold(1usize, |n, k| n.checked_mul(*k)) else {
        return false;
    };
    let room = (cells / last).saturating_mul(last | 1);
    let numbers = room
        .saturating_mul(tables)
        .saturating_add(rows * points(sizes) + 2 * LANES / 32);
    sizes.len() <= MARGINALS && numbers.saturating_mul(dtype.size_in_bytes()) <= SHARED
}

fn program(
    (name, source): Source,
    (sizes, edges): (&[usize], &[(usize, usize)]),
    dtype: DType,
) -> Result<Program> {
    let mut program = Program::new(name, source, dtype)?
        .after(include_str!("joint.cu"))
        .after(include_str!("cells.cu"))
        .lanes(LANES)
        .constant("M", sizes.len())
        .constant("CELLS", cells(sizes))
        .constant("POINTS", points(sizes))
        .constant("LAST", sizes.last().copied().unwrap_or(1))
        .constant("EDGES", edges.len());
    for (i, name) in SIZES.into_iter().enumerate() {
        program = program.constant(name, sizes.get(i).copied().unwrap_or(1));
    }
    for (i, (from, to)) in FROM.into_iter().zip(TO).enumerate() {
        let (a, b) = edges.get(i).copied().unwrap_or((0, 1));
        program = program.constant(from, a).constant(to, b);
    }
    Ok(program)
}

/// A program's name and source.
pub(super) type Source = (&'static str, &'static str);

pub(super) const LOG_DOMAIN: Source = ("log_domain", include_str!("log_domain.cu"));
pub(super) const RELEASE: Source = ("release", include_str!("release.cu"));

/// All pairs of some marginals, as far as the kernels put them together.
fn pairs(count: usize) -> Vec<(usize, usize)> {
    let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    all.take(JOINED.1).collect()
}

pub(crate) fn log_domain_program(sizes: &[usize], dtype: DType) -> Result<Program> {
    program(LOG_DOMAIN, (sizes, &pairs(sizes.len())), dtype)
}

pub(crate) fn release_program(sizes: &[usize], dtype: DType) -> Result<Program> {
    program(RELEASE, (sizes, &pairs(sizes.len())), dtype)
}

/// Whether [`solve`] takes problems of these sizes.
pub(crate) fn solves(sizes: &[usize], dtype: DType) -> bool {
    fits(sizes, dtype, (1, 3))
}

/// Whether [`release`] does.
pub(super) fn takes_release(sizes: &[usize], dtype: DType) -> bool {
    fits(sizes, dtype, (2, 9))
}

/// What a launch works on, and what gradients go back to.
pub(super) struct Given {
    sizes: Vec<usize>,
    edges: Vec<(usize, usize)>,
    weights: Tensor,
    cost: Tensor,
    inputs: Vec<Tensor>,
    batch: usize,
    /// Which inputs have a row for each problem, a bit each; `None` where the inputs are the two tensors themselves.
    batched: Option<usize>,
}

impl From<&Dense<'_>> for Given {
    fn from(dense: &Dense<'_>) -> Self {
        Self {
            sizes: dense.sizes.to_vec(),
            edges: Vec::new(),
            weights: dense.weights.clone(),
            cost: dense.cost.clone(),
            inputs: vec![dense.weights.clone(), dense.cost.clone()],
            batch: dense.weights.dims()[0],
            batched: None,
        }
    }
}

impl Given {
    /// By a launch of the program that will take it, where there are few enough inputs.
    pub(super) fn joined(
        backend: &Backend,
        problem: &MultiMarginalProblem,
        of: Source,
    ) -> Result<Option<Self>> {
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
        let program = program(of, (&sizes, &edges), dtype)?;
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
        Ok(Some(Self {
            weights: weights.into_tensor(),
            cost: cost.into_tensor(),
            sizes,
            edges,
            inputs,
            batch,
            batched: Some(batched),
        }))
    }

    fn program(&self, of: Source) -> Result<Program> {
        program(of, (&self.sizes, &self.edges), self.weights.dtype())
    }

    /// Records `value`, (B) or a scalar, whose slopes with respect to weights and costs are known.
    fn record(
        self,
        backend: &Backend,
        (name, program): (&'static str, Program),
        value: Memory,
        slopes: [Memory; 2],
    ) -> Result<Tensor> {
        let ([weights, cost], backend) = (slopes.map(Memory::into_tensor), backend.clone());
        let (batch, batched, inputs) = (self.batch, self.batched, self.inputs);
        let inputs: Vec<&Tensor> = inputs.iter().collect();
        record_one(name, &inputs, value.into(), move |b| {
            let outer = b.gradient(0)?;
            let Some(batched) = batched else {
                let outer = outer.reshape((batch, 1))?;
                let each = [&weights, &cost].map(|slopes| slopes.broadcast_mul(&outer));
                let each = each.into_iter().map(|x| Ok(Some(x?)));
                return each.collect();
            };
            let count = b.inputs.iter().map(Tensor::elem_count).sum::<usize>();
            let mut all = Memory::new(&backend, weights.dtype(), count)?;
            Launch::new(&program, "joint_back", count.div_ceil(LANES))
                .input(&weights)?
                .input(&cost)?
                .input(&outer)?
                .output(&mut all)
                .count(batch)?
                .count(batched)?
                .run(&backend)?;
            cut(&all.into_tensor(), b.inputs)
        })
    }
}

/// Numbers one behind the other in the shapes of some tensors.
fn cut(all: &Tensor, like: &[Tensor]) -> Result<InputGradients> {
    let mut first = 0;
    let each = like.iter().map(|x| {
        let piece = all.narrow(0, first, x.elem_count())?;
        first += x.elem_count();
        Ok(Some(piece.reshape(x.shape())?))
    });
    each.collect()
}

/// Solves in the log domain: the value, (B), with gradients, and a report (B, 4) of value, transport cost,
/// marginal error and sweeps.
pub(crate) fn solve(
    backend: &Backend,
    problem: &Dense,
    limits: (f64, f64, usize),
) -> Result<[Tensor; 2]> {
    let batch = problem.weights.dim(0)?;
    solve_given(backend, problem.into(), &[batch], limits)
}

/// The same with the value in a shape of choice.
pub(super) fn solve_given(
    backend: &Backend,
    given: Given,
    shape: &[usize],
    (epsilon, tolerance, sweeps): (f64, f64, usize),
) -> Result<[Tensor; 2]> {
    let (program, batch) = (given.program(LOG_DOMAIN)?, given.batch);
    let memory = |shape: &[usize]| Memory::new(backend, given.weights.dtype(), shape);
    let mut report = memory(&[batch, 4])?;
    let mut value = memory(shape)?;
    let mut slopes = memory(&[batch, points(&given.sizes)])?;
    let mut plan = memory(&[batch, cells(&given.sizes)])?;
    Launch::new(&program, "solve", batch)
        .input(&given.weights)?
        .input(&given.cost)?
        .output(&mut report)
        .output(&mut value)
        .output(&mut slopes)
        .output(&mut plan)
        .real(epsilon)
        .real(tolerance)
        .count(sweeps)?
        .run(backend)?;
    let named = ("multi_marginal_sinkhorn", program);
    let value = given.record(backend, named, value, [slopes, plan])?;
    Ok([value, report.into_tensor()])
}

/// The release's loss in a shape of choice, (B) or a scalar, with gradients.
pub(super) fn release(
    backend: &Backend,
    given: Given,
    shape: &[usize],
    (epsilon, sweeps): (f64, usize),
) -> Result<Tensor> {
    let (program, batch) = (given.program(RELEASE)?, given.batch);
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
