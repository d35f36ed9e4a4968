//! Problems whose answers are known drive every solver that applies.
//!
//! The manner is GeomLoss's: a generator makes measures together with the cost and, where it is a map,
//! the partner of every point.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Tensor};
use common::{distance, normal, numbers, tensor, value, weights};
use decalign_core::Result;
use decalign_core::random::Stream;
use decalign_ot::{
    Geometry, LinearProblem, MultiMarginalProblem, MultiMarginalSinkhorn, NetworkSimplex, Sinkhorn,
    SinkhornDivergence, entropic_gaussian, reference, sliced_wasserstein, wasserstein_1d,
};
use proptest::prelude::*;

/// Measures with squared Euclidean costs and what their transport costs.
struct Known {
    name: &'static str,
    x: Tensor,
    y: Tensor,
    a: Tensor,
    b: Tensor,
    cost: f64,
    /// Where the optimal plan is a map: the images of x.
    images: Option<Tensor>,
}

fn uniform(n: usize) -> Tensor {
    tensor(&vec![1.0 / n as f64; n])
}

fn mean_square(x: &Tensor, y: &Tensor) -> f64 {
    let squares = (x - y).unwrap().sqr().unwrap().sum_all().unwrap();
    value(&squares) / x.dims()[0] as f64
}

fn diracs() -> Known {
    let (x, y) = (
        tensor(&[1.0, 2.0]).reshape((1, 2)).unwrap(),
        tensor(&[4.0, -2.0]).reshape((1, 2)).unwrap(),
    );
    Known {
        name: "Diracs",
        a: uniform(1),
        b: uniform(1),
        cost: 25.0,
        images: Some(y.clone()),
        x,
        y,
    }
}

fn permutation() -> Known {
    // Points far apart, each with a partner nearby, in another order.
    let x = (normal(&[9, 3], 0) * 10.0).unwrap();
    let near = (&x + (normal(&[9, 3], 1) * 0.1).unwrap()).unwrap();
    let order: Vec<u32> = (0..9).map(|i| (i * 4 + 2) % 9).collect();
    let y = near
        .index_select(&Tensor::new(&order[..], x.device()).unwrap(), 0)
        .unwrap();
    Known {
        name: "permutation",
        a: uniform(9),
        b: uniform(9),
        cost: mean_square(&x, &near),
        images: Some(near),
        x,
        y,
    }
}

fn translation() -> Known {
    let x = (normal(&[12, 2], 2) * 2.0).unwrap();
    let y = x.broadcast_add(&tensor(&[3.0, -4.0])).unwrap();
    let a = weights(&[12], 3);
    Known {
        name: "translation",
        b: a.clone(),
        a,
        cost: 25.0,
        images: Some(y.clone()),
        x,
        y,
    }
}

fn convex() -> Known {
    // The gradient of x^4 / 4 + a positive definite quadratic is optimal (Brenier).
    let x = normal(&[15, 2], 4);
    let cubes = (x.powf(3.0).unwrap() + (&x * 2.0).unwrap()).unwrap();
    let swapped = Tensor::cat(
        &[&x.narrow(1, 1, 1).unwrap(), &x.narrow(1, 0, 1).unwrap()],
        1,
    )
    .unwrap();
    let y = (cubes + (swapped * 0.5).unwrap()).unwrap();
    Known {
        name: "convex",
        a: uniform(15),
        b: uniform(15),
        cost: mean_square(&x, &y),
        images: Some(y.clone()),
        x,
        y,
    }
}

fn sorted() -> Known {
    let (x, y) = (normal(&[20, 1], 5), (normal(&[20, 1], 6) * 2.0).unwrap());
    let order = |x: &Tensor| {
        let mut v = numbers(x);
        v.sort_by(f64::total_cmp);
        v
    };
    let cost = order(&x)
        .iter()
        .zip(order(&y))
        .map(|(x, y)| (x - y) * (x - y))
        .sum::<f64>()
        / 20.0;
    Known {
        name: "sorted",
        a: uniform(20),
        b: uniform(20),
        cost,
        images: None,
        x,
        y,
    }
}

fn known() -> Vec<Known> {
    vec![diracs(), permutation(), translation(), convex(), sorted()]
}

fn problem(k: &Known) -> LinearProblem {
    LinearProblem::new(Geometry::squared_euclidean(&k.x, &k.y).unwrap(), &k.a, &k.b).unwrap()
}

