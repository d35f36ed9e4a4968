//! Inputs that once broke a solver.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor, Var};
use common::{distance, normal, numbers, squares, tensor, value, weights};
use decalign_core::nn::softmax;
use decalign_core::{Result, gradcheck};
use decalign_ot::{
    BarycenterProblem, FixedSupportBarycenter, Geometry, Gradient, LinearProblem, LowRankSinkhorn,
    MultiMarginalSinkhorn, NetworkSimplex, Sinkhorn, SinkhornDivergence, reference,
};

fn single(x: &Tensor) -> Tensor {
    x.to_dtype(DType::F32).unwrap()
}

#[test]
fn high_powers_neither_overflow_nor_vanish() -> Result<()> {
    for (p, scale) in [
        (10.0, 1e-6),
        (64.0, 1e-2),
        (64.0, 5.0),
        (12.0, 1e-4),
        (1.0000001, 1.0),
    ] {
        let (x, y) = (
            (normal(&[17, 5], 0) * scale)?,
            (normal(&[33, 5], 1) * scale)?,
        );
        let narrow = Geometry::lp(&single(&x), &single(&y), p)?;
        let wide = Geometry::lp(&x, &y, p)?;
        let exact = |g: &Geometry| -> Result<f64> {
            let solution = NetworkSimplex::new().solve(&LinearProblem::uniform(g.clone())?)?;
            assert!(solution.converged());
            Ok(value(&solution.value))
        };
        let want = exact(&wide)?;
        assert!(
            want > 0.1 * scale && (exact(&narrow)? - want).abs() < 1e-4 * want,
            "{p} {scale}"
        );
        // Close to the largest difference at high powers: a plain loop.
        let plain = reference::cost(&wide)?;
        assert!(
            distance(&plain, &wide.to_tensor()?) == 0.0
                && numbers(&plain).iter().all(|c| c.is_finite())
        );
        let solve = |g: Geometry| Sinkhorn::new(0.1 * scale)?.solve(&LinearProblem::uniform(g)?);
        let (a, b) = (solve(narrow)?, solve(wide)?);
        assert!(
            a.converged() && (value(&a.value) - value(&b.value)).abs() < 1e-4 * scale,
            "{p} {scale}"
        );
    }
    Ok(())
}

#[test]
fn light_points_take_no_digits_from_gradients() -> Result<()> {
    // Softmax weights with one logit far below: the reference differentiates every sweep.
    let (x, y) = (normal(&[6, 2], 0), normal(&[5, 2], 1));
    let mut logits = numbers(&normal(&[6], 2));
    logits[3] = -150.0;
    let b = weights(&[5], 3);
    let gradients = |gradient: Gradient| -> Result<(Tensor, Tensor)> {
        let (x, l) = (Var::from_tensor(&x)?, Var::from_tensor(&tensor(&logits))?);
        let problem = LinearProblem::new(Geometry::squared_euclidean(&x, &y)?, &softmax(&l)?, &b)?;
        let solver = Sinkhorn::new(0.5)?
            .epsilon_scaling(1.0)?
            .tolerance(1e-12)?
            .gradient(gradient);
        let solution = solver.solve(&problem)?;
        let loss = solution.plan.barycentric_projection(&y)?.sqr()?.sum_all()?;
        let all = loss.backward()?;
        assert!(solution.gradient_solves().iter().all(|s| s.converged));
        Ok((all.get(&x).unwrap().clone(), all.get(&l).unwrap().clone()))
    };
    let (implicit, unrolled) = (
        gradients(Gradient::Implicit)?,
        gradients(Gradient::Unrolled)?,
    );
    assert!(
        distance(&implicit.0, &unrolled.0) < 1e-6,
        "{} {}",
        implicit.0,
        unrolled.0
    );
    assert!(
        distance(&implicit.1, &unrolled.1) < 1e-6,
        "{} {}",
        implicit.1,
        unrolled.1
    );
    // In f32 none of them is NaN.
    let l = Var::from_tensor(&single(&tensor(&[0.0, 1.0, -60.0, 0.5, 0.2, 0.1])))?;
    let geometry = Geometry::squared_euclidean(&single(&x), &single(&y))?;
    let problem = LinearProblem::new(geometry, &softmax(&l)?, &single(&b))?;
    let solution = Sinkhorn::new(0.5)?
        .gradient(Gradient::Implicit)
        .solve(&problem)?;
    let loss = solution
        .plan
        .barycentric_projection(&single(&y))?
        .sqr()?
        .sum_all()?;
    let gradient = loss.backward()?.get(&l).unwrap().clone();
    assert!(numbers(&gradient).iter().all(|v| v.is_finite()));
    Ok(())
}

