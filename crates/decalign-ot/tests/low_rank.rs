//! Plans of low rank: marginals, exact costs, clusters, descent, gradients, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{distance, normal, numbers, squares, value};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{Geometry, LinearProblem, LowRankSinkhorn, LowRankSolution, Sinkhorn};
use proptest::prelude::*;

/// Problems in one call.
trait Between {
    fn between(&self, geometry: &Geometry, a: &Tensor, b: &Tensor) -> Result<LowRankSolution>;
}

impl Between for LowRankSinkhorn {
    fn between(&self, geometry: &Geometry, a: &Tensor, b: &Tensor) -> Result<LowRankSolution> {
        self.solve(&LinearProblem::new(geometry.clone(), a, b)?)
    }
}

fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

fn new(x: &[f64]) -> Tensor {
    Tensor::new(x, &Device::Cpu).unwrap()
}

fn uniform(n: usize) -> Tensor {
    new(&vec![1.0 / n as f64; n])
}

/// Points about `centres`, as many for each.
fn clusters(centres: &[[f64; 2]], each: usize, spread: f64, number: u64) -> Tensor {
    let at: Vec<f64> = centres.iter().flat_map(|c| c.repeat(each)).collect();
    let noise = (normal(&[centres.len() * each, 2], number) * spread).unwrap();
    (new(&at).reshape(noise.dims()).unwrap() + noise).unwrap()
}

#[test]
fn factors_fit_together() -> Result<()> {
    let (x, y) = (normal(&[40, 3], 0), normal(&[30, 3], 1));
    let (a, b) = ((weights(40, 2) * 2.0)?, (weights(30, 3) * 2.0)?);
    let geometry = Geometry::squared_euclidean(&x, &y)?;
    let got = LowRankSinkhorn::new(5, 1)?.between(&geometry, &a, &b)?;
    assert!(
        got.converged(),
        "{} {} {}",
        got.residual,
        got.marginal_error(),
        got.iterations()
    );
    let (rows, columns) = got.plan.marginals()?;
    assert!(distance(&rows, &a) < 1e-5 && distance(&columns, &b) < 1e-5);
    let (q, r, g) = got.plan.factors()?;
    assert!(distance(&q.sum(1)?, &a) < 1e-5 && distance(&q.sum(0)?, &g) < 1e-5);
    assert!(distance(&r.sum(1)?, &b) < 1e-5 && distance(&r.sum(0)?, &g) < 1e-5);
    let whole = q.broadcast_div(&g)?.matmul(&r.t()?)?;
    let plan = got.plan.to_tensor()?;
    assert!(distance(&plan, &whole) < 1e-12 && got.plan.size() == (40, 30));
    let cost = (&plan * squares(&x, &y))?.sum_all()?.to_scalar::<f64>()?;
    assert!((value(&got.transport_cost) - cost).abs() < 1e-10);
    assert_eq!(got.value.to_scalar::<f64>()?, value(&got.transport_cost));
    let (v, w) = (normal(&[30, 2], 4), normal(&[40, 3], 5));
    assert!(distance(&got.plan.apply(&v)?, &plan.matmul(&v)?) < 1e-12);
    assert!(distance(&got.plan.apply_transposed(&w)?, &plan.t()?.matmul(&w)?) < 1e-12);
    Ok(())
}

/// The least cost of matching n points to n, by trying every way.
fn matched(cost: &Tensor) -> f64 {
    fn least(cost: &[Vec<f64>], row: usize, free: &mut Vec<bool>) -> f64 {
        if row == cost.len() {
            return 0.0;
        }
        let mut best = f64::INFINITY;
        for j in 0..free.len() {
            if free[j] {
                free[j] = false;
                best = best.min(cost[row][j] + least(cost, row + 1, free));
                free[j] = true;
            }
        }
        best
    }
    let cost = cost.to_vec2::<f64>().unwrap();
    least(&cost, 0, &mut vec![true; cost.len()]) / cost.len() as f64
}

/// The best of several seeds.
fn best(geometry: &Geometry, a: &Tensor, b: &Tensor, rank: usize) -> LowRankSolution {
    let runs = (0..6).map(|seed| {
        let solver = LowRankSinkhorn::new(rank, seed).unwrap();
        let solver = solver
            .max_iterations(20_000)
            .unwrap()
            .tolerance(1e-6)
            .unwrap();
        solver.between(geometry, a, b).unwrap()
    });
    runs.min_by(|p, q| value(&p.transport_cost).total_cmp(&value(&q.transport_cost)))
        .unwrap()
}

