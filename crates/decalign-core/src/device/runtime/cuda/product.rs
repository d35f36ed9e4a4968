//! Matrix products by cuBLAS.

use candle_core::cuda_backend::cudarc::cublas::result as cublas;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t;
use candle_core::{CudaDevice, DType, Storage, Tensor};

use super::address::{address, failed, output};
use crate::device::launch::elsewhere;
use crate::device::memory::{Block, Memory};
use crate::gemm::Store;
use crate::{Error, Result};

/// See [`crate::device::multiply`]: what is a table of rows here is one of columns to the library, so that the sides change places.
pub(super) fn multiply(
    device: &CudaDevice,
    out: &mut Memory,
    at: usize,
    [a, b]: [&Tensor; 2],
    store: Store,
) -> Result<()> {
    let ((m, k), n) = (a.dims2()?, b.dim(1)?);
    let (a, b) = (a.detach(), b.detach());
    let ((a, transpose_a, step_a), (b, transpose_b, step_b)) = (operand(&a)?, operand(&b)?);
    let size = |n: usize| i32::try_from(n).map_err(failed);
    let stream = device.cuda_stream();
    let (x, y, dtype) = (address(&a, &stream)?, address(&b, &stream)?, a.dtype());
    let start = (at * dtype.size_in_bytes()) as u64;
    let z = start
        + match out.block() {
            Block::Own(Storage::Cuda(z)) => output(z, &stream)?.0,
            Block::Piece(piece) => address(piece, &stream)?,
            Block::Own(_) => return Err(elsewhere()),
        };
    let (rows, columns, inner) = (size(m)?, size(n)?, size(k)?);
    let (step_a, step_b) = (size(step_a)?, size(step_b)?);
    let adds = matches!(store, Store::Add);
    let blas = device.cublas_handle();
    macro_rules! gemm {
        ($t:ty, $function:path) => {{
            let (one, beta): ($t, $t) = (1.0, if adds { 1.0 } else { 0.0 });
            // SAFETY: the addresses hold (m, k), (k, n) and (m, n) elements with these steps, and live until this returns to
            // a stream on which all that follows waits.
            unsafe {
                $function(
                    *blas.handle(),
                    transpose_b,
                    transpose_a,
                    columns,
                    rows,
                    inner,
                    &raw const one,
                    y as *const $t,
                    step_b,
                    x as *const $t,
                    step_a,
                    &raw const beta,
                    z as *mut $t,
                    columns,
                )
            }
            .map_err(failed)
        }};
    }
    match (dtype, b.dtype()) {
        (DType::F32, DType::F32) => gemm!(f32, cublas::sgemm),
        (DType::F64, DType::F64) => gemm!(f64, cublas::dgemm),
        _ => Err(Error::tensor(
            "product",
            "operands of one type, f32 or f64",
            b.dtype(),
        )),
    }
}

/// An operand as the library takes it: whether it is transposed, and the step from one row (or column) to the next.
fn operand(x: &Tensor) -> Result<(Tensor, cublasOperation_t, usize)> {
    let ((rows, columns), steps) = (x.dims2()?, x.stride().to_vec());
    match steps[..] {
        [step, 1] if step >= columns => Ok((x.clone(), cublasOperation_t::CUBLAS_OP_N, step)),
        [1, step] if step >= rows => Ok((x.clone(), cublasOperation_t::CUBLAS_OP_T, step)),
        _ => Ok((x.contiguous()?, cublasOperation_t::CUBLAS_OP_N, columns)),
    }
}
