//! All costs between modalities' mixtures: a launch forward, a launch back.

use candle_core::{DType, Tensor};
use decalign_core::Result;
use decalign_core::device::{Backend, Launch, Memory, Program};
use decalign_core::op::record;

use super::LANES;
use crate::device::WARP;
use crate::prototypes::costs::{Inputs, PrototypeCosts};

/// Modalities that the kernels have parameters for.
const MOST: usize = 3;

pub(crate) fn program(dtype: DType, modalities: usize, k: usize) -> Result<Program> {
    let program = Program::new("prototypes", include_str!("costs.cu"), dtype)?;
    Ok(program
        .lanes(LANES)
        .constant("MODALITIES", modalities)
        .constant("COMPONENTS", k))
}

/// Samples, prototypes, dimensions.
#[derive(Clone, Copy)]
struct Sizes {
    modalities: usize,
    batch: usize,
    k: usize,
    width: usize,
}

impl Sizes {
    /// `None` where the kernels do not take the inputs.
    fn of(inputs: &Inputs) -> Option<Self> {
        let modalities = inputs.samples.len();
        let ([batch, width], [k, _]) = (inputs.samples.first()?.dims(), inputs.means[0].dims())
        else {
            return None;
        };
        let (batch, k, width) = (*batch, *k, *width);
        let sizes = Self {
            modalities,
            batch,
            k,
            width,
        };
        let dtype = inputs.samples[0].dtype();
        let like = |all: &[Tensor], shape: [usize; 2]| {
            all.iter().all(|x| x.dims() == shape && x.dtype() == dtype)
        };
        let fits = like(inputs.samples, [batch, width])
            && like(inputs.responsibilities, [batch, k])
            && like(inputs.means, [k, width])
            && like(inputs.variances, [k, width])
            && batch * k * width > 0
            && inputs.floor.is_none_or(|f| f > 0.0 && f.is_finite());
        // The kernels count in 32 bits.
        let small = [batch * width, batch * k, k * width.max(WARP), k * k];
        let fits = fits && small.iter().all(|n| n * MOST < 1 << 26);
        ((2..=MOST).contains(&modalities) && fits).then_some(sizes)
    }

    fn pairs(self) -> usize {
        self.modalities * (self.modalities - 1) / 2
    }

    fn forward_groups(self) -> usize {
        2 * self.pairs() + (self.pairs() * self.k * self.k).div_ceil(LANES / WARP)
    }

    fn backward_groups(self) -> usize {
        let prototypes = self.modalities * self.k * self.width.div_ceil(WARP);
        let samples = (self.modalities * self.batch * self.width).div_ceil(LANES);
        let cells = (self.modalities * self.batch * self.k).div_ceil(LANES / WARP);
        prototypes + samples + cells
    }
}

/// `all` as arguments, the first again in place of modalities or pairs that are not there.
fn inputs<'a>(mut launch: Launch<'a>, all: &[Tensor], count: usize) -> Result<Launch<'a>> {
    for i in 0..count {
        launch = launch.input(all.get(i).unwrap_or(&all[0]))?;
    }
    Ok(launch)
}

/// See [`super::super::prototype_costs`]; `None` where the kernels do not take the inputs.
pub(in crate::prototypes) fn prototype_costs(
    backend: &Backend,
    given: &Inputs,
) -> Result<Option<PrototypeCosts>> {
    let Some(sizes) = Sizes::of(given) else {
        return Ok(None);
    };
    let dtype = given.samples[0].dtype();
    let program = program(dtype, sizes.modalities, sizes.k)?;
    let factor = given.reduction.factor(sizes.width);
    let numbers = [
        given.floor.unwrap_or(0.0),
        factor,
        factor / sizes.batch as f64,
    ];
    let pairs = sizes.pairs();
    // What is not there is not written.
    let cost = |i| match i < pairs {
        true => Memory::new(backend, dtype, (sizes.k, sizes.k)),
        false => Memory::new(backend, dtype, ()),
    };
    let mut costs = (0..MOST).map(cost).collect::<Result<Vec<_>>>()?;
    let local = (0..2 * MOST).map(|_| Memory::new(backend, dtype, ()));
    let mut local = local.collect::<Result<Vec<_>>>()?;
    let mut launch = Launch::new(&program, "costs", sizes.forward_groups());
    for all in given.lists() {
        launch = inputs(launch, all, MOST)?;
    }
    for memory in costs.iter_mut().chain(&mut local) {
        launch = launch.output(memory);
    }
    finish(launch, sizes, numbers)?.run(backend)?;
    costs.truncate(pairs);
    local.truncate(2 * pairs);
    let outputs = costs.into_iter().chain(local).map(Into::into).collect();
    let all: Vec<&Tensor> = given.lists().into_iter().flatten().collect();
    let backend = backend.clone();
    let mut costs = record("prototype_costs", &all, outputs, move |b| {
        let Sizes {
            modalities: n,
            batch,
            k,
            width,
        } = sizes;
        let shapes = [
            (n, batch, width),
            (n, batch, k),
            (n, k, width),
            (n, k, width),
        ];
        let gradients = shapes.map(|shape| Memory::new(&backend, dtype, shape));
        let mut gradients = gradients.into_iter().collect::<Result<Vec<_>>>()?;
        let mut launch = Launch::new(&program, "costs_back", sizes.backward_groups());
        for all in b.inputs.chunks(n) {
            launch = inputs(launch, all, MOST)?;
        }
        let outer = (0..3 * pairs).map(|i| b.gradient(i));
        let outer = outer.collect::<Result<Vec<_>>>()?;
        launch = inputs(launch, &outer[..pairs], MOST)?;
        launch = inputs(launch, &outer[pairs..], 2 * MOST)?;
        for gradient in &mut gradients {
            launch = launch.output(gradient);
        }
        finish(launch, sizes, numbers)?.run(&backend)?;
        let mut parts = Vec::with_capacity(4 * n);
        for gradient in gradients {
            let gradient = gradient.into_tensor();
            for i in 0..n {
                parts.push(Some(gradient.get(i)?));
            }
        }
        Ok(parts)
    })?;
    let samples = costs.split_off(pairs);
    Ok(Some(PrototypeCosts {
        prototypes: costs,
        samples,
    }))
}

/// The numbers at the end.
fn finish(launch: Launch, sizes: Sizes, numbers: [f64; 3]) -> Result<Launch> {
    let launch = launch.count(sizes.batch)?.count(sizes.width)?;
    Ok(numbers.into_iter().fold(launch, Launch::real))
}
