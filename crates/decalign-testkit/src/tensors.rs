//! Seeded inputs in f64, and tensors as plain numbers.

use candle_core::{D, DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;

/// The seed of every input; `stream` tells inputs of one test apart.
const SEED: u64 = 5;

/// Standard normal numbers of this shape.
pub fn normal(shape: &[usize], stream: u64) -> Tensor {
    Stream::new(SEED, stream).normal_tensor(shape).unwrap()
}

/// Uniform numbers in [low, high) of this shape.
pub fn uniform(shape: &[usize], stream: u64, low: f64, high: f64) -> Tensor {
    let n = shape.iter().product();
    tensor(&Stream::new(SEED, stream).uniform(n, low, high), shape)
}

/// Positive weights with sum 1 along the last dimension.
pub fn weights(shape: &[usize], stream: u64) -> Tensor {
    softmax(&normal(shape, stream)).unwrap()
}

/// Equal weights (n) with sum 1.
pub fn uniform_weights(n: usize) -> Tensor {
    Tensor::full(1.0 / n as f64, n, &Device::Cpu).unwrap()
}

/// Normal samples (n, d), one tensor for each entry of `sizes`; streams 0, 1, ...
pub fn points(sizes: &[usize], d: usize) -> Vec<Tensor> {
    let each = sizes.iter().enumerate();
    each.map(|(i, n)| normal(&[*n, d], i as u64)).collect()
}

/// These numbers in this shape.
pub fn tensor(numbers: &[f64], shape: &[usize]) -> Tensor {
    Tensor::from_slice(numbers, shape, &Device::Cpu).unwrap()
}

/// All numbers of a tensor in row-major order, as f64.
pub fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

/// The number of a scalar, as f64.
pub fn number(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

/// Squared Euclidean distances (.., n, m) of points (.., n, d) and (.., m, d), from differences.
pub fn squared_distances(x: &Tensor, y: &Tensor) -> Tensor {
    let rank = x.rank();
    let (x, y) = (x.unsqueeze(rank - 1), y.unsqueeze(rank - 2));
    let difference = x.unwrap().broadcast_sub(&y.unwrap()).unwrap();
    difference.sqr().unwrap().sum(D::Minus1).unwrap()
}
