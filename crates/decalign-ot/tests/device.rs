//! Kernels in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn};

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
fn the_releases_loss_and_its_gradient() -> Result<()> {
    // The model's 7 x 7 x 7, two marginals, and four of unequal sizes.
    for (sizes, sweeps) in [(vec![7, 7, 7], 4), (vec![4, 5], 3), (vec![2, 3, 1, 4], 2)] {
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
fn values_in_the_log_domain() -> Result<()> {
    // The first two are solved in f64 whatever the type, as f32 cannot hold the tolerance.
    let cases = [
        (vec![7, 7, 7], 2.0, 1e-7, (1e-6, 1e-5)),
        (vec![2, 3, 1, 4], 0.7, 1e-8, (1e-7, 1e-5)),
        (vec![8, 5], 0.3, 1e-5, (1e-3, 1e-3)),
    ];
    for (sizes, epsilon, tolerance, tolerances) in cases {
        let m = sizes.len();
        let solver = MultiMarginalSinkhorn::new(epsilon, tolerance, 500)?;
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
        let solver = MultiMarginalSinkhorn::new(0.3, 1e-8, sweeps)?;
        Ok((
            emulated(2, || solver.value(&problem))?,
            solver.solve(&problem)?,
        ))
    };
    let (got, want) = run(10_000)?;
    assert!(
        got.marginal_error
            .to_vec1::<f64>()?
            .iter()
            .all(|e| *e <= 1e-8)
    );
    let apart = (got.transport_cost - want.transport_cost)?.abs()?.max(0)?;
    assert!(apart.to_scalar::<f64>()? < 1e-7);
    // Three sweeps are not enough, and it says so.
    let (got, _) = run(3)?;
    assert!(
        got.marginal_error
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
    let solver = MultiMarginalSinkhorn::new(0.1, 1e-9, 1000)?;
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