#[test]
fn full_rank_reaches_the_exact_cost() -> Result<()> {
    let (x, y) = (normal(&[6, 2], 0), normal(&[6, 2], 1));
    let cost = squares(&x, &y);
    let exact = matched(&cost);
    for geometry in [
        Geometry::dense(&cost)?,
        Geometry::squared_euclidean(&x, &y)?,
    ] {
        let got = best(&geometry, &uniform(6), &uniform(6), 6);
        assert!(value(&got.transport_cost) > exact - 1e-4 * exact);
        assert!(
            value(&got.transport_cost) < 1.02 * exact,
            "{} {exact}",
            value(&got.transport_cost)
        );
    }
    // Unequal weights: between the exact cost and that of entropic transport.
    let (a, b) = (weights(6, 2), weights(6, 3));
    let geometry = Geometry::dense(&cost)?;
    let sharp = Sinkhorn::new(0.01)?.tolerance(1e-7)?;
    let blurred = Sinkhorn::new(0.3)?.tolerance(1e-7)?;
    let problem = LinearProblem::new(geometry.clone(), &a, &b)?;
    let plan = |s: Sinkhorn| -> Result<f64> {
        let plan = s.solve(&problem)?.plan.to_tensor()?;
        Ok((plan * &cost)?.sum_all()?.to_scalar::<f64>()?)
    };
    let got = value(&best(&geometry, &a, &b, 6).transport_cost);
    let (low, high) = (plan(sharp)?, plan(blurred)?);
    assert!(got > low - 0.02 && got < high, "{low} {got} {high}");
    Ok(())
}

#[test]
fn more_rank_costs_less() -> Result<()> {
    let (x, y) = (normal(&[30, 2], 0), normal(&[30, 2], 1));
    let geometry = Geometry::squared_euclidean(&x, &y)?;
    let a = uniform(30);
    let costs = [1, 2, 4, 8].map(|rank| value(&best(&geometry, &a, &a, rank).transport_cost));
    // Rank 1 is the plan a x b.
    let mean = squares(&x, &y).mean_all()?.to_scalar::<f64>()?;
    assert!((costs[0] - mean).abs() < 1e-5 * mean);
    assert!(costs.is_sorted_by(|p, q| p > q), "{costs:?}");
    Ok(())
}

#[test]
fn the_cost_falls_step_by_step() -> Result<()> {
    let (x, y) = (normal(&[25, 2], 0), normal(&[20, 2], 1));
    let geometry = Geometry::squared_euclidean(&x, &y)?;
    let (a, b) = (weights(25, 2), weights(20, 3));
    // Also with steps far too long.
    for gamma in [10.0, 1e4] {
        let mut before = f64::INFINITY;
        for steps in [1, 2, 3, 5, 8, 13, 30] {
            let solver = LowRankSinkhorn::new(4, 3)?
                .gamma(gamma)?
                .max_iterations(steps)?;
            let got = solver.between(&geometry, &a, &b)?;
            assert!(
                value(&got.transport_cost) <= before + 1e-6,
                "{gamma} {steps}"
            );
            assert!(got.marginal_error() < 1e-7 && got.iterations() <= steps);
            before = value(&got.transport_cost);
        }
    }
    Ok(())
}

#[test]
fn separate_clusters_are_found() -> Result<()> {
    let centres = [[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]];
    let near = centres.map(|[x, y]| [x + 1.0, y - 1.0]);
    let (x, y) = (clusters(&centres, 6, 0.2, 0), clusters(&near, 5, 0.2, 1));
    let geometry = Geometry::squared_euclidean(&x, &y)?;
    let got = LowRankSinkhorn::new(3, 0)?.between(&geometry, &uniform(18), &uniform(15))?;
    assert!(got.converged(), "{} {}", got.residual, got.iterations());
    // Each cluster goes to that beside it, as a whole: the plan has rank 3.
    let plan = got.plan.to_tensor()?.to_vec2::<f64>()?;
    for (i, row) in plan.iter().enumerate() {
        for (j, p) in row.iter().enumerate() {
            let want = if i / 6 == j / 5 {
                1.0 / (3.0 * 30.0)
            } else {
                0.0
            };
            assert!((p - want).abs() < 1e-5, "{i} {j}: {p} {want}");
        }
    }
    let g = numbers(&got.plan.factors()?.2);
    assert!(g.iter().all(|g| (g - 1.0 / 3.0).abs() < 1e-5), "{g:?}");
    Ok(())
}

