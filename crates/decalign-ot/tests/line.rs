//! Transport on lines: all permutations, the network simplex, batches, gradients, ties, bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{Geometry, LinearProblem, NetworkSimplex, sliced_wasserstein, wasserstein_1d};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(21, number).normal_tensor(shape).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

fn new(x: &[f64]) -> Tensor {
    Tensor::new(x, &Device::Cpu).unwrap()
}

const POWERS: [f64; 4] = [1.0, 1.5, 2.0, 3.0];

/// By the network simplex.
fn simplex(x: &Tensor, y: &Tensor, a: &Tensor, b: &Tensor, p: f64) -> Result<f64> {
    let difference = x.unsqueeze(1)?.broadcast_sub(&y.unsqueeze(0)?)?;
    let problem = LinearProblem::new(Geometry::dense(&difference.abs()?.powf(p)?)?, a, b)?;
    let solution = NetworkSimplex::new().solve(&problem)?;
    assert!(solution.converged());
    Ok(numbers(&solution.value)[0])
}

#[test]
fn the_stair_is_optimal() -> Result<()> {
    for (seed, (n, m)) in [(1, 1), (1, 7), (6, 6), (12, 5), (40, 60)]
        .into_iter()
        .enumerate()
    {
        let number = 10 * seed as u64;
        let (mut x, mut y) = (normal(&[n], number), normal(&[m], number + 1));
        for p in POWERS {
            let (a, b) = (
                softmax(&normal(&[n], number + 2))?,
                softmax(&normal(&[m], number + 3))?,
            );
            let got = numbers(&wasserstein_1d(&x, &y, Some((&a, &b)), p)?)[0];
            assert!(
                (got - simplex(&x, &y, &a, &b, p)?).abs() < 1e-12,
                "{n} {m} {p}"
            );
            let uniform = |n: usize| Tensor::full(1.0 / n as f64, n, &Device::Cpu);
            let got = numbers(&wasserstein_1d(&x, &y, None, p)?)[0];
            let want = simplex(&x, &y, &uniform(n)?, &uniform(m)?, p)?;
            assert!((got - want).abs() < 1e-12, "{n} {m} {p}");
            // Ties from the second power on.
            (x, y) = ((x * 2.0)?.round()?, (y * 2.0)?.round()?);
        }
    }
    Ok(())
}

#[test]
fn a_batch_is_its_rows() -> Result<()> {
    let (x, y) = (normal(&[4, 7], 0), normal(&[4, 5], 1));
    let (a, b) = (softmax(&normal(&[4, 7], 2))?, softmax(&normal(&[4, 5], 3))?);
    let all = numbers(&wasserstein_1d(&x, &y, Some((&a, &b)), 1.5)?);
    let plain = numbers(&wasserstein_1d(&x, &y, None, 1.5)?);
    let shared = numbers(&wasserstein_1d(
        &x,
        &y,
        Some((&a.get(2)?, &b.get(2)?)),
        1.5,
    )?);
    for i in 0..4 {
        let (x, y) = (x.get(i)?, y.get(i)?);
        let one = |a: &Tensor, b: &Tensor| wasserstein_1d(&x, &y, Some((a, b)), 1.5);
        assert_eq!(all[i], numbers(&one(&a.get(i)?, &b.get(i)?)?)[0]);
        assert_eq!(shared[i], numbers(&one(&a.get(2)?, &b.get(2)?)?)[0]);
        assert_eq!(plain[i], numbers(&wasserstein_1d(&x, &y, None, 1.5)?)[0]);
    }
    Ok(())
}

#[test]
fn gradients_hold() -> Result<()> {
    let inputs = [
        normal(&[3, 5], 0),
        normal(&[3, 4], 1),
        normal(&[3, 5], 2),
        normal(&[3, 4], 3),
    ];
    for p in POWERS {
        gradcheck(&inputs, 1e-7, |x| {
            let (a, b) = (softmax(&x[2])?, softmax(&x[3])?);
            Ok(vec![wasserstein_1d(&x[0], &x[1], Some((&a, &b)), p)?])
        })?;
        gradcheck(&inputs[..2], 1e-7, |x| {
            Ok(vec![wasserstein_1d(&x[0], &x[1], None, p)?])
        })?;
    }
    // Weights shared by all rows.
    let inputs = [
        normal(&[3, 5], 0),
        normal(&[3, 4], 1),
        normal(&[5], 2),
        normal(&[4], 3),
    ];
    gradcheck(&inputs, 1e-7, |x| {
        let (a, b) = (softmax(&x[2])?, softmax(&x[3])?);
        Ok(vec![wasserstein_1d(&x[0], &x[1], Some((&a, &b)), 2.0)?])
    })
}

