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

/// Pairs of a launch.
const PAIRS: usize = 4;

/// [`sum`] of each of some lists. Pairs of one size share launches.
///
/// # Errors
/// When the device fails.
pub(crate) fn sums(backend: &Backend, mut lists: Vec<Vec<Tensor>>) -> Result<Vec<Option<Tensor>>> {
    let size = |list: &Vec<Tensor>| match &list[..] {
        [a, b] if a.dtype() == b.dtype() => Some((a.elem_count(), a.dtype() == DType::F64)),
        _ => None,
    };
    let sized = |(i, list)| Some((size(list)?, i));
    let mut pairs: Vec<_> = lists.iter().enumerate().filter_map(sized).collect();
    // In the order of their sizes, and among these in their own.
    pairs.sort_unstable();
    for alike in pairs.chunk_by(|(a, _), (b, _)| a == b) {
        for some in alike.chunks(PAIRS).filter(|some| some.len() > 1) {
            let both = some.iter().map(|(_, i)| std::mem::take(&mut lists[*i]));
            let both = both.collect();
            for ((_, i), y) in some.iter().zip(sum_pairs(backend, both)?) {
                lists[*i] = vec![y];
            }
        }
    }
    lists.into_iter().map(|list| sum(backend, list)).collect()
}

fn sum_pairs(backend: &Backend, pairs: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    let (dtype, n) = (pairs[0][0].dtype(), pairs[0][0].elem_count());
    let (program, groups) = (program(dtype, 2)?, n.div_ceil(LANES));
    let mut launch = Launch::new(&program, "sum_pairs", pairs.len() * groups);
    for side in 0..2 {
        for i in 0..PAIRS {
            launch = launch.input_or_none(pairs.get(i).map(|pair| &pair[side]))?;
        }
    }
    let mut all = Vec::with_capacity(pairs.len());
    for pair in &pairs {
        all.push(Memory::new(backend, dtype, pair[0].shape())?);
    }
    launch = all.iter_mut().fold(launch, Launch::output);
    launch = (pairs.len()..PAIRS).fold(launch, |launch, _| launch.no_output());
    launch.long(n as u64).count(groups)?.run(backend)?;
    Ok(all.into_iter().map(Memory::into_tensor).collect())
}
