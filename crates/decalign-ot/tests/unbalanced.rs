//! Unbalanced transport, divergences, warm starts, accelerations.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Tensor};
use common::{distance, normal, numbers, squares, tensor, value, weights};
use decalign_core::Result;
use decalign_core::random::Stream;
use decalign_ot::{
    Acceleration, Geometry, LinearProblem, Sinkhorn, SinkhornDivergence, Update, reference,
};
use proptest::prelude::*;

const EXACT: f64 = f64::INFINITY;

fn sharp(epsilon: f64) -> Sinkhorn {
    Sinkhorn::new(epsilon).unwrap().tolerance(1e-11).unwrap()
}

#[test]
fn one_point_has_a_closed_form() -> Result<()> {
    // P minimises p c + eps KL(p | a b) + rho_a KL(p | a) + rho_b KL(p | b):
    // log p (eps + rho_a + rho_b) = eps log ab + rho_a log a + rho_b log b - c.
    let (a, b, c) = (1.7f64, 0.4f64, 0.9);
    for (epsilon, rho_a, rho_b) in [(0.1, 1.0, 2.0), (0.5, 0.3, 0.3), (0.05, 50.0, 0.2)] {
        let geometry = Geometry::dense(&tensor(&[c]).reshape((1, 1))?)?;
        let problem =
            LinearProblem::unbalanced(geometry, &tensor(&[a]), &tensor(&[b]), (rho_a, rho_b))?;
        let solution = sharp(epsilon).solve(&problem)?;
        let log = (epsilon * (a * b).ln() + rho_a * a.ln() + rho_b * b.ln() - c)
            / (epsilon + rho_a + rho_b);
        let p = value(&solution.plan.to_tensor()?.reshape(())?);
        assert!(
            solution.converged() && (p - log.exp()).abs() < 1e-10,
            "{p} {}",
            log.exp()
        );
        let kl = |p: f64, q: f64| p * (p / q).ln() - p + q;
        let want = p * c + epsilon * kl(p, a * b) + rho_a * kl(p, a) + rho_b * kl(p, b);
        assert!((value(&solution.value) - want).abs() < 1e-9);
        assert!((value(&solution.regularized_cost) - want).abs() < 1e-9);
    }
    // One side exact: all of b is moved.
    let geometry = Geometry::dense(&tensor(&[c]).reshape((1, 1))?)?;
    let problem = LinearProblem::unbalanced(geometry, &tensor(&[a]), &tensor(&[b]), (0.5, EXACT))?;
    let solution = sharp(0.1).solve(&problem)?;
    assert!(
        solution.converged() && (value(&solution.plan.to_tensor()?.reshape(())?) - b).abs() < 1e-10
    );
    Ok(())
}

#[test]
fn unbalanced_tends_to_balanced() -> Result<()> {
    let (x, y) = (normal(&[12, 2], 0), normal(&[9, 2], 1));
    let (a, b) = (weights(&[12], 2), weights(&[9], 3));
    let geometry = || Geometry::squared_euclidean(&x, &y).unwrap();
    let balanced = sharp(0.3).solve(&LinearProblem::new(geometry(), &a, &b)?)?;
    let mut last = f64::INFINITY;
    for rho in [1.0, 10.0, 1e3, 1e5] {
        let problem = LinearProblem::unbalanced(geometry(), &a, &b, (rho, rho))?;
        let solution = sharp(0.3).solve(&problem)?;
        assert!(
            solution.converged() && solution.iterations() < 500,
            "{rho}: {:?}",
            solution.convergence()
        );
        // A penalty is a relaxation.
        let gap = value(&balanced.value) - value(&solution.value);
        assert!(gap > -1e-9 && gap < last, "{rho}");
        last = gap;
    }
    assert!(last < 1e-4, "{last}");
    Ok(())
}

#[test]
fn lonely_mass_is_left_behind() -> Result<()> {
    // Two clusters; the second has no partner within reach of the penalty.
    let x = tensor(&[0.0, 0.1, 50.0]).reshape((3, 1))?;
    let y = tensor(&[0.0, 0.1]).reshape((2, 1))?;
    let (a, b) = (tensor(&[0.3, 0.3, 0.4]), tensor(&[0.3, 0.3]));
    let problem =
        LinearProblem::unbalanced(Geometry::squared_euclidean(&x, &y)?, &a, &b, (1.0, 1.0))?;
    let solution = sharp(0.01).solve(&problem)?;
    let rows = numbers(&solution.plan.marginals()?.0);
    assert!(
        solution.converged() && rows[2] < 1e-12 && rows[0] > 0.25,
        "{rows:?}"
    );
    Ok(())
}

