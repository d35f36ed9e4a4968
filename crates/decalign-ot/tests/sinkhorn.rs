//! Transport of one measure to another: closed forms, other solvers, gradients, hard cases, bad
//! input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{distance, normal, squares, value};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{
    Geometry, LinearProblem, MultiMarginalProblem, MultiMarginalSinkhorn, Sinkhorn,
    SinkhornSolution,
};
use proptest::prelude::*;

fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

fn solve(geometry: Geometry, a: &Tensor, b: &Tensor, epsilon: f64) -> SinkhornSolution {
    let problem = LinearProblem::new(geometry, a, b).unwrap();
    Sinkhorn::new(epsilon)
        .unwrap()
        .tolerance(1e-10)
        .unwrap()
        .solve(&problem)
        .unwrap()
}

#[test]
fn two_marginals_are_transport() {
    for (n, m, epsilon) in [(4, 6, 0.5), (70, 33, 0.1), (1, 5, 1.0), (150, 150, 0.3)] {
        let (a, b) = (weights(n, 0), weights(m, 1));
        let cost = normal(&[n, m], 2);
        let got = solve(Geometry::dense(&cost).unwrap(), &a, &b, epsilon);
        let problem = MultiMarginalProblem::pairwise(&[a, b], &[cost]).unwrap();
        let solver = MultiMarginalSinkhorn::new(epsilon)
            .unwrap()
            .tolerance(1e-10)
            .unwrap()
            .max_iterations(10_000)
            .unwrap();
        let want = solver.solve(&problem).unwrap();
        assert!(got.converged() && want.converged(), "{n} {m}");
        assert!(distance(&got.value, &want.value) < 1e-8, "{n} {m}");
        assert!((value(&got.transport_cost) - value(&want.transport_cost)).abs() < 1e-8);
        assert!(distance(&got.plan.to_tensor().unwrap(), &want.plan().unwrap()) < 1e-9);
    }
}

#[test]
fn costs_computed_on_the_way_are_those_stored() {
    for (n, m, d) in [(5, 3, 2), (130, 70, 17), (9, 100, 1)] {
        let (x, y) = (normal(&[n, d], 0), normal(&[m, d], 1));
        let (a, b) = (weights(n, 2), weights(m, 3));
        let lazy = solve(Geometry::squared_euclidean(&x, &y).unwrap(), &a, &b, 0.7);
        let dense = solve(Geometry::dense(&squares(&x, &y)).unwrap(), &a, &b, 0.7);
        assert!(lazy.converged());
        assert!(distance(&lazy.value, &dense.value) < 1e-9);
        assert!(
            distance(
                &lazy.plan.to_tensor().unwrap(),
                &dense.plan.to_tensor().unwrap()
            ) < 1e-9
        );
        let v = normal(&[n, 2], 4);
        let (p, q) = (
            lazy.plan.apply_transposed(&v),
            dense.plan.apply_transposed(&v),
        );
        assert!(distance(&p.unwrap(), &q.unwrap()) < 1e-9);
    }
}

#[test]
fn gradients_hold() -> Result<()> {
    let sharp = |problem: &LinearProblem| -> Result<Tensor> {
        let solution = Sinkhorn::new(0.6)?.tolerance(1e-13)?.solve(problem)?;
        Ok(solution.value)
    };
    let logits = [normal(&[4], 0), normal(&[3], 1)];
    let dense = [logits[0].clone(), logits[1].clone(), normal(&[4, 3], 2)];
    gradcheck(&dense, 1e-7, |x| {
        let problem =
            LinearProblem::new(Geometry::dense(&x[2])?, &softmax(&x[0])?, &softmax(&x[1])?)?;
        Ok(vec![sharp(&problem)?])
    })?;
    let points = [
        logits[0].clone(),
        logits[1].clone(),
        normal(&[4, 2], 3),
        normal(&[3, 2], 4),
    ];
    gradcheck(&points, 1e-7, |x| {
        let geometry = Geometry::squared_euclidean(&x[2], &x[3])?;
        let problem = LinearProblem::new(geometry, &softmax(&x[0])?, &softmax(&x[1])?)?;
        Ok(vec![sharp(&problem)?])
    })
}

/// The exact cost of equal weights on a line: sorted points meet.
fn sorted_cost(x: &Tensor, y: &Tensor) -> f64 {
    let sorted = |x: &Tensor| {
        let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
        let mut x = x.to_vec1::<f64>().unwrap();
        x.sort_by(f64::total_cmp);
        x
    };
    let (x, y) = (sorted(x), sorted(y));
    x.iter()
        .zip(&y)
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        / x.len() as f64
}

