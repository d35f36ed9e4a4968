//! MMD of all pairs: fused equals reference, gradients, known values, invariances, bad input.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::{distance, kernels, normal, same, value, weights};
use decalign_core::{Result, gradcheck};
use decalign_mmd::{Estimator, Kernel, Mmd, MmdFamily, Sample, Smoothness, reference};
use proptest::prelude::*;

const BOTH: [Estimator; 2] = [Estimator::Biased, Estimator::Unbiased];

fn of(sizes: &[usize], d: usize) -> Vec<Tensor> {
    let each = sizes.iter().enumerate();
    each.map(|(i, n)| normal(&[*n, d], i as u64)).collect()
}

/// Several samples, sizes on both sides of every tile.
fn cases() -> Vec<Vec<Tensor>> {
    vec![
        of(&[5, 3], 4),
        of(&[32, 32, 32], 16),
        of(&[2, 4, 3, 6], 3),
        of(&[70, 130], 2),
        of(&[97, 49], 17),
    ]
}

#[test]
fn every_kernel_equals_its_reference() {
    for kernel in kernels() {
        for samples in [of(&[5, 3, 4], 4), of(&[50, 99], 3)] {
            for estimator in BOTH {
                let mmd = Mmd::new(kernel.clone(), estimator);
                same(&samples, (1e-11, 2e-4), &|x| mmd.mean_over_pairs(x), &|x| {
                    reference::mean_over_pairs(&kernel, estimator, x)
                });
            }
        }
    }
}

#[test]
fn shapes_of_all_sizes_equal_the_reference() -> Result<()> {
    let kernel = Kernel::gaussian_variance(1.7)?;
    for samples in cases() {
        for estimator in BOTH {
            let mmd = Mmd::new(kernel.clone(), estimator);
            same(&samples, (1e-12, 1e-4), &|x| mmd.mean_over_pairs(x), &|x| {
                reference::mean_over_pairs(&kernel, estimator, x)
            });
        }
    }
    Ok(())
}

#[test]
fn several_blocks_equal_the_reference() -> Result<()> {
    // More rows than a block has. The reference adds 2e5 numbers one after the other, and is off by
    // 1e-12 (by compensated summation); the fused sum by 1e-16.
    let samples = of(&[450, 230], 5);
    for kernel in [
        Kernel::gaussian_length_scale(2.0)?,
        Kernel::laplace(3.0)?,
        Kernel::cosine(),
    ] {
        let mmd = Mmd::new(kernel.clone(), Estimator::Unbiased);
        same(&samples, (1e-11, 1e-4), &|x| mmd.mean_over_pairs(x), &|x| {
            reference::mean_over_pairs(&kernel, Estimator::Unbiased, x)
        });
    }
    Ok(())
}

#[test]
fn gradients_hold_for_every_kernel() -> Result<()> {
    let samples = [normal(&[4, 3], 0), normal(&[3, 3], 1), normal(&[5, 3], 2)];
    for kernel in kernels() {
        for estimator in BOTH {
            let mmd = Mmd::new(kernel.clone(), estimator);
            gradcheck(&samples, 1e-7, |x| Ok(vec![mmd.mean_over_pairs(x)?]))?;
        }
    }
    Ok(())
}

#[test]
fn gradients_hold_for_weights() -> Result<()> {
    let inputs = [
        normal(&[4, 3], 0),
        weights(4, 0),
        normal(&[3, 3], 1),
        weights(3, 1),
    ];
    for kernel in [
        Kernel::gaussian_length_scale(1.0)?,
        Kernel::energy(),
        Kernel::cosine(),
    ] {
        for estimator in BOTH {
            let mmd = Mmd::new(kernel.clone(), estimator);
            gradcheck(&inputs, 1e-7, |x| {
                Ok(vec![mmd.squared((&x[0], &x[1]), (&x[2], &x[3]))?])
            })?;
            same(
                &inputs,
                (1e-12, 1e-4),
                &|x| mmd.squared((&x[0], &x[1]), (&x[2], &x[3])),
                &|x| reference::squared(&kernel, estimator, (&x[0], &x[1]), (&x[2], &x[3])),
            );
            // One side alone.
            gradcheck(&inputs[..3], 1e-7, |x| {
                Ok(vec![mmd.squared((&x[0], &x[1]), &x[2])?])
            })?;
        }
    }
    Ok(())
}

type OfLength = fn(&Tensor) -> Result<Kernel>;

