//! Closed forms, and searches that find nothing nearer.

use candle_core::Tensor;
use decalign_core::Result;
use decalign_ot::{BarycenterProblem, FixedSupportBarycenter, Geometry, LinearProblem, Sinkhorn};

use crate::problems::*;

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
            assert!(got.converged(), "{got:?}");
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
    assert!(
        got.converged(),
        "{} {}",
        got.marginal_error(),
        got.iterations()
    );
    for (k, a) in measures.iter().enumerate() {
        let plan = got.plan(k)?;
        assert!(distance(&plan.sum(1)?, a) < 1e-6);
        assert!(distance(&plan.sum(0)?, &got.weights) < 1e-6);
    }
    assert!((numbers(&got.weights).iter().sum::<f64>() - 3.0).abs() < 1e-6);
    // From its own end nothing is left to do.
    let solver = FixedSupportBarycenter::new(0.2)?.tolerance(1e-6)?;
    let again = solver.solve_from(&problem, &got)?;
    assert!(again.converged() && again.iterations() == 1 && got.iterations() > 10);
    assert!(distance(&again.weights, &got.weights) < 1e-6);
    assert!(got.plan(2).is_err());
    Ok(())
}
