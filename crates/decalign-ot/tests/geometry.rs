//! Costs: computed as stored, batched as one by one, separable as whole.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Tensor};
use common::{distance, normal, tensor, value, weights};
use decalign_core::Result;
use decalign_ot::{Geometry, LinearProblem, Sinkhorn, SinkhornSolution, reference};

fn solve(geometry: Geometry, a: &Tensor, b: &Tensor, epsilon: f64) -> SinkhornSolution {
    let problem = LinearProblem::new(geometry, a, b).unwrap();
    Sinkhorn::new(epsilon)
        .unwrap()
        .tolerance(1e-10)
        .unwrap()
        .solve(&problem)
        .unwrap()
}

/// Every geometry of points, by name.
fn kinds(x: &Tensor, y: &Tensor) -> Vec<(&'static str, Geometry)> {
    let spread = |x: &Tensor| (x.sqr().unwrap() + 0.2).unwrap();
    vec![
        ("squared", Geometry::squared_euclidean(x, y).unwrap()),
        ("euclidean", Geometry::euclidean(x, y).unwrap()),
        ("city block", Geometry::lp(x, y, 1.0).unwrap()),
        ("l2", Geometry::lp(x, y, 2.0).unwrap()),
        ("l3.5", Geometry::lp(x, y, 3.5).unwrap()),
        ("cosine", Geometry::cosine(x, y).unwrap()),
        (
            "gaussians",
            Geometry::diagonal_gaussians((x, &spread(x)), (y, &spread(y))).unwrap(),
        ),
    ]
}

#[test]
fn computed_costs_are_those_stored() -> Result<()> {
    for (n, m, d) in [(5, 3, 2), (61, 70, 17), (9, 100, 1), (1, 1, 3)] {
        let (x, y) = (normal(&[n, d], 0), normal(&[m, d], 1));
        let (a, b) = (weights(&[n], 2), weights(&[m], 3));
        for (name, geometry) in kinds(&x, &y) {
            let dense = Geometry::dense(&reference::cost(&geometry)?)?;
            let (lazy, dense) = (solve(geometry, &a, &b, 0.5), solve(dense, &a, &b, 0.5));
            assert!(lazy.converged(), "{name} {n} {m}");
            assert!(distance(&lazy.value, &dense.value) < 1e-9, "{name} {n} {m}");
            assert!(
                distance(&lazy.transport_cost, &dense.transport_cost) < 1e-9,
                "{name} {n} {m}"
            );
            assert!(
                distance(&lazy.plan.to_tensor()?, &dense.plan.to_tensor()?) < 1e-9,
                "{name} {n} {m}"
            );
        }
    }
    Ok(())
}

#[test]
fn single_precision_follows() -> Result<()> {
    let (x, y) = (normal(&[33, 5], 0), normal(&[40, 5], 1));
    let single = |x: &Tensor| x.to_dtype(DType::F32).unwrap();
    let uniform = |g: Geometry| {
        Sinkhorn::new(0.5)
            .unwrap()
            .solve(&LinearProblem::uniform(g).unwrap())
            .unwrap()
    };
    for ((name, double), (_, narrow)) in kinds(&x, &y)
        .into_iter()
        .zip(kinds(&single(&x), &single(&y)))
    {
        let (double, narrow) = (uniform(double), uniform(narrow));
        assert!(narrow.converged(), "{name}");
        assert_eq!(narrow.value.dtype(), DType::F32);
        assert!(
            (value(&double.value) - value(&narrow.value)).abs() < 1e-4,
            "{name}"
        );
    }
    Ok(())
}

#[test]
fn a_batch_is_its_problems() -> Result<()> {
    let (count, n, m) = (3, 7, 5);
    let (x, y) = (normal(&[count, n, 2], 0), normal(&[count, m, 2], 1));
    let (a, b) = (weights(&[count, n], 2), weights(&[count, m], 3));
    for (k, (name, geometry)) in kinds(&x, &y).into_iter().enumerate() {
        let all = solve(geometry, &a, &b, 0.4);
        let v = normal(&[count, m, 2], 4);
        let applied = all.plan.apply(&v)?;
        for i in 0..count {
            let geometry = kinds(&x.get(i)?, &y.get(i)?).swap_remove(k).1;
            let one = solve(geometry, &a.get(i)?, &b.get(i)?, 0.4);
            // The same steps: bit for bit.
            assert_eq!(value(&all.value.get(i)?), value(&one.value), "{name} {i}");
            assert_eq!(all.convergence()[i], one.convergence()[0], "{name} {i}");
            assert_eq!(
                distance(&all.potentials.0.get(i)?, &one.potentials.0),
                0.0,
                "{name} {i}"
            );
            assert_eq!(
                distance(&applied.get(i)?, &one.plan.apply(&v.get(i)?)?),
                0.0,
                "{name} {i}"
            );
        }
    }
    // One geometry and one a for all problems.
    let geometry = Geometry::squared_euclidean(&x.get(0)?, &y.get(0)?)?;
    let all = solve(geometry.clone(), &a.get(0)?, &b, 0.4);
    assert_eq!(
        (all.value.dims(), all.potentials.0.dims()),
        (&[count][..], &[count, n][..])
    );
    let one = solve(geometry, &a.get(0)?, &b.get(2)?, 0.4);
    assert_eq!(value(&all.value.get(2)?), value(&one.value));
    Ok(())
}