#[test]
fn exact_transport_is_exact() -> Result<()> {
    for k in known() {
        let solution = NetworkSimplex::new().solve(&problem(&k))?;
        assert!(
            solution.converged() && (value(&solution.value) - k.cost).abs() < 1e-9,
            "{}",
            k.name
        );
        if let Some(images) = &k.images {
            let got = solution.plan.barycentric_projection(&k.y)?;
            assert!(distance(&got, images) < 1e-9, "{}", k.name);
        }
    }
    Ok(())
}

#[test]
fn entropic_transport_tends_to_exact() -> Result<()> {
    for dtype in [DType::F64, DType::F32] {
        for k in known() {
            let as_type = |x: &Tensor| x.to_dtype(dtype).unwrap();
            let geometry = Geometry::squared_euclidean(&as_type(&k.x), &as_type(&k.y))?;
            let problem = LinearProblem::new(geometry, &as_type(&k.a), &as_type(&k.b))?;
            let solution = Sinkhorn::new(1e-3)?
                .max_iterations(100_000)?
                .solve(&problem)?;
            // At most eps log n above; marginals are within 1e-5.
            let over = value(&solution.transport_cost) - k.cost;
            let slack = 1e-4 * (1.0 + k.cost);
            assert!(
                solution.converged(),
                "{} {:?}",
                k.name,
                solution.convergence()
            );
            assert!(
                over > -slack && over < 1e-3 * 20f64.ln() + slack,
                "{}: {over}",
                k.name
            );
            if let Some(images) = &k.images {
                let got = solution.plan.barycentric_projection(&as_type(&k.y))?;
                assert!(distance(&got, images) < 0.05, "{}", k.name);
            }
        }
    }
    Ok(())
}

#[test]
fn lines_agree() -> Result<()> {
    let k = sorted();
    let (x, y) = (k.x.flatten_all()?, k.y.flatten_all()?);
    let line = value(&wasserstein_1d(&x, &y, Some((&k.a, &k.b)), 2.0)?);
    assert!((line - k.cost).abs() < 1e-12);
    // Every direction of a line is the line, and of a translation its part along it.
    let sliced = value(&sliced_wasserstein(&k.x, &k.y, None, 2.0, 7, 1)?);
    assert!((sliced - k.cost).abs() < 1e-12);
    Ok(())
}

#[test]
fn two_of_many_are_two() -> Result<()> {
    for k in known() {
        let cost = common::squares(&k.x, &k.y);
        let many = MultiMarginalProblem::pairwise(&[k.a.clone(), k.b.clone()], &[cost])?;
        let many = MultiMarginalSinkhorn::new(30.0)?
            .tolerance(1e-10)?
            .max_iterations(20_000)?
            .solve(&many)?;
        let two = Sinkhorn::new(30.0)?
            .tolerance(1e-10)?
            .max_iterations(20_000)?
            .solve(&problem(&k))?;
        assert!(many.converged() && two.converged(), "{}", k.name);
        assert!(
            (value(&many.value) - value(&two.value)).abs() < 1e-7 * (1.0 + k.cost),
            "{}",
            k.name
        );
    }
    Ok(())
}

#[test]
fn divergences_of_known_measures() -> Result<()> {
    // Of Diracs and translations: the exact cost at every epsilon.
    for k in [diracs(), translation()] {
        for epsilon in [0.5, 5.0, 50.0] {
            let solver = SinkhornDivergence::new(Sinkhorn::new(epsilon)?.tolerance(1e-10)?);
            let got = value(&solver.solve(&problem(&k))?.value);
            assert!((got - k.cost).abs() < 1e-6, "{} {epsilon}: {got}", k.name);
        }
    }
    Ok(())
}

#[test]
fn samples_of_gaussians_tend_to_their_closed_form() -> Result<()> {
    // Quantiles of two normal distributions stand for them; 400 points are within 0.5 %.
    let n = 400;
    let quantiles: Vec<f64> = (0..n)
        .map(|i| quantile((i as f64 + 0.5) / n as f64))
        .collect();
    let x = tensor(&quantiles).reshape((n, 1))?;
    let y = ((&x * 1.7)? + 0.8)?;
    let gaussian = |mean: f64, variance: f64| {
        (
            tensor(&[mean]).reshape((1, 1)).unwrap(),
            tensor(&[variance]).reshape((1, 1, 1)).unwrap(),
        )
    };
    let ((m, v), (m2, v2)) = (gaussian(0.0, 1.0), gaussian(0.8, 1.7 * 1.7));
    for epsilon in [0.3, 1.0, 4.0] {
        let want = value(&entropic_gaussian((&m, &v), (&m2, &v2), epsilon)?.reshape(())?);
        let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
        let got = value(
            &Sinkhorn::new(epsilon)?
                .tolerance(1e-9)?
                .solve(&problem)?
                .value,
        );
        assert!((got - want).abs() < 0.005 * want, "{epsilon}: {got} {want}");
    }
    Ok(())
}

