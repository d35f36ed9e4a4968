//! Gradients of transport between two measures: fused against reference, implicit against central
//! differences and against unrolled, for every geometry, batched, balanced and not.

#![allow(clippy::unwrap_used)]

use candle_core::{D, Tensor};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, agree, gradcheck};
use decalign_ot::{
    Acceleration, Geometry, Gradient, LinearProblem, Sinkhorn, SinkhornDivergence, Update,
    reference,
};

const EPSILON: f64 = 0.7;
const EXACT: f64 = f64::INFINITY;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(11, number).normal_tensor(shape).unwrap()
}

/// How a geometry is made of tensors, and tensors to make it of.
struct Case {
    name: &'static str,
    build: fn(&[Tensor]) -> Result<Geometry>,
    inputs: Vec<Tensor>,
    batch: Option<usize>,
}

fn cases() -> Vec<Case> {
    let points = |b: Option<usize>| {
        let shape = |n: usize| b.into_iter().chain([n, 2]).collect::<Vec<_>>();
        vec![normal(&shape(4), 3), normal(&shape(3), 4)]
    };
    let positive = |shape: &[usize], k: u64| (normal(shape, k).sqr().unwrap() + 0.3).unwrap();
    vec![
        Case {
            name: "dense",
            build: |x| Geometry::dense(&x[0]),
            inputs: vec![normal(&[4, 3], 2)],
            batch: None,
        },
        Case {
            name: "dense batch",
            build: |x| Geometry::dense(&x[0]),
            inputs: vec![normal(&[2, 4, 3], 2)],
            batch: Some(2),
        },
        Case {
            name: "squared",
            build: |x| Geometry::squared_euclidean(&x[0], &x[1]),
            inputs: points(None),
            batch: None,
        },
        Case {
            name: "squared batch",
            build: |x| Geometry::squared_euclidean(&x[0], &x[1]),
            inputs: points(Some(2)),
            batch: Some(2),
        },
        Case {
            name: "euclidean",
            build: |x| Geometry::euclidean(&x[0], &x[1]),
            inputs: points(None),
            batch: None,
        },
        Case {
            name: "city block",
            build: |x| Geometry::lp(&x[0], &x[1], 1.0),
            inputs: points(None),
            batch: None,
        },
        Case {
            name: "l3 batch",
            build: |x| Geometry::lp(&x[0], &x[1], 3.0),
            inputs: points(Some(2)),
            batch: Some(2),
        },
        Case {
            name: "cosine",
            build: |x| Geometry::cosine(&x[0], &x[1]),
            inputs: points(None),
            batch: None,
        },
        Case {
            name: "gaussians",
            build: |x| Geometry::diagonal_gaussians((&x[0], &x[1]), (&x[2], &x[3])),
            inputs: vec![
                normal(&[4, 2], 3),
                positive(&[4, 2], 4),
                normal(&[3, 2], 5),
                positive(&[3, 2], 6),
            ],
            batch: None,
        },
        Case {
            name: "grid",
            build: Geometry::grid,
            inputs: vec![normal(&[2, 3], 2), normal(&[2, 1], 3)],
            batch: None,
        },
    ]
}

/// The case with logits of its weights in front; totals are 1, and 1 and 1.3 when penalised.
fn inputs(case: &Case) -> Vec<Tensor> {
    let shape = |n: usize| case.batch.into_iter().chain([n]).collect::<Vec<_>>();
    [normal(&shape(4), 0), normal(&shape(3), 1)]
        .into_iter()
        .chain(case.inputs.clone())
        .collect()
}

fn problem(case: &Case, x: &[Tensor], penalties: (f64, f64)) -> Result<LinearProblem> {
    let b = softmax(&x[1])?;
    let b = if penalties == (EXACT, EXACT) {
        b
    } else {
        (b * 1.3)?
    };
    LinearProblem::unbalanced((case.build)(&x[2..])?, &softmax(&x[0])?, &b, penalties)
}

/// Value, potentials and the plan applied, both ways.
fn everything(problem: &LinearProblem, solver: Sinkhorn) -> Result<Vec<Tensor>> {
    let solution = solver.solve(problem)?;
    let (n, m) = problem.geometry().size();
    let dtype = problem.marginals().0.dtype();
    let (v, w) = (
        normal(&[m, 2], 20).to_dtype(dtype)?,
        normal(&[n, 2], 21).to_dtype(dtype)?,
    );
    let (f, g) = solution.potentials.clone();
    Ok(vec![
        solution.value.clone(),
        f,
        g,
        solution.plan.apply(&v)?,
        solution.plan.apply_transposed(&w)?,
    ])
}

fn everything_plain(problem: &LinearProblem, sweeps: usize) -> Result<Vec<Tensor>> {
    let (f, g) = reference::sinkhorn(problem, EPSILON, sweeps)?;
    let plan = reference::plan(problem, EPSILON, (&f, &g))?;
    let (n, m) = problem.geometry().size();
    let dtype = problem.marginals().0.dtype();
    let (v, w) = (
        normal(&[m, 2], 20).to_dtype(dtype)?,
        normal(&[n, 2], 21).to_dtype(dtype)?,
    );
    let value = reference::dual_value(problem, EPSILON, (&f, &g))?;
    let product = |p: &Tensor, v: &Tensor| -> Result<Tensor> {
        // Not a matrix product: those of views are not to be trusted.
        let terms = p.unsqueeze(D::Minus1)?.broadcast_mul(&v.unsqueeze(0)?)?;
        Ok(terms.sum(terms.rank() - 2)?)
    };
    let turned = plan.transpose(D::Minus1, D::Minus2)?.contiguous()?;
    Ok(vec![
        value,
        f,
        g,
        product(&plan, &v)?,
        product(&turned, &w)?,
    ])
}