#[test]
fn small_epsilon_in_f32_reaches_the_exact_cost() -> Result<()> {
    for seed in 0..5 {
        let uniform = |number: u64| {
            let numbers = Stream::new(seed, number).uniform(50, 0.0, 1.0);
            let x = Tensor::from_vec(numbers, (50, 1), &Device::Cpu).unwrap();
            x.to_dtype(DType::F32).unwrap()
        };
        let (x, y) = (uniform(0), uniform(1));
        let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
        let solver = Sinkhorn::new(1e-4)?.tolerance(1e-4)?.max_iterations(1000)?;
        let solution = solver.solve(&problem)?;
        let exact = sorted_cost(&x, &y);
        assert!(
            solution.converged(),
            "{seed}: {}",
            solution.marginal_error()
        );
        assert!(
            (value(&solution.transport_cost) - exact).abs() < 1e-4,
            "{seed}: {} {exact}",
            value(&solution.transport_cost)
        );
    }
    Ok(())
}

#[test]
fn far_and_lonely_points_are_reached() -> Result<()> {
    // One target is 1e3 epsilons farther than all others: its column underflows at first.
    let x = Tensor::new(&[[0.0f64], [0.1], [0.2]], &Device::Cpu)?;
    let y = Tensor::new(&[[0.0f64], [0.1], [30.0]], &Device::Cpu)?;
    for scaling in [0.5, 1.0] {
        let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
        let solution = Sinkhorn::new(0.05)?
            .epsilon_scaling(scaling)?
            .solve(&problem)?;
        // Without scaling epsilon it takes long, and says so.
        assert!(solution.converged() || scaling == 1.0, "{solution:?}");
        assert!(solution.marginal_error() < 1e-3, "{solution:?}");
        let exact = sorted_cost(&x, &y);
        let cost = value(&solution.transport_cost);
        assert!((cost - exact).abs() < 0.1 * exact, "{cost}");
    }
    Ok(())
}

#[test]
fn points_of_weight_zero_are_absent() -> Result<()> {
    let (x, y) = (normal(&[5, 2], 0), normal(&[4, 2], 1));
    let a = Tensor::new(&[0.4f64, 0.0, 0.35, 0.25, 0.0], &Device::Cpu)?;
    let b = Tensor::new(&[0.0f64, 0.5, 0.3, 0.2], &Device::Cpu)?;
    let all = solve(Geometry::squared_euclidean(&x, &y)?, &a, &b, 0.3);
    let pick = |x: &Tensor, rows: &[u32]| x.index_select(&Tensor::new(rows, &Device::Cpu)?, 0);
    let (x, a) = (pick(&x, &[0, 2, 3])?, pick(&a, &[0, 2, 3])?);
    let (y, b) = (pick(&y, &[1, 2, 3])?, pick(&b, &[1, 2, 3])?);
    let some = solve(Geometry::squared_euclidean(&x, &y)?, &a, &b, 0.3);
    assert!(all.converged() && distance(&all.value, &some.value) < 1e-9);
    let rows = all.plan.marginals()?.0.to_vec1::<f64>()?;
    assert_eq!((rows[1], rows[4]), (0.0, 0.0));
    Ok(())
}

