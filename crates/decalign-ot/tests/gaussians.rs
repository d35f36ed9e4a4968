//! Gaussians with full covariances: closed forms, optimal maps, gradients, singular covariances,
//! limits, regularised transport on a grid, bad input.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{
    Geometry, LinearProblem, Reduction, Sinkhorn, bures_wasserstein, bures_wasserstein_diagonal,
    entropic_gaussian,
};
use decalign_testkit::largest_difference as distance;

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(31, number).normal_tensor(shape).unwrap()
}

fn numbers(x: &Tensor) -> Vec<f64> {
    let x = x.to_dtype(DType::F64).unwrap().flatten_all().unwrap();
    x.to_vec1().unwrap()
}

fn transpose(x: &Tensor) -> Result<Tensor> {
    Ok(x.transpose(1, 2)?.contiguous()?)
}

/// `F F^T` of factors (K, d, r).
fn squared(factors: &Tensor) -> Result<Tensor> {
    let factors = factors.contiguous()?;
    Ok(factors.matmul(&transpose(&factors)?)?)
}

/// Matrices with these diagonals.
fn diagonal(x: &Tensor) -> Result<Tensor> {
    let d = x.dim(1)?;
    Ok(x.unsqueeze(2)?
        .broadcast_mul(&Tensor::eye(d, x.dtype(), x.device())?)?)
}

fn positive(shape: &[usize], number: u64) -> Tensor {
    (normal(shape, number).sqr().unwrap() + 0.1).unwrap()
}

/// An orthogonal matrix: the product of reflections.
fn rotation(d: usize) -> Result<Tensor> {
    let mut q = Tensor::eye(d, DType::F64, &Device::Cpu)?;
    for number in 0..3 {
        let v = normal(&[d, 1], 90 + number);
        let length: f64 = numbers(&v).iter().map(|v| v * v).sum();
        let reflection = (v.matmul(&v.t()?)? * (-2.0 / length))?;
        q = (&q + q.matmul(&reflection)?)?;
    }
    Ok(q)
}

fn bures(m: &Tensor, a: &Tensor, n: &Tensor, b: &Tensor) -> Result<Tensor> {
    bures_wasserstein((m, a), (n, b), Reduction::Sum)
}

#[test]
fn diagonal_and_commuting_covariances_have_their_form() -> Result<()> {
    let (m, n) = (normal(&[3, 4], 0), normal(&[2, 4], 1));
    let (v, w) = (positive(&[3, 4], 2), positive(&[2, 4], 3));
    let squares = |x: &Tensor, y: &Tensor| -> Result<Tensor> {
        Ok(x.unsqueeze(1)?
            .broadcast_sub(&y.unsqueeze(0)?)?
            .sqr()?
            .sum(2)?)
    };
    let want = (squares(&m, &n)? + squares(&v.sqrt()?, &w.sqrt()?)?)?;
    let (a, b) = (diagonal(&v)?, diagonal(&w)?);
    assert!(distance(&bures(&m, &a, &n, &b)?, &want) < 1e-13);
    // The diagonal function shifts its root by 1e-8.
    for reduction in [Reduction::Sum, Reduction::Mean] {
        let full = bures_wasserstein((&m, &a), (&n, &b), reduction)?;
        let plain = bures_wasserstein_diagonal((&m, &v), (&n, &w), reduction)?;
        assert!(distance(&full, &plain) < 4e-7);
    }
    // In other coordinates.
    let q = rotation(4)?;
    let turn = |a: &Tensor| -> Result<Tensor> {
        Ok(a.broadcast_matmul(&q.t()?)?
            .transpose(1, 2)?
            .contiguous()?
            .broadcast_matmul(&q.t()?)?)
    };
    let got = bures(
        &m.matmul(&q.t()?)?,
        &turn(&a)?,
        &n.matmul(&q.t()?)?,
        &turn(&b)?,
    )?;
    assert!(distance(&got, &want) < 1e-12);
    Ok(())
}

