//! Sums over the partial sums that groups of lanes computed.

use candle_core::{DType, Tensor};

use crate::Result;
use crate::device::{Backend, Launch, Program};
use crate::op::deferred::{BatchQueue, DeferredGradient, defer};

const LANES: usize = 128;

/// Tables of one launch; as many as the kernel has parameters.
const TABLES: usize = 6;

pub(in crate::nn) fn program(dtype: DType) -> Result<Program> {
    Ok(Program::new("partial_sums", include_str!("partial_sums.cu"), dtype)?.lanes(LANES))
}

/// Partial sums and the tensor that their sum is written to.
#[derive(Clone)]
pub struct PartialSums {
    /// The partial sums, (count, width).
    pub partials: Tensor,
    /// The sums of the columns, (width) in any shape.
    pub sums: Tensor,
}

/// Tables of one launch have this in common: type, count and width.
type Kind = (DType, usize, usize);

#[derive(Default)]
struct Deferred {
    backend: Option<Backend>,
    queue: BatchQueue<Kind, PartialSums>,
}

impl DeferredGradient for Deferred {
    fn finish(&mut self) -> Result<()> {
        let Some(backend) = &self.backend else {
            return Ok(());
        };
        let mut batches = self.queue.take().into_iter();
        batches.try_for_each(|(kind, tables)| add(backend, kind, &tables))
    }
}

/// Writes the sums of the columns of partial sums: at once, or if `deferrable` together with others at the end of the
/// backward pass.
///
/// # Errors
/// When the device fails.
pub fn add_partial_sums(backend: &Backend, table: PartialSums, deferrable: bool) -> Result<()> {
    let width = table.sums.elem_count();
    let kind = (
        table.sums.dtype(),
        table.partials.elem_count() / width.max(1),
        width,
    );
    let push = |deferred: &mut Deferred| {
        deferred.backend = Some(backend.clone());
        deferred.queue.push(kind, table.clone(), TABLES)
    };
    match deferrable.then(|| defer(push)).flatten() {
        None => add(backend, kind, &[table]),
        Some(None) => Ok(()),
        Some(Some((kind, tables))) => add(backend, kind, &tables),
    }
}

fn add(backend: &Backend, (dtype, count, width): Kind, tables: &[PartialSums]) -> Result<()> {
    let (program, groups) = (program(dtype)?, width.div_ceil(LANES));
    let mut launch = Launch::new(&program, "add_partial_sums", tables.len() * groups);
    for i in 0..TABLES {
        launch = launch.input_or_none(tables.get(i).map(|table| &table.partials))?;
    }
    for i in 0..TABLES {
        launch = launch.update_or_none(tables.get(i).map(|table| &table.sums))?;
    }
    launch
        .count(count)?
        .count(width)?
        .count(groups)?
        .run(backend)
}