#[test]
fn all_roads_lead_to_one_solution() -> Result<()> {
    let cost = normal(&[20, 15], 0);
    let (a, b) = (weights(&[20], 1), weights(&[15], 2));
    for penalties in [(EXACT, EXACT), (1.0, 2.0), (EXACT, 0.7)] {
        let problem = LinearProblem::unbalanced(Geometry::dense(&cost)?, &a, &b, penalties)?;
        let want = sharp(0.1)
            .acceleration(Acceleration::Plain)?
            .solve(&problem)?;
        assert!(want.converged());
        let roads = [
            sharp(0.1),
            sharp(0.1).acceleration(Acceleration::Momentum(1.2))?,
            sharp(0.1).acceleration(Acceleration::Anderson(5))?,
            sharp(0.1).update(Update::Symmetric),
            sharp(0.1).epsilon_scaling(0.1)?,
        ];
        for road in roads {
            let got = road.solve(&problem)?;
            assert!(
                got.converged(),
                "{road:?} {penalties:?} {:?}",
                got.convergence()
            );
            assert!(distance(&got.value, &want.value) < 1e-8, "{road:?}");
            assert!(
                distance(&got.potentials.0, &want.potentials.0) < 1e-7,
                "{road:?}"
            );
        }
        // Near to the reference, too.
        let (f, g) = reference::sinkhorn(&problem, 0.1, 3000)?;
        assert!(distance(&want.potentials.0, &f) < 1e-7 && distance(&want.potentials.1, &g) < 1e-7);
    }
    Ok(())
}

#[test]
fn accelerations_need_fewer_sweeps() -> Result<()> {
    let (x, y) = (normal(&[60, 2], 0), normal(&[60, 2], 1));
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
    let base = Sinkhorn::new(0.05)?
        .tolerance(1e-8)?
        .max_iterations(100_000)?
        .epsilon_scaling(1.0)?;
    let sweeps = |solver: Sinkhorn| -> Result<usize> {
        let solution = solver.solve(&problem)?;
        assert!(solution.converged());
        Ok(solution.iterations())
    };
    let plain = sweeps(base.acceleration(Acceleration::Plain)?)?;
    for acceleration in [
        Acceleration::Adaptive,
        Acceleration::Anderson(8),
        Acceleration::Momentum(1.7),
    ] {
        let fast = sweeps(base.acceleration(acceleration)?)?;
        assert!(2 * fast < plain, "{acceleration:?}: {fast} of {plain}");
    }
    Ok(())
}

#[test]
fn a_warm_start_is_soon_done() -> Result<()> {
    let (x, y) = (normal(&[30, 2], 0), normal(&[30, 2], 1));
    let solver = Sinkhorn::new(0.05)?;
    let cold = solver.solve(&LinearProblem::uniform(Geometry::squared_euclidean(
        &x, &y,
    )?)?)?;
    let moved = (&x + (normal(&[30, 2], 2) * 1e-3)?)?;
    let problem = LinearProblem::uniform(Geometry::squared_euclidean(&moved, &y)?)?;
    let warm = solver.solve_from(&problem, (&cold.potentials.0, &cold.potentials.1))?;
    let anew = solver.solve(&problem)?;
    assert!(
        warm.converged() && 2 * warm.iterations() < anew.iterations(),
        "{} {}",
        warm.iterations(),
        anew.iterations()
    );
    assert!(distance(&warm.value, &anew.value) < 1e-6);
    // From its own solution there is nothing left to do.
    let again = solver.solve_from(&problem, (&warm.potentials.0, &warm.potentials.1))?;
    assert!(again.iterations() <= 2);
    let error = solver
        .solve_from(&problem, (&tensor(&[0.0]), &cold.potentials.1))
        .unwrap_err();
    assert!(
        error.to_string().contains("f: expected shape [30]"),
        "{error}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn divergences_are_distances(seed in 0u64..1000, n in 1usize..12, m in 1usize..12, epsilon in 0.05f64..2.0, kind in 0usize..3, penalty in 0usize..3) {
        let points = |k: usize, number: u64| Stream::new(seed, number).normal_tensor((k, 2)).unwrap();
        let mass = |k: usize, number: u64| (Stream::new(seed, number).normal_tensor(k).unwrap().sqr().unwrap() + 0.1).unwrap();
        let normalised = |w: Tensor| (&w / value(&w.sum_all().unwrap())).unwrap();
        let (x, y, a, b) = (points(n, 0), points(m, 1), mass(n, 2), mass(m, 3));
        let rho = [(EXACT, EXACT), (1.0, 1.0), (0.5, 3.0)][penalty];
        let (a, b) = if penalty == 0 { (normalised(a), normalised(b)) } else { (a, b) };
        let geometry = |x: &Tensor, y: &Tensor| match kind {
            0 => Geometry::squared_euclidean(x, y).unwrap(),
            1 => Geometry::euclidean(x, y).unwrap(),
            _ => Geometry::lp(x, y, 1.0).unwrap(),
        };
        let divergence = SinkhornDivergence::new(sharp(epsilon));
        let problem = |x: &Tensor, a: &Tensor, y: &Tensor, b: &Tensor, rho| LinearProblem::unbalanced(geometry(x, y), a, b, rho).unwrap();
        let one = divergence.solve(&problem(&x, &a, &y, &b, rho)).unwrap();
        prop_assert!(one.converged());
        let back = divergence.solve(&problem(&y, &b, &x, &a, (rho.1, rho.0))).unwrap();
        prop_assert!((value(&one.value) - value(&back.value)).abs() < 1e-7);
        // Before rounding is cut off as well.
        let raw = value(&one.between.value) - 0.5 * (value(&one.first.value) + value(&one.second.value));
        if penalty == 0 {
            prop_assert!(raw > -1e-8, "{raw}");
        }
        if rho.0 == rho.1 {
            let same = divergence.solve(&problem(&x, &a, &x, &a, rho)).unwrap();
            prop_assert!(value(&same.value) < 1e-8);
        }
    }
}

