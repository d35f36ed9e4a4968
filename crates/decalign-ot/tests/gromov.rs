//! Transport between different spaces: the four sums, isometries, limits, gradients, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{distance, normal, numbers, squares};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{
    Geometry, GromovProblem, GromovSolution, GromovWasserstein, LinearProblem, Sinkhorn,
};
use proptest::prelude::*;

fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

fn new(x: &[f64]) -> Tensor {
    Tensor::new(x, &Device::Cpu).unwrap()
}

fn value(x: &Tensor) -> f64 {
    numbers(x)[0]
}

fn distances(x: &Tensor) -> Tensor {
    squares(x, x).sqrt().unwrap()
}

fn solver(epsilon: f64) -> GromovWasserstein {
    GromovWasserstein::new(epsilon)
        .unwrap()
        .tolerance(1e-10)
        .unwrap()
        .inner_iterations(100_000)
        .unwrap()
}

fn solve(problem: &GromovProblem, epsilon: f64) -> GromovSolution {
    let solution = solver(epsilon).solve(problem).unwrap();
    assert!(solution.converged(), "{solution:?}");
    solution
}

/// `sum (C1_ik - C2_jl)^2 P_ij P_kl`, term by term.
fn four_sums(c1: &Tensor, c2: &Tensor, plan: &Tensor) -> f64 {
    let (n, m) = plan.dims2().unwrap();
    let (c1, c2, p) = (numbers(c1), numbers(c2), numbers(plan));
    let mut sum = 0.0;
    for ij in 0..n * m {
        for kl in 0..n * m {
            let (i, j, k, l) = (ij / m, ij % m, kl / m, kl % m);
            sum += (c1[i * n + k] - c2[j * m + l]).powi(2) * p[ij] * p[kl];
        }
    }
    sum
}

/// `sum P log(P / (a x b)) - |P| + |a| |b|`.
fn divergence(plan: &Tensor, a: &Tensor, b: &Tensor) -> f64 {
    let (p, a, b) = (numbers(plan), numbers(a), numbers(b));
    let total = |x: &[f64]| x.iter().sum::<f64>();
    let cells = p.iter().enumerate().filter(|(_, p)| **p > 0.0);
    let log = |at: usize, p: f64| (p / (a[at / b.len()] * b[at % b.len()])).ln();
    let sum: f64 = cells.map(|(at, p)| p * log(at, *p)).sum();
    sum - total(&p) + total(&a) * total(&b)
}

#[test]
fn values_are_the_four_sums() -> Result<()> {
    // Asymmetric costs, features, totals of 2.
    let (c1, c2) = (normal(&[5, 5], 0), normal(&[4, 4], 1));
    let (a, b) = ((weights(5, 2) * 2.0)?, (weights(4, 3) * 2.0)?);
    let features = normal(&[5, 4], 4);
    let symmetric = |c: &Tensor| (c + c.t().unwrap()).unwrap();
    for (c1, c2) in [(c1.clone(), c2.clone()), (symmetric(&c1), symmetric(&c2))] {
        let problem = GromovProblem::new(&c1, &c2, &a, &b)?.features(&features)?;
        for alpha in [1.0, 0.4] {
            let got = solver(3.0).alpha(alpha)?.solve(&problem)?;
            assert!(got.converged(), "{got:?}");
            assert!((got.energy - four_sums(&c1, &c2, &got.plan)).abs() < 1e-11);
            let linear = value(&(&got.plan * &features)?.sum_all()?);
            assert!((got.feature_cost - linear).abs() < 1e-12);
            let whole =
                alpha * got.energy + (1.0 - alpha) * linear + 3.0 * divergence(&got.plan, &a, &b);
            assert!((value(&got.value) - whole).abs() < 1e-8, "{whole} {got:?}");
            assert!(distance(&got.plan.sum(1)?, &a) < 1e-9);
            assert!(distance(&got.plan.sum(0)?, &b) < 1e-9);
        }
    }
    Ok(())
}