#[test]
fn equal_points_have_gradient_zero_everywhere() -> Result<()> {
    let x = normal(&[5, 2], 0);
    for p in [1.5, 2.0, 3.0] {
        let v = Var::from_tensor(&x)?;
        let geometry = Geometry::lp(&v, &x, p)?;
        let gradient = reference::cost(&geometry)?
            .sum_all()?
            .backward()?
            .get(&v)
            .unwrap()
            .clone();
        assert!(numbers(&gradient).iter().all(|g| g.is_finite()), "{p}");
        let low = LowRankSinkhorn::new(2, 1)?.solve(&LinearProblem::uniform(geometry)?)?;
        let gradient = low.value.backward()?.get(&v).unwrap().clone();
        assert!(numbers(&gradient).iter().all(|g| g.is_finite()), "{p}");
    }
    Ok(())
}

#[test]
fn single_precision_reaches_what_it_is_asked() -> Result<()> {
    for seed in 0..8 {
        let (x, y) = (
            single(&normal(&[40, 3], 10 * seed)),
            single(&normal(&[50, 3], 10 * seed + 1)),
        );
        for (penalties, tolerance) in [
            ((f64::INFINITY, f64::INFINITY), 1e-6),
            ((100.0, f64::INFINITY), 1e-5),
            ((1e-3, f64::INFINITY), 1e-5),
        ] {
            let (a, b) = (single(&weights(&[40], 3)), single(&weights(&[50], 4)));
            let problem =
                LinearProblem::unbalanced(Geometry::squared_euclidean(&x, &y)?, &a, &b, penalties)?;
            let solution = Sinkhorn::new(0.1)?.tolerance(tolerance)?.solve(&problem)?;
            assert!(
                solution.converged(),
                "{seed} {penalties:?}: {:?}",
                solution.convergence()
            );
        }
    }
    Ok(())
}

#[test]
fn large_epsilons_keep_the_value() -> Result<()> {
    let (x, y) = (normal(&[17, 5], 0), normal(&[33, 5], 1));
    // At a large epsilon the plan is a x b, and the value the mean cost.
    let want = value(&squares(&x, &y).mean_all()?);
    for (x, y) in [(x.clone(), y.clone()), (single(&x), single(&y))] {
        for epsilon in [1e4, 1e6, 1e8] {
            let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
            let solution = Sinkhorn::new(epsilon)?.solve(&problem)?;
            let got = value(&solution.value);
            assert!(
                solution.converged() && (got - want).abs() < 0.02 * want,
                "{epsilon}: {got} {want}"
            );
        }
    }
    Ok(())
}

#[test]
fn divergences_do_not_hide() -> Result<()> {
    let (x, y) = (normal(&[4, 2], 0), normal(&[4, 2], 1));
    let solver = SinkhornDivergence::new(Sinkhorn::new(0.5)?);
    // A kernel that is not positive definite has negative divergences.
    let problem = |c: Tensor| LinearProblem::uniform(Geometry::dense(&c).unwrap()).unwrap();
    let negative = |x: &Tensor, y: &Tensor| (squares(x, y) * -1.0).unwrap();
    let got = solver.solve_with(
        &problem(negative(&x, &y)),
        &problem(negative(&x, &x)),
        &problem(negative(&y, &y)),
    )?;
    assert!(value(&got.value) < -0.01);
    // Overflow is not a perfect score.
    let far = |x: &Tensor| (x * 1e160).unwrap();
    let lost = LinearProblem::uniform(Geometry::squared_euclidean(&far(&x), &far(&y))?)?;
    let got = solver.solve(&lost)?;
    assert!(!got.converged() && value(&got.value) != 0.0);
    // Sides that are not the problem's own.
    let asymmetric = problem(normal(&[4, 4], 5));
    let own = problem(squares(&x, &x));
    assert!(
        solver
            .solve_with(&own, &asymmetric, &own)
            .unwrap_err()
            .to_string()
            .contains("asymmetry")
    );
    let other = LinearProblem::new(
        Geometry::dense(&squares(&x, &x))?,
        &weights(&[4], 6),
        &weights(&[4], 6),
    )?;
    assert!(
        solver
            .solve_with(&own, &other, &own)
            .unwrap_err()
            .to_string()
            .contains("weights")
    );
    let loose = LinearProblem::unbalanced(
        Geometry::dense(&squares(&x, &x))?,
        own.marginals().0,
        own.marginals().1,
        (1.0, 1.0),
    )?;
    assert!(
        solver
            .solve_with(&own, &loose, &own)
            .unwrap_err()
            .to_string()
            .contains("penalties")
    );
    Ok(())
}