#[test]
fn in_two_dimensions_traces_and_determinants_suffice() -> Result<()> {
    let zeros = Tensor::zeros((5, 2), DType::F64, &Device::Cpu)?;
    let (a, b) = (
        squared(&normal(&[5, 2, 2], 0))?,
        squared(&normal(&[5, 2, 2], 1))?,
    );
    let got = bures(&zeros, &a, &zeros, &b)?.to_vec2::<f64>()?;
    let (a, b) = (numbers(&a), numbers(&b));
    for (k, a) in a.chunks(4).enumerate() {
        for (l, b) in b.chunks(4).enumerate() {
            let determinant = |a: &[f64]| a[0] * a[3] - a[1] * a[2];
            let product = a[0] * b[0] + a[1] * b[2] + a[2] * b[1] + a[3] * b[3];
            let root = (determinant(a) * determinant(b)).sqrt();
            let want = a[0] + a[3] + b[0] + b[3] - 2.0 * (product + 2.0 * root).sqrt();
            assert!((got[k][l] - want).abs() < 1e-12, "{k} {l}");
        }
    }
    Ok(())
}

#[test]
fn gradients_hold() -> Result<()> {
    let inputs = [
        normal(&[3, 3], 0),
        normal(&[3, 3, 3], 1),
        normal(&[2, 3], 2),
        normal(&[2, 3, 3], 3),
    ];
    for reduction in [Reduction::Mean, Reduction::Sum] {
        gradcheck(&inputs, 1e-6, |x| {
            let (a, b) = (squared(&x[1])?, squared(&x[3])?);
            Ok(vec![bures_wasserstein(
                (&x[0], &a),
                (&x[2], &b),
                reduction,
            )?])
        })?;
    }
    for epsilon in [0.01, 1.0, 100.0] {
        gradcheck(&inputs, 1e-7, |x| {
            let (a, b) = (squared(&x[1])?, squared(&x[3])?);
            Ok(vec![entropic_gaussian((&x[0], &a), (&x[2], &b), epsilon)?])
        })?;
    }
    // Regularisation makes the cost differentiable at singular covariances.
    let thin = [
        normal(&[2, 3], 0),
        normal(&[2, 3, 1], 1),
        normal(&[2, 3], 2),
        normal(&[2, 3, 2], 3),
    ];
    gradcheck(&thin, 1e-7, |x| {
        let (a, b) = (squared(&x[1])?, squared(&x[3])?);
        Ok(vec![entropic_gaussian((&x[0], &a), (&x[2], &b), 0.5)?])
    })
}

#[test]
fn gradients_are_the_optimal_map() -> Result<()> {
    for d in [1, 2, 5, 20, 63, 64, 90] {
        let zeros = Tensor::zeros((1, d), DType::F64, &Device::Cpu)?;
        let covariance = |number: u64| -> Result<Tensor> {
            Ok((squared(&normal(&[1, d, d], number))? + diagonal(&(zeros.ones_like()? * 0.2)?)?)?)
        };
        let (a, b) = (
            Var::from_tensor(&covariance(0)?)?,
            Var::from_tensor(&covariance(1)?)?,
        );
        let gradients = bures(&zeros, &a, &zeros, &b)?.backward()?;
        let one = diagonal(&zeros.ones_like()?)?;
        let there = (&one - gradients.get(&a).unwrap())?;
        let back = (&one - gradients.get(&b).unwrap())?;
        // T A T = B, and the other map is the inverse.
        let image = there.matmul(&a)?.matmul(&there)?;
        let tolerance = if d < 60 { 1e-10 } else { 1e-8 };
        assert!(distance(&image, &b) < tolerance, "{d}");
        assert!(distance(&there.matmul(&back)?, &one) < tolerance, "{d}");
    }
    Ok(())
}

#[test]
fn singular_covariances_are_exact_and_have_finite_gradients() -> Result<()> {
    singular_covariances(4)
}

#[test]
fn singular_covariances_of_many_dimensions_are_exact() -> Result<()> {
    singular_covariances(70)
}

/// Embeds Gaussians in more dimensions, where they have no variance.
fn embedded(mean: &Tensor, covariance: &Tensor, d: usize) -> Result<(Tensor, Tensor)> {
    let more = d - mean.dim(1)?;
    let covariance = covariance.pad_with_zeros(1, 0, more)?;
    Ok((
        mean.pad_with_zeros(1, 0, more)?,
        covariance.pad_with_zeros(2, 0, more)?,
    ))
}

