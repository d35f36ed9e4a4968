//! Gradients, and fused operations against their references.

use candle_core::{DType, Tensor};
use decalign_core::nn::softmax;
use decalign_core::{Result, gradcheck};
use decalign_ot::{KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, reference};

use crate::problems::*;

#[test]
fn gradients_of_the_value_hold() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        let of = |x: &[Tensor]| -> Result<Tensor> {
            Ok(sharp(0.5).solve(&on_graph(x, m, &edges)?)?.value)
        };
        for batch in [None, Some(2)] {
            let x = raw(&sizes, &edges, batch, 3);
            gradcheck(&x, 1e-6, |x| Ok(vec![of(x)?]))?;
            let plain = reference::multi_marginal_value(&on_graph(&x, m, &edges)?, 0.5, 300)?;
            assert!(distance(&of(&x)?, &plain) < 1e-9, "{sizes:?}");
        }
    }
    Ok(())
}

#[test]
fn gradients_of_a_joint_cost_hold() -> Result<()> {
    let x = [
        normal(&[2, 3], 0),
        normal(&[2], 1),
        normal(&[2, 4], 2),
        normal(&[2, 3, 2, 4], 3),
    ];
    let of = |x: &[Tensor]| -> Result<MultiMarginalProblem> {
        let marginals = x[..3].iter().map(softmax).collect::<Result<Vec<_>>>()?;
        MultiMarginalProblem::dense(&marginals, &x[3])
    };
    gradcheck(&x, 1e-6, |x| Ok(vec![sharp(0.5).solve(&of(x)?)?.value]))?;
    let kernel = KernelSinkhorn::new(0.5, 10)?;
    gradcheck(&x, 1e-6, |x| Ok(vec![kernel.loss(&of(x)?)?]))?;
    same(&x, 1e-3, &|x| kernel.loss(&of(x)?), &|x| {
        reference::kernel_sinkhorn(&of(x)?, 0.5, 10)
    });
    Ok(())
}

#[test]
fn values_and_gradients_are_those_of_the_reference() {
    for (sizes, edges) in small() {
        let m = sizes.len();
        // f32 is held to its own tolerance: the reference makes all its sweeps in f32.
        let fused = |x: &[Tensor]| -> Result<Tensor> {
            let tolerance = if x[0].dtype() == DType::F32 {
                1e-5
            } else {
                1e-13
            };
            let solver = MultiMarginalSinkhorn::new(2.0)?
                .tolerance(tolerance)?
                .max_iterations(2000)?;
            Ok(solver.solve(&on_graph(x, m, &edges)?)?.value)
        };
        same(&raw(&sizes, &edges, Some(2), 11), 1e-4, &fused, &|x| {
            reference::multi_marginal_value(&on_graph(x, m, &edges)?, 2.0, 60)
        });
    }
}

#[test]
fn the_upstream_loss_equals_its_reference() -> Result<()> {
    for sizes in [
        &[3, 4][..],
        &[7, 7, 7],
        &[2, 3, 4],
        &[2, 3, 2, 4],
        &[1, 5, 17],
    ] {
        let m = sizes.len();
        for (epsilon, batch) in [(0.1, None), (5.0, None), (5.0, Some(3))] {
            let loss = KernelSinkhorn::new(epsilon, 50)?;
            same(
                &raw(sizes, &pairs(m), batch, 1),
                2e-2,
                &|x| loss.loss(&on_graph(x, m, &pairs(m))?),
                &|x| reference::kernel_sinkhorn(&on_graph(x, m, &pairs(m))?, epsilon, 50),
            );
        }
    }
    Ok(())
}

#[test]
fn gradients_of_the_upstream_loss_hold() -> Result<()> {
    for (sizes, edges) in small() {
        let loss = KernelSinkhorn::new(0.5, 10)?;
        for batch in [None, Some(2)] {
            gradcheck(&raw(&sizes, &edges, batch, 2), 1e-6, |x| {
                Ok(vec![loss.loss(&on_graph(x, sizes.len(), &edges)?)?])
            })?;
        }
    }
    Ok(())
}
