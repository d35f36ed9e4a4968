//! Gradients of the objective and of the barycentre.

use candle_core::{DType, Tensor};
use decalign_core::nn::softmax;
use decalign_core::{Result, agree, gradcheck};
use decalign_ot::{BarycenterProblem, unrolled_barycenter};

use crate::problems::*;

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
    assert!(got.converged() && got.weights.dtype() == DType::F32);
    assert!(got.value.dtype() == DType::F32 && distance(&got.value, &want.value) < 1e-5);
    assert!(distance(&got.weights, &want.weights) < 1e-5);
    Ok(())
}