#[test]
fn a_grid_is_its_points() -> Result<()> {
    // Squared distances on a 4 x 5 grid against a 3 x 6 one are separable.
    let axis = |n: usize, m: usize, k: u64| squares(&normal(&[n, 1], k), &normal(&[m, 1], k + 1));
    for axes in [
        vec![axis(4, 3, 0), axis(5, 6, 2)],
        vec![axis(7, 9, 0)],
        vec![axis(2, 3, 0), axis(3, 2, 2), axis(2, 4, 4)],
    ] {
        let grid = Geometry::grid(&axes)?;
        let dense = Geometry::dense(&reference::cost(&grid)?)?;
        let (n, m) = grid.size();
        let (a, b) = (weights(&[n], 5), weights(&[m], 6));
        let (grid, dense) = (solve(grid, &a, &b, 0.3), solve(dense, &a, &b, 0.3));
        assert!(grid.converged());
        assert!(distance(&grid.value, &dense.value) < 1e-9);
        assert!(distance(&grid.transport_cost, &dense.transport_cost) < 1e-9);
        assert!(distance(&grid.plan.to_tensor()?, &dense.plan.to_tensor()?) < 1e-9);
        let v = normal(&[n, 2], 7);
        assert!(
            distance(
                &grid.plan.apply_transposed(&v)?,
                &dense.plan.apply_transposed(&v)?
            ) < 1e-9
        );
    }
    Ok(())
}

fn squares(x: &Tensor, y: &Tensor) -> Tensor {
    common::squares(x, y)
}

#[test]
fn far_data_keeps_its_digits() -> Result<()> {
    // Shifted by 1000 and 1e4 in f32: the same costs, as data is moved to its mean first.
    let (x, y) = (normal(&[40, 3], 0), normal(&[50, 3], 1));
    for shift in [0.0, 1e3, 1e4] {
        let single = |x: &Tensor| (x + shift).unwrap().to_dtype(DType::F32).unwrap();
        let (sx, sy) = (single(&x), single(&y));
        let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
        let run = |x: &Tensor, y: &Tensor| -> Result<f64> {
            let problem = LinearProblem::uniform(Geometry::squared_euclidean(x, y)?)?;
            Ok(value(&Sinkhorn::new(0.5)?.solve(&problem)?.value))
        };
        let (narrow, exact) = (run(&sx, &sy)?, run(&wide(&sx), &wide(&sy))?);
        assert!(
            (narrow - exact).abs() < 2e-5 * exact,
            "{shift}: {narrow} {exact}"
        );
    }
    Ok(())
}

#[test]
fn bad_geometries_are_named() -> Result<()> {
    let (x, y) = (normal(&[3, 2], 0), normal(&[4, 2], 1));
    let message = |g: Result<Geometry>| g.unwrap_err().to_string();
    assert!(message(Geometry::squared_euclidean(&x, &normal(&[4, 3], 1))).contains("shape [4, 2]"));
    assert!(message(Geometry::squared_euclidean(&x, &y.to_dtype(DType::F32)?)).contains("F64"));
    assert!(message(Geometry::euclidean(&normal(&[2, 3, 2], 0), &y)).contains("y: expected"));
    assert!(
        message(Geometry::euclidean(
            &normal(&[2, 3, 2], 0),
            &normal(&[3, 4, 2], 1)
        ))
        .contains("y: expected")
    );
    for p in [0.5, f64::NAN, f64::INFINITY] {
        assert!(message(Geometry::lp(&x, &y, p)).contains("between 1 and 64"));
    }
    assert!(message(Geometry::cosine(&x.zeros_like()?, &y)).contains("norm of a row of x"));
    assert!(
        message(Geometry::diagonal_gaussians(
            (&x, &x.zeros_like()?),
            (&y, &y.sqr()?)
        ))
        .contains("must be positive")
    );
    assert!(message(Geometry::grid(&[])).contains("at least one"));
    assert!(message(Geometry::grid(&[x.clone(), x.to_dtype(DType::F32)?])).contains("axis 1"));
    let mut numbers = vec![0.0; 12];
    numbers[7] = f64::NAN;
    let cost = Tensor::from_vec(numbers, (2, 2, 3), x.device())?;
    assert!(message(Geometry::dense(&cost)).contains("cost at (1, 0, 1) is NaN"));
    let geometry = Geometry::dense(&normal(&[2, 2, 3], 0))?;
    let error = LinearProblem::new(geometry, &weights(&[3, 2], 0), &weights(&[3], 1)).unwrap_err();
    assert!(error.to_string().contains("(2) or (2, 2)"), "{error}");
    let geometry = Geometry::dense(&normal(&[2, 3], 0))?;
    let error =
        LinearProblem::new(geometry, &tensor(&[0.5, 0.5]), &tensor(&[0.5, 0.5, 0.5])).unwrap_err();
    assert!(error.to_string().contains("unbalanced"), "{error}");
    Ok(())
}