#[test]
fn both_forms_of_a_cost_and_types_agree() -> Result<()> {
    let (x, y) = (normal(&[12, 2], 0), normal(&[10, 2], 1));
    let (a, b) = (weights(12, 2), weights(10, 3));
    let solver = LowRankSinkhorn::new(3, 5)?
        .tolerance(1e-8)?
        .max_iterations(20_000)?;
    let lazy = solver.between(&Geometry::squared_euclidean(&x, &y)?, &a, &b)?;
    let dense = solver.between(&Geometry::dense(&squares(&x, &y))?, &a, &b)?;
    assert!(
        lazy.converged() && dense.converged(),
        "{} {}",
        lazy.residual,
        dense.residual
    );
    assert!((value(&lazy.transport_cost) - value(&dense.transport_cost)).abs() < 1e-5);
    let single = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
    let geometry = Geometry::squared_euclidean(&single(&x), &single(&y))?;
    let got = LowRankSinkhorn::new(3, 5)?.between(&geometry, &single(&a), &single(&b))?;
    assert!(got.converged() && got.value.dtype() == DType::F32);
    assert!(got.plan.to_tensor()?.dtype() == DType::F32);
    assert!((value(&got.transport_cost) - value(&lazy.transport_cost)).abs() < 1e-3);
    Ok(())
}

#[test]
fn gradients_hold() -> Result<()> {
    // Clusters, so that the plan is a sharp minimum and the same one nearby.
    let centres = [[0.0, 0.0], [3.0, 0.5]];
    let near = centres.map(|[x, y]| [x + 0.3, y - 0.2]);
    let (x, y) = (clusters(&centres, 3, 0.2, 0), clusters(&near, 2, 0.2, 1));
    let (a, b) = (uniform(6), uniform(4));
    let solver = LowRankSinkhorn::new(2, 0)?
        .tolerance(1e-9)?
        .max_iterations(50_000)?;
    let run = |geometry: Geometry| -> Result<Vec<Tensor>> {
        let got = solver.between(&geometry, &a, &b)?;
        assert!(got.converged(), "{} {}", got.residual, got.marginal_error());
        Ok(vec![got.value])
    };
    gradcheck(&[x.clone(), y.clone()], 1e-6, |p| {
        run(Geometry::squared_euclidean(&p[0], &p[1])?)
    })?;
    gradcheck(&[squares(&x, &y)], 1e-6, |c| run(Geometry::dense(&c[0])?))?;
    // In single precision, the same.
    let single = |x: &Tensor| Var::from_tensor(&x.to_dtype(DType::F32)?);
    let (vx, vy, wx, wy) = (
        single(&x)?,
        single(&y)?,
        Var::from_tensor(&x)?,
        Var::from_tensor(&y)?,
    );
    let gradient = |x: &Var, y: &Var| -> Result<(Tensor, Tensor)> {
        let (a, b) = (a.to_dtype(x.dtype())?, b.to_dtype(x.dtype())?);
        let got =
            LowRankSinkhorn::new(2, 0)?.between(&Geometry::squared_euclidean(x, y)?, &a, &b)?;
        let gradients = got.value.backward()?;
        Ok((
            gradients.get(x).unwrap().clone(),
            gradients.get(y).unwrap().clone(),
        ))
    };
    let (got, want) = (gradient(&vx, &vy)?, gradient(&wx, &wy)?);
    assert!(distance(&got.0, &want.0) < 1e-5 && distance(&got.1, &want.1) < 1e-5);
    // Weights carry none.
    let var = Var::from_tensor(&a)?;
    let got = solver.between(&Geometry::squared_euclidean(&x, &y)?, &var, &b)?;
    assert!(!got.value.track_op());
    Ok(())
}

#[test]
fn threads_do_not_matter_and_seeds_do() {
    let (x, y) = (normal(&[600, 3], 0), normal(&[500, 3], 1));
    let geometry = Geometry::squared_euclidean(&x, &y).unwrap();
    let (a, b) = (uniform(600), uniform(500));
    let run = |threads: usize, seed: u64| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let solver = LowRankSinkhorn::new(20, seed)
                .unwrap()
                .max_iterations(5)
                .unwrap();
            value(&solver.between(&geometry, &a, &b).unwrap().transport_cost).to_bits()
        })
    };
    assert_eq!(run(1, 3), run(3, 3));
    assert_ne!(run(1, 3), run(1, 4));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn marginals_hold_and_units_do_not_matter(seed in 0u64..1000, n in 1usize..20, m in 1usize..20, rank in 1usize..6, s in 0.1f64..10.0) {
        let draw = |shape: &[usize], number: u64| Stream::new(seed, number).normal_tensor(shape).unwrap();
        let mass = |n: usize, number: u64| softmax(&draw(&[n], number)).unwrap();
        let (x, y, a, b) = (draw(&[n, 2], 0), draw(&[m, 2], 1), mass(n, 2), mass(m, 3));
        let solver = LowRankSinkhorn::new(rank, seed).unwrap().max_iterations(40).unwrap();
        let run = |x: &Tensor, y: &Tensor| {
            solver.between(&Geometry::squared_euclidean(x, y).unwrap(), &a, &b).unwrap()
        };
        let one = run(&x, &y);
        prop_assert!(one.marginal_error() < 1e-5, "{}", one.marginal_error());
        let (rows, columns) = one.plan.marginals().unwrap();
        prop_assert!(distance(&rows, &a) < 1e-5 && distance(&columns, &b) < 1e-5);
        prop_assert!(one.plan.rank() == rank.min(n).min(m));
        // Below the cost of the plan a x b, above that of nearly exact transport.
        let cost = squares(&x, &y);
        let product = a.reshape((n, 1)).unwrap().matmul(&b.reshape((1, m)).unwrap()).unwrap();
        let product = (product * &cost).unwrap().sum_all().unwrap().to_scalar::<f64>().unwrap();
        prop_assert!(value(&one.transport_cost) <= product * 1.05 + 1e-6);
        let scaled = run(&(&x * s).unwrap(), &(&y * s).unwrap());
        prop_assert!((value(&scaled.transport_cost) / (s * s) - value(&one.transport_cost)).abs() < 1e-3 * product);
    }
}

