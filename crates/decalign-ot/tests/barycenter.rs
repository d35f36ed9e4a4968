//! Means of measures: closed forms, brute force, the unrolled reference, gradients, bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck};
use decalign_ot::{
    BarycenterProblem, BarycenterSolution, FixedSupportBarycenter, FreeSupportBarycenter, Geometry,
    LinearProblem, Sinkhorn, Support, unrolled_barycenter,
};
use proptest::prelude::*;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(9, number).normal_tensor(shape).unwrap()
}

fn weights(n: usize, number: u64) -> Tensor {
    softmax(&normal(&[n], number)).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

fn new(x: &[f64]) -> Tensor {
    Tensor::new(x, &Device::Cpu).unwrap()
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    assert_eq!(a.dims(), b.dims());
    let pairs = numbers(a).into_iter().zip(numbers(b));
    pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn squares(x: &Tensor, y: &Tensor) -> Tensor {
    let difference = x
        .unsqueeze(1)
        .unwrap()
        .broadcast_sub(&y.unsqueeze(0).unwrap())
        .unwrap();
    difference.sqr().unwrap().sum(2).unwrap()
}

/// `n` points from `from` in steps of `step`, (n, 1).
fn grid(from: f64, step: f64, n: usize) -> Tensor {
    let x: Vec<f64> = (0..n).map(|i| from + step * i as f64).collect();
    new(&x).reshape((n, 1)).unwrap()
}

/// A normal density on points, of total 1.
fn gaussian(x: &Tensor, mean: f64, deviation: f64) -> Tensor {
    let z = ((x.flatten_all().unwrap() - mean).unwrap() / deviation).unwrap();
    softmax(&(z.sqr().unwrap() * -0.5).unwrap()).unwrap()
}

/// The mean and the variance of weights on points of a line.
fn moments(x: &Tensor, weights: &Tensor) -> (f64, f64) {
    let (x, w) = (numbers(x), numbers(weights));
    let total: f64 = w.iter().sum();
    let mean: f64 = x.iter().zip(&w).map(|(x, w)| x * w).sum::<f64>() / total;
    let variance = x.iter().zip(&w).map(|(x, w)| w * (x - mean).powi(2));
    (mean, variance.sum::<f64>() / total)
}

fn solver(epsilon: f64) -> FixedSupportBarycenter {
    FixedSupportBarycenter::new(epsilon)
        .unwrap()
        .tolerance(1e-11)
        .unwrap()
}

fn solve(problem: &BarycenterProblem, epsilon: f64, debiased: bool) -> BarycenterSolution {
    let solution = solver(epsilon).debiased(debiased).solve(problem).unwrap();
    assert!(
        solution.converged && solution.marginal_error <= 1e-11,
        "error {} after {}",
        solution.marginal_error,
        solution.iterations
    );
    solution
}

#[test]
fn diracs_meet_at_their_mean() {
    // exp(-sum_k w_k |x_k - y|^2 / eps) is a normal density about the weighted mean.
    let y = grid(-3.0, 0.1, 81);
    let at = [-1.5, 0.4, 2.0];
    let shares = [0.2, 0.5, 0.3];
    let costs: Vec<Tensor> = at.iter().map(|x| squares(&grid(*x, 1.0, 1), &y)).collect();
    let measures = vec![new(&[1.0]); 3];
    let problem = BarycenterProblem::new(&measures, &costs, &shares).unwrap();
    let mean: f64 = at.iter().zip(&shares).map(|(x, w)| x * w).sum();
    for epsilon in [1.0, 0.1] {
        let got = solve(&problem, epsilon, false);
        let want = gaussian(&y, mean, (epsilon / 2.0f64).sqrt());
        assert!(distance(&got.weights, &want) < 1e-12, "{epsilon}");
    }
}

#[test]
fn translated_copies_meet_half_way() -> Result<()> {
    // Costs of translated points differ by terms of one point each, which only move potentials: the
    // barycentre of copies moved by t and -t is that of the one between them.
    let y = normal(&[12, 2], 0);
    let x = normal(&[9, 2], 1);
    let (a, t) = (weights(9, 2), new(&[0.7, -0.3]));
    let copies = [x.broadcast_add(&t)?, x.broadcast_sub(&t)?];
    let costs = [squares(&copies[0], &y), squares(&copies[1], &y)];
    let both = BarycenterProblem::new(&[a.clone(), a.clone()], &costs, &[0.5, 0.5])?;
    let one = BarycenterProblem::new(std::slice::from_ref(&a), &[squares(&x, &y)], &[1.0])?;
    for debiased in [false, true] {
        let support = squares(&y, &y);
        let got = solve(&both.clone().support_cost(&support)?, 0.5, debiased);
        let want = solve(&one.clone().support_cost(&support)?, 0.5, debiased);
        assert!(distance(&got.weights, &want.weights) < 1e-8, "{debiased}");
    }
    // And debiased, from points of the support itself, it is the measure.
    let a = weights(12, 3);
    let costs = [
        squares(&y.broadcast_add(&t)?, &y),
        squares(&y.broadcast_sub(&t)?, &y),
    ];
    let problem = BarycenterProblem::new(&[a.clone(), a.clone()], &costs, &[0.5, 0.5])?
        .support_cost(&squares(&y, &y))?;
    assert!(distance(&solve(&problem, 0.5, true).weights, &a) < 1e-7);
    Ok(())
}

/// The variance s of the barycentre of Gaussians of deviations `d`, at squared distances: the root of
/// `sum_k w_k sqrt(v^2 + 4 d_k^2 s) = 2 s - v`, or `= sqrt(v^2 + 4 s^2)` when debiased, v = eps / 2.
fn variance(deviations: &[f64], shares: &[f64], epsilon: f64, debiased: bool) -> f64 {
    let v = epsilon / 2.0;
    let gap = |s: f64| {
        let roots = deviations
            .iter()
            .zip(shares)
            .map(|(d, w)| w * (v * v + 4.0 * d * d * s).sqrt());
        let right = match debiased {
            true => (v * v + 4.0 * s * s).sqrt(),
            false => 2.0 * s - v,
        };
        right - roots.sum::<f64>()
    };
    let (mut low, mut high) = (1e-6, 1e3);
    for _ in 0..200 {
        let middle = 0.5 * (low + high);
        *(if gap(middle) > 0.0 {
            &mut high
        } else {
            &mut low
        }) = middle;
    }
    low
}

#[test]
fn gaussians_have_gaussian_means() -> Result<()> {
    let x = grid(-8.0, 0.08, 201);
    let (means, deviations) = ([-1.0, 1.5], [0.5, 0.9]);
    let shares = [0.4, 0.6];
    let measures = [0, 1].map(|k| gaussian(&x, means[k], deviations[k]));
    let cost = squares(&x, &x);
    let problem = BarycenterProblem::new(&measures, std::slice::from_ref(&cost), &shares)?
        .support_cost(&cost)?;
    let mean = 0.4 * means[0] + 0.6 * means[1];
    for epsilon in [0.4, 0.1] {
        for debiased in [false, true] {
            let got = solver(epsilon)
                .tolerance(1e-8)?
                .debiased(debiased)
                .solve(&problem)?;
            assert!(got.converged, "{got:?}");
            let (m, v) = moments(&x, &got.weights);
            let want = variance(&deviations, &shares, epsilon, debiased);
            assert!((m - mean).abs() < 1e-5, "{epsilon} {debiased}: {m}");
            assert!((v - want).abs() < 1e-4, "{epsilon} {debiased}: {v} {want}");
            let shape = gaussian(&x, mean, want.sqrt());
            assert!(distance(&got.weights, &shape) < 1e-4);
            // Not blurred: the deviation is nearly the mean of the deviations, 0.74.
            assert_eq!((v.sqrt() - 0.74).abs() < 5e-3, debiased, "{}", v.sqrt());
        }
    }
    Ok(())
}

#[test]
fn one_measure_is_its_own_mean() -> Result<()> {
    let x = normal(&[15, 2], 0);
    let (a, cost) = (weights(15, 1), squares(&x, &x));
    let problem = BarycenterProblem::new(
        std::slice::from_ref(&a),
        std::slice::from_ref(&cost),
        &[1.0],
    )?
    .support_cost(&cost)?;
    assert!(distance(&solve(&problem, 0.5, true).weights, &a) < 1e-8);
    // Plain: one step of diffusion, K^T (a / K 1).
    let kernel = (&cost / -0.5)?.exp()?;
    let scaled = (&a / kernel.sum(1)?)?.reshape((1, 15))?;
    let blurred = scaled.matmul(&kernel)?.reshape(15)?;
    assert!(distance(&solve(&problem, 0.5, false).weights, &blurred) < 1e-12);
    // Of two measures, one that does not count.
    let other = weights(15, 2);
    let costs = [cost.clone(), (&cost * 3.0)?];
    let two =
        BarycenterProblem::new(&[a.clone(), other], &costs, &[1.0, 0.0])?.support_cost(&cost)?;
    assert!(distance(&solve(&two, 0.5, true).weights, &a) < 1e-8);
    assert!(distance(&solve(&two, 0.5, false).weights, &blurred) < 1e-10);
    Ok(())
}

/// `sum_k w_k OT(a_k, b)`, less `OT(b, b) / 2` of a support's cost, by the linear solver: there the
/// entropy is taken with respect to a x b, here to a x u.
fn objective(
    measures: &[Tensor],
    costs: &[Tensor],
    shares: &[f64],
    support: Option<&Tensor>,
    (b, epsilon): (&[f64], f64),
) -> f64 {
    let total: f64 = b.iter().sum();
    let target = new(b);
    let transport = |cost: &Tensor, a: &Tensor| {
        let problem = LinearProblem::new(Geometry::dense(cost).unwrap(), a, &target).unwrap();
        let solver = Sinkhorn::new(epsilon).unwrap().tolerance(1e-11).unwrap();
        numbers(&solver.solve(&problem).unwrap().value)[0]
    };
    let uniform = total / b.len() as f64;
    let entropy: f64 = b.iter().map(|b| b * (b / uniform).ln()).sum();
    let each = measures.iter().zip(costs).zip(shares);
    let sum: f64 = each.map(|((a, c), w)| w * transport(c, a)).sum();
    match support {
        None => sum + epsilon * entropy,
        Some(cost) => sum - 0.5 * transport(cost, &target),
    }
}

/// The least value of a function of three weights of total 1, by steps along the sides.
fn minimise(f: impl Fn(&[f64]) -> f64) -> (Vec<f64>, f64) {
    let mut best = vec![1.0 / 3.0; 3];
    let mut least = f(&best);
    let mut step = 0.2;
    while step > 1e-7 {
        let mut moved = false;
        for (i, j) in [(0, 1), (1, 0), (0, 2), (2, 0), (1, 2), (2, 1)] {
            let mut trial = best.clone();
            trial[i] += step;
            trial[j] -= step;
            if trial[j] > 1e-9 {
                let value = f(&trial);
                if value < least {
                    (best, least, moved) = (trial, value, true);
                }
            }
        }
        if !moved {
            step *= 0.5;
        }
    }
    (best, least)
}

#[test]
fn nothing_nearer_is_found_by_search() -> Result<()> {
    // Costs rectangular and asymmetric, and square and asymmetric.
    let measures = [weights(2, 0), weights(3, 1), weights(4, 2)];
    let costs = [normal(&[2, 3], 3), normal(&[3, 3], 4), normal(&[4, 3], 5)];
    let shares = [0.3, 0.5, 0.2];
    let points = normal(&[3, 2], 6);
    let support = squares(&points, &points);
    let problem = BarycenterProblem::new(&measures, &costs, &shares)?.support_cost(&support)?;
    for debiased in [false, true] {
        let got = solve(&problem, 0.7, debiased);
        let own = debiased.then_some(&support);
        let value = |b: &[f64]| objective(&measures, &costs, &shares, own, (b, 0.7));
        let (b, least) = minimise(value);
        assert!(distance(&got.weights, &new(&b)) < 1e-4, "{debiased}");
        assert!((numbers(&got.value)[0] - least).abs() < 1e-8, "{debiased}");
        assert!((value(&numbers(&got.weights)) - least).abs() < 1e-8);
    }
    Ok(())
}

#[test]
fn plans_have_their_marginals() -> Result<()> {
    // Totals of 3, a point without mass, and costs far above epsilon.
    let first = (new(&[0.5, 0.0, 0.3, 0.2]) * 3.0)?;
    let measures = [first, (weights(5, 1) * 3.0)?];
    let costs = [
        (normal(&[4, 6], 2) * 30.0)?,
        (normal(&[5, 6], 3).abs()? * 20.0)?,
    ];
    let problem = BarycenterProblem::new(&measures, &costs, &[0.5, 0.5])?;
    let got = FixedSupportBarycenter::new(0.2)?
        .tolerance(1e-7)?
        .solve(&problem)?;
    assert!(got.converged, "{} {}", got.marginal_error, got.iterations);
    for (k, a) in measures.iter().enumerate() {
        let plan = got.plan(k)?;
        assert!(distance(&plan.sum(1)?, a) < 1e-6);
        assert!(distance(&plan.sum(0)?, &got.weights) < 1e-6);
    }
    assert!((numbers(&got.weights).iter().sum::<f64>() - 3.0).abs() < 1e-6);
    // From its own end nothing is left to do.
    let solver = FixedSupportBarycenter::new(0.2)?.tolerance(1e-6)?;
    let again = solver.solve_from(&problem, &got)?;
    assert!(again.converged && again.iterations == 1 && got.iterations > 10);
    assert!(distance(&again.weights, &got.weights) < 1e-6);
    assert!(got.plan(2).is_err());
    Ok(())
}

/// Measures of 4 and 3 points on a support of 5, all from tensors, with the costs of the support.
fn small(x: &[Tensor]) -> Result<BarycenterProblem> {
    let support = ((&x[4] + x[4].t()?)? * 0.5)?;
    BarycenterProblem::new(&[softmax(&x[0])?, softmax(&x[1])?], &x[2..4], &[0.35, 0.65])?
        .support_cost(&support)
}

fn small_inputs() -> Vec<Tensor> {
    let points = normal(&[5, 2], 4);
    vec![
        normal(&[4], 0),
        normal(&[3], 1),
        normal(&[4, 5], 2),
        normal(&[3, 5], 3),
        squares(&points, &points),
    ]
}

#[test]
fn gradients_hold() -> Result<()> {
    let inputs = small_inputs();
    gradcheck(&inputs[..4], 1e-7, |x| {
        let x = [x, &inputs[4..]].concat();
        Ok(vec![solver(0.6).solve(&small(&x)?)?.value])
    })?;
    gradcheck(&inputs, 1e-7, |x| {
        Ok(vec![solver(0.6).debiased(true).solve(&small(x)?)?.value])
    })?;
    // One cost that two measures share.
    let shared = [normal(&[4], 0), normal(&[4], 1), normal(&[4, 5], 2)];
    gradcheck(&shared, 1e-7, |x| {
        let measures = [softmax(&x[0])?, softmax(&x[1])?];
        let problem = BarycenterProblem::new(&measures, &x[2..], &[0.5, 0.5])?;
        Ok(vec![solver(0.6).solve(&problem)?.value])
    })
}

#[test]
fn the_unrolled_reference_agrees() -> Result<()> {
    let inputs = small_inputs();
    let value = |x: &[Tensor], debiased| -> Result<Vec<Tensor>> {
        let x = match debiased {
            true => x.to_vec(),
            false => [x, &[inputs[4].to_dtype(x[0].dtype())?]].concat(),
        };
        let solver = solver(0.6).tolerance(1e-6)?.debiased(debiased);
        Ok(vec![solver.solve(&small(&x)?)?.value])
    };
    let unrolled = |x: &[Tensor], debiased| -> Result<Vec<Tensor>> {
        let x = match debiased {
            true => x.to_vec(),
            false => [x, &[inputs[4].to_dtype(x[0].dtype())?]].concat(),
        };
        Ok(vec![
            unrolled_barycenter(&small(&x)?, 0.6, debiased, 150)?.1,
        ])
    };
    let bounds = (1e-5, 1e-4);
    agree(
        &inputs[..4],
        bounds,
        |x| value(x, false),
        |x| unrolled(x, false),
    )?;
    agree(&inputs, bounds, |x| value(x, true), |x| unrolled(x, true))?;
    for debiased in [false, true] {
        let problem = small(&inputs)?;
        let (b, v) = unrolled_barycenter(&problem, 0.6, debiased, 150)?;
        let got = solve(&problem, 0.6, debiased);
        assert!(distance(&got.weights, &b) < 1e-9 && distance(&got.value, &v) < 1e-10);
        // The gradient of the barycentre itself: of the fast solver by differences.
        gradcheck(&inputs[..2], 1e-7, |x| {
            let x = [x, &inputs[2..]].concat();
            Ok(vec![
                unrolled_barycenter(&small(&x)?, 0.6, debiased, 150)?.0,
            ])
        })?;
    }
    Ok(())
}

#[test]
fn single_precision_follows_double() -> Result<()> {
    let inputs = small_inputs();
    let single: Vec<Tensor> = inputs
        .iter()
        .map(|x| x.to_dtype(DType::F32))
        .collect::<candle_core::Result<_>>()?;
    let want = solve(&small(&inputs)?, 0.3, true);
    let got = solver(0.3).debiased(true).solve(&small(&single)?)?;
    assert!(got.converged && got.weights.dtype() == DType::F32);
    assert!(got.value.dtype() == DType::F32 && distance(&got.value, &want.value) < 1e-5);
    assert!(distance(&got.weights, &want.weights) < 1e-5);
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let (x, y) = (normal(&[150, 2], 0), normal(&[120, 2], 1));
    let measures = [weights(150, 2), weights(150, 3)];
    let cost = squares(&x, &y);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let problem =
                BarycenterProblem::new(&measures, std::slice::from_ref(&cost), &[0.5, 0.5])
                    .unwrap();
            let got = FixedSupportBarycenter::new(0.5)
                .unwrap()
                .solve(&problem)
                .unwrap();
            numbers(&got.weights)
                .iter()
                .map(|w| w.to_bits())
                .collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(3));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn order_and_units_do_not_matter(seed in 0u64..1000, n in 1usize..8, m in 1usize..8, s in 0.1f64..10.0) {
        let draw = |shape: &[usize], number: u64| Stream::new(seed, number).normal_tensor(shape).unwrap();
        let mass = |number: u64| softmax(&draw(&[n], number)).unwrap();
        let (measures, costs) = ([mass(0), mass(1), mass(2)], [3, 4, 5].map(|k| draw(&[n, m], k)));
        let shares = [0.2, 0.3, 0.5];
        let one = solve(&BarycenterProblem::new(&measures, &costs, &shares).unwrap(), 0.5, false);
        let turned = |x: &[Tensor; 3]| [x[2].clone(), x[0].clone(), x[1].clone()];
        let other = BarycenterProblem::new(&turned(&measures), &turned(&costs), &[0.5, 0.2, 0.3]);
        let other = solve(&other.unwrap(), 0.5, false);
        prop_assert!(distance(&one.weights, &other.weights) < 1e-9);
        prop_assert!(distance(&one.value, &other.value) < 1e-9);
        let scaled = costs.map(|c| (c * s).unwrap());
        let scaled = BarycenterProblem::new(&measures, &scaled, &shares).unwrap();
        let scaled = solve(&scaled, 0.5 * s, false);
        prop_assert!(distance(&one.weights, &scaled.weights) < 1e-9);
        prop_assert!((numbers(&scaled.value)[0] / s - numbers(&one.value)[0]).abs() < 1e-9);
        prop_assert!((numbers(&one.weights).iter().sum::<f64>() - 1.0).abs() < 1e-9);
    }
}

#[test]
fn not_converging_is_a_result() -> Result<()> {
    let measures = [weights(6, 0), weights(6, 1)];
    let costs = [normal(&[6, 5], 2), normal(&[6, 5], 3)];
    let problem = BarycenterProblem::new(&measures, &costs, &[0.5, 0.5])?;
    let solver = FixedSupportBarycenter::new(1e-3)?.max_iterations(3)?;
    let got = solver.solve(&problem)?;
    assert!(!got.converged && got.iterations == 3 && got.marginal_error > 1e-6);
    // Costs whose differences overflow.
    let huge = new(&[1e308, -1e308, 0.0, 1e308]).reshape((2, 2))?;
    let problem = BarycenterProblem::new(&[new(&[0.5, 0.5])], &[huge], &[1.0])?;
    let got = FixedSupportBarycenter::new(1e-9)?
        .max_iterations(9)?
        .solve(&problem)?;
    assert!(!got.converged, "{got:?}");
    Ok(())
}

#[test]
fn bad_input_is_named() {
    let (a, cost) = (new(&[0.4, 0.6]), normal(&[2, 3], 0));
    let message = |measures: &[Tensor], costs: &[Tensor], shares: &[f64]| {
        BarycenterProblem::new(measures, costs, shares)
            .unwrap_err()
            .to_string()
    };
    let c = || cost.clone();
    let one = |x: Tensor| message(&[x], &[c()], &[1.0]);
    let cases = [
        (message(&[], &[], &[]), "number of measures is 0"),
        (
            message(&[a.clone(), a.clone()], &[c(), c(), c()], &[0.5, 0.5]),
            "number of costs is 3: 2 measures",
        ),
        (one(new(&[1.0])), "measure 0: expected shape (2)"),
        (one(new(&[1.5, -0.5])), "measure 0[1] is -0.5"),
        (one(new(&[f64::NAN, 1.0])), "measure 0[0] is NaN"),
        (one(new(&[0.0, 0.0])), "the total of measure 0 is 0"),
        (
            message(&[a.clone(), new(&[1.0, 1.0])], &[c()], &[0.5, 0.5]),
            "the total of measure 1 is 2: must equal the total of measure 0, 1",
        ),
        (
            message(std::slice::from_ref(&a), &[c()], &[0.9]),
            "the sum of the measures' weights is 0.9: must be 1",
        ),
        (
            message(&[a.clone(), a.clone()], &[c()], &[1.5, -0.5]),
            "weight of measure 1 is -0.5",
        ),
        (
            message(std::slice::from_ref(&a), &[c()], &[0.5, 0.5]),
            "number of weights is 2",
        ),
        (
            message(&[a.to_dtype(DType::F32).unwrap()], &[c()], &[1.0]),
            "cost 0: expected shape (n, 3), not empty, of F32",
        ),
        (
            message(
                &[a.clone(), a.clone()],
                &[c(), normal(&[2, 4], 0)],
                &[0.5, 0.5],
            ),
            "cost 1: expected shape (n, 3)",
        ),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got}");
    }
    let infinite = new(&[0.0, f64::INFINITY]).reshape((2, 1)).unwrap();
    let got = message(std::slice::from_ref(&a), &[infinite], &[1.0]);
    assert!(got.contains("cost 0 at (1, 0) is inf"), "{got}");
    let problem = BarycenterProblem::new(&[a], &[c()], &[1.0]).unwrap();
    let lacking = solver(1.0).debiased(true).solve(&problem).unwrap_err();
    assert!(lacking.to_string().contains("support cost is absent"));
    let skew = problem.support_cost(&normal(&[3, 3], 1)).unwrap_err();
    assert!(
        skew.to_string().contains("support cost at (0, 1)"),
        "{skew}"
    );
    for bad in [0.0, -1.0, f64::NAN] {
        assert!(FixedSupportBarycenter::new(bad).is_err() && solver(1.0).tolerance(bad).is_err());
        assert!(FreeSupportBarycenter::new(bad).is_err());
    }
    assert!(solver(1.0).max_iterations(0).is_err());
}

