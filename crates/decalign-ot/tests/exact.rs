//! Exact transport: all permutations, closed forms, duals, gradients, degenerate and tiny masses.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{
    ExactSolution, Geometry, LinearProblem, NetworkSimplex, Sinkhorn, wasserstein_1d,
};
use decalign_testkit::largest_difference as distance;
use proptest::prelude::*;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(11, number).normal_tensor(shape).unwrap()
}

fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

fn value(x: &Tensor) -> f64 {
    numbers(x)[0]
}

fn squares(x: &Tensor, y: &Tensor) -> Tensor {
    let y = y.unsqueeze(0).unwrap();
    let difference = x.unsqueeze(1).unwrap().broadcast_sub(&y).unwrap();
    difference.sqr().unwrap().sum(2).unwrap()
}

fn solve(geometry: Geometry, a: &Tensor, b: &Tensor) -> ExactSolution {
    let problem = LinearProblem::new(geometry, a, b).unwrap();
    NetworkSimplex::new().solve(&problem).unwrap()
}

fn solve_uniform(geometry: Geometry) -> ExactSolution {
    let problem = LinearProblem::uniform(geometry).unwrap();
    NetworkSimplex::new().solve(&problem).unwrap()
}

fn dense(cost: &Tensor) -> Geometry {
    Geometry::dense(cost).unwrap()
}

fn points(x: &Tensor, y: &Tensor) -> Geometry {
    Geometry::squared_euclidean(x, y).unwrap()
}

/// Marginals, feasible duals, equality where mass flows, a plan that is a tree, and the value, by
/// plain loops over all cells.
fn certify(solution: &ExactSolution, cost: &Tensor, a: &Tensor, b: &Tensor, tolerance: f64) {
    assert!(solution.converged());
    let (n, m) = cost.dims2().unwrap();
    let (cost, a, b) = (numbers(cost), numbers(a), numbers(b));
    let (f, g) = &solution.potentials;
    let (f, g) = (numbers(f), numbers(g));
    let plan = &solution.plan;
    assert!(plan.masses().len() < n + m);
    let (mut rows, mut columns, mut total) = (vec![0.0; n], vec![0.0; m], 0.0);
    let places = plan.rows().iter().zip(plan.columns());
    for ((i, j), mass) in places.zip(plan.masses()) {
        let (i, j) = (*i as usize, *j as usize);
        assert!(*mass > 0.0);
        rows[i] += mass;
        columns[j] += mass;
        total += mass * cost[i * m + j];
        assert!(
            (cost[i * m + j] - f[i] - g[j]).abs() <= tolerance,
            "slack of ({i}, {j})"
        );
    }
    let ratio = a.iter().sum::<f64>() / b.iter().sum::<f64>();
    for (got, want) in rows.iter().zip(&a) {
        assert!(
            (got - want).abs() <= 1e-15 + 1e-3 * want.min(1e-12),
            "{got} {want}"
        );
    }
    for (got, want) in columns.iter().zip(&b) {
        assert!(
            (got - ratio * want).abs() <= 1e-15 + 1e-3 * want.min(1e-12),
            "{got} {want}"
        );
    }
    for i in (0..n).filter(|i| a[*i] > 0.0) {
        for j in (0..m).filter(|j| b[*j] > 0.0) {
            assert!(
                cost[i * m + j] - f[i] - g[j] >= -tolerance,
                "dual at ({i}, {j})"
            );
        }
    }
    assert!((total - value(&solution.value)).abs() <= tolerance);
    assert!(solution.duality_gap.abs() <= tolerance);
}

fn least_over_permutations(cost: &[f64], row: usize, free: &mut Vec<usize>) -> f64 {
    let n = free.len() + row;
    let mut least = if free.is_empty() { 0.0 } else { f64::INFINITY };
    for k in 0..free.len() {
        let column = free.swap_remove(k);
        let rest = least_over_permutations(cost, row + 1, free);
        least = least.min(cost[row * n + column] + rest);
        free.push(column);
        let last = free.len() - 1;
        free.swap(k, last);
    }
    least
}

