//! Gradients of weights and biases on devices.

use candle_core::{DType, Tensor};

use super::sum_columns;
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, alone, pairs, product};
use crate::op::later::{Pending, Queue, wait};

/// Lanes that put parts together.
const FLAT: usize = 256;
/// Rows that a group adds up, at least, and groups that share the rows, at most.
const CHUNK: usize = 64;
const CHUNKS: usize = 32;
/// Sizes of a weight up to which its gradient is two launches of ours; a library's product is quicker beyond.
const NARROW: usize = 1024;

pub(in crate::nn) fn program(dtype: DType, aligned: bool) -> Result<Program> {
    let program = Program::new("outer", include_str!("outer.cu"), dtype)?;
    Ok(pairs::with_small_pairs(program, aligned))
}

/// Layers of a launch.
pub const LAYERS: usize = 6;

/// Where the gradients of a layer go: its rows `at` and on of all those of `weight` and `bias`, which hold the parameters of
/// several. `fresh` where nothing was written to them yet: then all other rows become zeros.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The first row.
    pub at: usize,
    /// Whether nothing is there yet.
    pub fresh: bool,
    /// Whether the layer has a bias: else its rows become zeros.
    pub biased: bool,
}

impl Target {
    /// All rows, of a layer with a bias.
    pub(super) fn whole() -> Self {
        Self {
            at: 0,
            fresh: true,
            biased: true,
        }
    }
}

/// The gradients of a layer, to be written.
#[derive(Clone)]
pub struct Slopes {
    /// (rows, n)
    pub weight: Tensor,
    /// (rows), where it is wanted.
    pub bias: Option<Tensor>,
}

impl Slopes {
    /// Of as many rows and columns as the weight.
    ///
    /// # Errors
    /// When the device has no memory left.
    pub fn new(
        backend: &Backend,
        dtype: DType,
        (rows, n): (usize, usize),
        biased: bool,
    ) -> Result<Self> {
        let weight = Memory::new(backend, dtype, (rows, n))?.into_tensor();
        let bias = biased.then(|| Memory::new(backend, dtype, rows));
        let bias = bias.transpose()?.map(Memory::into_tensor);
        Ok(Self { weight, bias })
    }
}

/// A layer whose gradients are due: what went in, (rows, n), the gradient of what came out, (rows, m), and where they go.
#[derive(Clone)]
pub struct Layer {
    /// What went in.
    pub x: Tensor,
    /// The gradient of what came out.
    pub g: Tensor,
    /// Where they go.
    pub slopes: Slopes,
}

