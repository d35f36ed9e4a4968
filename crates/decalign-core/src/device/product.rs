//! Matrix products on devices.

use candle_core::{DType, Tensor};

use super::{Backend, Launch, Memory, Program, pairs};
use crate::gemm::Store;
use crate::{Error, Result};

pub(super) fn program(dtype: DType, aligned: bool) -> Result<Program> {
    let program = Program::new("product", include_str!("product.cu"), dtype)?;
    Ok(pairs::with_pairs(program, aligned))
}

/// `a b` into `out` from element `at` on, written or added; f32 without TF32. On CUDA by its library, which takes rows
/// or columns of larger tables and transposed ones as they are.
///
/// # Shapes
/// `a` (m, k), `b` (k, n), the result (m, n), contiguous.
///
/// # Errors
/// When the shapes do not fit.
pub fn multiply(
    backend: &Backend,
    out: &mut Memory,
    at: usize,
    [a, b]: [&Tensor; 2],
    store: Store,
) -> Result<()> {
    let ((m, k), (inner, n)) = (a.dims2()?, b.dims2()?);
    if k != inner || at + m * n > out.elem_count() {
        let expected = format!("shape ({k}, n), with room for ({m}, n)");
        return Err(Error::tensor(
            "right side of a product",
            expected,
            b.shape(),
        ));
    }
    if let Some(done) = backend.runtime().multiply(out, at, [a, b], store) {
        return done;
    }
    let b = b.t()?;
    let program = program(a.dtype(), pairs::aligned(&[a, &b]))?;
    let side = pairs::side(a.dtype());
    Launch::new(&program, "product", m.div_ceil(side) * n.div_ceil(side))
        .input(a)?
        .input(&b)?
        .output(out)
        .count(m)?
        .count(n)?
        .count(k)?
        .long(at as u64)
        .count(usize::from(matches!(store, Store::Add)))?
        .run(backend)
}

/// [`multiply`] into memory of its own.
///
/// # Errors
/// As there.
pub fn product(backend: &Backend, a: &Tensor, b: &Tensor) -> Result<Memory> {
    let mut out = Memory::new(backend, a.dtype(), (a.dim(0)?, b.dim(1)?))?;
    multiply(backend, &mut out, 0, [a, b], Store::Write)?;
    Ok(out)
}