fn solver(gradient: Gradient) -> Sinkhorn {
    Sinkhorn::new(EPSILON)
        .unwrap()
        .epsilon_scaling(1.0)
        .unwrap()
        .gradient(gradient)
}

const PENALTIES: [(f64, f64); 3] = [(EXACT, EXACT), (2.0, 0.8), (EXACT, 1.5)];

/// Runs a check of every case, balanced and not.
fn of_every_case(check: impl Fn(&Case, (f64, f64)) -> Result<()>) {
    for case in cases() {
        for penalties in PENALTIES {
            if let Err(error) = check(&case, penalties) {
                panic!("{} {penalties:?}: {error}", case.name);
            }
        }
    }
}

#[test]
fn unrolled_equals_its_reference() {
    let sweeps = 6;
    of_every_case(|case, penalties| {
        let run = solver(Gradient::Unrolled)
            .tolerance(1e-300)?
            .max_iterations(sweeps)?;
        agree(
            &inputs(case),
            (1e-9, 2e-4),
            |x| everything(&problem(case, x, penalties)?, run),
            |x| everything_plain(&problem(case, x, penalties)?, sweeps),
        )
    });
}

#[test]
fn implicit_gradients_hold() {
    of_every_case(|case, penalties| {
        let run = solver(Gradient::Implicit).tolerance(1e-13)?;
        gradcheck(&inputs(case), 1e-6, |x| {
            everything(&problem(case, x, penalties)?, run)
        })
    });
}

#[test]
fn envelope_gradients_hold() {
    of_every_case(|case, penalties| {
        let run = solver(Gradient::Envelope).tolerance(1e-13)?;
        gradcheck(&inputs(case), 1e-6, |x| {
            Ok(vec![run.solve(&problem(case, x, penalties)?)?.value])
        })
    });
}

#[test]
fn unrolled_relaxed_and_symmetric_sweeps_hold() -> Result<()> {
    let cases = cases();
    let case = &cases[3];
    let base = solver(Gradient::Unrolled)
        .tolerance(1e-300)?
        .max_iterations(5)?;
    for run in [
        base.acceleration(Acceleration::Momentum(1.3))?,
        base.update(Update::Symmetric),
    ] {
        for penalties in PENALTIES {
            gradcheck(&inputs(case), 1e-6, |x| {
                everything(&problem(case, x, penalties)?, run)
            })?;
        }
    }
    // Through the stages of epsilon scaling as well.
    let run = Sinkhorn::new(0.02)?
        .gradient(Gradient::Unrolled)
        .tolerance(1e-300)?
        .max_iterations(60)?;
    gradcheck(&inputs(case), 1e-6, |x| {
        everything(&problem(case, x, (EXACT, EXACT))?, run)
    })
}

#[test]
fn divergences_have_gradients() -> Result<()> {
    let cases = cases();
    for case in [&cases[2], &cases[3], &cases[4]] {
        for penalties in PENALTIES {
            let run = SinkhornDivergence::new(solver(Gradient::Envelope).tolerance(1e-13)?);
            gradcheck(&inputs(case), 1e-6, |x| {
                Ok(vec![run.solve(&problem(case, x, penalties)?)?.value])
            })?;
        }
    }
    Ok(())
}

#[test]
fn what_a_plan_is_applied_to_has_gradients() -> Result<()> {
    let cases = cases();
    let fixed = inputs(&cases[3]);
    for gradient in [Gradient::Envelope, Gradient::Implicit] {
        gradcheck(&[normal(&[2, 3, 2], 8), normal(&[4, 2], 9)], 1e-7, |v| {
            let solution = solver(gradient).solve(&problem(&cases[3], &fixed, (EXACT, EXACT))?)?;
            Ok(vec![
                solution.plan.apply(&v[0])?,
                solution.plan.apply_transposed(&v[1])?,
            ])
        })?;
    }
    Ok(())
}

#[test]
fn backward_passes_report_their_solves() -> Result<()> {
    let cases = cases();
    let x = inputs(&cases[1]);
    let cost = candle_core::Var::from_tensor(&x[2])?;
    let problem = LinearProblem::new(Geometry::dense(&cost)?, &softmax(&x[0])?, &softmax(&x[1])?)?;
    let solution = solver(Gradient::Implicit).solve(&problem)?;
    assert!(solution.gradient_solves().is_empty());
    solution.potentials.0.sqr()?.sum_all()?.backward()?;
    let solves = solution.gradient_solves();
    assert_eq!(solves.len(), 2);
    assert!(
        solves
            .iter()
            .all(|s| s.converged && s.residual <= 1e-10 && s.iterations > 0)
    );
    Ok(())
}