fn sorted(x: &Tensor) -> Vec<f64> {
    let mut x = numbers(x);
    x.sort_by(f64::total_cmp);
    x
}

fn uniform(n: usize) -> Tensor {
    new(&vec![1.0 / n as f64; n])
}

#[test]
fn free_points_average_quantiles() -> Result<()> {
    // On a line with equal weights the i-th smallest points of all measures meet.
    let n = 12;
    let xs = [0, 1, 2].map(|k| (normal(&[n, 1], k) + k as f64).unwrap());
    let shares = [0.2, 0.3, 0.5];
    let measures: Vec<_> = xs.iter().map(|x| (x.clone(), uniform(n))).collect();
    let start = Support::drawn(&measures, &shares, n, 4)?;
    let got = FreeSupportBarycenter::new(2e-4)?.solve(&measures, &shares, &start)?;
    assert!(got.converged, "{got:?}");
    let sorts = xs.each_ref().map(sorted);
    for (i, y) in sorted(&got.points).iter().enumerate() {
        let want: f64 = sorts.iter().zip(&shares).map(|(x, w)| w * x[i]).sum();
        assert!((y - want).abs() < 0.02, "{i}: {y} {want}");
    }
    Ok(())
}

#[test]
fn free_points_of_diracs_and_of_copies() -> Result<()> {
    // Far from 0, where single precision has few digits.
    let at = [[100.0f64, 2.0], [104.0, -1.0]];
    let diracs = at.map(|x| (new(&x).reshape((1, 2)).unwrap(), new(&[2.0])));
    let start = Support::drawn(&diracs, &[0.25, 0.75], 3, 1)?;
    let got = FreeSupportBarycenter::new(0.1)?.solve(&diracs, &[0.25, 0.75], &start)?;
    assert!(got.converged && (numbers(&got.weights)[0] - 2.0 / 3.0).abs() < 1e-12);
    let want = new(&[103.0, -0.25]).reshape((1, 2))?.broadcast_as((3, 2))?;
    assert!(distance(&got.points, &want) < 1e-9);
    // Moving mass 2 from the mean, and KL(P | b x a) where P_i = b_i and a = 2.
    let moved: f64 = 2.0 * (0.25 * (9.0 + 5.0625) + 0.75 * (1.0 + 0.5625));
    let value = moved + 0.1 * (2.0 * 0.5f64.ln() - 2.0 + 4.0);
    assert!((numbers(&got.value)[0] - value).abs() < 1e-9);
    // Copies moved by t and by -t, in single precision, from near the middle.
    let x = (normal(&[10, 2], 0) * 3.0)?;
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    let t = new(&[1.0, 0.5]);
    let (up, down) = (x.broadcast_add(&t)?, x.broadcast_sub(&t)?);
    let copies = [up, down].map(|x| (single(&x).unwrap(), single(&uniform(10)).unwrap()));
    let start = Support::new(&single(&(&x + (normal(&[10, 2], 1) * 0.1)?)?)?)?;
    let got = FreeSupportBarycenter::new(0.02)?.solve(&copies, &[0.5, 0.5], &start)?;
    assert!(got.converged && got.points.dtype() == DType::F32, "{got:?}");
    assert!(
        distance(&got.points, &x) < 0.05,
        "{}",
        distance(&got.points, &x)
    );
    // A measure that does not count: the other one.
    let got = FreeSupportBarycenter::new(0.02)?.solve(&copies, &[1.0, 0.0], &start)?;
    assert!(got.converged && distance(&got.points, &copies[0].0) < 0.05);
    Ok(())
}