#[test]
fn nothing_larger_than_the_plan_is_made() -> Result<()> {
    let (x, y) = (normal(&[2, 2], 0), normal(&[20_000, 2], 1));
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    for gradient in [Gradient::Envelope, Gradient::Implicit] {
        let solution = Sinkhorn::new(1.0)?.gradient(gradient).solve(&problem)?;
        assert_eq!(solution.plan.to_tensor()?.dims(), [2, 20_000]);
    }
    let x = Var::from_tensor(&x)?;
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let solution = Sinkhorn::new(1.0)?
        .gradient(Gradient::Implicit)
        .solve(&problem)?;
    solution.potentials.0.sqr()?.sum_all()?.backward()?;
    Ok(())
}

#[test]
fn plans_written_out_have_gradients() -> Result<()> {
    for (n, m) in [(3, 5), (5, 3)] {
        gradcheck(&[normal(&[n, m], 0)], 1e-6, |c| {
            let problem = LinearProblem::uniform(Geometry::dense(&c[0])?)?;
            let solver = Sinkhorn::new(0.7)?
                .tolerance(1e-13)?
                .gradient(Gradient::Implicit);
            Ok(vec![solver.solve(&problem)?.plan.to_tensor()?])
        })?;
    }
    Ok(())
}

#[test]
fn ends_of_ranges_are_errors_or_answers() -> Result<()> {
    let solver = Sinkhorn::new(1e-3)?;
    for scaling in [1.0 - 1.2e-16, 0.999_999, 0.95] {
        assert!(solver.epsilon_scaling(scaling).is_err(), "{scaling}");
        // Stages of these factors would not end.
        let joint = MultiMarginalSinkhorn::new(1e-3)?;
        assert!(joint.epsilon_scaling(scaling).is_err(), "{scaling}");
    }
    // Six axes: more dimensions than a tensor of all pairs would have.
    let axes: Vec<Tensor> = (0..6).map(|k| normal(&[2, 2], k)).collect();
    let problem = LinearProblem::uniform(Geometry::grid(&axes)?)?;
    let exact = NetworkSimplex::new().solve(&problem)?;
    let entropic = Sinkhorn::new(1e-2)?.solve(&problem)?;
    assert!(
        exact.converged() && (value(&exact.value) - value(&entropic.transport_cost)).abs() < 0.05
    );
    let wide: Vec<Tensor> = (0..8)
        .map(|_| Tensor::zeros((256, 256), DType::F32, &Device::Cpu).unwrap())
        .collect();
    assert!(
        Geometry::grid(&wide)
            .unwrap_err()
            .to_string()
            .contains("axis 7")
    );
    // Directions of tiny and of huge vectors are those of ordinary ones.
    let (x, y) = (normal(&[4, 3], 0), normal(&[5, 3], 1));
    let want = Geometry::cosine(&x, &y)?.to_tensor()?;
    for scale in [1e-160, 1e-30, 1e30, 1e160] {
        let got = Geometry::cosine(&(&x * scale)?, &(&y * scale)?)?.to_tensor()?;
        assert!(distance(&got, &want) < 1e-12, "{scale}");
    }
    for scale in [1e-25, 1e25] {
        let got =
            Geometry::cosine(&single(&(&x * scale)?), &single(&(&y * scale)?))?.to_tensor()?;
        assert!(distance(&got, &single(&want)) < 1e-5, "{scale}");
    }
    // Totals that differ a little are made equal.
    let (a, b) = (tensor(&[0.5, 0.5]), tensor(&[0.5, 0.500_05]));
    let problem = LinearProblem::new(Geometry::dense(&normal(&[2, 2], 0))?, &a, &b)?;
    assert!(Sinkhorn::new(0.5)?.solve(&problem)?.converged());
    // Zero costs at no epsilon, and squared distances below the smallest f32.
    let zero = Geometry::dense(&Tensor::zeros((3, 3), DType::F32, &Device::Cpu)?)?;
    assert!(
        Sinkhorn::new(1e-300)?
            .solve(&LinearProblem::uniform(zero)?)?
            .converged()
    );
    // Potentials that lost their digits are not converged.
    let measures = [weights(&[5], 0), weights(&[5], 1)];
    let problem = BarycenterProblem::new(
        &measures,
        &[squares(&normal(&[5, 1], 2), &normal(&[5, 1], 2))],
        &[0.5, 0.5],
    )?;
    for epsilon in [1e-18, 1e-300] {
        let solution = FixedSupportBarycenter::new(epsilon)?
            .max_iterations(200)?
            .solve(&problem)?;
        let total = value(&solution.weights.sum_all()?);
        assert!(
            !solution.converged() || (total - 1.0).abs() < 1e-4,
            "{epsilon}: {total}"
        );
    }
    Ok(())
}
