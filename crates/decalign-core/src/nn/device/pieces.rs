//! Sums that groups found in pieces, put together.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::device::{Backend, Launch, Program};
use crate::op::later::{Pending, Queue, wait};

const LANES: usize = 128;

/// Tables of a launch.
const TABLES: usize = 6;

pub(in crate::nn) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("pieces", include_str!("pieces.cu"), dtype)?.lanes(LANES))
}

/// Pieces (count, width) and the sums of their columns, (width) in any shape, which are written.
#[derive(Clone)]
pub struct Pieces {
    /// What groups found.
    pub pieces: Tensor,
    /// Where the sums go.
    pub sums: Tensor,
}

/// What tables of one launch have in common: type, count and width.
type Kind = (DType, usize, usize);

#[derive(Default)]
struct Waiting {
    backend: Option<Backend>,
    queue: Queue<Kind, Pieces>,
}

impl Pending for Waiting {
    fn settle(&mut self) -> Result<()> {
        let Some(backend) = &self.backend else {
            return Ok(());
        };
        let mut batches = self.queue.take().into_iter();
        batches.try_for_each(|(kind, tables)| add(backend, kind, &tables))
    }
}

/// The sums of the columns of pieces, at once or, where nobody reads them before the end of the backward pass, together with others.
///
/// # Errors
/// When the device fails.
pub fn add_pieces(backend: &Backend, table: Pieces, may_wait: bool) -> Result<()> {
    let width = table.sums.elem_count();
    let kind = (
        table.sums.dtype(),
        table.pieces.elem_count() / width.max(1),
        width,
    );
    let push = |waiting: &mut Waiting| {
        waiting.backend = Some(backend.clone());
        waiting.queue.push(kind, table.clone(), TABLES)
    };
    match may_wait.then(|| wait(push)).flatten() {
        None => add(backend, kind, &[table]),
        Some(None) => Ok(()),
        Some(Some((kind, tables))) => add(backend, kind, &tables),
    }
}

fn add(backend: &Backend, (dtype, count, width): Kind, tables: &[Pieces]) -> Result<()> {
    let (program, groups) = (program(dtype)?, width.div_ceil(LANES));
    let mut launch = Launch::new(&program, "add_pieces", tables.len() * groups);
    for i in 0..TABLES {
        launch = launch.input_or_none(tables.get(i).map(|table| &table.pieces))?;
    }
    for i in 0..TABLES {
        launch = match tables.get(i) {
            Some(table) => launch.update(&table.sums)?,
            None => launch.no_update(),
        };
    }
    launch
        .count(count)?
        .count(width)?
        .count(groups)?
        .run(backend)
}
