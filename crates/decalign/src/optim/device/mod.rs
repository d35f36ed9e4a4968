//! Adam and clipping on devices: all parameters in few launches, and nothing comes to the host.

use candle_core::{DType, Device, Tensor};
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::{Error, Result};

use super::AdamSettings;

/// Lanes a group.
const LANES: usize = 256;
/// Elements a group: few, so that many groups share few parameters, and more of more.
fn chunk(total: usize) -> usize {
    (total / 4096).next_power_of_two().clamp(512, 8192)
}

/// Tensors a launch.
const SLOTS: usize = 16;

pub(crate) fn adam_program(dtype: DType) -> Result<Program> {
    Ok(Program::new("adam", include_str!("adam.cu"), dtype)?.lanes(LANES))
}

/// What each group of lanes does, tensor by tensor.
#[derive(Debug)]
struct Plan {
    /// Of each set of tensors, their numbers.
    sets: Vec<Vec<usize>>,
    /// The launches: some tensors of one set, their first row in the table, and how many rows.
    launches: Vec<Part>,
    table: Tensor,
    rows: usize,
}

#[derive(Debug)]
struct Part {
    set: usize,
    tensors: Vec<usize>,
    first: usize,
    rows: usize,
}

impl Plan {
    /// A plan for sets of tensors of these sizes, which start at `starts` of the flat tables.
    fn new(
        sets: Vec<Vec<usize>>,
        sizes: &[usize],
        starts: &[usize],
        device: &Device,
    ) -> Result<Self> {
        let (mut launches, mut table) = (Vec::new(), Vec::new());
        let chunk = chunk(sizes.iter().sum());
        for (set, members) in sets.iter().enumerate() {
            for tensors in members.chunks(SLOTS) {
                let first = table.len() / 4;
                for (slot, i) in tensors.iter().enumerate() {
                    for start in (0..sizes[*i]).step_by(chunk) {
                        let count = chunk.min(sizes[*i] - start);
                        table.extend([slot, start, starts[*i] + start, count]);
                    }
                }
                launches.push(Part {
                    set,
                    tensors: tensors.to_vec(),
                    first,
                    rows: table.len() / 4 - first,
                });
            }
        }
        let small = |n: &usize| {
            let remedy = "must be below 2^32 on a device";
            u32::try_from(*n).map_err(|_| Error::value("parameters", n, remedy))
        };
        let table = table.iter().map(small).collect::<Result<Vec<u32>>>()?;
        let rows = table.len() / 4;
        Ok(Self {
            sets,
            launches,
            table: Tensor::from_vec(table, (rows, 4), device)?,
            rows,
        })
    }

    /// All gradients in one table, and their norm and the factor that clips them, (2).
    fn clipped(
        &self,
        backend: &Backend,
        program: &Program,
        (gradients, spare, total): (&[Option<Tensor>], &Tensor, usize),
        limit: f64,
    ) -> Result<[Tensor; 2]> {
        let mut flat = Memory::new(backend, program.dtype(), total)?;
        let mut squares = Memory::new(backend, program.dtype(), self.rows)?;
        for part in &self.launches {
            let mut launch = Launch::new(program, "pack", part.rows);
            for slot in 0..SLOTS {
                let gradient = part.tensors.get(slot).and_then(|i| gradients[*i].as_ref());
                launch = launch.input(gradient.unwrap_or(spare))?;
            }
            launch
                .input(&self.table)?
                .output(&mut flat)
                .output(&mut squares)
                .count(part.first)?
                .run(backend)?;
        }
        let mut clip = Memory::new(backend, program.dtype(), 2)?;
        Launch::new(program, "gradient_norm", 1)
            .input(&squares.into_tensor())?
            .output(&mut clip)
            .count(self.rows)?
            .real(limit)
            .run(backend)?;
        Ok([flat.into_tensor(), clip.into_tensor()])
    }
}

/// Where each of these sizes starts when they lie one after the other, and where the last one ends.
fn starts(sizes: &[usize]) -> (Vec<usize>, usize) {
    let mut end = 0;
    let starts = sizes.iter().map(|size| {
        end += size;
        end - size
    });
    (starts.collect(), end)
}

/// A gradient of a parameter of this type and size.
fn fits(gradient: &Tensor, dtype: DType, size: usize) -> Result<()> {
    match gradient.dtype() == dtype && gradient.elem_count() == size {
        true => Ok(()),
        false => Err(Error::tensor(
            "gradient",
            format!("{size} numbers of type {}", dtype.as_str()),
            (gradient.dtype(), gradient.shape()),
        )),
    }
}