#[test]
fn free_points_do_not_depend_on_the_order() -> Result<()> {
    let measures: Vec<_> = (0..3)
        .map(|k| (normal(&[6 + k, 2], k as u64), weights(6 + k, 10 + k as u64)))
        .collect();
    let turned = [&measures[2], &measures[0], &measures[1]].map(Clone::clone);
    let start = Support::new(&normal(&[5, 2], 5))?.weighted(&weights(5, 6))?;
    let solver = FreeSupportBarycenter::new(0.3)?
        .tolerance(1e-8)?
        .max_iterations(2000)?
        .inner(1e-11, 20_000)?;
    let one = solver.solve(&measures, &[0.2, 0.3, 0.5], &start)?;
    let other = solver.solve(&turned, &[0.5, 0.2, 0.3], &start)?;
    assert!(one.converged && other.converged, "{one:?}");
    assert!(distance(&one.points, &other.points) < 1e-5);
    assert!(distance(&one.value, &other.value) < 1e-9);
    assert!(distance(&one.weights, &weights(5, 6)) == 0.0);
    Ok(())
}

#[test]
fn free_objective_falls_and_has_gradients() -> Result<()> {
    let inputs = [
        normal(&[4, 2], 0),
        normal(&[5, 2], 1),
        normal(&[4], 2),
        normal(&[5], 3),
    ];
    let measures = |x: &[Tensor]| -> Result<[(Tensor, Tensor); 2]> {
        Ok([
            (x[0].clone(), softmax(&x[2])?),
            (x[1].clone(), softmax(&x[3])?),
        ])
    };
    let start = Support::new(&normal(&[3, 2], 4))?;
    let solver = FreeSupportBarycenter::new(0.5)?
        .tolerance(1e-9)?
        .max_iterations(2000)?
        .inner(1e-12, 20_000)?;
    let mut before = f64::INFINITY;
    for moves in 1..8 {
        let solver = solver.max_iterations(moves)?;
        let got = solver.solve(&measures(&inputs)?, &[0.4, 0.6], &start)?;
        let value = numbers(&got.value)[0];
        assert!(value < before, "{moves}");
        assert!(!got.converged && got.iterations == moves);
        before = value;
    }
    gradcheck(&inputs, 1e-6, |x| {
        let got = solver.solve(&measures(x)?, &[0.4, 0.6], &start)?;
        assert!(got.converged, "{} {}", got.movement, got.marginal_error);
        Ok(vec![got.value])
    })
}

