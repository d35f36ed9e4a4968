//! Tables one after the other along time, scaled and dropped out, on devices.

use super::dropout::CHUNKS;
use crate::Result;
use crate::device::{Backend, Launch, Memory, Program, chacha};
use crate::op::{Backward, InputGradients, Output, record};
use crate::random::Stream;
use candle_core::{DType, Tensor};

const LANES: usize = 128;
/// Numbers of a group.
const GROUP: usize = CHUNKS * LANES;

pub(in crate::nn) fn program(dtype: DType) -> Result<Program> {
    Ok(
        Program::new("concatenate", include_str!("concatenate.cu"), dtype)?
            .after(chacha::SOURCE)
            .constant("CHUNKS", CHUNKS)
            .lanes(LANES),
    )
}

/// Dropout of one result.
pub(in crate::nn) type Drop = Option<(f64, Stream)>;

/// See [`crate::nn::concatenate()`].
pub(in crate::nn) fn concatenate(
    backend: &Backend,
    (tables, dims): (&[&Tensor], &[usize]),
    scale: f64,
    drops: &[Drop],
) -> Result<Vec<Tensor>> {
    let layout = Layout::new(tables, dims);
    let program = program(tables[0].dtype())?;
    let mut outputs: Vec<Output> = Vec::with_capacity(drops.len());
    for drop in drops {
        let mut y = Memory::new(backend, tables[0].dtype(), dims)?;
        for first in (0..tables.len()).step_by(2) {
            let (a, b) = (first, Some(first + 1).filter(|b| *b < tables.len()));
            let launch = layout.launch(&program, "place", (a, b)).input(tables[a])?;
            let launch = launch.input_or_none(b.map(|b| tables[b]))?;
            let launch = layout.places(launch.output(&mut y), (a, b))?;
            layout.rest(launch, (scale, *drop), None)?.run(backend)?;
        }
        outputs.push(y.into());
    }
    let (backend, drops) = (backend.clone(), drops.to_vec());
    record("concatenate", tables, outputs, move |b| {
        back(&backend, &program, b, &layout, (scale, &drops))
    })
}

/// Where each table lies.
struct Layout {
    batch: usize,
    /// Numbers of a sample, of each table.
    sizes: Vec<usize>,
    whole: usize,
}

impl Layout {
    fn new(tables: &[&Tensor], dims: &[usize]) -> Self {
        let batch = dims[0];
        Self {
            batch,
            sizes: tables
                .iter()
                .map(|x| x.elem_count() / batch.max(1))
                .collect(),
            whole: dims[1..].iter().product(),
        }
    }

    fn parts(&self, i: usize) -> usize {
        self.sizes[i].div_ceil(GROUP)
    }

    /// A launch for one table or two.
    fn launch<'a>(
        &self,
        program: &'a Program,
        function: &'static str,
        (a, b): (usize, Option<usize>),
    ) -> Launch<'a> {
        let parts = self.parts(a) + b.map_or(0, |b| self.parts(b));
        Launch::new(program, function, self.batch * parts)
    }

    /// Where they lie.
    fn places<'a>(&self, launch: Launch<'a>, (a, b): (usize, Option<usize>)) -> Result<Launch<'a>> {
        let at = |i: usize| self.sizes[..i].iter().sum::<usize>() as u64;
        Ok(launch
            .count(self.parts(a) + b.map_or(0, |b| self.parts(b)))?
            .count(self.parts(a))?
            .long(self.sizes[a] as u64)
            .long(b.map_or(0, |b| self.sizes[b]) as u64)
            .long(at(a))
            .long(b.map_or(0, at))
            .long(self.whole as u64))
    }

    /// The numbers that follow; `add` where it is a gradient.
    fn rest<'a>(
        &self,
        launch: Launch<'a>,
        (scale, drop): (f64, Drop),
        add: Option<bool>,
    ) -> Result<Launch<'a>> {
        let (p, stream) = drop.unwrap_or((0.0, Stream::new(0, 0)));
        let below = match drop {
            Some((p, stream)) => stream.choices(1.0 - p).below() as usize,
            None => 1 << 16,
        };
        let mut launch = launch.real(scale / (1.0 - p)).count(below)?;
        if let Some(add) = add {
            launch = launch.count(usize::from(add))?;
        }
        Ok(launch.stream(stream))
    }
}

fn back(
    backend: &Backend,
    program: &Program,
    b: &Backward,
    layout: &Layout,
    (scale, drops): (f64, &[Drop]),
) -> Result<InputGradients> {
    let mut gradients = vec![None; b.inputs.len()];
    let given: Vec<_> = b.gradients.iter().zip(drops).collect();
    let needed: Vec<usize> = (0..b.inputs.len()).filter(|i| b.needed[*i]).collect();
    for pair in needed.chunks(2) {
        let places = (pair[0], pair.get(1).copied());
        let memory = |i: usize| Memory::new(backend, b.inputs[i].dtype(), b.inputs[i].shape());
        let (mut da, mut db) = (memory(places.0)?, places.1.map(memory).transpose()?);
        let mut add = false;
        for (g, drop) in &given {
            let Some(g) = g else { continue };
            let launch = layout.launch(program, "place_back", places).input(g)?;
            let launch = launch.output(&mut da);
            let launch = match &mut db {
                Some(db) => launch.output(db),
                None => launch.no_output(),
            };
            let launch = layout.places(launch, places)?;
            layout
                .rest(launch, (scale, **drop), Some(add))?
                .run(backend)?;
            add = true;
        }
        if add {
            gradients[places.0] = Some(da.into_tensor());
            if let (Some(i), Some(db)) = (places.1, db) {
                gradients[i] = Some(db.into_tensor());
            }
        }
    }
    Ok(gradients)
}