/// The norm of these gradients and the factor that clips it, (2); see [`super::clip_gradient_norm`].
pub(super) fn clip(backend: &Backend, gradients: &[&Tensor], limit: f64) -> Result<Tensor> {
    let dtype = gradients[0].dtype();
    let sizes: Vec<usize> = gradients.iter().map(|g| g.elem_count()).collect();
    let (starts, total) = starts(&sizes);
    for (gradient, size) in gradients.iter().zip(&sizes) {
        fits(gradient, dtype, *size)?;
    }
    let plan = Plan::new(
        vec![(0..sizes.len()).collect()],
        &sizes,
        &starts,
        gradients[0].device(),
    )?;
    let all: Vec<Option<Tensor>> = gradients.iter().map(|g| Some((*g).clone())).collect();
    let spare = Tensor::zeros(1, dtype, gradients[0].device())?;
    let program = adam_program(dtype)?;
    let [_, clip] = plan.clipped(backend, &program, (&all, &spare, total), limit)?;
    Ok(clip)
}

/// The running means of all parameters, one after the other.
#[derive(Debug)]
pub(super) struct Means {
    sizes: Vec<usize>,
    starts: Vec<usize>,
    gradient: Tensor,
    square: Tensor,
    /// For the places of a launch that no tensor takes.
    spare: Tensor,
    plan: Option<Plan>,
}

/// One step of one parameter.
pub(super) struct Step<'a> {
    pub(super) variable: &'a Tensor,
    /// `None` where the loss does not reach it.
    pub(super) gradient: Option<Tensor>,
    pub(super) rate: f64,
    /// How many steps the means will have seen.
    pub(super) steps: i32,
}

impl Means {
    /// Means of parameters of these sizes, as they were on the host.
    pub(super) fn new(
        sizes: Vec<usize>,
        [gradient, square]: [Tensor; 2],
        device: &Device,
    ) -> Result<Self> {
        let (starts, _) = starts(&sizes);
        Ok(Self {
            sizes,
            starts,
            gradient: gradient.to_device(device)?,
            square: square.to_device(device)?,
            spare: Tensor::zeros(1, gradient.dtype(), device)?,
            plan: None,
        })
    }

    /// Means of gradient and square of parameter `i`, on the host.
    pub(super) fn of(&self, i: usize) -> Result<[Tensor; 2]> {
        let part = |x: &Tensor| -> Result<Tensor> {
            let part = x.narrow(0, self.starts[i], self.sizes[i])?;
            Ok(part.to_device(&Device::Cpu)?.copy()?)
        };
        Ok([part(&self.gradient)?, part(&self.square)?])
    }

    /// One step of all parameters; the norm of their gradients before clipping, a scalar.
    pub(super) fn step(
        &mut self,
        backend: &Backend,
        steps: Vec<Step>,
        settings: &AdamSettings,
    ) -> Result<Tensor> {
        let dtype = self.gradient.dtype();
        for (step, size) in steps.iter().zip(&self.sizes) {
            if let Some(gradient) = &step.gradient {
                fits(gradient, dtype, *size)?;
                fits(step.variable, dtype, *size)?;
            }
        }
        // Parameters of one rate and count go together.
        let (mut kinds, mut sets): (Vec<(u64, i32)>, Vec<Vec<usize>>) = Default::default();
        for (i, step) in steps.iter().enumerate() {
            if step.gradient.is_none() {
                continue;
            }
            let kind = (step.rate.to_bits(), step.steps);
            match kinds.iter().position(|k| *k == kind) {
                Some(set) => sets[set].push(i),
                None => {
                    kinds.push(kind);
                    sets.push(vec![i]);
                }
            }
        }
        let plan = match self.plan.take().filter(|plan| plan.sets == sets) {
            Some(plan) => plan,
            None => Plan::new(sets, &self.sizes, &self.starts, self.gradient.device())?,
        };
        let program = adam_program(dtype)?;
        let gradients: Vec<Option<Tensor>> = steps.iter().map(|s| s.gradient.clone()).collect();
        let total = self.gradient.elem_count();
        let source = (&gradients[..], &self.spare, total);
        let [flat, clip] = plan.clipped(backend, &program, source, settings.clip)?;
        for part in &plan.launches {
            let (rate, count) = kinds[part.set];
            let correction = |beta: f64| 1.0 - beta.powi(count);
            let betas = settings.betas;
            let mut launch = Launch::new(&program, "update", part.rows);
            for slot in 0..SLOTS {
                let variable = part.tensors.get(slot).map(|i| steps[*i].variable);
                launch = launch.update(variable.unwrap_or(&self.spare))?;
            }
            launch
                .input(&plan.table)?
                .input(&flat)?
                .input(&clip)?
                .update(&self.gradient)?
                .update(&self.square)?
                .count(part.first)?
                .real(f64::from_bits(rate) / correction(betas.0))
                .real(correction(betas.1).sqrt().recip())
                .real(betas.0)
                .real(1.0 - betas.0)
                .real(betas.1)
                .real(1.0 - betas.1)
                .real(settings.epsilon)
                .real(settings.weight_decay)
                .run(backend)?;
        }
        self.plan = Some(plan);
        Ok(clip.get(0)?)
    }
}