#[test]
fn no_permutation_is_cheaper() {
    for seed in 0..60 {
        let n = 1 + seed as usize % 6;
        let cost = normal(&[n, n], seed);
        // Every third has ties.
        let cost = match seed % 3 {
            0 => cost.round().unwrap(),
            _ => cost,
        };
        let solution = solve_uniform(dense(&cost));
        let least = least_over_permutations(&numbers(&cost), 0, &mut (0..n).collect());
        assert!(
            (value(&solution.value) - least / n as f64).abs() < 1e-14,
            "{seed}"
        );
        let uniform = Tensor::full(1.0 / n as f64, n, &Device::Cpu).unwrap();
        certify(&solution, &cost, &uniform, &uniform, 1e-13);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn duals_certify(
        seed in 0u64..1000, n in 1usize..40, m in 1usize..40, coarse in prop::bool::ANY,
        absent in 0.0f64..0.5,
    ) {
        let draw = |shape: &[usize], k: u64| Stream::new(seed, k).normal_tensor(shape).unwrap();
        let mut cost = draw(&[n, m], 0);
        if coarse {
            cost = (cost * 2.0).unwrap().round().unwrap();
        }
        let mass = |n: usize, k: u64| {
            let mut w = Stream::new(seed, k).uniform(n, 0.0, 1.0);
            w.iter_mut().skip(1).for_each(|w| if *w < absent { *w = 0.0 });
            let total: f64 = w.iter().sum();
            w.iter_mut().for_each(|w| *w /= total);
            Tensor::from_vec(w, n, &Device::Cpu).unwrap()
        };
        let (a, b) = (mass(n, 1), mass(m, 2));
        let solution = solve(dense(&cost), &a, &b);
        certify(&solution, &cost, &a, &b, 1e-12);
        // Rows and columns exchanged.
        let back = solve(dense(&cost.t().unwrap()), &b, &a);
        prop_assert!((value(&back.value) - value(&solution.value)).abs() < 1e-13);
        // In f32.
        let single = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
        let solution = solve(dense(&single(&cost)), &single(&a), &single(&b));
        prop_assert_eq!(solution.value.dtype(), DType::F32);
        prop_assert!(solution.converged() && solution.duality_gap.abs() < 1e-12);
        prop_assert!((value(&back.value) - value(&solution.value)).abs() < 1e-5);
    }

    #[test]
    fn on_a_line_it_is_the_closed_form(seed in 0u64..1000, n in 1usize..30, m in 1usize..30) {
        let draw = |n: usize, k: u64| Stream::new(seed, k).normal_tensor(n).unwrap();
        let (x, y) = (draw(n, 0), draw(m, 1));
        let (a, b) = (softmax(&draw(n, 2)).unwrap(), softmax(&draw(m, 3)).unwrap());
        let columns = |x: &Tensor| x.unsqueeze(1).unwrap();
        let solution = solve(points(&columns(&x), &columns(&y)), &a, &b);
        let line = wasserstein_1d(&x, &y, Some((&a, &b)), 2.0).unwrap();
        prop_assert!((value(&solution.value) - value(&line)).abs() < 1e-13);
        let solution = solve_uniform(points(&columns(&x), &columns(&y)));
        let line = wasserstein_1d(&x, &y, None, 2.0).unwrap();
        prop_assert!((value(&solution.value) - value(&line)).abs() < 1e-13);
    }
}

#[test]
fn degenerate_problems_end() {
    let n = 300;
    let uniform = Tensor::full(1.0 / n as f64, n, &Device::Cpu).unwrap();
    let equal = Tensor::ones((n, n), DType::F64, &Device::Cpu).unwrap();
    // Costs of 0 and 1, and of few whole numbers.
    let binary = normal(&[n, n], 0)
        .gt(1.5)
        .unwrap()
        .to_dtype(DType::F64)
        .unwrap();
    let whole = (normal(&[n, n], 1) * 2.0).unwrap().round().unwrap();
    for cost in [equal, binary, whole] {
        let solution = solve(dense(&cost), &uniform, &uniform);
        certify(&solution, &cost, &uniform, &uniform, 1e-12);
        // Of equal weights the plan is a permutation.
        assert_eq!(solution.plan.masses(), vec![1.0 / n as f64; n]);
    }
    // Every point ten times.
    let ten = |x: Tensor| x.repeat((10, 1)).unwrap();
    let (x, y) = (ten(normal(&[30, 2], 2)), ten(normal(&[30, 2], 3)));
    let solution = solve(points(&x, &y), &uniform, &uniform);
    certify(&solution, &squares(&x, &y), &uniform, &uniform, 1e-12);
    let once = solve_uniform(points(&normal(&[30, 2], 2), &normal(&[30, 2], 3)));
    assert!((value(&once.value) - value(&solution.value)).abs() < 1e-13);
}

#[test]
fn tiny_and_unequal_masses_arrive() -> Result<()> {
    let new = |w: &[f64]| Tensor::new(w, &Device::Cpu).unwrap();
    let a = new(&[0.5, 1e-30, 0.25, 0.25 - 1e-17]);
    let b = new(&[1e-30, 2e-30, 1.0]);
    let cost = normal(&[4, 3], 0);
    let solution = solve(dense(&cost), &a, &b);
    certify(&solution, &cost, &a, &b, 1e-13);
    let columns = numbers(&solution.plan.marginals()?.1);
    assert!((columns[0] / 1e-30 - 1.0).abs() < 1e-2, "{columns:?}");
    // Totals that differ by 5e-5, and whatever unit of mass.
    for unit in [1e-300, 1.0, 1e300] {
        let a = new(&[0.3 * unit, 0.7 * unit]);
        let b = new(&[0.2 * unit * (1.0 + 5e-5), 0.0, 0.8 * unit * (1.0 + 5e-5)]);
        let cost = new(&[0.0, 0.0, 1.0, 2.0, 0.0, 3.0]).reshape((2, 3))?;
        let solution = solve(dense(&cost), &a, &b);
        assert!(solution.converged());
        // The best: 0.2 of row 0 stay, 0.1 cost 1 and 0.7 cost 3; or row 1 fills column 0.
        let want = (0.3 + 0.2 * 2.0 + 0.5 * 3.0) * unit;
        let other = (0.1 + 0.7 * 3.0) * unit;
        let got = value(&solution.value);
        assert!((got / want.min(other) - 1.0).abs() < 1e-12, "{got}");
        assert_eq!(numbers(&solution.plan.marginals()?.1)[1], 0.0);
    }
    Ok(())
}

#[test]
fn gradients_of_convex_functions_match_points_to_their_images() -> Result<()> {
    let x = normal(&[60, 3], 0);
    let matrix = normal(&[3, 3], 1);
    let convex = matrix.matmul(&matrix.t()?)?;
    let images = [
        x.clone(),
        (&x + 7.0)?,
        x.matmul(&convex)?,
        // The gradient of sum log cosh.
        (x.tanh()? + (&x * 0.1)?)?,
    ];
    for y in images {
        let solution = solve_uniform(points(&x, &y));
        let identity: Vec<u32> = (0..60).collect();
        assert!(solution.converged());
        assert_eq!(solution.plan.rows(), identity);
        assert_eq!(solution.plan.columns(), identity);
        let want = value(
            &squares(&x, &y)
                .broadcast_mul(&Tensor::eye(60, DType::F64, &Device::Cpu)?)?
                .sum_all()?,
        );
        assert!((value(&solution.value) - want / 60.0).abs() < 1e-12 * want.max(1.0));
        assert!(distance(&solution.plan.barycentric_projection(&y)?, &y) < 1e-14);
    }
    Ok(())
}

#[test]
fn what_all_costs_share_takes_no_digits() -> Result<()> {
    // Whole numbers beside 2^40 of both a row and a column: sums are exact.
    let whole = (normal(&[60, 40], 0) * 5.0)?.round()?;
    let rows = ((normal(&[60, 1], 1) * 3.0)?.round()? * 2f64.powi(40))?;
    let columns = ((normal(&[1, 40], 2) * 3.0)?.round()? * 2f64.powi(40))?;
    let far = whole.broadcast_add(&rows)?.broadcast_add(&columns)?;
    let (near, far) = (solve_uniform(dense(&whole)), solve_uniform(dense(&far)));
    assert!(near.converged() && far.converged());
    let same = |p: &ExactSolution| {
        value(
            &(p.plan.to_tensor().unwrap() * &whole)
                .unwrap()
                .sum_all()
                .unwrap(),
        )
    };
    assert!((same(&near) - same(&far)).abs() < 1e-13);
    assert!(far.duality_gap.abs() < 1e-12);
    Ok(())
}

#[test]
fn plans_multiply_as_their_matrix_does() -> Result<()> {
    let (a, b) = (weights(9, 0), weights(5, 1));
    let solution = solve(points(&normal(&[9, 2], 2), &normal(&[5, 2], 3)), &a, &b);
    let (plan, matrix) = (&solution.plan, solution.plan.to_tensor()?);
    let (v, w) = (normal(&[3, 5], 4).t()?, normal(&[9, 2], 5));
    assert!(distance(&plan.apply(&v)?, &matrix.matmul(&v.contiguous()?)?) < 1e-15);
    assert!(distance(&plan.apply_transposed(&w)?, &matrix.t()?.matmul(&w)?) < 1e-15);
    let (rows, columns) = plan.marginals()?;
    assert!(distance(&rows, &a) < 1e-15 && distance(&columns, &b) < 1e-15);
    let mean = matrix
        .matmul(&v.contiguous()?)?
        .broadcast_div(&a.unsqueeze(1)?)?;
    assert!(distance(&plan.barycentric_projection(&v)?, &mean) < 1e-14);
    assert!(plan.apply(&w).is_err() && plan.apply_transposed(&v).is_err());
    Ok(())
}

#[test]
fn gradients_hold() -> Result<()> {
    let logits = [normal(&[5], 0), normal(&[4], 1)];
    let solve = |geometry: Geometry, x: &[Tensor]| -> Result<Vec<Tensor>> {
        let problem = LinearProblem::new(geometry, &softmax(&x[0])?, &softmax(&x[1])?)?;
        Ok(vec![NetworkSimplex::new().solve(&problem)?.value])
    };
    let costs = [&logits[..], &[normal(&[5, 4], 2)]].concat();
    gradcheck(&costs, 1e-8, |x| solve(Geometry::dense(&x[2])?, x))?;
    let clouds = [&logits[..], &[normal(&[5, 3], 3), normal(&[4, 3], 4)]].concat();
    gradcheck(&clouds, 1e-8, |x| {
        solve(Geometry::squared_euclidean(&x[2], &x[3])?, x)
    })?;
    // Listed pairs, some of them twice.
    let pairs = |geometry: Geometry| -> Result<Vec<Tensor>> {
        Ok(vec![geometry.pair_costs(&[0, 4, 2, 0], &[3, 1, 1, 3])?])
    };
    gradcheck(&costs[2..], 1e-8, |x| pairs(Geometry::dense(&x[0])?))?;
    gradcheck(&clouds[2..], 1e-8, |x| {
        pairs(Geometry::squared_euclidean(&x[0], &x[1])?)
    })?;
    Ok(())
}

#[test]
fn ending_early_is_said_and_bounded() -> Result<()> {
    let cost = normal(&[30, 30], 0);
    let problem = LinearProblem::uniform(dense(&cost))?;
    let best = NetworkSimplex::new().solve(&problem)?;
    let early = NetworkSimplex::new().max_iterations(1)?.solve(&problem)?;
    assert!(best.converged() && best.iterations() > 1);
    assert!(!early.converged() && early.iterations() == 1);
    let (best, early_value) = (value(&best.value), value(&early.value));
    assert!(early_value > best && early_value - early.duality_gap <= best + 1e-12);
    Ok(())
}

#[test]
fn regularised_transport_tends_to_it() -> Result<()> {
    let problem = LinearProblem::uniform(points(&normal(&[40, 2], 0), &normal(&[30, 2], 1)))?;
    let exact = value(&NetworkSimplex::new().solve(&problem)?.value);
    let regular = Sinkhorn::new(1e-3)?
        .tolerance(1e-8)?
        .max_iterations(100_000)?
        .solve(&problem)?;
    let cost = value(&regular.transport_cost);
    assert!(regular.converged() && cost >= exact - 1e-7);
    // At most eps times the entropy of a plan.
    assert!(cost - exact < 1e-3 * 40f64.ln());
    Ok(())
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let geometry = dense(&normal(&[3, 2], 0));
    let error = message(geometry.pair_costs(&[0, 3], &[0, 1]));
    assert!(error.contains("rows[1] is 3: must be below 3"), "{error}");
    assert!(message(geometry.pair_costs(&[0], &[2])).contains("columns[0] is 2"));
    assert!(message(geometry.pair_costs(&[0], &[0, 1])).contains("as many as rows, 1"));
    assert!(geometry.pair_costs(&[], &[]).is_err());
    assert!(NetworkSimplex::new().max_iterations(0).is_err());
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
            let solution = solve_uniform(points(&x, &y));
            let masses = solution.plan.masses().to_vec();
            (
                value(&solution.value).to_bits(),
                masses,
                solution.iterations(),
            )
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn costs_that_overflow_end_honestly() -> Result<()> {
    let huge = Tensor::new(&[[0.0f64, 1.7e308], [-1.7e308, 0.0]], &Device::Cpu)?;
    let solution = solve_uniform(dense(&huge));
    assert!(!solution.converged() || value(&solution.value).is_finite());
    // Squares beyond f32.
    let x = (normal(&[5, 2], 0).to_dtype(DType::F32)? * 1e30)?;
    let solution = solve_uniform(points(&x, &(&x * -1.0)?));
    assert!(!solution.converged() && !value(&solution.value).is_finite());
    Ok(())
}

/// As many points as the solver is meant for.
#[test]
#[ignore = "minutes unless optimised: cargo test --release -p decalign-ot --test exact -- --ignored"]
fn many_points() -> Result<()> {
    let report = |name: &str, problem: &LinearProblem| -> Result<()> {
        let solution = NetworkSimplex::new().solve(problem)?;
        let gap = solution.duality_gap;
        assert!(solution.converged() && gap.abs() < 1e-9, "{name}: {gap:e}");
        Ok(())
    };
    for (n, d, dtype) in [
        (2000, 2, DType::F64),
        (5000, 2, DType::F64),
        (5000, 20, DType::F32),
        (5000, 20, DType::F64),
    ] {
        let cloud = |k: u64| normal(&[n, d], k).to_dtype(dtype).unwrap();
        let problem = LinearProblem::uniform(points(&cloud(0), &cloud(1)))?;
        report(&format!("points {n}, d {d}, {dtype:?}"), &problem)?;
    }
    let (a, b) = (weights(4000, 2), weights(5000, 3));
    let geometry = points(&normal(&[4000, 3], 0), &normal(&[5000, 3], 1));
    report(
        "weighted 4000 x 5000",
        &LinearProblem::new(geometry, &a, &b)?,
    )?;
    let whole = (normal(&[2000, 2000], 0) * 3.0)?.round()?;
    report(
        "whole numbers 2000",
        &LinearProblem::uniform(dense(&whole))?,
    )?;
    // Points far from where they go: the first tree is a poor one.
    let x = normal(&[2000, 1], 0);
    let geometry = dense(&squares(&x, &(&x * -1.0)?));
    report("reversed line 2000", &LinearProblem::uniform(geometry)?)
}
