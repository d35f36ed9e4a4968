//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{
    Geometry, KernelSinkhorn, LinearProblem, MultiMarginalProblem, MultiMarginalSinkhorn, Sinkhorn,
};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(3, number).normal_tensor(shape).unwrap()
}

/// Marginals as logits and costs of all pairs, raw numbers of a batch.
fn raw(sizes: &[usize], batch: usize) -> Vec<Tensor> {
    let marginals = (0..sizes.len()).map(|m| normal(&[batch, sizes[m]], m as u64));
    let pairs = (0..sizes.len()).flat_map(|a| (a + 1..sizes.len()).map(move |b| (a, b)));
    let costs = pairs.map(|(a, b)| {
        let number = (10 + a * sizes.len() + b) as u64;
        normal(&[batch, sizes[a], sizes[b]], number)
    });
    marginals.chain(costs).collect()
}

fn problem(x: &[Tensor], m: usize) -> Result<MultiMarginalProblem> {
    let marginals = x[..m].iter().map(softmax).collect::<Result<Vec<_>>>()?;
    let costs = x[m..].iter().map(|c| Ok(c.sqr()?));
    MultiMarginalProblem::pairwise(&marginals, &costs.collect::<Result<Vec<_>>>()?)
}

#[test]
fn the_upstream_loss_and_its_gradient() -> Result<()> {
    // The model's 7 x 7 x 7, two marginals, and four of unequal sizes.
    // And five, and some whose warps take points of several marginals.
    for (sizes, sweeps) in [
        (vec![7, 7, 7], 4),
        (vec![4, 5], 3),
        (vec![2, 3, 1, 4], 2),
        (vec![2, 2, 1, 2, 2], 1),
        (vec![33, 20], 3),
    ] {
        let m = sizes.len();
        holds(&raw(&sizes, 2), (1e-10, 2e-4), |x| {
            Ok(vec![
                KernelSinkhorn::new(0.5, sweeps)?.loss(&problem(x, m)?)?,
            ])
        })?;
    }
    if available() {
        gradcheck(&raw(&[3, 2], 2), 1e-6, |x| {
            let problem = problem(x, 2)?;
            emulated(5, || Ok(vec![KernelSinkhorn::new(0.5, 3)?.loss(&problem)?]))
        })?;
    }
    Ok(())
}

#[test]
fn costs_of_pairs_in_any_order() -> Result<()> {
    // A batch of marginals; of the costs one is shared and one goes backward; and no batch at all; and the joint cost itself.
    let inputs = [
        normal(&[2, 3], 0),
        normal(&[2, 2], 1),
        normal(&[2, 4], 2),
        normal(&[2, 4], 3),
        normal(&[2, 4, 3], 4),
    ];
    let graph = |x: &[Tensor]| -> Result<Vec<Tensor>> {
        let marginals = x[..3].iter().map(softmax).collect::<Result<Vec<_>>>()?;
        let edges = [(1, 2, x[3].sqr()?), (2, 0, x[4].sqr()?)];
        let problem = MultiMarginalProblem::graph(&marginals, &edges)?;
        let value = MultiMarginalSinkhorn::new(0.7)?
            .tolerance(1e-4)?
            .max_iterations(500)?
            .value(&problem)?;
        Ok(vec![
            KernelSinkhorn::new(0.5, 3)?.loss(&problem)?,
            value.value,
        ])
    };
    holds(&inputs, (1e-3, 1e-3), graph)?;
    let single = [0, 1, 2, 4].map(|i| inputs[i].get(1));
    let mut single = single
        .into_iter()
        .collect::<candle_core::Result<Vec<_>>>()?;
    single.insert(3, inputs[3].clone());
    holds(&single, (1e-3, 1e-3), graph)?;
    let joint = [single[0].clone(), single[1].clone(), normal(&[3, 2], 5)];
    holds(&joint, (1e-10, 2e-4), |x| {
        let marginals = [softmax(&x[0])?, softmax(&x[1])?];
        let problem = MultiMarginalProblem::dense(&marginals, &x[2].sqr()?)?;
        Ok(vec![KernelSinkhorn::new(0.5, 1)?.loss(&problem)?])
    })
}