#[test]
fn gradients_hold_for_lengths() -> Result<()> {
    let l = Tensor::new(1.3f64, &Device::Cpu)?;
    let inputs = [normal(&[4, 3], 0), normal(&[3, 3], 1), l];
    let with: [OfLength; 9] = [
        |l| Kernel::gaussian_length_scale(l),
        |l| Kernel::gaussian_variance(l),
        |l| Kernel::laplace(l),
        |l| Kernel::matern(Smoothness::Half, l),
        |l| Kernel::matern(Smoothness::ThreeHalves, l),
        |l| Kernel::matern(Smoothness::FiveHalves, l),
        |l| Kernel::inverse_multiquadric(l),
        |l| Kernel::rational_quadratic(0.6, l),
        |l| (Kernel::gaussian_length_scale(l)? + Kernel::cosine()) * Kernel::laplace(l)?,
    ];
    for kernel in with {
        for estimator in BOTH {
            let run = |x: &[Tensor]| Mmd::new(kernel(&x[2])?, estimator).squared(&x[0], &x[1]);
            gradcheck(&inputs, 1e-7, |x| Ok(vec![run(x)?]))?;
            same(&inputs, (1e-12, 1e-4), &run, &|x| {
                reference::squared(&kernel(&x[2])?, estimator, &x[0], &x[1])
            });
        }
    }
    Ok(())
}

#[test]
fn several_outputs_have_gradients() -> Result<()> {
    let inputs = [
        normal(&[4, 3], 0),
        normal(&[3, 3], 1),
        normal(&[5, 3], 2),
        weights(5, 0),
    ];
    let some = vec![
        Kernel::gaussian_length_scale(0.7)?,
        Kernel::energy(),
        Kernel::gaussian_variance(3.0)?,
    ];
    for estimator in BOTH {
        let family = MmdFamily::new(some.clone(), estimator);
        let samples = |x: &[Tensor]| {
            [
                Sample::from(&x[0]),
                Sample::from(&x[1]),
                Sample::from((&x[2], &x[3])),
            ]
        };
        gradcheck(&inputs, 1e-7, |x| Ok(vec![family.matrices(&samples(x))?]))?;
        gradcheck(&inputs, 1e-7, |x| {
            Ok(vec![family.mean_over_pairs(&samples(x))?])
        })?;
        // Each entry is the distance of its pair.
        let all = family.matrices(&samples(&inputs))?;
        for (q, kernel) in some.iter().enumerate() {
            let one = Mmd::new(kernel.clone(), estimator);
            let samples = samples(&inputs);
            let pair = one.squared(&samples[2], &samples[1])?;
            let entry = all.get(q)?.get(1)?.get(2)?;
            assert!(distance(&entry, &pair) < 1e-14 && value(&all.get(q)?.get(1)?.get(1)?) == 0.0);
            assert!(distance(&all.get(q)?, &one.matrix(&samples)?) < 1e-14);
        }
    }
    Ok(())
}

#[test]
fn the_root_is_a_distance_with_finite_gradients() -> Result<()> {
    let (x, y) = (normal(&[6, 2], 0), normal(&[5, 2], 1));
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Biased);
    gradcheck(&[x.clone(), y.clone()], 1e-7, |x| {
        Ok(vec![mmd.root(&x[0], &x[1])?])
    })?;
    let z = normal(&[4, 2], 2);
    let sides = [mmd.root(&x, &y)?, mmd.root(&y, &z)?, mmd.root(&x, &z)?];
    assert!(value(&sides[2]) <= value(&sides[0]) + value(&sides[1]) + 1e-12);
    for dtype in [DType::F32, DType::F64] {
        let x = candle_core::Var::from_tensor(&x.to_dtype(dtype)?)?;
        let root = mmd.root(x.as_tensor(), &x.detach())?;
        let gradient = root.backward()?.get(&x).unwrap().clone();
        assert!(value(&root) < 1e-3 && value(&gradient.sqr()?.sum_all()?) < 1.0);
    }
    Ok(())
}

#[test]
fn the_population_value_is_reached() -> Result<()> {
    // N(0, I) against N((.7, 0), 1.5^2 I) in the plane, Gaussian kernel of length 1: 0.0709242.
    let n = 6000;
    let x = normal(&[n, 2], 0);
    let shift = Tensor::new(&[[0.7f64, 0.0]], &Device::Cpu)?;
    let y = (normal(&[n, 2], 1) * 1.5)?.broadcast_add(&shift)?;
    let mmd = Mmd::new(Kernel::gaussian_length_scale(1.0)?, Estimator::Unbiased);
    for dtype in [DType::F64, DType::F32] {
        let (x, y) = (x.to_dtype(dtype)?, y.to_dtype(dtype)?);
        let got = value(&mmd.squared(&x, &y)?);
        let deviation = value(&mmd.estimate(&x, &y)?.variance).sqrt();
        assert!(deviation < 0.004, "{deviation}");
        assert!((got - 0.070_924_2).abs() < 4.0 * deviation, "{got}");
    }
    Ok(())
}

