//! What the tests of transport share.

#![allow(dead_code, unused_imports, clippy::unwrap_used)]

use candle_core::{D, DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;

pub(crate) use decalign_testkit::{
    largest_difference as distance, number as value, numbers, squared_distances as squares,
};

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