#[test]
fn the_library_and_rotations_agree_where_one_takes_over() -> Result<()> {
    // 63 dimensions are decomposed by Jacobi's rotations, 64 by the library: one more dimension without variance
    // changes neither costs nor gradients. Ranks 63 and 5.
    for rank in [63, 5] {
        let (m, n) = (normal(&[2, 63], 0), normal(&[1, 63], 1));
        let (a, b) = (
            squared(&normal(&[2, 63, rank], 2))?,
            squared(&normal(&[1, 63, 63], 3))?,
        );
        let costs = |d: usize| -> Result<[Vec<f64>; 4]> {
            let ((m, a), (n, b)) = (embedded(&m, &a, d)?, embedded(&n, &b, d)?);
            let (a, b) = (Var::from_tensor(&a)?, Var::from_tensor(&b)?);
            let exact = bures(&m, &a, &n, &b)?;
            let entropic = entropic_gaussian((&m, &a), (&n, &b), 0.5)?;
            let gradients = entropic.backward()?;
            let gradient = |x: &Tensor| -> Result<Vec<f64>> {
                Ok(numbers(
                    &gradients
                        .get(x)
                        .unwrap()
                        .narrow(1, 0, 63)?
                        .narrow(2, 0, 63)?,
                ))
            };
            Ok([
                numbers(&exact),
                numbers(&entropic),
                gradient(&a)?,
                gradient(&b)?,
            ])
        };
        for (few, many) in costs(63)?.iter().zip(&costs(64)?) {
            assert_eq!(few.len(), many.len());
            let size = few.iter().fold(1.0, |m: f64, v| m.max(v.abs()));
            for (x, y) in few.iter().zip(many) {
                assert!((x - y).abs() <= 1e-7 * size, "rank {rank}: {x} {y}");
            }
        }
    }
    Ok(())
}

fn singular_covariances(d: usize) -> Result<()> {
    let device = &Device::Cpu;
    let zeros = Tensor::zeros((1, d), DType::F64, device)?;
    let (u, v) = (normal(&[1, d, 1], 0), normal(&[1, d, 1], 1));
    let inner = |x: &Tensor, y: &Tensor| -> f64 {
        numbers(x).iter().zip(numbers(y)).map(|(x, y)| x * y).sum()
    };
    let point = Tensor::zeros((1, d, d), DType::F64, device)?;
    let full = squared(&normal(&[1, d, d], 2))?;
    let line = squared(&u)?;
    // Lines u u^T and v v^T: |u|^2 + |v|^2 - 2 |u . v|.
    let lines = inner(&u, &u) + inner(&v, &v) - 2.0 * inner(&u, &v).abs();
    let trace = |a: &Tensor| -> f64 { numbers(a).iter().step_by(d + 1).sum() };
    // A line and anything: its root is sqrt(u^T B u).
    let across = full.matmul(&u)?;
    let mixed = inner(&u, &u) + trace(&full) - 2.0 * inner(&u, &across).sqrt();
    let cases = [
        (line.clone(), squared(&v)?, lines),
        (line.clone(), line.clone(), 0.0),
        (line.clone(), full.clone(), mixed),
        (point.clone(), full.clone(), trace(&full)),
        (point.clone(), point.clone(), 0.0),
        (full.clone(), full.clone(), 0.0),
    ];
    for (i, (a, b, want)) in cases.into_iter().enumerate() {
        for dtype in [DType::F64, DType::F32] {
            let var = |x: &Tensor| Var::from_tensor(&x.to_dtype(dtype).unwrap()).unwrap();
            let (m, a, b) = (var(&zeros), var(&a), var(&b));
            let cost = bures(&m, &a, &m, &b)?;
            // Rounding makes a singular covariance regular: its d null directions get eigenvalues of about
            // eps sqrt(d) |a|, and the cost contains their roots times those of the other covariance, which grow as sqrt(d).
            let growth = (d as f64 / 4.0).powf(1.75);
            let tolerance = if dtype == DType::F64 { 3e-7 } else { 3e-3 } * growth;
            assert!(
                (numbers(&cost)[0] - want).abs() < tolerance,
                "{i}: {cost} {want}"
            );
            let gradients = cost.backward()?;
            for x in [&m, &a, &b] {
                let gradient = numbers(gradients.get(x).unwrap());
                assert!(gradient.iter().all(|v| v.is_finite()), "{i} {dtype:?}");
            }
        }
    }
    // Exactly singular: exact values, and the slope along the dimension that is there.
    let axes = |variances: [f64; 2]| -> Result<Tensor> {
        let few = Tensor::new(&[variances], device)?;
        diagonal(&few.pad_with_zeros(1, 0, d - 2)?)
    };
    let a = Var::from_tensor(&axes([4.0, 0.0])?)?;
    let b = axes([9.0, 1.0])?;
    let cost = bures(&zeros, &a, &zeros, &b)?;
    assert!((numbers(&cost)[0] - 2.0).abs() < 1e-14);
    let gradient = numbers(cost.backward()?.get(&a).unwrap());
    // 1 - sqrt(9 / 4); growing where b has mass pays, growing where it has none costs.
    assert!((gradient[0] + 0.5).abs() < 1e-12);
    assert!(gradient[d + 1] < -1e6 && (gradient[2 * (d + 1)] - 1.0).abs() < 1e-12);
    Ok(())
}