#[test]
fn bad_free_input_is_named() {
    let (x, a) = (normal(&[3, 2], 0), uniform(3));
    let start = Support::new(&x).unwrap();
    let solver = FreeSupportBarycenter::new(0.1).unwrap();
    let message = |x: Tensor, a: Tensor, start: &Support| {
        let first = (normal(&[3, 2], 0), uniform(3));
        let got = solver.solve(&[first, (x, a)], &[0.5, 0.5], start);
        got.unwrap_err().to_string()
    };
    let three = Support::new(&normal(&[3, 3], 0)).unwrap();
    let heavy = Support::new(&x).unwrap().weighted(&new(&[1.0; 3])).unwrap();
    let cases = [
        (
            message(normal(&[3, 3], 0), a.clone(), &start),
            "points of measure 1: expected shape (n, 2)",
        ),
        (
            message(x.clone(), uniform(2), &start),
            "weights of measure 1: expected shape (3)",
        ),
        (
            message(x.clone(), new(&[1.0, 1.0, 1.0]), &start),
            "the total of weights of measure 1 is 3",
        ),
        (
            message(x.clone(), a.clone(), &three),
            "support: expected shape (n, 2)",
        ),
        (
            message(x.clone(), a.clone(), &heavy),
            "the total of weights of the support is 3",
        ),
    ];
    for (got, want) in cases {
        assert!(got.contains(want), "{got}");
    }
    assert!(Support::drawn(&[(x.clone(), a)], &[1.0], 0, 1).is_err());
    let error = Support::new(&x).unwrap().weighted(&new(&[0.5, 0.0, 0.5]));
    assert!(error.unwrap_err().to_string().contains("[1] is 0"));
    assert!(solver.inner(0.0, 1).is_err() && solver.inner(1.0, 0).is_err());
    assert!(solver.tolerance(0.0).is_err() && solver.max_iterations(0).is_err());
}
