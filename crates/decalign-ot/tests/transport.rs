//! Transport: fused equals reference, gradients, closed forms, invariances, bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck};
use decalign_ot::{
    KernelSinkhorn, MultiMarginalProblem, MultiMarginalSinkhorn, Reduction,
    bures_wasserstein_diagonal, coupling_cost, reference,
};
use proptest::prelude::*;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(5, number).normal_tensor(shape).unwrap()
}

fn positive(shape: &[usize], number: u64) -> Tensor {
    (normal(shape, number).sqr().unwrap() + 0.05).unwrap()
}

fn value(x: &Tensor) -> f64 {
    x.to_dtype(DType::F64).unwrap().to_scalar().unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let largest = (wide(a) - wide(b))
        .unwrap()
        .abs()
        .unwrap()
        .max_all()
        .unwrap();
    largest.to_scalar().unwrap()
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

/// Logits of marginals, then costs: a problem whose weights always sum to 1.
fn raw(sizes: &[usize], seed: u64) -> Vec<Tensor> {
    let mut all: Vec<Tensor> = sizes
        .iter()
        .enumerate()
        .map(|(i, k)| normal(&[*k], seed + i as u64))
        .collect();
    for (a, k) in sizes.iter().enumerate() {
        for (b, l) in sizes.iter().enumerate().skip(a + 1) {
            all.push(positive(&[*k, *l], seed + (100 + 10 * a + b) as u64));
        }
    }
    all
}

fn problem(x: &[Tensor], m: usize) -> Result<MultiMarginalProblem> {
    let marginals = x[..m].iter().map(softmax).collect::<Result<Vec<_>>>()?;
    MultiMarginalProblem::new(&marginals, &x[m..])
}

const SIZES: [&[usize]; 4] = [&[3, 4], &[7, 7, 7], &[2, 3, 4], &[2, 3, 2, 4]];

#[test]
fn the_release_loss_equals_its_reference() -> Result<()> {
    for sizes in SIZES {
        for epsilon in [0.1, 5.0] {
            let loss = KernelSinkhorn::new(epsilon, 50)?;
            let m = sizes.len();
            same(
                &raw(sizes, 1),
                2e-2,
                &|x| loss.loss(&problem(x, m)?),
                &|x| reference::kernel_sinkhorn(&problem(x, m)?, epsilon, 50),
            );
        }
    }
    Ok(())
}

#[test]
fn gradients_of_the_release_loss_hold() -> Result<()> {
    for sizes in SIZES {
        let loss = KernelSinkhorn::new(0.5, 10)?;
        gradcheck(&raw(sizes, 2), 1e-6, |x| {
            Ok(vec![loss.loss(&problem(x, sizes.len())?)?])
        })?;
    }
    Ok(())
}

#[test]
fn gradients_of_the_value_hold() -> Result<()> {
    for sizes in SIZES {
        let solver = MultiMarginalSinkhorn::new(0.5, 1e-12, 5000)?;
        let m = sizes.len();
        let of = |x: &[Tensor]| -> Result<Tensor> { Ok(solver.solve(&problem(x, m)?)?.value) };
        gradcheck(&raw(sizes, 3), 1e-6, |x| Ok(vec![of(x)?]))?;
        let value = of(&raw(sizes, 3))?;
        let plain = reference::multi_marginal_value(&problem(&raw(sizes, 3), m)?, 0.5, 300)?;
        assert!(distance(&value, &plain) < 1e-9, "{sizes:?}");
    }
    Ok(())
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

#[test]
fn a_permutation_is_found_at_small_epsilon() -> Result<()> {
    // Zero cost along a permutation, 1 elsewhere: the plan is the permutation.
    let (n, device) = (6, Device::Cpu);
    let cost: Vec<f32> = (0..n * n)
        .map(|i| if i % n == (i / n + 2) % n { 0.0 } else { 1.0 })
        .collect();
    let cost = Tensor::from_vec(cost, (n, n), &device)?;
    let uniform = Tensor::full(1.0 / n as f32, n, &device)?;
    let problem = MultiMarginalProblem::new(&[uniform.clone(), uniform], &[cost])?;
    for epsilon in [0.1, 1e-3, 1e-6] {
        let solution = MultiMarginalSinkhorn::new(epsilon, 1e-5, 1000)?.solve(&problem)?;
        assert!(
            solution.converged,
            "epsilon {epsilon}: {}",
            solution.marginal_error
        );
        assert!(
            solution.transport_cost < 2e-3,
            "epsilon {epsilon}: {}",
            solution.transport_cost
        );
    }
    Ok(())
}

#[test]
fn points_of_weight_zero_take_no_part() -> Result<()> {
    let x = raw(&[3, 4], 7);
    let (a, b) = (softmax(&x[0])?, softmax(&x[1])?);
    let zero = Tensor::zeros(1, DType::F64, &Device::Cpu)?;
    let padded = Tensor::cat(&[&a, &zero], 0)?;
    let cost = Tensor::cat(&[&x[2], &normal(&[1, 4], 9)], 0)?;
    let solver = MultiMarginalSinkhorn::new(0.3, 1e-12, 5000)?;
    let with = solver.solve(&MultiMarginalProblem::new(&[padded, b.clone()], &[cost])?)?;
    let without = solver.solve(&MultiMarginalProblem::new(&[a, b], &x[2..])?)?;
    assert!(distance(&with.value, &without.value) < 1e-12);
    assert_eq!(with.potentials[0][3], 0.0);
    Ok(())
}

proptest! {
    #[test]
    fn a_plan_has_its_marginals_and_a_value_above_zero(
        sizes in prop::collection::vec(1usize..5, 2..5), epsilon in 0.05f64..3.0, seed in 0u64..50
    ) {
        let m = sizes.len();
        let problem = problem(&raw(&sizes, seed), m).unwrap();
        let solution = MultiMarginalSinkhorn::new(epsilon, 1e-10, 20_000).unwrap().solve(&problem).unwrap();
        prop_assert!(solution.converged);
        prop_assert!(value(&solution.value) >= -1e-12);
        // Regularisation only adds.
        prop_assert!(solution.transport_cost <= value(&solution.value) + 1e-9);
        let plan = solution.plan().unwrap();
        let marginals = raw(&sizes, seed);
        for (i, logits) in marginals[..m].iter().enumerate() {
            let others: Vec<usize> = (0..m).filter(|j| *j != i).collect();
            let marginal = plan.sum(others).unwrap();
            prop_assert!(distance(&marginal, &softmax(logits).unwrap()) < 1e-9);
        }
        // A constant added to a cost is added to the value.
        let mut shifted = raw(&sizes, seed);
        shifted[m] = (&shifted[m] + 2.5).unwrap();
        let marginals: Vec<Tensor> = shifted[..m].iter().map(|x| softmax(x).unwrap()).collect();
        let problem = MultiMarginalProblem::new(&marginals, &shifted[m..]).unwrap();
        let moved = MultiMarginalSinkhorn::new(epsilon, 1e-10, 20_000).unwrap().solve(&problem).unwrap();
        prop_assert!((value(&moved.value) - value(&solution.value) - 2.5).abs() < 1e-8);
    }
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let half = Tensor::new(&[0.5f64, 0.5], &Device::Cpu)?;
    let cost = Tensor::zeros((2, 2), DType::F64, &Device::Cpu)?;
    let message = |marginals: &[Tensor], costs: &[Tensor]| {
        MultiMarginalProblem::new(marginals, costs)
            .unwrap_err()
            .to_string()
    };
    let negative = Tensor::new(&[1.5f64, -0.5], &Device::Cpu)?;
    assert!(message(&[half.clone(), negative], std::slice::from_ref(&cost)).contains("-0.5"));
    let heavy = Tensor::new(&[0.5f64, 0.7], &Device::Cpu)?;
    assert!(message(&[half.clone(), heavy], std::slice::from_ref(&cost)).contains("1.2"));
    let nan = (&cost + f64::NAN)?;
    assert!(message(&[half.clone(), half.clone()], &[nan]).contains("cost (0, 0)"));
    assert!(message(&[half.clone(), half.clone()], &[]).contains("need 1"));
    let wide = Tensor::zeros((2, 3), DType::F64, &Device::Cpu)?;
    assert!(message(&[half.clone(), half.clone()], &[wide]).contains("[2, 2]"));
    let many = Tensor::full(1.0 / 300.0f64, 300, &Device::Cpu)?;
    let square = Tensor::zeros((300, 300), DType::F64, &Device::Cpu)?;
    let three = [square.clone(), square.clone(), square];
    assert!(message(&[many.clone(), many.clone(), many], &three).contains("300 x 300 x 300"));
    assert!(
        MultiMarginalSinkhorn::new(0.0, 1e-3, 1)
            .unwrap_err()
            .to_string()
            .contains("epsilon is 0")
    );
    assert!(KernelSinkhorn::new(f64::NAN, 1).is_err());
    Ok(())
}

#[test]
fn not_converging_is_said() -> Result<()> {
    let x = raw(&[5, 5, 5], 1);
    let solution = MultiMarginalSinkhorn::new(0.01, 1e-14, 2)?.solve(&problem(&x, 3)?)?;
    assert!(!solution.converged && solution.iterations == 2 && solution.marginal_error > 1e-14);
    Ok(())
}