/// The quantile of the standard normal distribution, by bisection of its distribution function.
fn quantile(p: f64) -> f64 {
    let density = |t: f64| (-t * t / 2.0).exp() / std::f64::consts::TAU.sqrt();
    // Simpson's rule from 0.
    let below = |z: f64| {
        let steps = 200;
        let h = z / steps as f64;
        let inner: f64 = (1..steps)
            .map(|i| density(i as f64 * h) * if i % 2 == 1 { 4.0 } else { 2.0 })
            .sum();
        0.5 + h / 3.0 * (density(0.0) + inner + density(z))
    };
    let (mut low, mut high) = (-6.0, 6.0);
    for _ in 0..60 {
        let middle = 0.5 * (low + high);
        if below(middle) < p {
            low = middle
        } else {
            high = middle
        }
    }
    0.5 * (low + high)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn laws_hold(seed in 0u64..1000, n in 2usize..14, m in 2usize..14, s in 0.2f64..5.0) {
        let draw = |shape: (usize, usize), number: u64| Stream::new(seed, number).normal_tensor(shape).unwrap();
        let mass = |k: usize, number: u64| decalign_core::nn::softmax(&Stream::new(seed, number).normal_tensor(k).unwrap()).unwrap();
        let (cost, a, b) = (draw((n, m), 0), mass(n, 1), mass(m, 2));
        let solver = |epsilon: f64| Sinkhorn::new(epsilon).unwrap().tolerance(1e-11).unwrap();
        let solve = |cost: &Tensor, a: &Tensor, b: &Tensor, epsilon: f64| {
            let problem = LinearProblem::new(Geometry::dense(cost).unwrap(), a, b).unwrap();
            solver(epsilon).solve(&problem).unwrap()
        };
        let one = solve(&cost, &a, &b, 0.5);
        prop_assert!(one.converged());
        // The order of points is of no account.
        let order: Vec<u32> = (0..n as u32).rev().collect();
        let order = Tensor::new(&order[..], cost.device()).unwrap();
        let (turned, moved) = (cost.index_select(&order, 0).unwrap(), a.index_select(&order, 0).unwrap());
        let other = solve(&turned, &moved, &b, 0.5);
        prop_assert!(distance(&one.value, &other.value) < 1e-9);
        let back = other.plan.to_tensor().unwrap().index_select(&order, 0).unwrap();
        prop_assert!(distance(&one.plan.to_tensor().unwrap(), &back) < 1e-9);
        // Costs and epsilon by s: the value by s, the plan the same.
        let scaled = solve(&(&cost * s).unwrap(), &a, &b, 0.5 * s);
        prop_assert!((value(&scaled.value) - s * value(&one.value)).abs() < 1e-8 * s.max(1.0));
        prop_assert!(distance(&scaled.plan.to_tensor().unwrap(), &one.plan.to_tensor().unwrap()) < 1e-9);
        // Weak duality, and none at the end; the exact cost is below.
        prop_assert!((value(&one.value) - value(&one.regularized_cost)).abs() < 1e-8);
        let problem = LinearProblem::new(Geometry::dense(&cost).unwrap(), &a, &b).unwrap();
        let exact = NetworkSimplex::new().solve(&problem).unwrap();
        prop_assert!(exact.converged() && value(&exact.value) <= value(&one.transport_cost) + 1e-8);
        // As the reference in tensor operations.
        let (f, g) = reference::sinkhorn(&problem, 0.5, 600).unwrap();
        prop_assert!(distance(&f, &one.potentials.0) < 1e-6);
        let plan = reference::plan(&problem, 0.5, (&f, &g)).unwrap();
        prop_assert!(distance(&plan, &one.plan.to_tensor().unwrap()) < 1e-7);
    }
}