#[test]
fn plans_are_stationary_and_not_beaten_nearby() -> Result<()> {
    // Any plan of these marginals near the one found has a larger objective.
    let (c1, c2) = (normal(&[4, 4], 0), normal(&[3, 3], 1));
    let (a, b) = (weights(4, 2), weights(3, 3));
    let problem = GromovProblem::new(&c1, &c2, &a, &b)?;
    for epsilon in [0.2, 2.0] {
        let got = solve(&problem, epsilon);
        let objective =
            |plan: &Tensor| four_sums(&c1, &c2, plan) + epsilon * divergence(plan, &a, &b);
        let least = objective(&got.plan);
        assert!((value(&got.value) - least).abs() < 1e-8);
        for (i, k, j, l) in [(0, 1, 0, 1), (1, 3, 2, 0), (2, 0, 1, 2), (3, 2, 0, 2)] {
            for size in [1e-3, -1e-3] {
                // Around a square, which leaves the marginals.
                let mut moved = numbers(&got.plan);
                let step = size * moved.iter().fold(f64::INFINITY, |a, v| a.min(*v)).max(1e-4);
                for (row, column, sign) in [(i, j, 1.0), (k, l, 1.0), (i, l, -1.0), (k, j, -1.0)] {
                    moved[row * 3 + column] += sign * step;
                }
                if moved.iter().all(|v| *v > 0.0) {
                    let moved = new(&moved).reshape((4, 3))?;
                    assert!(objective(&moved) > least - 1e-13, "{epsilon}");
                }
            }
        }
    }
    Ok(())
}

/// Turned, mirrored and moved.
fn isometric(x: &Tensor) -> Tensor {
    let (c, s) = (0.6, 0.8);
    let turn = new(&[c, s, s, -c]).reshape((2, 2)).unwrap();
    x.matmul(&turn)
        .unwrap()
        .broadcast_add(&new(&[3.0, -7.0]))
        .unwrap()
}

#[test]
fn isometric_copies_are_recognised() -> Result<()> {
    let n = 9;
    let x = normal(&[n, 2], 0);
    let order: Vec<u32> = (0..n as u32).map(|i| (i * 4 + 2) % n as u32).collect();
    let y = isometric(&x).index_select(&Tensor::new(&order[..], &Device::Cpu)?, 0)?;
    for cost in [|x: &Tensor| squares(x, x), distances] {
        let problem = GromovProblem::uniform(&cost(&x), &cost(&y))?;
        let got = GromovWasserstein::new(2e-3)?.solve(&problem)?;
        assert!(got.converged() && got.energy.abs() < 1e-3, "{got:?}");
        let plan = got.plan.to_vec2::<f64>()?;
        for (j, i) in order.iter().enumerate() {
            assert!(
                (plan[*i as usize][j] * n as f64 - 1.0).abs() < 1e-2,
                "{i} {j}"
            );
        }
    }
    Ok(())
}