/// Where all steps of the stair end at once, the cost has a kink in the weights: a central
/// difference is the mean of its two slopes, and so is the gradient.
#[test]
fn gradients_of_equal_weights_are_the_middle() -> Result<()> {
    let (x, y) = (normal(&[6], 0), normal(&[6], 1));
    let zeros = Tensor::zeros(6, DType::F64, &Device::Cpu)?;
    for p in POWERS {
        gradcheck(&[zeros.clone(), zeros.clone()], 1e-4, |logits| {
            let (a, b) = (softmax(&logits[0])?, softmax(&logits[1])?);
            Ok(vec![wasserstein_1d(&x, &y, Some((&a, &b)), p)?])
        })?;
    }
    Ok(())
}

#[test]
fn equal_points_and_absent_points_have_finite_gradients() -> Result<()> {
    for p in POWERS {
        let x = Var::from_tensor(&new(&[1.0, 0.0, 1.0, 5.0]))?;
        let a = Var::from_tensor(&new(&[0.25, 0.5, 0.25, 0.0]))?;
        let y = new(&[1.0, 0.0, 3.0]);
        let b = new(&[0.25, 0.5, 0.25]);
        let cost = wasserstein_1d(&x, &y, Some((&a, &b)), p)?;
        let gradients = cost.backward()?;
        let points = numbers(gradients.get(&x).unwrap());
        // 0 and one of the two at 1 are where they must be, the other goes from 1 to 3.
        let mut moves = points[..3].to_vec();
        moves.sort_by(f64::total_cmp);
        assert!(
            (moves[0] + 0.25 * p * 2f64.powf(p - 1.0)).abs() < 1e-14,
            "{points:?}"
        );
        assert_eq!((moves[1], moves[2], points[3]), (0.0, 0.0, 0.0));
        let masses = numbers(gradients.get(&a).unwrap());
        assert!(masses.iter().all(|v| v.is_finite()) && masses[3] == 0.0);
        assert!(masses.iter().sum::<f64>().abs() < 1e-14);
        assert!((numbers(&cost)[0] - 0.25 * 2f64.powf(p)).abs() < 1e-14);
    }
    Ok(())
}

#[test]
fn one_dimension_has_one_direction() -> Result<()> {
    let (x, y) = (normal(&[9, 1], 0), normal(&[7, 1], 1));
    let (a, b) = (softmax(&normal(&[9], 2))?, softmax(&normal(&[7], 3))?);
    for p in POWERS {
        let line = wasserstein_1d(&x.squeeze(1)?, &y.squeeze(1)?, Some((&a, &b)), p)?;
        let sliced = sliced_wasserstein(&x, &y, Some((&a, &b)), p, 3, 5)?;
        assert!((numbers(&line)[0] - numbers(&sliced)[0]).abs() < 1e-13);
    }
    Ok(())
}

#[test]
fn gradients_of_slices_hold() -> Result<()> {
    let inputs = [
        normal(&[5, 3], 0),
        normal(&[4, 3], 1),
        normal(&[5], 2),
        normal(&[4], 3),
    ];
    for p in POWERS {
        // More projections than are done together.
        gradcheck(&inputs, 1e-7, |x| {
            let (a, b) = (softmax(&x[2])?, softmax(&x[3])?);
            Ok(vec![sliced_wasserstein(
                &x[0],
                &x[1],
                Some((&a, &b)),
                p,
                70,
                3,
            )?])
        })?;
    }
    gradcheck(&inputs[..2], 1e-7, |x| {
        Ok(vec![sliced_wasserstein(&x[0], &x[1], None, 2.0, 9, 3)?])
    })
}