#[test]
fn regularised_costs_have_their_limits() -> Result<()> {
    let (m, n) = (normal(&[3, 4], 0), normal(&[2, 4], 1));
    let (a, b) = (
        squared(&normal(&[3, 4, 4], 2))?,
        squared(&normal(&[2, 4, 4], 3))?,
    );
    let exact = bures(&m, &a, &n, &b)?;
    let mut last = f64::INFINITY;
    for epsilon in [1.0, 1e-2, 1e-4, 1e-6] {
        let got = entropic_gaussian((&m, &a), (&n, &b), epsilon)?;
        let far = distance(&got, &exact);
        // Regularisation adds, about eps d/2 log(1 / eps).
        assert!(
            numbers(&got)
                .iter()
                .zip(numbers(&exact))
                .all(|(g, e)| *g > e)
        );
        assert!(
            far < last && far < epsilon * (10.0 - 3.0 * epsilon.ln()),
            "{epsilon} {far}"
        );
        last = far;
    }
    // Far from 0 points are independent: |m - n|^2 + tr A + tr B.
    let traces = |a: &Tensor| -> Result<Tensor> {
        Ok(a.broadcast_mul(&Tensor::eye(4, DType::F64, &Device::Cpu)?)?
            .sum((1, 2))?)
    };
    let squares = m
        .unsqueeze(1)?
        .broadcast_sub(&n.unsqueeze(0)?)?
        .sqr()?
        .sum(2)?;
    let apart = squares.broadcast_add(&traces(&a)?.unsqueeze(1)?)?;
    let independent = apart.broadcast_add(&traces(&b)?.unsqueeze(0)?)?;
    let got = entropic_gaussian((&m, &a), (&n, &b), 1e9)?;
    assert!(distance(&got, &independent) < 1e-5);
    Ok(())
}

