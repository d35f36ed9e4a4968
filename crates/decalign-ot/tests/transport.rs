//! Costs between Gaussians and of couplings: fused equals reference, gradients.

#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::{Result, agree, gradcheck};
use decalign_ot::{Reduction, bures_wasserstein_diagonal, coupling_cost, reference};
use decalign_testkit::normal;

fn positive(shape: &[usize], number: u64) -> Tensor {
    (normal(shape, number).sqr().unwrap() + 0.05).unwrap()
}

type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Tensor>;

/// Holds two implementations equal, values and gradients.
fn same(inputs: &[Tensor], f32_tolerance: f64, fused: Run, plain: Run) {
    let tolerances = (1e-11, f32_tolerance);
    agree(
        inputs,
        tolerances,
        |x| Ok(vec![fused(x)?]),
        |x| Ok(vec![plain(x)?]),
    )
    .unwrap();
}

#[test]
fn gaussian_costs() -> Result<()> {
    let inputs = [
        normal(&[3, 4], 0),
        positive(&[3, 4], 1),
        normal(&[2, 4], 2),
        positive(&[2, 4], 3),
    ];
    for reduction in [Reduction::Mean, Reduction::Sum] {
        let fused =
            |x: &[Tensor]| bures_wasserstein_diagonal((&x[0], &x[1]), (&x[2], &x[3]), reduction);
        same(&inputs, 1e-4, &fused, &|x| {
            reference::bures_wasserstein_diagonal((&x[0], &x[1]), (&x[2], &x[3]), reduction)
        });
        gradcheck(&inputs, 1e-7, |x| Ok(vec![fused(x)?]))?;
    }
    Ok(())
}

#[test]
fn coupling_costs() -> Result<()> {
    let inputs = [
        normal(&[5, 4], 0),
        positive(&[5, 3], 1),
        normal(&[3, 4], 2),
        positive(&[3, 4], 3),
    ];
    for reduction in [Reduction::Mean, Reduction::Sum] {
        for floor in [1e-4, 0.5] {
            let fused =
                |x: &[Tensor]| coupling_cost(&x[0], &x[1], &x[2], Some((&x[3], floor)), reduction);
            same(&inputs, 1e-3, &fused, &|x| {
                reference::coupling_cost(&x[0], &x[1], &x[2], Some((&x[3], floor)), reduction)
            });
            gradcheck(&inputs, 1e-6, |x| Ok(vec![fused(x)?]))?;
        }
        gradcheck(&inputs[..3], 1e-7, |x| {
            Ok(vec![coupling_cost(&x[0], &x[1], &x[2], None, reduction)?])
        })?;
    }
    Ok(())
}
