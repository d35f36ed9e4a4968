//! Gradients of the weights and biases of linear layers on devices.

use candle_core::{DType, Tensor};

use super::sum_columns::sum_columns;
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, arena, pairs, product};
use crate::op::deferred::{BatchQueue, DeferredGradient, defer};

/// Lanes of a group that adds up partial sums.
const FLAT: usize = 256;
/// Least rows that a group adds up.
const CHUNK: usize = 64;
/// Most groups that share the rows of a tile.
const CHUNKS: usize = 32;
/// Largest weight whose gradient takes two launches of these kernels; beyond, the library's product is faster.
const NARROW: usize = 1024;

pub(in crate::nn) fn program(dtype: DType, aligned: bool) -> Result<Program> {
    let program = Program::new("weight_gradient", include_str!("weight_gradient.cu"), dtype)?;
    Ok(pairs::with_small_pairs(program, aligned))
}

/// Most layers of one launch.
pub const LAYERS: usize = 6;

/// The rows of [`LayerGradients`] that a layer's gradients are written to, where these hold the parameters of several layers.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The first row.
    pub at: usize,
    /// True if nothing was written to the gradients yet: then all other rows are set to zero.
    pub fresh: bool,
    /// True if the layer has a bias; else the bias's rows are set to zero.
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

/// The gradients of a layer's parameters, written by [`weight_gradient`].
#[derive(Clone)]
pub struct LayerGradients {
    /// (rows, n)
    pub weight: Tensor,
    /// (rows); `None` where it is not needed.
    pub bias: Option<Tensor>,
}

impl LayerGradients {
    /// Uninitialised gradients for a weight of shape (rows, n).
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

/// A linear layer whose parameters' gradients are to be computed.
#[derive(Clone)]
pub struct Layer {
    /// The input, (rows, n).
    pub x: Tensor,
    /// The gradient of the output, (rows, m).
    pub g: Tensor,
    /// The gradients to write.
    pub gradients: LayerGradients,
}

impl Layer {
    /// The properties that layers of one launch share.
    fn kind(&self) -> Result<Kind> {
        let ((rows, m), n) = (self.g.dims2()?, self.x.dim(1)?);
        Ok(Kind {
            dtype: self.x.dtype(),
            sizes: [rows, m, n],
            total: self.gradients.weight.dim(0)?,
            biased: self.gradients.bias.is_some(),
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

/// Layers that are computed at the end of the backward pass, together with others of their kind.
#[derive(Default)]
struct Deferred {
    backend: Option<Backend>,
    queue: BatchQueue<(Kind, Target), Layer>,
}

impl DeferredGradient for Deferred {
    fn finish(&mut self) -> Result<()> {
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

/// [`weight_gradient`] of a layer whose gradients nothing reads before the end of the backward pass: one launch computes
/// several layers of one kind.
///
/// # Errors
/// As [`weight_gradient`].
pub fn weight_gradient_deferred(backend: &Backend, layer: Layer, target: Target) -> Result<()> {
    let kind = (layer.kind()?, target);
    let full = defer(|deferred: &mut Deferred| {
        deferred.backend = Some(backend.clone());
        deferred.queue.push(kind, layer.clone(), LAYERS)
    });
    match full {
        None => weight_gradient(backend, &[layer], target),
        Some(None) => Ok(()),
        Some(Some((kind, layers))) => Batch::new(backend, kind, layers).run(),
    }
}

/// `g^T x` and `sum_rows g` of up to [`LAYERS`] layers that agree in dtype, sizes and the presence of a bias.
///
/// # Errors
/// When the device fails.
pub fn weight_gradient(backend: &Backend, layers: &[Layer], target: Target) -> Result<()> {
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
        let mut partials = Memory::workspace(&self.backend, dtype, shape)?;
        let groups = self.layers.len() * count * tiles;
        let mut launch = Launch::new(&program, "weight_gradient", groups);
        let layer = |i: usize| self.layers.get(i);
        for i in 0..LAYERS {
            launch = launch.input_or_none(layer(i).map(|l| &l.x))?;
        }
        for i in 0..LAYERS {
            launch = launch.input_or_none(layer(i).map(|l| &l.g))?;
        }
        launch
            .output(&mut partials)
            .count(rows)?
            .count(m)?
            .count(n)?
            .count(chunk)?
            .long(size as u64)
            .run(&self.backend)?;
        self.add_partials(&program, &partials.into_tensor())
    }

    /// Adds up the partial sums of the groups.
    fn add_partials(&self, program: &Program, partials: &Tensor) -> Result<()> {
        let Kind {
            sizes: [_, m, n],
            total,
            biased,
            ..
        } = self.kind;
        let (_, count, size) = partials.dims3()?;
        let biased = match (biased, self.target.biased) {
            (true, true) => 1,
            (true, false) => 2,
            (false, _) => 0,
        };
        let written = if self.target.fresh { total } else { m };
        let cells = written * (n + usize::from(biased > 0));
        let groups = cells.div_ceil(FLAT);
        let layer = |i: usize| self.layers.get(i);
        let mut launch = Launch::new(program, "add_partials", self.layers.len() * groups);
        launch = launch.input(partials)?;
        for i in 0..LAYERS {
            launch = launch.update_or_none(layer(i).map(|l| &l.gradients.weight))?;
        }
        for i in 0..LAYERS {
            launch = launch.update_or_none(layer(i).and_then(|l| l.gradients.bias.as_ref()))?;
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

    fn by_library(&self, Layer { x, g, gradients }: &Layer) -> Result<()> {
        let Target { at, fresh, biased } = self.target;
        let [_, m, _] = self.kind.sizes;
        let written = |to: &Tensor, rows: Memory| -> Result<()> {
            if fresh && to.dim(0)? > m {
                // Rows that no layer writes are zero.
                to.zero_set()?;
            }
            Ok(to.slice_set(&rows.into_tensor(), 0, at)?)
        };
        // Candle copies only between tensors that own their memory.
        let products = arena::without_slabs(|| product(&self.backend, &g.t()?, x))?;
        written(&gradients.weight, products)?;
        match &gradients.bias {
            Some(bias) if biased => written(
                bias,
                arena::without_slabs(|| sum_columns(&self.backend, g, m))?,
            ),
            Some(bias) if fresh => Ok(bias.zero_set()?),
            Some(bias) => Ok(bias.narrow(0, at, m)?.zero_set()?),
            None => Ok(()),
        }
    }
}