#[test]
fn values_in_the_log_domain() -> Result<()> {
    // The first two are solved in f64 whatever the type, as f32 cannot hold the tolerance.
    let cases = [
        (vec![7, 7, 7], 2.0, 1e-7, (1e-6, 1e-5)),
        (vec![2, 3, 1, 4], 0.7, 1e-8, (1e-7, 1e-5)),
        (vec![8, 5], 0.3, 1e-5, (1e-3, 1e-3)),
    ];
    for (sizes, epsilon, tolerance, tolerances) in cases {
        let m = sizes.len();
        let solver = MultiMarginalSinkhorn::new(epsilon)?
            .tolerance(tolerance)?
            .max_iterations(500)?;
        holds(&raw(&sizes, 2), tolerances, |x| {
            Ok(vec![solver.value(&problem(x, m)?)?.value])
        })?;
    }
    Ok(())
}

#[test]
fn the_report_says_how_a_solve_ended() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let problem = problem(&raw(&[6, 9], 3), 2)?;
    let run = |sweeps| -> Result<_> {
        let solver = MultiMarginalSinkhorn::new(0.3)?
            .tolerance(1e-8)?
            .max_iterations(sweeps)?;
        Ok((
            emulated(2, || solver.value(&problem))?,
            solver.solve(&problem)?,
        ))
    };
    let (got, want) = run(10_000)?;
    assert!(
        got.marginal_errors
            .to_vec1::<f64>()?
            .iter()
            .all(|e| *e <= 1e-8)
    );
    let apart = (got.transport_cost - want.transport_cost)?.abs()?.max(0)?;
    assert!(apart.to_scalar::<f64>()? < 1e-7);
    // Three sweeps are not enough, and it says so.
    let (got, _) = run(3)?;
    assert!(
        got.marginal_errors
            .to_vec1::<f64>()?
            .iter()
            .any(|e| *e > 1e-6)
    );
    Ok(())
}

#[test]
fn points_without_mass_take_no_part() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let a = Tensor::new(&[0.5f64, 0.0, 0.5], &Device::Cpu)?;
    let b = Tensor::new(&[0.25f64, 0.75], &Device::Cpu)?;
    let cost = Tensor::new(&[[0f64, 1.0], [-9.0, -9.0], [2.0, 0.5]], &Device::Cpu)?;
    let kept = Tensor::new(&[0u32, 2], &Device::Cpu)?;
    let solver = MultiMarginalSinkhorn::new(0.1)?
        .tolerance(1e-9)?
        .max_iterations(1000)?;
    let all = MultiMarginalProblem::pairwise(&[a.clone(), b.clone()], std::slice::from_ref(&cost))?;
    let fewer = [a.index_select(&kept, 0)?, b];
    let fewer = MultiMarginalProblem::pairwise(&fewer, &[cost.index_select(&kept, 0)?])?;
    let value = |p| -> Result<f64> {
        let value = emulated(1, || solver.value(p))?.value;
        Ok(value.to_dtype(DType::F64)?.to_scalar()?)
    };
    assert!((value(&all)? - value(&fewer)?).abs() < 1e-9);
    Ok(())
}

/// A linear problem of logits of a and b, and costs.
fn dense(x: &[Tensor]) -> Result<LinearProblem> {
    LinearProblem::new(Geometry::dense(&x[2])?, &softmax(&x[0])?, &softmax(&x[1])?)
}

/// The same between points.
fn points(x: &[Tensor]) -> Result<LinearProblem> {
    let geometry = Geometry::squared_euclidean(&x[2], &x[3])?;
    LinearProblem::new(geometry, &softmax(&x[0])?, &softmax(&x[1])?)
}

fn raw_dense(n: usize, m: usize, batch: usize) -> Vec<Tensor> {
    vec![
        normal(&[batch, n], 20),
        normal(&[batch, m], 21),
        normal(&[batch, n, m], 22),
    ]
}

fn raw_points(n: usize, m: usize, width: usize) -> Vec<Tensor> {
    vec![
        normal(&[n], 30),
        normal(&[m], 31),
        normal(&[n, width], 32),
        normal(&[m, width], 33),
    ]
}