#[test]
fn alpha_goes_from_linear_to_gromov() -> Result<()> {
    let (c1, c2) = (
        distances(&normal(&[6, 2], 0)),
        distances(&normal(&[5, 3], 1)),
    );
    let (a, b, features) = (weights(6, 2), weights(5, 3), normal(&[6, 5], 4));
    let plain = GromovProblem::new(&c1, &c2, &a, &b)?;
    let fused = plain.clone().features(&features)?;
    let got = solver(0.3).alpha(0.0)?.solve(&fused)?;
    let problem = LinearProblem::new(Geometry::dense(&features)?, &a, &b)?;
    let want = Sinkhorn::new(0.3)?.tolerance(1e-11)?.solve(&problem)?;
    assert!(got.converged() && distance(&got.plan, &want.plan.to_tensor()?) < 1e-9);
    assert!(distance(&got.value, &want.value) < 1e-9);
    let got = solver(0.3).alpha(1.0)?.solve(&fused)?;
    let want = solve(&plain, 0.3);
    assert!(distance(&got.plan, &want.plan) < 1e-12);
    assert!(distance(&got.value, &want.value) < 1e-12);
    // Between them, features break the tie that a mirror image leaves.
    let square = new(&[0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 1.0]).reshape((4, 2))?;
    let problem = GromovProblem::uniform(&distances(&square), &distances(&square))?
        .features(&squares(&square, &square))?;
    let got = GromovWasserstein::new(0.01)?.alpha(0.5)?.solve(&problem)?;
    let eye = (Tensor::eye(4, DType::F64, &Device::Cpu)? * 0.25)?;
    assert!(
        got.converged() && distance(&got.plan, &eye) < 1e-3,
        "{got:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn isometries_units_and_sides_do_not_matter(seed in 0u64..1000, n in 2usize..7, m in 1usize..7, s in 0.2f64..5.0) {
        let draw = |shape: &[usize], number: u64| Stream::new(seed, number).normal_tensor(shape).unwrap();
        let mass = |n: usize, number: u64| softmax(&draw(&[n], number)).unwrap();
        let (x, y, a, b) = (draw(&[n, 2], 0), draw(&[m, 2], 1), mass(n, 2), mass(m, 3));
        let epsilon = 2.0;
        let run = |c1: &Tensor, c2: &Tensor, epsilon: f64| {
            solve(&GromovProblem::new(c1, c2, &a, &b).unwrap(), epsilon)
        };
        let (c1, c2) = (distances(&x), distances(&y));
        let one = run(&c1, &c2, epsilon);
        let turned = run(&distances(&isometric(&x)), &c2, epsilon);
        prop_assert!(distance(&one.value, &turned.value) < 1e-8);
        prop_assert!(distance(&one.plan, &turned.plan) < 1e-7);
        // Costs by s, epsilon by s^2: the value by s^2.
        let scaled = run(&(&c1 * s).unwrap(), &(&c2 * s).unwrap(), epsilon * s * s);
        prop_assert!((value(&scaled.value) / (s * s) - value(&one.value)).abs() < 1e-8);
        prop_assert!(distance(&one.plan, &scaled.plan) < 1e-7);
        // Sides exchanged: the plan transposed.
        let back = solve(&GromovProblem::new(&c2, &c1, &b, &a).unwrap(), epsilon);
        prop_assert!(distance(&one.value, &back.value) < 1e-8);
        prop_assert!(distance(&one.plan, &back.plan.t().unwrap()) < 1e-7);
        // The objective at its plan is not above that of a x b.
        let start = four_sums(&c1, &c2, &a.reshape((n, 1)).unwrap().matmul(&b.reshape((1, m)).unwrap()).unwrap());
        prop_assert!(value(&one.value) <= start + 1e-9);
    }
}

#[test]
fn gradients_hold() -> Result<()> {
    // Epsilon large enough that the plan follows its inputs smoothly.
    let inputs = [
        normal(&[4, 4], 0),
        normal(&[3, 3], 1),
        normal(&[4, 3], 2),
        normal(&[4], 3),
        normal(&[3], 4),
    ];
    let problem = |x: &[Tensor]| -> Result<GromovProblem> {
        GromovProblem::new(&x[0], &x[1], &softmax(&x[3])?, &softmax(&x[4])?)?.features(&x[2])
    };
    for epsilon in [4.0, 0.7] {
        gradcheck(&inputs, 1e-6, |x| {
            let got = solver(epsilon).alpha(0.6)?.solve(&problem(x)?)?;
            assert!(got.converged(), "{epsilon}");
            Ok(vec![got.value])
        })?;
    }
    // Of the energy alone the fixed plan does not give the gradient: that is why it has none.
    let energy = |x: &Tensor| -> Result<GromovSolution> {
        let problem = GromovProblem::uniform(x, &inputs[1])?;
        Ok(solve(&problem, 0.7))
    };
    let shift = (normal(&[4, 4], 7) * 1e-5)?;
    let (up, down) = (
        energy(&(&inputs[0] + &shift)?)?,
        energy(&(&inputs[0] - &shift)?)?,
    );
    let at = energy(&inputs[0])?.plan;
    let fixed = |c: Tensor| four_sums(&c, &inputs[1], &at);
    let held = fixed((&inputs[0] + &shift)?) - fixed((&inputs[0] - &shift)?);
    let whole = value(&up.value) - value(&down.value);
    assert!((whole - held).abs() < 1e-4 * held.abs(), "{whole} {held}");
    assert!(((up.energy - down.energy) - held).abs() > 0.02 * held.abs());
    Ok(())
}

