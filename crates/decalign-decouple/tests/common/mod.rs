#![allow(dead_code, unused_imports, clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::Result;

pub(crate) use decalign_testkit::{
    largest_difference as distance, normal, number as value, numbers,
};

/// `sin(a i + b j + c)`, the numbers of golden/make.py.
pub(crate) fn waves(n: usize, d: usize, (a, b, c): (f64, f64, f64)) -> Tensor {
    let at = |k: usize| (a * (k / d) as f64 + b * (k % d) as f64 + c).sin();
    Tensor::from_vec((0..n * d).map(at).collect(), (n, d), &Device::Cpu).unwrap()
}

/// Both parts of golden/make.py.
pub(crate) fn golden_parts() -> (Tensor, Tensor) {
    let b = waves(9, 3, (1.1, 0.7, 0.2));
    (
        waves(9, 3, (1.7, 2.3, 0.5)),
        ((b * 1.3).unwrap() + 0.4).unwrap(),
    )
}

/// A value and the gradients of both inputs.
pub(crate) fn value_and_gradients(
    a: &Tensor,
    b: &Tensor,
    f: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
) -> (f64, [Vec<f64>; 2]) {
    let (a, b) = (Var::from_tensor(a).unwrap(), Var::from_tensor(b).unwrap());
    let loss = f(&a, &b).unwrap();
    let gradients = loss.backward().unwrap();
    let of = |x: &Var| numbers(gradients.get(x).unwrap());
    (value(&loss), [of(&a), of(&b)])
}

pub(crate) fn is_zero(x: &[f64]) -> bool {
    x.iter().all(|v| *v == 0.0)
}
