//! What the tests share.

// Each test program uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::random::Stream as Random;
use decalign_core::{Result, agree};

pub(crate) fn normal(shape: &[usize], number: u64) -> Tensor {
    Random::new(5, number).normal_tensor(shape).unwrap()
}

/// A matrix of zeros and ones.
pub(crate) fn mask<const T: usize>(rows: &[[u8; T]]) -> Tensor {
    Tensor::from_vec(rows.concat(), (rows.len(), T), &Device::Cpu)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap()
}

/// The largest difference; NaN if one is.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let apart = (wide(a) - wide(b)).unwrap().flatten_all().unwrap();
    let apart = apart.to_vec1::<f64>().unwrap().into_iter().map(f64::abs);
    apart.fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
}

pub(crate) type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// Holds two implementations equal, values and gradients.
pub(crate) fn same(inputs: &[Tensor], fused: Run, plain: Run) {
    agree(inputs, (1e-11, 1e-4), fused, plain).unwrap();
}
