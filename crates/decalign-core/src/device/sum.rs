//! Sums of several tensors in one launch.

use candle_core::{DType, Tensor};

use super::{Backend, Launch, Memory, Program};
use crate::Result;

const LANES: usize = 256;
/// Tensors of a launch.
const MOST: usize = 8;

pub(super) fn program(dtype: DType, count: usize) -> Result<Program> {
    Ok(Program::new("sum", include_str!("sum.cu"), dtype)?
        .lanes(LANES)
        .constant("COUNT", count))
}

/// The sum of tensors of one shape in their order; one of them alone is itself.
///
/// # Errors
/// When the device fails.
pub(crate) fn sum(backend: &Backend, tensors: Vec<Tensor>) -> Result<Option<Tensor>> {
    let mut rest = tensors.into_iter();
    let Some(mut total) = rest.next() else {
        return Ok(None);
    };
    loop {
        let some: Vec<Tensor> = rest.by_ref().take(MOST - 1).collect();
        if some.is_empty() {
            return Ok(Some(total));
        }
        let n = total.elem_count();
        let mut y = Memory::new(backend, total.dtype(), total.shape())?;
        let program = program(total.dtype(), 1 + some.len())?;
        let mut launch = Launch::new(&program, "sum", n.div_ceil(LANES)).input(&total)?;
        for i in 0..MOST - 1 {
            // What is not there is not read.
            launch = launch.input(some.get(i).unwrap_or(&total))?;
        }
        launch.output(&mut y).long(n as u64).run(backend)?;
        total = y.into_tensor();
    }
}
