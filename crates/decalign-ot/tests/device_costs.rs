//! Costs in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{Reduction, bures_wasserstein_diagonal, coupling_cost};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(3, number).normal_tensor(shape).unwrap()
}

#[test]
fn costs_between_gaussians() -> Result<()> {
    let cost = |x: &[Tensor], reduction| {
        let (v, v2) = (x[1].sqr()?, x[3].sqr()?);
        let cost = bures_wasserstein_diagonal((&x[0], &v), (&x[2], &v2), reduction)?;
        Ok(vec![cost])
    };
    for ((k, l, width), reduction) in [
        ((1, 1, 1), Reduction::Sum),
        ((7, 7, 5), Reduction::Mean),
        ((3, 9, 70), Reduction::Sum),
    ] {
        let shapes = [[k, width], [k, width], [l, width], [l, width]];
        let inputs: Vec<Tensor> = (0..4).map(|i| normal(&shapes[i], i as u64)).collect();
        holds(&inputs, (1e-12, 1e-5), |x| cost(x, reduction))?;
        if available() && width < 9 {
            gradcheck(&inputs, 1e-5, |x| emulated(5, || cost(x, reduction)))?;
        }
    }
    Ok(())
}

#[test]
fn costs_of_couplings() -> Result<()> {
    let cost = |x: &[Tensor], floor: Option<f64>, reduction| {
        let gamma = softmax(&x[1])?;
        let variances = x.get(3).map(Tensor::sqr).transpose()?;
        let variances = variances.as_ref().zip(floor);
        Ok(vec![coupling_cost(
            &x[0], &gamma, &x[2], variances, reduction,
        )?])
    };
    for ((batch, k, width), reduction) in [
        ((1, 1, 1), Reduction::Sum),
        ((6, 4, 5), Reduction::Mean),
        ((40, 7, 70), Reduction::Sum),
    ] {
        let shapes = [[batch, width], [batch, k], [k, width], [k, width]];
        let inputs: Vec<Tensor> = (0..4).map(|i| normal(&shapes[i], 20 + i as u64)).collect();
        for count in [3, 4] {
            // The floor is above some of the variances.
            let floor = (count == 4).then_some(0.1);
            let inputs = &inputs[..count];
            holds(inputs, (1e-12, 1e-5), |x| cost(x, floor, reduction))?;
            if available() && width < 9 {
                gradcheck(inputs, 1e-5, |x| emulated(5, || cost(x, floor, reduction)))?;
            }
        }
    }
    Ok(())
}
