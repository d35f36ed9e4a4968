//! Gradients of weights and biases on devices.

use candle_core::{DType, Tensor};

use super::sum_columns;
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, multiply, pairs};
use crate::gemm::Store;

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
#[derive(Clone, Copy)]
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
pub struct Slopes {
    /// (rows, n)
    pub weight: Memory,
    /// (rows), where it is wanted.
    pub bias: Option<Memory>,
}

/// `g^T x` and the sums of the rows of g, of up to [`LAYERS`] layers with one x; either all of them want a gradient of the
/// bias, or none.
///
/// # Shapes
/// Each `g` (rows, m), `x` (rows, n).
///
/// # Errors
/// When the device fails.
pub fn outer(
    backend: &Backend,
    x: &Tensor,
    given: &[&Tensor],
    slopes: &mut [Slopes],
    target: Target,
) -> Result<()> {
    let ((rows, m), n) = (given[0].dims2()?, x.dim(1)?);
    if m.max(n) > NARROW {
        let mut each = given.iter().zip(slopes);
        return each.try_for_each(|(g, slopes)| by_library(backend, [g, x], slopes, target));
    }
    let aligned = pairs::aligned(given) && pairs::aligned(&[x]);
    let program = program(x.dtype(), aligned)?;
    let chunk = rows.div_ceil(CHUNKS).max(CHUNK);
    let (count, size) = (rows.div_ceil(chunk), m * n + m);
    let tiles = m.div_ceil(pairs::SMALL_SIDE) * n.div_ceil(pairs::SMALL_SIDE);
    let mut parts = Memory::new(backend, x.dtype(), (given.len(), count, size))?;
    let mut launch = Launch::new(&program, "outer", given.len() * count * tiles).input(x)?;
    for i in 0..LAYERS {
        launch = match given.get(i) {
            Some(g) => launch.input(g)?,
            None => launch.no_input(),
        };
    }
    launch
        .output(&mut parts)
        .count(rows)?
        .count(m)?
        .count(n)?
        .count(chunk)?
        .long(size as u64)
        .run(backend)?;
    let total = slopes[0].weight.elem_count() / n.max(1);
    let biased = match (&slopes[0].bias, target.biased) {
        (Some(_), true) => 1,
        (Some(_), false) => 2,
        (None, _) => 0,
    };
    let written = if target.fresh { total } else { m };
    let cells = written * (n + usize::from(biased > 0));
    let groups = cells.div_ceil(FLAT);
    let parts = parts.into_tensor();
    let launch = Launch::new(&program, "meet", given.len() * groups).input(&parts)?;
    placed(launch, slopes)
        .count(count)?
        .count(m)?
        .count(n)?
        .long(size as u64)
        .count(target.at)?
        .count(total)?
        .count(usize::from(target.fresh))?
        .count(biased)?
        .count(groups)?
        .run(backend)
}

/// The outputs of `meet`: weights, then biases.
fn placed<'a>(mut launch: Launch<'a>, slopes: &'a mut [Slopes]) -> Launch<'a> {
    let (mut weights, mut biases) = (Vec::new(), Vec::new());
    for slopes in slopes {
        weights.push(&mut slopes.weight);
        biases.extend(&mut slopes.bias);
    }
    for kind in [weights, biases] {
        let missing = LAYERS - kind.len();
        launch = kind.into_iter().fold(launch, Launch::output);
        launch = (0..missing).fold(launch, |launch, _| launch.no_output());
    }
    launch
}

fn by_library(
    backend: &Backend,
    [g, x]: [&Tensor; 2],
    slopes: &mut Slopes,
    Target { at, fresh, biased }: Target,
) -> Result<()> {
    let (m, n) = (g.dim(1)?, x.dim(1)?);
    if fresh && slopes.weight.elem_count() > m * n {
        // What no layer writes is zero.
        let shape = (slopes.weight.elem_count() / n, n);
        slopes.weight = Memory::zeros(backend, g.dtype(), shape)?;
    }
    let weight = &mut slopes.weight;
    multiply(backend, weight, at * n, [&g.t()?, x], Store::Write)?;
    match &mut slopes.bias {
        Some(bias) if biased => sum_columns(backend, bias, (at, fresh), (g, m)),
        Some(bias) => {
            *bias = Memory::zeros(backend, g.dtype(), bias.elem_count())?;
            Ok(())
        }
        None => Ok(()),
    }
}