/// Sinkhorn at one epsilon.
fn plain(epsilon: f64, tolerance: f64) -> Result<Sinkhorn> {
    Sinkhorn::new(epsilon)?.tolerance(tolerance)
}

#[test]
fn sinkhorn_of_small_problems() -> Result<()> {
    // Tolerances that f32 does not hold are solved in f64; the last needs larger epsilons first, the one of 40 points a group.
    let cases = [
        ((32, 32), 0.5, 1e-9, (1e-7, 1e-5)),
        ((7, 30), 0.5, 1e-5, (1e-4, 1e-3)),
        ((1, 3), 0.5, 1e-9, (1e-9, 1e-5)),
        ((40, 36), 0.7, 1e-8, (1e-6, 1e-5)),
        ((6, 5), 0.05, 1e-9, (1e-5, 1e-4)),
    ];
    for ((n, m), epsilon, tolerance, tolerances) in cases {
        let solver = plain(epsilon, tolerance)?;
        holds(&raw_dense(n, m, 2), tolerances, |x| {
            Ok(vec![solver.value(&dense(x)?)?.value])
        })?;
    }
    // Costs of points that share their weights.
    let clouds = [
        normal(&[5], 1),
        normal(&[4], 2),
        normal(&[2, 5, 3], 3),
        normal(&[2, 4, 3], 4),
    ];
    let solver = plain(1.0, 1e-9)?;
    holds(&clouds, (1e-7, 1e-4), |x| {
        Ok(vec![solver.value(&points(x)?)?.value])
    })?;
    if available() {
        let solver = plain(0.4, 1e-11)?;
        // Weights and costs that all problems share.
        gradcheck(&raw_dense(3, 4, 2), 1e-6, |x| {
            emulated(1, || Ok(vec![solver.value(&dense(x)?)?.value]))
        })?;
        let shared = [normal(&[3], 0), normal(&[2, 4], 1), normal(&[3, 4], 2)];
        gradcheck(&shared, 1e-6, |x| {
            emulated(1, || Ok(vec![solver.value(&dense(x)?)?.value]))
        })?;
    }
    Ok(())
}

#[test]
fn sinkhorn_of_points() -> Result<()> {
    // More than a tile of rows, in f64 of columns too; the last needs larger epsilons first.
    let cases = [
        ((130, 70, 3), 4.0, 1e-5, (1e-4, 1e-3)),
        ((70, 66, 20), 40.0, 1e-9, (1e-7, 1e-5)),
        ((70, 66, 2), 0.3, 1e-5, (1e-3, 1e-3)),
    ];
    for ((n, m, width), epsilon, tolerance, tolerances) in cases {
        let solver = plain(epsilon, tolerance)?;
        holds(&raw_points(n, m, width), tolerances, |x| {
            Ok(vec![solver.value(&points(x)?)?.value])
        })?;
    }
    Ok(())
}

#[test]
fn solutions_of_devices() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let solver = plain(0.5, 1e-8)?;
    let far = plain(5.0, 1e-8)?;
    let (a, b) = (dense(&raw_dense(9, 6, 2))?, points(&raw_points(70, 80, 2))?);
    // Many small clouds, and two that are not.
    let clouds = [[3, 9, 4], [3, 7, 4]].map(|shape| normal(&shape, shape[1] as u64));
    let c = LinearProblem::uniform(Geometry::squared_euclidean(&clouds[0], &clouds[1])?)?;
    let clouds = [[2, 70, 2], [2, 66, 2]].map(|shape| normal(&shape, shape[1] as u64));
    let d = LinearProblem::uniform(Geometry::squared_euclidean(&clouds[0], &clouds[1])?)?;
    for (solver, problem) in [(solver, a), (far, b), (solver, c), (far, d)] {
        let got = emulated(1, || solver.solve(&problem))?;
        let want = solver.solve(&problem)?;
        assert!(got.converged() && got.convergence().len() == want.convergence().len());
        let pairs = [
            (&got.value, &want.value),
            (&got.regularized_cost, &want.regularized_cost),
            (&got.transport_cost, &want.transport_cost),
            (&got.potentials.0, &want.potentials.0),
            (&got.potentials.1, &want.potentials.1),
            (&got.plan.to_tensor()?, &want.plan.to_tensor()?),
        ];
        for (got, want) in pairs {
            let apart = (got - want)?.abs()?.flatten_all()?.max(0)?;
            assert!(apart.to_scalar::<f64>()? < 1e-6, "{apart}");
        }
    }
    Ok(())
}