#[test]
fn translations_cost_their_square() -> Result<()> {
    // The divergence of a translated copy is |t|^2 at every epsilon.
    let x = normal(&[25, 3], 0);
    let y = x.broadcast_add(&tensor(&[1.0, -2.0, 0.5]))?;
    for epsilon in [0.1, 1.0, 10.0] {
        let problem = LinearProblem::uniform(Geometry::squared_euclidean(&x, &y)?)?;
        let got = value(
            &SinkhornDivergence::new(sharp(epsilon))
                .solve(&problem)?
                .value,
        );
        assert!((got - 5.25).abs() < 1e-7, "{epsilon}: {got}");
    }
    // Stored costs want those of each side as well.
    let dense = |x: &Tensor, y: &Tensor| {
        LinearProblem::uniform(Geometry::dense(&squares(x, y)).unwrap()).unwrap()
    };
    let solver = SinkhornDivergence::new(sharp(1.0));
    let error = solver.solve(&dense(&x, &y)).unwrap_err().to_string();
    assert!(error.contains("solve_with"), "{error}");
    let got = value(
        &solver
            .solve_with(&dense(&x, &y), &dense(&x, &x), &dense(&y, &y))?
            .value,
    );
    assert!((got - 5.25).abs() < 1e-7);
    assert!(
        solver
            .solve_with(
                &dense(&x, &y),
                &dense(&x, &y),
                &dense(&y.narrow(0, 0, 3)?, &y)
            )
            .is_err()
    );
    Ok(())
}

#[test]
fn tiny_weights_and_small_epsilons_end_honestly() -> Result<()> {
    for dtype in [DType::F32, DType::F64] {
        let (x, y) = (
            normal(&[8, 2], 0).to_dtype(dtype)?,
            normal(&[8, 2], 1).to_dtype(dtype)?,
        );
        let mut w = vec![1.0 / 7.0; 8];
        w[3] = 1e-30;
        let a = tensor(&w).to_dtype(dtype)?;
        let b = Tensor::full(0.125, 8, x.device())?.to_dtype(dtype)?;
        for epsilon in [1.0, 1e-2, 1e-4, 1e-6] {
            let problem = LinearProblem::new(Geometry::squared_euclidean(&x, &y)?, &a, &b)?;
            let solution = Sinkhorn::new(epsilon)?
                .max_iterations(3000)?
                .solve(&problem)?;
            assert!(
                value(&solution.value).is_finite()
                    && numbers(&solution.potentials.0)
                        .iter()
                        .all(|v| v.is_finite())
            );
            let rows = solution.plan.marginals()?.0;
            let error = numbers(&rows)
                .iter()
                .zip(&w)
                .map(|(p, w)| (p - w).abs())
                .sum::<f64>();
            assert_eq!(
                solution.converged(),
                solution.marginal_error() <= 1e-5,
                "{epsilon}"
            );
            assert!(
                error <= solution.marginal_error() + 1e-5,
                "{dtype:?} {epsilon}: {error}"
            );
        }
    }
    Ok(())
}

#[test]
fn bad_settings_are_named() -> Result<()> {
    let geometry = Geometry::dense(&normal(&[2, 2], 0))?;
    let half = tensor(&[0.5, 0.5]);
    for rho in [0.0, -1.0, f64::NAN] {
        let error =
            LinearProblem::unbalanced(geometry.clone(), &half, &half, (1.0, rho)).unwrap_err();
        assert!(error.to_string().contains("rho of b"), "{error}");
    }
    let solver = Sinkhorn::new(1.0)?;
    assert!(solver.acceleration(Acceleration::Momentum(2.0)).is_err());
    assert!(solver.acceleration(Acceleration::Anderson(0)).is_err());
    // Semi-unbalanced totals may differ.
    LinearProblem::unbalanced(geometry, &half, &tensor(&[2.0, 1.0]), (EXACT, 1.0))?;
    Ok(())
}
