//! Tables one after the other along time, scaled and dropped out, on devices.

use super::CHUNKS;
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
        for (i, x) in tables.iter().enumerate() {
            let launch = Launch::new(&program, "place", layout.groups(i)).input(x)?;
            layout
                .rest(launch.output(&mut y), i, (scale, *drop), None)?
                .run(backend)?;
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

    fn groups(&self, i: usize) -> usize {
        self.batch * self.parts(i)
    }

    /// The numbers of a launch for table `i`; `add` where it is a gradient.
    fn rest<'a>(
        &self,
        launch: Launch<'a>,
        i: usize,
        (scale, drop): (f64, Drop),
        add: Option<bool>,
    ) -> Result<Launch<'a>> {
        let (p, stream) = drop.unwrap_or((0.0, Stream::new(0, 0)));
        let below = match drop {
            Some((p, stream)) => stream.choices(1.0 - p).below() as usize,
            None => 1 << 16,
        };
        let mut launch = launch
            .count(self.parts(i))?
            .long(self.sizes[i] as u64)
            .long(self.whole as u64)
            .long(self.sizes[..i].iter().sum::<usize>() as u64)
            .real(scale / (1.0 - p));
        if let Some(add) = add {
            launch = launch.count(usize::from(add))?;
        }
        Ok(launch.count(below)?.stream(stream))
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
    for (i, x) in b.inputs.iter().enumerate().filter(|(i, _)| b.needed[*i]) {
        let mut dx = Memory::new(backend, x.dtype(), x.shape())?;
        let mut add = false;
        for (g, drop) in b.gradients.iter().zip(drops) {
            let Some(g) = g else { continue };
            let launch = Launch::new(program, "place_back", layout.groups(i)).input(g)?;
            let launch = launch.output(&mut dx);
            layout
                .rest(launch, i, (scale, *drop), Some(add))?
                .run(backend)?;
            add = true;
        }
        gradients[i] = add.then(|| dx.into_tensor());
    }
    Ok(gradients)
}