#[test]
fn steps_that_would_rise_are_shortened() -> Result<()> {
    // Costs of opposite sign: the energy is convex along most directions, whole steps swing.
    let c1 = distances(&normal(&[8, 2], 0));
    let c2 = (distances(&normal(&[8, 2], 1)) * -1.0)?;
    let problem = GromovProblem::new(&c1, &c2, &weights(8, 2), &weights(8, 3))?;
    let mut before = f64::INFINITY;
    for steps in 1..12 {
        let got = GromovWasserstein::new(0.05)?
            .max_iterations(steps)?
            .solve(&problem)?;
        assert!(value(&got.value) <= before + 1e-6, "{steps}");
        assert!(got.iterations() <= steps);
        before = value(&got.value);
    }
    let got = GromovWasserstein::new(0.05)?.solve(&problem)?;
    assert!(
        got.converged() && value(&got.value) <= before + 1e-6,
        "{got:?}"
    );
    Ok(())
}

#[test]
fn a_given_plan_is_where_it_starts() -> Result<()> {
    let n = 7;
    let x = normal(&[n, 2], 0);
    let c = distances(&x);
    // A symmetric figure has two equally good plans; the start decides.
    let ring: Vec<f64> = (0..n)
        .flat_map(|i| {
            let angle = i as f64 * std::f64::consts::TAU / n as f64;
            [angle.cos(), angle.sin()]
        })
        .collect();
    let ring = distances(&new(&ring).reshape((n, 2))?);
    // All points of a ring have the same distances: a x b cannot be told from a solution.
    let stuck = solve(&GromovProblem::uniform(&ring, &ring)?, 0.01);
    assert!(stuck.energy > 0.1 && stuck.iterations() <= 2);
    for turn in [0, 3] {
        let mut plan = vec![0.01 / (n * n) as f64; n * n];
        (0..n).for_each(|i| plan[i * n + (i + turn) % n] += 0.99 / n as f64);
        let plan = new(&plan).reshape((n, n))?;
        let problem = GromovProblem::uniform(&ring, &ring)?;
        let got = GromovWasserstein::new(0.01)?.solve_from(&problem, &plan)?;
        let found = got.plan.to_vec2::<f64>()?;
        assert!(got.converged() && got.energy < 1e-3);
        assert!((0..n).all(|i| found[i][(i + turn) % n] > 0.9 / n as f64));
    }
    // From its own end nothing is left to do.
    let problem = GromovProblem::uniform(&c, &distances(&normal(&[5, 2], 1)))?;
    let got = solve(&problem, 0.1);
    let again = GromovWasserstein::new(0.1)?.solve_from(&problem, &got.plan)?;
    assert!(again.converged() && again.iterations() == 1 && got.iterations() > 2);
    Ok(())
}

#[test]
fn single_precision_and_weights_of_zero() -> Result<()> {
    let (x, y) = (normal(&[6, 2], 0), normal(&[5, 2], 1));
    let a = new(&[0.3, 0.0, 0.2, 0.1, 0.0, 0.4]);
    let b = weights(5, 2);
    let all = solve(
        &GromovProblem::new(&distances(&x), &distances(&y), &a, &b)?,
        0.5,
    );
    let rows = Tensor::new(&[0u32, 2, 3, 5], &Device::Cpu)?;
    let (some, a4) = (x.index_select(&rows, 0)?, a.index_select(&rows, 0)?);
    let some = solve(
        &GromovProblem::new(&distances(&some), &distances(&y), &a4, &b)?,
        0.5,
    );
    assert!(distance(&all.value, &some.value) < 1e-8);
    assert!(distance(&all.plan.index_select(&rows, 0)?, &some.plan) < 1e-8);
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    let (c1, c2) = (single(&distances(&x))?, single(&distances(&y))?);
    let problem = GromovProblem::new(&c1, &c2, &single(&a)?, &single(&b)?)?;
    let got = GromovWasserstein::new(0.5)?.solve(&problem)?;
    assert!(got.converged() && got.plan.dtype() == DType::F32 && got.value.dtype() == DType::F32);
    assert!(distance(&got.plan, &all.plan) < 1e-5);
    // And its gradients.
    let gradient = |c: &Tensor, d: &Tensor, a: &Tensor, b: &Tensor| -> Result<Tensor> {
        let c = Var::from_tensor(c)?;
        let got = GromovWasserstein::new(0.5)?.solve(&GromovProblem::new(&c, d, a, b)?)?;
        Ok(got.value.backward()?.get(&c).unwrap().clone())
    };
    let (d1, d2) = (distances(&x), distances(&y));
    let (got, want) = (
        gradient(&c1, &c2, &single(&a)?, &single(&b)?)?,
        gradient(&d1, &d2, &a, &b)?,
    );
    assert!(got.dtype() == DType::F32 && distance(&got, &want) < 1e-5);
    Ok(())
}