#[test]
fn regularised_costs_are_those_of_a_grid() -> Result<()> {
    // Two Gaussians on a line, each as 240 points eight deviations wide: sums of smooth functions
    // that end at 0 are integrals.
    let count = 240;
    let grid = |mean: f64, deviation: f64| -> Result<(Tensor, Tensor)> {
        let steps = (0..count).map(|i| -8.0 + 16.0 * f64::from(i) / f64::from(count - 1));
        let steps: Vec<f64> = steps.collect();
        let mut mass: Vec<f64> = steps.iter().map(|s| (-0.5 * s * s).exp()).collect();
        let total: f64 = mass.iter().sum();
        mass.iter_mut().for_each(|w| *w /= total);
        let x: Vec<f64> = steps.iter().map(|s| mean + deviation * s).collect();
        let count = count as usize;
        Ok((
            Tensor::from_vec(x, (count, 1), &Device::Cpu)?,
            Tensor::from_vec(mass, count, &Device::Cpu)?,
        ))
    };
    let ((x, a), (y, b)) = (grid(0.3, 1.0)?, grid(-0.5, 0.6)?);
    let problem = LinearProblem::new(Geometry::squared_euclidean(&x, &y)?, &a, &b)?;
    let new = |v: f64, shape: &[usize]| {
        Tensor::new(&[v], &Device::Cpu)
            .unwrap()
            .reshape(shape)
            .unwrap()
    };
    for epsilon in [0.3, 1.0, 4.0] {
        let solution = Sinkhorn::new(epsilon)?.tolerance(1e-10)?.solve(&problem)?;
        assert!(solution.converged());
        let got = entropic_gaussian(
            (&new(0.3, &[1, 1]), &new(1.0, &[1, 1, 1])),
            (&new(-0.5, &[1, 1]), &new(0.36, &[1, 1, 1])),
            epsilon,
        )?;
        let (got, want) = (numbers(&got)[0], numbers(&solution.value)[0]);
        assert!((got - want).abs() < 1e-7, "{epsilon}: {got} {want}");
    }
    Ok(())
}

#[test]
fn single_precision_and_threads() -> Result<()> {
    let (m, n) = (normal(&[20, 6], 0), normal(&[15, 6], 1));
    let (a, b) = (
        squared(&normal(&[20, 6, 6], 2))?,
        squared(&normal(&[15, 6, 6], 3))?,
    );
    let single = |x: &Tensor| x.to_dtype(DType::F32);
    let got = bures(&single(&m)?, &single(&a)?, &single(&n)?, &single(&b)?)?;
    assert_eq!(got.dtype(), DType::F32);
    let want = bures(&m, &a, &n, &b)?;
    assert!(distance(&got, &want) < 1e-4);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let a = Var::from_tensor(&a).unwrap();
            let cost = bures(&m, &a, &n, &b).unwrap();
            let gradient = cost.backward().unwrap();
            (numbers(&cost), numbers(gradient.get(&a).unwrap()))
        })
    };
    assert_eq!(run(1), run(3));
    Ok(())
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let mean = Tensor::zeros((1, 2), DType::F64, &Device::Cpu)?;
    let of = |a: [f64; 4]| {
        Tensor::new(&a, &Device::Cpu)
            .unwrap()
            .reshape((1, 2, 2))
            .unwrap()
    };
    let one = of([1.0, 0.0, 0.0, 1.0]);
    let message = |m: &Tensor, a: &Tensor| bures(&mean, &one, m, a).unwrap_err().to_string();
    let error = message(&mean, &of([1.0, 0.5, 0.4, 1.0]));
    assert!(
        error.contains("covariance2 0 at (1, 0) is 0.4: must equal 0.5 at (0, 1)"),
        "{error}"
    );
    let error = message(&mean, &of([1.0, 2.0, 2.0, 1.0]));
    assert!(
        error.contains("the least eigenvalue of covariance2 0 is -"),
        "{error}"
    );
    assert!(
        message(&mean, &of([1.0, 0.0, 0.0, f64::NAN])).contains("covariance2, element 3, is NaN")
    );
    assert!(message(&(&mean / 0.0)?, &one).contains("mean2, element 0, is NaN"));
    assert!(message(&mean, &one.squeeze(0)?).contains("(K, d) and (K, d, d)"));
    assert!(message(&Tensor::zeros((1, 3), DType::F64, &Device::Cpu)?, &one).contains("mean2"));
    let wide = Tensor::eye(3, DType::F64, &Device::Cpu)?.unsqueeze(0)?;
    assert!(
        message(&Tensor::zeros((1, 3), DType::F64, &Device::Cpu)?, &wide).contains("shape (L, 2)")
    );
    assert!(message(&mean.to_dtype(DType::F32)?, &one).contains("one dtype, F64"));
    for epsilon in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(entropic_gaussian((&mean, &one), (&mean, &one), epsilon).is_err());
    }
    Ok(())
}