#[test]
fn projections_undo_a_translation() -> Result<()> {
    let x = (normal(&[6, 3], 0) * 3.0)?;
    let y = (&x + 2.0)?;
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let solution = Sinkhorn::new(0.01)?.tolerance(1e-8)?.solve(&problem)?;
    assert!((value(&solution.transport_cost) - 12.0).abs() < 1e-3);
    assert!(distance(&solution.plan.barycentric_projection(&y)?, &y) < 1e-2);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let (x, y) = (normal(&[300, 5], 0), normal(&[200, 5], 1));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let problem =
                LinearProblem::uniform(Geometry::squared_euclidean(&x, &y).unwrap()).unwrap();
            let solution = Sinkhorn::new(0.5).unwrap().solve(&problem).unwrap();
            (
                value(&solution.value).to_bits(),
                value(&solution.transport_cost).to_bits(),
            )
        })
    };
    assert_eq!(run(1), run(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn marginals_symmetry_and_scaling(seed in 0u64..1000, n in 1usize..40, m in 1usize..40, s in 0.1f64..10.0) {
        let points = |k: usize, number: u64| Stream::new(seed, number).normal_tensor((k, 2)).unwrap();
        let mass = |k: usize, number: u64| softmax(&Stream::new(seed, number).normal_tensor(k).unwrap()).unwrap();
        let (x, y, a, b) = (points(n, 0), points(m, 1), mass(n, 2), mass(m, 3));
        let geometry = |x: &Tensor, y: &Tensor| Geometry::squared_euclidean(x, y).unwrap();
        let one = solve(geometry(&x, &y), &a, &b, 0.4);
        prop_assert!(one.converged());
        let (rows, columns) = one.plan.marginals().unwrap();
        prop_assert!(distance(&rows, &a) < 1e-8 && distance(&columns, &b) < 1e-8);
        prop_assert!(value(&one.transport_cost) <= value(&one.value) + 1e-9);
        let back = solve(geometry(&y, &x), &b, &a, 0.4);
        prop_assert!(distance(&one.value, &back.value) < 1e-7);
        // Points by s, epsilon by s^2: the value by s^2.
        let (x, y) = ((&x * s).unwrap(), (&y * s).unwrap());
        let scaled = solve(geometry(&x, &y), &a, &b, 0.4 * s * s);
        prop_assert!((value(&scaled.value) / (s * s) - value(&one.value)).abs() < 1e-7);
        // Costs plus a constant: the value plus it.
        let cost = squares(&x, &y);
        let moved = solve(Geometry::dense(&(&cost + 2.5).unwrap()).unwrap(), &a, &b, 0.4 * s * s);
        prop_assert!((value(&moved.value) - value(&scaled.value) - 2.5).abs() < 1e-7);
    }
}

#[test]
fn single_precision_follows_double() -> Result<()> {
    let (x, y) = (normal(&[60, 4], 0), normal(&[50, 4], 1));
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    // A shift of both costs no digits.
    let far = |x: &Tensor| single(&(x + 512.0)?);
    let double = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let double = Sinkhorn::new(0.5)?.solve(&double)?;
    for (x, y, bound) in [(single(&x)?, single(&y)?, 1e-4), (far(&x)?, far(&y)?, 1e-3)] {
        let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
        let solution = Sinkhorn::new(0.5)?.solve(&problem)?;
        assert!(solution.converged());
        assert!(
            (value(&solution.value) - value(&double.value)).abs() < bound,
            "{bound}"
        );
    }
    Ok(())
}

#[test]
fn not_converging_is_a_result() -> Result<()> {
    let problem = LinearProblem::uniform(Geometry::dense(&normal(&[20, 20], 0))?)?;
    let solution = Sinkhorn::new(1e-3)?.max_iterations(2)?.solve(&problem)?;
    assert!(
        !solution.converged() && solution.marginal_error() > 1e-5 && solution.iterations() == 2
    );
    // Costs whose differences overflow: an honest end, not a panic.
    let huge = Tensor::new(&[[0.0f64, 1e308], [-1e308, 0.0]], &Device::Cpu)?;
    let problem = LinearProblem::uniform(Geometry::dense(&huge)?)?;
    let solution = Sinkhorn::new(1e-6)?.max_iterations(20)?.solve(&problem)?;
    assert!(!solution.converged() || solution.marginal_error() < 1e-5);
    Ok(())
}

#[test]
fn bad_input_is_named() {
    let new = |values: &[f64]| Tensor::new(values, &Device::Cpu).unwrap();
    let cost = normal(&[2, 3], 0);
    let geometry = || Geometry::dense(&cost).unwrap();
    let third = new(&[1.0 / 3.0; 3]);
    let message = |a: &Tensor, b: &Tensor| {
        LinearProblem::new(geometry(), a, b)
            .unwrap_err()
            .to_string()
    };
    let cases = [
        (
            message(&new(&[1.0]), &third),
            "a: expected shape (2) or (B, 2) of F64",
        ),
        (
            message(&new(&[1.2, -0.2]), &third),
            "a[1] is -0.2: weights are finite and not negative",
        ),
        (message(&new(&[f64::NAN, 1.0]), &third), "a at (0) is NaN"),
        (
            message(&new(&[0.0, 0.0]), &third),
            "the total of a is 0: must be positive",
        ),
        (
            message(&new(&[1.0, 1.0]), &third),
            "the total of a is 2: must equal the total of b",
        ),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got}");
    }
    let infinite = Tensor::new(&[[1.0, f64::INFINITY]], &Device::Cpu).unwrap();
    let error = Geometry::dense(&infinite).unwrap_err().to_string();
    assert!(error.contains("cost at (0, 1) is inf"), "{error}");
    assert!(Geometry::dense(&third).is_err());
    assert!(Geometry::squared_euclidean(&normal(&[3, 2], 0), &normal(&[3, 3], 0)).is_err());
    assert!(Geometry::squared_euclidean(&normal(&[0, 2], 0), &normal(&[3, 2], 0)).is_err());
    for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Sinkhorn::new(epsilon).is_err());
    }
    let solver = Sinkhorn::new(1.0).unwrap();
    assert!(solver.tolerance(0.0).is_err() && solver.max_iterations(0).is_err());
    assert!(solver.epsilon_scaling(0.0).is_err() && solver.epsilon_scaling(1.5).is_err());
}