#[test]
fn not_converging_is_a_result() -> Result<()> {
    let (c1, c2) = (
        distances(&normal(&[9, 2], 0)),
        distances(&normal(&[9, 2], 1)),
    );
    let problem = GromovProblem::uniform(&c1, &c2)?;
    let got = GromovWasserstein::new(0.01)?
        .max_iterations(2)?
        .solve(&problem)?;
    assert!(!got.converged() && got.iterations() == 2 && got.movement > 1e-6);
    // Whole steps, but transports that had no time.
    let solver = GromovWasserstein::new(0.01)?
        .inner_iterations(1)?
        .max_iterations(20)?;
    let got = solver.solve(&problem)?;
    assert!(!got.converged() && got.inner_iterations == 20, "{got:?}");
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let (c1, c2) = (
        distances(&normal(&[70, 2], 0)),
        distances(&normal(&[66, 2], 1)),
    );
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let problem = GromovProblem::uniform(&c1, &c2).unwrap();
            let solver = GromovWasserstein::new(0.5)
                .unwrap()
                .max_iterations(3)
                .unwrap();
            value(&solver.solve(&problem).unwrap().value).to_bits()
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let (c1, c2) = (normal(&[2, 2], 0), normal(&[3, 3], 1));
    let (a, b) = (new(&[0.4, 0.6]), new(&[0.2, 0.3, 0.5]));
    let message = |c1: &Tensor, c2: &Tensor, a: &Tensor, b: &Tensor| {
        GromovProblem::new(c1, c2, a, b).unwrap_err().to_string()
    };
    let infinite = new(&[0.0, 1.0, f64::INFINITY, 0.0]).reshape((2, 2))?;
    let cases = [
        (
            message(&normal(&[2, 3], 0), &c2, &a, &b),
            "c1: expected shape (2, 2)",
        ),
        (message(&infinite, &c2, &a, &b), "c1 at (1, 0) is inf"),
        (message(&c1, &c2, &b, &b), "a: expected shape (2)"),
        (message(&c1, &c2, &a, &new(&[1.0, -1.0, 1.0])), "b[1] is -1"),
        (
            message(&c1, &c2, &new(&[1.0, 1.0]), &b),
            "the total of a is 2: must equal the total of b, 1",
        ),
        (
            message(&c1, &c2.to_dtype(DType::F32)?, &a, &b),
            "c2: expected shape (3, 3), not empty, of F64",
        ),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got}");
    }
    assert!(GromovProblem::uniform(&new(&[1.0]), &c2).is_err());
    let problem = GromovProblem::new(&c1, &c2, &a, &b)?;
    assert!(problem.clone().features(&normal(&[3, 2], 0)).is_err());
    let solver = GromovWasserstein::new(1.0)?;
    let lacking = solver.alpha(0.5)?.solve(&problem).unwrap_err().to_string();
    assert!(lacking.contains("alpha is 0.5: without a cost of features"));
    let negative = new(&[0.5, -0.1, 0.1, 0.5, 0.0, 0.0]).reshape((2, 3))?;
    let error = solver.solve_from(&problem, &negative).unwrap_err();
    assert!(error.to_string().contains("plan at (0, 1) is -0.1"));
    let huge = (&c1 * 1e200)?;
    let error = solver.solve(&GromovProblem::new(&huge, &c2, &a, &b)?);
    assert!(error.unwrap_err().to_string().contains("too large"));
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(GromovWasserstein::new(bad).is_err() && solver.tolerance(bad).is_err());
    }
    assert!(solver.alpha(1.5).is_err() && solver.alpha(f64::NAN).is_err());
    assert!(solver.max_iterations(0).is_err() && solver.inner_iterations(0).is_err());
    Ok(())
}