/// `E k(a, b)` of a - b ~ N(m, s I) in d dimensions, Gaussian kernel of variance v.
fn population(square: f64, s: f64, v: f64, d: i32) -> f64 {
    (v / (v + s)).powf(f64::from(d) / 2.0) * (-square / (2.0 * (v + s))).exp()
}

#[test]
fn population_values_by_symmetric_points() -> Result<()> {
    // The formula of the closed form itself.
    let (v, square) = (1.0, 0.49);
    let exact = population(0.0, 2.0, v, 2) + population(0.0, 4.5, v, 2)
        - 2.0 * population(square, 3.25, v, 2);
    assert!((exact - 0.070_924_2).abs() < 1e-7);
    // In one dimension weighted points stand for the normal distribution: quadrature, not chance.
    let nodes: Vec<f64> = (0..2001)
        .map(|i| -8.0 + 16.0 * f64::from(i) / 2000.0)
        .collect();
    let density = nodes
        .iter()
        .map(|x| (-x * x / 2.0).exp())
        .collect::<Vec<f64>>();
    let n = nodes.len();
    let x = Tensor::from_vec(nodes.clone(), (n, 1), &Device::Cpu)?;
    let w = Tensor::from_vec(density, n, &Device::Cpu)?;
    let y = (&x + 0.7)?;
    let want = 2.0 * population(0.0, 2.0, 1.7, 1) - 2.0 * population(0.49, 2.0, 1.7, 1);
    let mmd = Mmd::new(Kernel::gaussian_variance(1.7)?, Estimator::Biased);
    let got = value(&mmd.squared((&x, &w), (&y, &w))?);
    assert!((got - want).abs() < 1e-9, "{got} {want}");
    // Energy distance of N(0, 1) and N(m, 1): 2 E|z + m| - 2 E|z| with z ~ N(0, 2); here as m grows, 2 m.
    let energy = Mmd::new(Kernel::energy(), Estimator::Biased);
    let far = value(&energy.squared((&x, &w), (&(&x + 20.0)?, &w))?);
    assert!(
        (far - (40.0 - 4.0 / std::f64::consts::PI.sqrt())).abs() < 1e-4,
        "{far}"
    );
    Ok(())
}

#[test]
fn a_linear_kernel_compares_means() -> Result<()> {
    let (x, y) = ((normal(&[40, 3], 0) + 5.0)?, normal(&[30, 3], 1));
    let difference = (x.mean(0)? - y.mean(0)?)?.sqr()?.sum_all()?;
    let mmd = Mmd::new(Kernel::linear(), Estimator::Biased);
    assert!(distance(&mmd.squared(&x, &y)?, &difference) < 1e-12);
    // A quadratic kernel adds the difference of second moments.
    let second = |x: &Tensor| -> Result<Tensor> {
        Ok((x.t()?.contiguous()?.matmul(x)? / x.dim(0)? as f64)?)
    };
    let more = (second(&x)? - second(&y)?)?.sqr()?.sum_all()?;
    let quadratic = Mmd::new(Kernel::polynomial(2, 1.0, 1.0)?, Estimator::Biased);
    let want = ((difference * 2.0)? + more)?;
    assert!(distance(&quadratic.squared(&x, &y)?, &want) < 1e-10 * value(&want));
    Ok(())
}

#[test]
fn shifted_f32_data_gives_the_same_distance() -> Result<()> {
    let grid = |i| -> Result<Tensor> {
        Ok(((normal(&[40, 8], i) * 64.0)?.round()? / 64.0)?.to_dtype(DType::F32)?)
    };
    let (x, y) = (grid(0)?, grid(1)?);
    let invariant = kernels().into_iter().take(10);
    for kernel in invariant {
        let mmd = Mmd::new(kernel.clone(), Estimator::Biased);
        let plain = value(&mmd.squared(&x, &y)?);
        // 1024 keeps every digit of these numbers, 1000 too.
        for shift in [1024.0, 1000.0] {
            let shifted = value(&mmd.squared(&(&x + shift)?, &(&y + shift)?)?);
            assert!(
                (plain - shifted).abs() < 2e-5 * plain,
                "{kernel:?}: {plain} {shifted}"
            );
        }
    }
    Ok(())
}

