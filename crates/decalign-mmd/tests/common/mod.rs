#![allow(dead_code, unused_imports, clippy::unwrap_used)]

use candle_core::{DType, Tensor};
use decalign_core::random::Stream;
use decalign_core::{Result, agree};
use decalign_mmd::{Kernel, Smoothness};

pub(crate) use decalign_testkit::{largest_difference as distance, normal, number as value};

/// Weights between 0.2 and 1.
pub(crate) fn weights(n: usize, number: u64) -> Tensor {
    let w = Stream::new(6, number).uniform(n, 0.2, 1.0);
    Tensor::from_vec(w, n, &candle_core::Device::Cpu).unwrap()
}

pub(crate) type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Holds two implementations equal, values and gradients.
pub(crate) fn same(inputs: &[Tensor], tolerance: (f64, f64), fused: Run, plain: Run) {
    agree(
        inputs,
        tolerance,
        |x| Ok(vec![fused(x)?]),
        |x| Ok(vec![plain(x)?]),
    )
    .unwrap();
}

/// One kernel of every kind, and some made of several.
pub(crate) fn kernels() -> Vec<Kernel> {
    let all = || -> Result<Vec<Kernel>> {
        let gaussian = Kernel::gaussian_length_scale(1.3)?;
        let quadratic = Kernel::polynomial(2, 0.3, 1.0)?;
        Ok(vec![
            gaussian.clone(),
            Kernel::gaussian_variance(1.7)?,
            Kernel::laplace(2.5)?,
            Kernel::matern(Smoothness::Half, 1.5)?,
            Kernel::matern(Smoothness::ThreeHalves, 1.5)?,
            Kernel::matern(Smoothness::FiveHalves, 1.5)?,
            Kernel::inverse_multiquadric(1.2)?,
            Kernel::rational_quadratic(0.7, 1.1)?,
            Kernel::energy(),
            Kernel::linear(),
            Kernel::polynomial(3, 0.2, 0.5)?,
            Kernel::cosine(),
            gaussian.clone() + Kernel::laplace(2.0)?.scaled(0.5)? + Kernel::energy(),
            ((gaussian.clone() + quadratic) * Kernel::cosine())?,
            (gaussian * Kernel::linear())?,
        ])
    };
    all().unwrap()
}
