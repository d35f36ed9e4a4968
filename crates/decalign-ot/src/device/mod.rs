//! Dense entropic problems of any number of marginals on a device: one launch a batch, the joint cost in a group's shared memory.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::{InputGradients, record_one};

use crate::schedule::{GENTLE_RESTART_REDUCTION, Stopping};

/// Lanes that run in step.
pub(crate) const WARP: usize = 32;
/// Lanes a problem.
pub(crate) const LANES: usize = 256;
/// Bytes of shared memory that every device gives a group.
const SHARED: usize = 32 << 10;
/// Marginals that the kernels have size constants for.
const MARGINALS: usize = 8;
const SIZES: [&str; MARGINALS] = ["K0", "K1", "K2", "K3", "K4", "K5", "K6", "K7"];

/// Marginals, and costs of pairs, that a kernel joins to one cost, at most.
pub(crate) const JOINED: (usize, usize) = (4, 6);
const FROM: [&str; JOINED.1] = ["A0", "A1", "A2", "A3", "A4", "A5"];
const TO: [&str; JOINED.1] = ["B0", "B1", "B2", "B3", "B4", "B5"];

pub(crate) fn points(sizes: &[usize]) -> usize {
    sizes.iter().sum()
}

pub(crate) fn cells(sizes: &[usize]) -> usize {
    sizes.iter().product()
}

/// Whether the shared memory of a group holds tables of all cells, and of all points.
pub(crate) fn fits(sizes: &[usize], dtype: DType, (tables, rows): (usize, usize)) -> bool {
    let last = sizes.last().copied().unwrap_or(1);
    let Some(cells) = sizes.iter().try_fold(1usize, |n, k| n.checked_mul(*k)) else {
        return false;
    };
    let room = (cells / last).saturating_mul(last | 1);
    let numbers = room
        .saturating_mul(tables)
        .saturating_add(rows * points(sizes) + 2 * LANES / WARP);
    sizes.len() <= MARGINALS && numbers.saturating_mul(dtype.size_in_bytes()) <= SHARED
}

pub(crate) fn program(
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
pub(crate) type Source = (&'static str, &'static str);

pub(crate) const LOG_DOMAIN: Source = ("log_domain", include_str!("log_domain.cu"));

/// All pairs of some marginals, as far as the kernels put them together.
pub(crate) fn pairs(count: usize) -> Vec<(usize, usize)> {
    let all = (0..count).flat_map(|a| (a + 1..count).map(move |b| (a, b)));
    all.take(JOINED.1).collect()
}

pub(crate) fn log_domain_program(sizes: &[usize], dtype: DType) -> Result<Program> {
    program(LOG_DOMAIN, (sizes, &pairs(sizes.len())), dtype)
}

/// Whether [`JointInputs::solve`] takes problems of these sizes.
pub(crate) fn solves(sizes: &[usize], dtype: DType) -> bool {
    fits(sizes, dtype, (1, 3))
}

/// The inputs of a launch, and the tensors that receive its gradients.
pub(crate) struct JointInputs {
    pub(crate) sizes: Vec<usize>,
    /// The pairs that costs join.
    pub(crate) edges: Vec<(usize, usize)>,
    /// (B, K_1 + ... + K_M).
    pub(crate) weights: Tensor,
    /// (B, K_1 ... K_M).
    pub(crate) cost: Tensor,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) batch: usize,
    /// Which inputs have a row for each problem, a bit each; `None` where the inputs are the two tensors themselves.
    pub(crate) batched: Option<usize>,
}

impl JointInputs {
    /// Takes weights (B, K_1 + ... + K_M) and joint costs (B, K_1 ... K_M).
    pub(crate) fn dense(sizes: &[usize], weights: Tensor, cost: Tensor) -> Self {
        Self {
            sizes: sizes.to_vec(),
            edges: Vec::new(),
            batch: weights.dims()[0],
            inputs: vec![weights.clone(), cost.clone()],
            weights,
            cost,
            batched: None,
        }
    }

    pub(crate) fn program(&self, of: Source) -> Result<Program> {
        program(of, (&self.sizes, &self.edges), self.weights.dtype())
    }

    /// Records `value`, (B) or a scalar, whose slopes with respect to weights and costs are known.
    pub(crate) fn record(
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

    /// Solves in the log domain: the value in a shape of choice, (B) or a scalar, with gradients, and a report (B, 4) of value,
    /// transport cost, marginal error and sweeps.
    pub(crate) fn solve(
        self,
        backend: &Backend,
        shape: &[usize],
        stopping: Stopping,
        epsilon: f64,
    ) -> Result<[Tensor; 2]> {
        let (program, batch) = (self.program(LOG_DOMAIN)?, self.batch);
        let memory = |shape: &[usize]| Memory::new(backend, self.weights.dtype(), shape);
        let mut report = memory(&[batch, 4])?;
        let mut value = memory(shape)?;
        let mut slopes = memory(&[batch, points(&self.sizes)])?;
        let mut plan = memory(&[batch, cells(&self.sizes)])?;
        Launch::new(&program, "solve", batch)
            .input(&self.weights)?
            .input(&self.cost)?
            .output(&mut report)
            .output(&mut value)
            .output(&mut slopes)
            .output(&mut plan)
            .real(epsilon)
            .real(stopping.tolerance)
            .count(stopping.max_iterations)?
            .real(GENTLE_RESTART_REDUCTION)
            .run(backend)?;
        let named = ("multi_marginal_sinkhorn", program);
        let value = self.record(backend, named, value, [slopes, plan])?;
        Ok([value, report.into_tensor()])
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