#[test]
fn degenerate_problems_end() -> Result<()> {
    let solver = LowRankSinkhorn::new(3, 0)?;
    // All costs 0; one point; points without mass.
    let zero = Tensor::zeros((4, 3), DType::F64, &Device::Cpu)?;
    let got = solver.between(&Geometry::dense(&zero)?, &weights(4, 0), &weights(3, 1))?;
    assert!(got.converged() && value(&got.transport_cost) == 0.0);
    let (x, y) = (normal(&[1, 2], 0), normal(&[5, 2], 1));
    let b = new(&[0.5, 0.0, 0.2, 0.3, 0.0]);
    let got = solver.between(&Geometry::squared_euclidean(&x, &y)?, &new(&[1.0]), &b)?;
    let want: f64 = numbers(&squares(&x, &y))
        .iter()
        .zip(numbers(&b))
        .map(|(c, b)| c * b)
        .sum();
    // Projections are within 1e-8 at this tolerance.
    assert!(got.converged() && (value(&got.transport_cost) / want - 1.0).abs() < 1e-8);
    assert_eq!(numbers(&got.plan.marginals()?.1)[1], 0.0);
    // One step is not enough, and it says so.
    let (x, y) = (normal(&[9, 2], 0), normal(&[9, 2], 1));
    let geometry = Geometry::squared_euclidean(&x, &y)?;
    let got = solver
        .max_iterations(1)?
        .between(&geometry, &uniform(9), &uniform(9))?;
    assert!(!got.converged() && got.iterations() == 1 && got.residual > 1e-5);
    Ok(())
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let geometry = Geometry::squared_euclidean(&normal(&[3, 2], 0), &normal(&[2, 2], 1))?;
    let solver = LowRankSinkhorn::new(2, 0)?;
    let message = |a: &[f64], b: &[f64]| {
        let got = solver.between(&geometry, &new(a), &new(b));
        got.unwrap_err().to_string()
    };
    assert!(message(&[0.5, 0.5], &[0.5, 0.5]).contains("a: expected shape (3)"));
    assert!(message(&[0.5, -0.5, 1.0], &[0.5, 0.5]).contains("a[1] is -0.5"));
    assert!(message(&[0.5, 0.5, 1.0], &[0.5, 0.5]).contains("the total of a is 2"));
    let huge = (normal(&[3, 2], 0) * 1e200)?;
    let far = Geometry::squared_euclidean(&huge, &huge)?;
    let error = solver.between(&far, &uniform(3), &uniform(3)).unwrap_err();
    assert!(error.to_string().contains("overflow"), "{error}");
    let got = solver.between(&geometry, &uniform(3), &uniform(2))?;
    assert!(got.plan.apply(&normal(&[3, 1], 0)).is_err());
    assert!(got.plan.apply_transposed(&normal(&[2, 1], 0)).is_err());
    assert!(LowRankSinkhorn::new(0, 0).is_err() && solver.max_iterations(0).is_err());
    for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(solver.gamma(bad).is_err() && solver.tolerance(bad).is_err());
    }
    Ok(())
}

/// 20,000 points each, whose costs would take 3.2 GB.
#[test]
#[ignore = "minutes unless optimised: cargo test --release -p decalign-ot --test low_rank -- --ignored"]
fn many_points() -> Result<()> {
    let n = 20_000;
    let (x, y) = (normal(&[n, 3], 0), (normal(&[n, 3], 1) + 1.0)?);
    let geometry = Geometry::squared_euclidean(&x, &y)?;
    let solver = LowRankSinkhorn::new(10, 1)?
        .tolerance(1e-4)?
        .max_iterations(200)?;
    let got = solver.between(&geometry, &uniform(n), &uniform(n))?;
    // The translation alone costs 3; a x b costs 9.
    assert!(value(&got.transport_cost) > 3.0 && value(&got.transport_cost) < 7.0);
    assert!(got.marginal_error() < 1e-4);
    Ok(())
}
