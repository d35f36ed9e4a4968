//! What the tests of transport share.

#![allow(dead_code, clippy::unwrap_used)]

use candle_core::{D, DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;

/// Standard normal numbers.
pub(crate) fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(9, number).normal_tensor(shape).unwrap()
}

/// Positive weights of total 1 along the last dimension.
pub(crate) fn weights(shape: &[usize], number: u64) -> Tensor {
    softmax(&normal(shape, number)).unwrap()
}

pub(crate) fn tensor(values: &[f64]) -> Tensor {
    Tensor::new(values, &Device::Cpu).unwrap()
}

/// A scalar.
pub(crate) fn value(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

pub(crate) fn numbers(x: &Tensor) -> Vec<f64> {
    x.to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

/// The largest difference of two tensors of one shape.
pub(crate) fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    numbers(a)
        .iter()
        .zip(numbers(b))
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
}

/// Squared distances as a matrix.
pub(crate) fn squares(x: &Tensor, y: &Tensor) -> Tensor {
    let rank = x.rank();
    let difference = x
        .unsqueeze(rank - 1)
        .unwrap()
        .broadcast_sub(&y.unsqueeze(rank - 2).unwrap())
        .unwrap();
    difference.sqr().unwrap().sum(D::Minus1).unwrap()
}