impl Layer {
    /// What layers of one launch have in common.
    fn kind(&self) -> Result<Kind> {
        let ((rows, m), n) = (self.g.dims2()?, self.x.dim(1)?);
        Ok(Kind {
            dtype: self.x.dtype(),
            sizes: [rows, m, n],
            total: self.slopes.weight.dim(0)?,
            biased: self.slopes.bias.is_some(),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Kind {
    dtype: DType,
    sizes: [usize; 3],
    total: usize,
    biased: bool,
}

/// Layers that wait for others of their kind.
#[derive(Default)]
struct Waiting {
    backend: Option<Backend>,
    queue: Queue<(Kind, Target), Layer>,
}

impl Pending for Waiting {
    fn settle(&mut self) -> Result<()> {
        let Some(backend) = &self.backend else {
            return Ok(());
        };
        let batches = self.queue.take().into_iter();
        let mut batches = batches.map(|(kind, layers)| Batch::new(backend, kind, layers));
        batches.try_for_each(|batch| batch.run())
    }
}

struct Batch {
    backend: Backend,
    kind: Kind,
    target: Target,
    layers: Vec<Layer>,
}

impl Batch {
    fn new(backend: &Backend, (kind, target): (Kind, Target), layers: Vec<Layer>) -> Self {
        Self {
            backend: backend.clone(),
            kind,
            target,
            layers,
        }
    }
}

/// [`outer`] of a layer of which nobody reads the gradients before the end of the backward pass: with others of its kind in one
/// launch, where one puts them together.
///
/// # Errors
/// As there.
pub fn outer_later(backend: &Backend, layer: Layer, target: Target) -> Result<()> {
    let kind = (layer.kind()?, target);
    let waits = wait(|waiting: &mut Waiting| {
        waiting.backend = Some(backend.clone());
        waiting.queue.push(kind, layer.clone(), LAYERS)
    });
    match waits {
        None => outer(backend, &[layer], target),
        Some(None) => Ok(()),
        Some(Some((kind, layers))) => Batch::new(backend, kind, layers).run(),
    }
}

/// `g^T x` and the sums of the rows of g, of up to [`LAYERS`] layers of one kind: sizes, and whether they want a gradient of the bias.
///
/// # Errors
/// When the device fails.
pub fn outer(backend: &Backend, layers: &[Layer], target: Target) -> Result<()> {
    let Some(first) = layers.first() else {
        return Ok(());
    };
    Batch::new(backend, (first.kind()?, target), layers.to_vec()).run()
}

impl Batch {
    fn run(&self) -> Result<()> {
        let Kind {
            sizes: [rows, m, n],
            dtype,
            ..
        } = self.kind;
        if m.max(n) > NARROW {
            return self
                .layers
                .iter()
                .try_for_each(|layer| self.by_library(layer));
        }
        let tables: Vec<&Tensor> = self.layers.iter().flat_map(|l| [&l.x, &l.g]).collect();
        let program = program(dtype, pairs::aligned(&tables))?;
        let chunk = rows.div_ceil(CHUNKS).max(CHUNK);
        let (count, size) = (rows.div_ceil(chunk), m * n + m);
        let tiles = m.div_ceil(pairs::SMALL_SIDE) * n.div_ceil(pairs::SMALL_SIDE);
        let shape = (self.layers.len(), count, size);
        let mut parts = Memory::kept(&self.backend, dtype, shape)?;
        let groups = self.layers.len() * count * tiles;
        let mut launch = Launch::new(&program, "outer", groups);
        let layer = |i: usize| self.layers.get(i);
        for i in 0..LAYERS {
            launch = launch.input_or_none(layer(i).map(|l| &l.x))?;
        }
        for i in 0..LAYERS {
            launch = launch.input_or_none(layer(i).map(|l| &l.g))?;
        }
        launch
            .output(&mut parts)
            .count(rows)?
            .count(m)?
            .count(n)?
            .count(chunk)?
            .long(size as u64)
            .run(&self.backend)?;
        self.meet(&program, &parts.into_tensor())
    }

    /// Puts together what groups found.
    fn meet(&self, program: &Program, parts: &Tensor) -> Result<()> {
        let Kind {
            sizes: [_, m, n],
            total,
            biased,
            ..
        } = self.kind;
        let (_, count, size) = parts.dims3()?;
        let biased = match (biased, self.target.biased) {
            (true, true) => 1,
            (true, false) => 2,
            (false, _) => 0,
        };
        let written = if self.target.fresh { total } else { m };
        let cells = written * (n + usize::from(biased > 0));
        let groups = cells.div_ceil(FLAT);
        let mut launch = Launch::new(program, "meet", self.layers.len() * groups).input(parts)?;
        for i in 0..LAYERS {
            launch = match self.layers.get(i) {
                Some(layer) => launch.update(&layer.slopes.weight)?,
                None => launch.no_update(),
            };
        }
        for i in 0..LAYERS {
            launch = match self.layers.get(i).and_then(|l| l.slopes.bias.as_ref()) {
                Some(bias) => launch.update(bias)?,
                None => launch.no_update(),
            };
        }
        launch
            .count(count)?
            .count(m)?
            .count(n)?
            .long(size as u64)
            .count(self.target.at)?
            .count(total)?
            .count(usize::from(self.target.fresh))?
            .count(biased)?
            .count(groups)?
            .run(&self.backend)
    }

    fn by_library(&self, Layer { x, g, slopes }: &Layer) -> Result<()> {
        let Target { at, fresh, biased } = self.target;
        let [_, m, _] = self.kind.sizes;
        let written = |to: &Tensor, rows: Memory| -> Result<()> {
            if fresh && to.dim(0)? > m {
                // What no layer writes is zero.
                to.zero_set()?;
            }
            Ok(to.slice_set(&rows.into_tensor(), 0, at)?)
        };
        // Candle copies between memories of their own only.
        let products = alone(|| product(&self.backend, &g.t()?, x))?;
        written(&slopes.weight, products)?;
        match &slopes.bias {
            Some(bias) if biased => written(bias, alone(|| sum_columns(&self.backend, g, m))?),
            Some(bias) if fresh => Ok(bias.zero_set()?),
            Some(bias) => Ok(bias.narrow(0, at, m)?.zero_set()?),
            None => Ok(()),
        }
    }
}