#[test]
fn sinkhorn_says_how_it_ended() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let problems = [
        (dense(&raw_dense(20, 9, 3))?, 0.05),
        (points(&raw_points(70, 66, 3))?, 0.5),
    ];
    for (problem, epsilon) in problems {
        let solver = plain(epsilon, 1e-9)?
            .epsilon_scaling(1.0)?
            .max_iterations(3)?;
        // The host's plan says how far its potentials are off.
        let got = emulated(1, || solver.solve(&problem))?;
        let report = emulated(1, || solver.value(&problem))?;
        let error = report.marginal_errors.flatten_all()?.to_vec1::<f64>()?;
        assert!(!got.converged() && got.iterations() == 3);
        for (end, error) in got.convergence().iter().zip(error) {
            assert!((end.marginal_error - error).abs() < 1e-9, "{end:?} {error}");
        }
        let rows = (got.plan.marginals()?.0 - problem.marginals().0)?.abs()?;
        let rows = rows.sum(candle_core::D::Minus1)?.flatten_all()?.max(0)?;
        assert!((rows.to_scalar::<f64>()? - got.marginal_error()).abs() < 1e-9);
    }
    Ok(())
}

#[test]
fn sinkhorn_leaves_out_points_without_mass() -> Result<()> {
    if !available() {
        return Ok(());
    }
    let masked = |x: &Tensor| -> Result<Tensor> {
        let n = x.dim(0)? as u32;
        let kept = Tensor::arange(0u32, n, &Device::Cpu)?.gt(2u32)?;
        let x = (softmax(x)? * kept.to_dtype(DType::F64)?)?;
        Ok(x.broadcast_div(&x.sum_all()?)?)
    };
    for (n, m, solver) in [(12, 20, plain(0.3, 1e-9)?), (80, 70, plain(5.0, 1e-9)?)] {
        let x = raw_points(n, m, 3);
        let value = |keep: usize| -> Result<f64> {
            let cut = |x: &Tensor| x.narrow(0, keep, x.dim(0)? - keep);
            let geometry = Geometry::squared_euclidean(&cut(&x[2])?, &cut(&x[3])?)?;
            let (a, b) = (cut(&masked(&x[0])?)?, cut(&masked(&x[1])?)?);
            let problem = LinearProblem::new(geometry, &a, &b)?;
            Ok(emulated(1, || solver.value(&problem))?.value.to_scalar()?)
        };
        assert!((value(0)? - value(3)?).abs() < 1e-9);
    }
    Ok(())
}

#[test]
fn tiny_weights_and_far_costs() -> Result<()> {
    if !available() {
        return Ok(());
    }
    // Scalings that leave their range, and weights that leave them none.
    let a = Tensor::new(&[1.0 - 2e-13, 1e-13, 1e-13], &Device::Cpu)?;
    let even = Tensor::new(&[0.4, 0.3, 0.3], &Device::Cpu)?;
    let near = Tensor::new(
        &[[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [5.0, 1.0, 0.0]],
        &Device::Cpu,
    )?;
    let far = (&near * 40.0)?;
    for (a, cost, scaling) in [(&a, &near, 0.5), (&even, &far, 1.0), (&even, &far, 0.5)] {
        let problem = LinearProblem::new(Geometry::dense(cost)?, a, &even)?;
        let solver = plain(0.5, 1e-10)?
            .epsilon_scaling(scaling)?
            .max_iterations(100_000)?;
        let (got, want) = (
            emulated(1, || solver.value(&problem))?,
            solver.value(&problem)?,
        );
        assert!(got.marginal_errors.to_scalar::<f64>()? <= 1e-10);
        let apart = (got.value - want.value)?.abs()?.to_scalar::<f64>()?;
        assert!(apart < 1e-8, "{apart}");
    }
    Ok(())
}