#[test]
fn slices_of_a_translation_have_its_length() -> Result<()> {
    // E <v, u>^2 = |v|^2 / d, and of d = 3 its variance is |v|^4 (3/15 - 1/9).
    let x = normal(&[200, 3], 0);
    let y = x.broadcast_add(&new(&[1.0, -2.0, 2.0]))?;
    let projections = 4000;
    let cost =
        |seed: u64| numbers(&sliced_wasserstein(&x, &y, None, 2.0, projections, seed).unwrap())[0];
    let deviation = 9.0 * (3.0 / 15.0 - 1.0 / 9.0f64).sqrt() / (projections as f64).sqrt();
    assert!((cost(1) - 3.0).abs() < 5.0 * deviation);
    assert!(cost(1) != cost(2));
    Ok(())
}

#[test]
fn threads_and_types_do_not_matter() -> Result<()> {
    let (x, y) = (normal(&[300, 5], 0), normal(&[200, 5], 1));
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let x = Var::from_tensor(&x).unwrap();
            let cost = sliced_wasserstein(&x, &y, None, 1.0, 100, 4).unwrap();
            let gradient = numbers(cost.backward().unwrap().get(&x).unwrap());
            (numbers(&cost)[0].to_bits(), gradient)
        })
    };
    let one = run(1);
    assert_eq!(one, run(3));
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    let cost = sliced_wasserstein(&single(&x)?, &single(&y)?, None, 1.0, 100, 4)?;
    assert_eq!(cost.dtype(), DType::F32);
    assert!((numbers(&cost)[0] - f64::from_bits(one.0)).abs() < 1e-6);
    Ok(())
}

#[test]
fn bad_input_is_named() {
    let message = |result: Result<Tensor>| result.unwrap_err().to_string();
    let (x, y) = (new(&[0.0, 1.0]), new(&[0.5]));
    let line =
        |weights: Option<(&Tensor, &Tensor)>, p: f64| message(wasserstein_1d(&x, &y, weights, p));
    assert!(line(None, 0.5).contains("p is 0.5: must be at least 1"));
    assert!(line(None, f64::NAN).contains("p is NaN"));
    assert!(line(Some((&new(&[1.2, -0.2]), &y)), 1.0).contains("a[1] is -0.2"));
    assert!(line(Some((&new(&[0.5, 0.5]), &y)), 1.0).contains("the total of a is 1: must equal"));
    assert!(line(Some((&new(&[0.0, 0.0]), &y)), 1.0).contains("the total of a is 0"));
    assert!(
        line(Some((&y, &y)), 1.0).contains("a: expected the shape and dtype of its points, [2]")
    );
    let nan = new(&[0.0, f64::NAN]);
    assert!(message(wasserstein_1d(&nan, &y, None, 1.0)).contains("x[1] is NaN"));
    let rows = normal(&[2, 3], 0);
    assert!(message(wasserstein_1d(&rows, &y, None, 1.0)).contains("(B, n) and (B, m)"));
    let a = new(&[0.5, 0.5, 0.0, 1.0, -1.0, 1.0])
        .reshape((2, 3))
        .unwrap();
    let error = message(wasserstein_1d(&rows, &rows, Some((&a, &a)), 1.0));
    assert!(error.contains("a of row 1[1] is -1"), "{error}");
    let single = rows.to_dtype(DType::F32).unwrap();
    assert!(
        message(wasserstein_1d(&rows, &single, None, 1.0))
            .contains("y: expected not empty, of F64")
    );
    assert!(
        message(sliced_wasserstein(&rows, &rows, None, 1.0, 0, 0)).contains("projections is 0")
    );
    assert!(message(sliced_wasserstein(&rows, &x, None, 1.0, 1, 0)).contains("(n, d) and (m, d)"));
    let nan = (&rows / 0.0).unwrap();
    assert!(message(sliced_wasserstein(&rows, &nan, None, 1.0, 1, 0)).contains("y at (0, 0)"));
    assert!(
        message(sliced_wasserstein(&rows, &rows, Some((&y, &y)), 1.0, 1, 0))
            .contains("a: expected shape (2)")
    );
}
