//! Free supports.

use candle_core::{DType, Tensor};
use decalign_core::nn::softmax;
use decalign_core::{Result, gradcheck};
use decalign_ot::{FreeSupportBarycenter, Support};

use crate::problems::*;

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
    assert!(got.converged(), "{got:?}");
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
    assert!(got.converged() && (numbers(&got.weights)[0] - 2.0 / 3.0).abs() < 1e-12);
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
    assert!(
        got.converged() && got.points.dtype() == DType::F32,
        "{got:?}"
    );
    assert!(
        distance(&got.points, &x) < 0.05,
        "{}",
        distance(&got.points, &x)
    );
    // A measure that does not count: the other one.
    let got = FreeSupportBarycenter::new(0.02)?.solve(&copies, &[1.0, 0.0], &start)?;
    assert!(got.converged() && distance(&got.points, &copies[0].0) < 0.05);
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
    assert!(one.converged() && other.converged(), "{one:?}");
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
        assert!(!got.converged() && got.iterations() == moves);
        before = value;
    }
    gradcheck(&inputs, 1e-6, |x| {
        let got = solver.solve(&measures(x)?, &[0.4, 0.6], &start)?;
        assert!(got.converged(), "{} {}", got.movement, got.marginal_error());
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