#[test]
fn narrow_kernels_are_exact_far_from_the_mean() -> Result<()> {
    // Two clusters far apart, a kernel much narrower: f32 distances must come from differences.
    let cluster = |i: u64, at: f64| -> Result<Tensor> { Ok(((normal(&[30, 4], i) * 0.01)? + at)?) };
    let x = Tensor::cat(&[cluster(0, -50.0)?, cluster(1, 50.0)?], 0)?;
    let y = Tensor::cat(&[cluster(2, -50.0)?, cluster(3, 50.0)?], 0)?;
    let mmd = Mmd::new(Kernel::gaussian_length_scale(0.02)?, Estimator::Unbiased);
    let (x32, y32) = (x.to_dtype(DType::F32)?, y.to_dtype(DType::F32)?);
    let want = mmd.squared(&x32.to_dtype(DType::F64)?, &y32.to_dtype(DType::F64)?)?;
    assert!(distance(&mmd.squared(&x32, &y32)?, &want) < 1e-6);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn identities(n in 2usize..60, m in 2usize..60, d in 1usize..6, which in 0usize..15, seed in 0u64..60) {
        let kernel = kernels()[which].clone();
        let mmd = Mmd::new(kernel.clone(), Estimator::Biased);
        let (x, y) = (normal(&[n, d], seed), normal(&[m, d], seed + 500));
        let plain = value(&mmd.squared(&x, &y).unwrap());
        let scale = 1.0 + value(&reference::kernel_matrix(&kernel, &x, &x).unwrap().abs().unwrap().mean_all().unwrap());
        let close = |a: f64, b: f64| (a - b).abs() < 1e-10 * scale;
        prop_assert!(plain >= 0.0);
        prop_assert!(close(value(&mmd.squared(&x, &x).unwrap()), 0.0));
        // Symmetric, and blind to the order of points.
        let order: Vec<u32> = (0..n as u32).map(|i| (i * 7 + 3) % n as u32).collect();
        let order = if n % 7 == 0 { (0..n as u32).rev().collect() } else { order };
        let order = Tensor::from_vec(order, n, &Device::Cpu).unwrap();
        let shuffled = x.index_select(&order, 0).unwrap();
        prop_assert!(close(plain, value(&mmd.squared(&y, &shuffled).unwrap())));
        // The V-statistic is the U-statistic and the diagonal.
        let mean = |x: &Tensor, unbiased: bool| {
            let k = reference::kernel_matrix(&kernel, x, x).unwrap();
            let n = x.dims()[0] as f64;
            let diagonal = value(&(&k * Tensor::eye(x.dims()[0], DType::F64, &Device::Cpu).unwrap()).unwrap().sum_all().unwrap());
            let all = value(&k.sum_all().unwrap());
            if unbiased { (all - diagonal) / (n * (n - 1.0)) } else { all / (n * n) }
        };
        let unbiased = Mmd::new(kernel.clone(), Estimator::Unbiased);
        let difference = mean(&x, false) + mean(&y, false) - mean(&x, true) - mean(&y, true);
        prop_assert!(close(plain - value(&unbiased.squared(&x, &y).unwrap()), difference));
        // A point twice is a point of twice the weight.
        let twice = Tensor::cat(&[&x, &x.narrow(0, 0, 1).unwrap()], 0).unwrap();
        let mut w = vec![1.0; n];
        w[0] = 2.0;
        let w = Tensor::from_vec(w, n, &Device::Cpu).unwrap();
        let (a, b) = (mmd.squared(&twice, &y).unwrap(), mmd.squared((&x, &w), &y).unwrap());
        prop_assert!(close(value(&a), value(&b)));
        // A mixture of x and y is that far from x: MMD^2(x, (1 - t) x + t y) = t^2 MMD^2(x, y).
        let t = 0.3;
        let both = Tensor::cat(&[&x, &y], 0).unwrap();
        let mut w = vec![(1.0 - t) / n as f64; n];
        w.resize(n + m, t / m as f64);
        let w = Tensor::from_vec(w, n + m, &Device::Cpu).unwrap();
        prop_assert!(close(value(&mmd.squared(&x, (&both, &w)).unwrap()), t * t * plain));
    }
}

#[test]
fn threads_do_not_change_results() -> Result<()> {
    let samples = [normal(&[900, 16], 0), normal(&[500, 16], 1)];
    let family = MmdFamily::new(
        vec![Kernel::gaussian_length_scale(4.0)?, Kernel::laplace(9.0)?],
        Estimator::Unbiased,
    );
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let x = candle_core::Var::from_tensor(&samples[0]).unwrap();
            let y = family.squared(x.as_tensor(), &samples[1]).unwrap();
            let gradient = y
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
                .get(&x)
                .unwrap()
                .clone();
            let mut all = y.to_vec1::<f64>().unwrap();
            all.extend(gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap());
            all.into_iter().map(f64::to_bits).collect::<Vec<_>>()
        })
    };
    assert_eq!(run(1), run(3));
    Ok(())
}

#[test]
fn bad_input_is_named() -> Result<()> {
    let gaussian = Kernel::gaussian_variance(1.0)?;
    let mmd = Mmd::new(gaussian.clone(), Estimator::Unbiased);
    let x = normal(&[3, 2], 0);
    let message = |r: Result<Tensor>| r.unwrap_err().to_string();
    assert!(message(mmd.mean_over_pairs(std::slice::from_ref(&x))).contains("at least two"));
    assert!(message(mmd.mean_over_pairs::<Tensor>(&[])).contains("at least two"));
    assert!(message(mmd.squared(&x, &normal(&[3, 4], 1))).contains("sample 1"));
    assert!(message(mmd.squared(&x, &normal(&[1, 2], 1))).contains("n >= 2"));
    assert!(message(mmd.squared(&x, &x.to_dtype(DType::F32)?)).contains("sample 1"));
    let nan = Tensor::new(&[[0.0, 1.0], [f64::INFINITY, 2.0]], &Device::Cpu)?;
    assert!(message(mmd.squared(&x, &nan)).contains("sample 1 at row 1, column 0"));
    let w = |w: &[f64]| Tensor::from_slice(w, w.len(), &Device::Cpu).unwrap();
    assert!(message(mmd.squared((&x, &w(&[1.0, 1.0])), &x)).contains("weights of sample 0"));
    assert!(message(mmd.squared((&x, &w(&[1.0, -1.0, 1.0])), &x)).contains("weight 1 of sample 0"));
    assert!(message(mmd.squared((&x, &w(&[0.0, 0.0, 0.0])), &x)).contains("sum of the weights"));
    assert!(message(mmd.squared((&x, &w(&[1.0, 0.0, 0.0])), &x)).contains("needs two"));
    for l in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(Kernel::gaussian_variance(l).is_err() && Kernel::laplace(l).is_err());
        assert!(Kernel::rational_quadratic(l, 1.0).is_err() && gaussian.clone().scaled(l).is_err());
    }
    assert!(Kernel::gaussian_length_scale(&w(&[1.0, 2.0])).is_err());
    assert!(Kernel::polynomial(0, 1.0, 1.0).is_err() && Kernel::polynomial(2, 1.0, -1.0).is_err());
    let product = gaussian * Kernel::energy();
    assert!(
        product
            .unwrap_err()
            .to_string()
            .contains("not positive definite")
    );
    let zero = Mmd::new(Kernel::cosine(), Estimator::Biased);
    assert!(message(zero.squared(&x, &x.zeros_like()?)).contains("no direction"));
    Ok(())
}

#[test]
fn degenerate_input_is_finite_or_an_error() -> Result<()> {
    let one = normal(&[1, 2], 0);
    let equal = Tensor::ones((5, 2), DType::F64, &Device::Cpu)?;
    for kernel in kernels() {
        let mmd = Mmd::new(kernel, Estimator::Biased);
        assert!(value(&mmd.squared(&one, &equal)?).is_finite());
        assert!(value(&mmd.squared(&equal, &equal)?).abs() < 1e-12);
        let x = candle_core::Var::from_tensor(&equal)?;
        let gradient = mmd.root(x.as_tensor(), &equal)?.backward()?;
        let gradient = gradient.get(&x).unwrap().sqr()?.sum_all()?;
        assert!(value(&gradient).is_finite());
        for (dtype, size) in [(DType::F32, 1e30), (DType::F64, 1e30), (DType::F64, 1e300)] {
            let huge = (normal(&[3, 2], 2) * size)?.to_dtype(dtype)?;
            match mmd.squared(&huge, &one.to_dtype(dtype)?) {
                Ok(far) => assert!(value(&far).is_finite()),
                Err(e) => assert!(e.to_string().contains("finite"), "{e}"),
            }
        }
    }
    Ok(())
}
