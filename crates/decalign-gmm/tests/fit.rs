//! The fit: known answers, invariances, recovery, and data that is hardly any.

#![allow(clippy::unwrap_used)]

mod common;

use candle_core::{DType, Device, Tensor};
use common::*;
use decalign_core::Result;
use decalign_core::random::Stream;
use decalign_gmm::{Covariance, Em, EmptyComponent, Initialization, Mixture, StoppingReason};
use proptest::prelude::*;

fn em(k: usize, kind: Covariance) -> Em {
    let em = Em::new(k, kind).unwrap().regularisation(0.0).unwrap();
    em.tolerance(1e-12).unwrap().max_iterations(2000)
}

/// The optima that scikit-learn finds; of diagonal covariances there is a better one.
#[test]
fn irises() -> Result<()> {
    let known = [
        (Covariance::Full, 0, -180.18548, 580.8389),
        (Covariance::Tied, 0, -256.35404, 632.9633),
        (Covariance::Diagonal, 2, -307.17757, 744.6317),
        (Covariance::Spherical, 0, -384.31410, 853.8090),
    ];
    for (kind, seed, log_likelihood, bic) in known {
        let starts = if seed == 0 { 10 } else { 1 };
        let fit = em(3, kind).n_init(starts)?.seed(seed).fit(&iris())?;
        assert!(fit.converged());
        let got = 150.0 * fit.convergence()[0].log_likelihood();
        assert!((got - log_likelihood).abs() < 1e-4, "{kind:?}: {got}");
        assert!((number(&fit.mixture.bic(&iris())?) - bic).abs() < 1e-4);
        let parameters = kind.parameters(3, 4) as f64;
        let aic = 2.0 * parameters - 2.0 * log_likelihood;
        assert!((number(&fit.mixture.aic(&iris())?) - aic).abs() < 2e-4);
    }
    let best = em(3, Covariance::Diagonal).n_init(10)?.fit(&iris())?;
    assert!((150.0 * best.convergence()[0].log_likelihood() + 306.86046).abs() < 1e-4);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_log_likelihood_never_falls(
        kind in 0usize..4, k in 1usize..5, width in 1usize..5, seed in 0u64..1000, weighted: bool,
    ) {
        let n = 60;
        let x = groups(n / 4, 4, width, 3.0, seed);
        let starts = [Initialization::KMeans, Initialization::KMeansPlusPlus, Initialization::Random, Initialization::EvenRows];
        let weights = Tensor::from_vec(Stream::new(1, seed).uniform(n, 0.0, 2.0), n, &Device::Cpu).unwrap();
        let em = em(k, KINDS[kind]).initialization(starts[seed as usize % 4].clone()).max_iterations(50);
        let fit = if weighted { em.fit_weighted(&x, &weights) } else { em.fit(&x) };
        // Small groups may collapse, which is an error and no fall.
        if let Ok(fit) = fit {
            let levels = &fit.convergence()[0].log_likelihoods;
            for pair in levels.windows(2) {
                prop_assert!(pair[1] >= pair[0] - 1e-12 * pair[0].abs().max(1.0), "{levels:?}");
            }
            prop_assert_eq!(levels.len(), fit.convergence()[0].iterations + 1);
            let total: f64 = numbers(fit.mixture.weights()).iter().sum();
            prop_assert!((total - 1.0).abs() < 1e-12);
            for row in fit.mixture.responsibilities(&x).unwrap().to_vec2::<f64>().unwrap() {
                prop_assert!((row.iter().sum::<f64>() - 1.0).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn one_component_is_the_mean_and_the_covariance() -> Result<()> {
    let x = normal(&[50, 3], 1);
    for kind in KINDS {
        let fit = em(1, kind).fit(&x)?;
        let mean = x.mean_keepdim(0)?;
        assert!(off(fit.mixture.means(), &mean) < 1e-12);
        let centred = x.broadcast_sub(&mean)?;
        let matrix = (centred.t()?.contiguous()?.matmul(&centred)? / 50.0)?;
        let diagonal = centred.sqr()?.mean_keepdim(0)?;
        let want = match kind {
            Covariance::Full => matrix.unsqueeze(0)?,
            Covariance::Tied => matrix,
            Covariance::Diagonal => diagonal,
            Covariance::Spherical => diagonal.mean(1)?,
        };
        assert!(off(fit.mixture.covariances(), &want) < 1e-12, "{kind:?}");
    }
    Ok(())
}

#[test]
fn on_a_line_all_forms_agree() -> Result<()> {
    let x = groups(30, 2, 1, 4.0, 3);
    let want = em(2, Covariance::Full).fit(&x)?.mixture;
    for kind in [Covariance::Diagonal, Covariance::Spherical] {
        let got = em(2, kind).fit(&x)?.mixture;
        assert!(off(got.means(), want.means()) < 1e-8);
        let (a, b) = (numbers(got.covariances()), numbers(want.covariances()));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-8));
    }
    Ok(())
}

#[test]
fn tied_is_full_when_components_share_their_covariance() -> Result<()> {
    // Two copies of one cloud, so far apart that no sample is of both.
    let cloud = normal(&[40, 3], 4);
    let x = Tensor::cat(&[&cloud, &(&cloud + 100.0)?], 0)?;
    let full = em(2, Covariance::Full).fit(&x)?.mixture;
    let tied = em(2, Covariance::Tied).fit(&x)?.mixture;
    assert!(off(tied.means(), full.means()) < 1e-10);
    for k in 0..2 {
        assert!(off(tied.covariances(), &full.covariances().get(k)?) < 1e-9);
    }
    Ok(())
}

#[test]
fn random_starts_are_soft() -> Result<()> {
    let (n, k) = (100, 3);
    let x = groups(n / 2, 2, 2, 5.0, 12);
    let start = Em::new(k, Covariance::Diagonal)?
        .initialization(Initialization::Random)
        .seed(4);
    let fit = start.max_iterations(0).fit(&x)?;
    // Uniform numbers divided by their sum, of the fit's own stream.
    let draws = Stream::new(4, 0).child(0).uniform(n * k, 0.0, 1.0);
    let draws = tensor(&draws, &[n, k]);
    let gamma = draws.broadcast_div(&draws.sum_keepdim(1)?)?;
    let mass = gamma.sum(0)?;
    let means = gamma.t()?.contiguous()?.matmul(&x)?;
    let means = means.broadcast_div(&mass.unsqueeze(1)?)?;
    assert!(off(fit.mixture.weights(), &(mass / n as f64)?) < 1e-12);
    assert!(off(fit.mixture.means(), &means) < 1e-12);
    // No sample is of one component alone: hard labels would have spread the means far more.
    let all = x.mean_keepdim(0)?;
    let apart = fit.mixture.means().broadcast_sub(&all)?.abs()?.max_all()?;
    assert!(number(&apart) < 0.5);
    Ok(())
}

#[test]
fn order_and_labels_do_not_matter() -> Result<()> {
    let x = groups(20, 3, 2, 5.0, 5);
    let order: Vec<u32> = (0..60).map(|i| (i * 7 % 60) as u32).collect();
    let turned = x.index_select(&Tensor::new(order, &Device::Cpu)?, 0)?;
    for kind in KINDS {
        let start = |rows: [usize; 3]| Initialization::Rows(rows.to_vec());
        let a = em(3, kind)
            .initialization(start([0, 20, 40]))
            .fit(&x)?
            .mixture;
        // Row i of the other order is row 7 i of this one; and labels turn.
        let place = |row: usize| (0..60).find(|i| i * 7 % 60 == row).unwrap();
        let b = em(3, kind).initialization(start([place(20), place(40), place(0)]));
        let b = b.fit(&turned)?.mixture;
        let back = Tensor::new(&[2u32, 0, 1], &Device::Cpu)?;
        assert!(off(&b.means().index_select(&back, 0)?, a.means()) < 1e-6);
        assert!(off(&b.weights().index_select(&back, 0)?, a.weights()) < 1e-6);
    }
    Ok(())
}

#[test]
fn scale_and_place_do_not_matter() -> Result<()> {
    let x = groups(25, 3, 2, 3.0, 6);
    for kind in KINDS {
        let want = em(3, kind).fit(&x)?;
        for (factor, shift) in [
            (3.0, 0.0),
            (1e-30, 0.0),
            (1e30, 0.0),
            (1.0, 1e4),
            (0.1, -7.0),
        ] {
            let got = em(3, kind).fit(&x.affine(factor, shift)?)?;
            let mixture = &got.mixture;
            let means = ((mixture.means() - shift)? / factor)?;
            assert!(
                off(&means, want.mixture.means()) < 1e-6,
                "{kind:?} {factor} {shift}"
            );
            let covariances = (mixture.covariances() / (factor * factor))?;
            assert!(off(&covariances, want.mixture.covariances()) < 1e-6);
            let level = got.convergence()[0].log_likelihood() + 2.0 * f64::ln(factor);
            assert!((level - want.convergence()[0].log_likelihood()).abs() < 1e-9);
        }
    }
    Ok(())
}

#[test]
fn columns_may_have_units_far_apart() -> Result<()> {
    let x = groups(25, 3, 2, 3.0, 6);
    let units = tensor(&[1e-25, 1e20], &[1, 2]);
    for kind in [Covariance::Full, Covariance::Tied, Covariance::Diagonal] {
        let want = em(3, kind).fit(&x)?.mixture;
        let got = em(3, kind).fit(&x.broadcast_mul(&units)?)?.mixture;
        assert!(off(&got.means().broadcast_div(&units)?, want.means()) < 1e-6);
    }
    Ok(())
}

#[test]
fn shifted_single_precision_gives_the_same_fit() -> Result<()> {
    // Multiples of 2^-6, so that the shift itself is exact in f32.
    let x = ((groups(40, 2, 3, 4.0, 7) * 64.0)?.round()? / 64.0)?;
    for kind in KINDS {
        let want = em(2, kind).tolerance(1e-7)?.fit(&x)?.mixture;
        for shift in [0.0, 1e4, -6e4] {
            let single = x.affine(1.0, shift)?.to_dtype(DType::F32)?;
            let got = em(2, kind).tolerance(1e-7)?.fit(&single)?.mixture;
            let means = (got.means().to_dtype(DType::F64)? - shift)?;
            // Means are rounded to the spacing of numbers at the shift.
            assert!(off(&means, want.means()) < 2e-3, "{kind:?}");
            assert!(
                off(got.covariances(), want.covariances()) < 1e-3,
                "{kind:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_weight_of_two_is_a_sample_twice() -> Result<()> {
    let x = groups(15, 2, 2, 4.0, 8);
    let doubled = Tensor::cat(&[&x, &x.narrow(0, 5, 15)?], 0)?;
    let mut weights = vec![1.0; 30];
    weights[5..20].fill(2.0);
    // And what has no weight is not there.
    let with_more = Tensor::cat(&[&x, &(normal(&[3, 2], 9) * 50.0)?], 0)?;
    weights.extend([0.0; 3]);
    let weights = tensor(&weights, &[33]);
    for kind in KINDS {
        let em = em(2, kind).initialization(Initialization::Rows(vec![0, 29]));
        let want = em.fit(&doubled)?;
        let got = em.fit_weighted(&with_more, &weights)?;
        same(&got.mixture, &want.mixture, 1e-6);
        // Only proportions count.
        let more = em.fit_weighted(&with_more, &(&weights * 1e-12)?)?;
        same(&more.mixture, &got.mixture, 1e-6);
        assert!(
            (got.convergence()[0].log_likelihood() - want.convergence()[0].log_likelihood()).abs()
                < 1e-9
        );
    }
    Ok(())
}

#[test]
fn a_batch_is_a_loop() -> Result<()> {
    let problems: Vec<Tensor> = (0..3).map(|i| groups(20, 2, 3, 4.0, 10 + i)).collect();
    let x = Tensor::stack(&problems, 0)?;
    let weights = (normal(&[3, 40], 1).sqr()? + 0.1)?;
    for kind in KINDS {
        let batch = em(2, kind).fit_weighted(&x, &weights)?;
        assert_eq!(batch.convergence().len(), 3);
        let logs = batch.mixture.log_densities(&x)?;
        for (i, problem) in problems.iter().enumerate() {
            let one = em(2, kind).fit_weighted(problem, &weights.get(i)?)?;
            same(&batch.mixture.get(i)?, &one.mixture, 0.0);
            assert_eq!(batch.convergence()[i], one.convergence()[0]);
            assert_eq!(
                numbers(&logs.get(i)?),
                numbers(&one.mixture.log_densities(problem)?)
            );
        }
    }
    Ok(())
}

#[test]
fn known_mixtures_are_recovered() -> Result<()> {
    for (kind, width) in KINDS.into_iter().flat_map(|k| [(k, 2), (k, 17)]) {
        let x = groups(400, 4, width, 8.0, 20);
        let truth: Vec<u32> = (0..1600).map(|i| i / 400).collect();
        for x in [x.clone(), x.to_dtype(DType::F32)?] {
            let fit = Em::new(4, kind)?.n_init(3)?.fit(&x)?;
            let labels = fit.mixture.assign(&x)?.to_vec1::<u32>()?;
            assert!(rand_index(&labels, &truth) > 0.95, "{kind:?} {width}");
        }
    }
    Ok(())
}

#[test]
fn threads_do_not_matter() -> Result<()> {
    let x = groups(3000, 3, 5, 3.0, 30).to_dtype(DType::F32)?;
    for kind in KINDS {
        let fit = || {
            Em::new(3, kind)
                .unwrap()
                .max_iterations(5)
                .fit(&x)
                .unwrap()
                .mixture
        };
        let pool = |n| {
            rayon::ThreadPoolBuilder::new()
                .num_threads(n)
                .build()
                .unwrap()
        };
        same(&pool(1).install(fit), &pool(3).install(fit), 0.0);
    }
    Ok(())
}

#[test]
fn a_warm_start_stands_still() -> Result<()> {
    let x = groups(30, 3, 2, 4.0, 31);
    for kind in KINDS {
        let fit = em(3, kind).fit(&x)?;
        let warm =
            em(3, kind).initialization(Initialization::Mixture(Box::new(fit.mixture.clone())));
        let again = warm.clone().tolerance(1e-9)?.fit(&x)?;
        assert_eq!(
            (
                again.convergence()[0].iterations,
                again.convergence()[0].reason
            ),
            (1, StoppingReason::Tolerance)
        );
        same(&again.mixture, &fit.mixture, 1e-4);
        let none = warm.max_iterations(0).fit(&x)?;
        same(&none.mixture, &fit.mixture, 1e-12);
        assert_eq!(none.convergence()[0].reason, StoppingReason::MaxIterations);
    }
    Ok(())
}

#[test]
fn n_init_keeps_the_best() -> Result<()> {
    let x = groups(20, 5, 2, 4.0, 32);
    let one = |starts| {
        em(5, Covariance::Spherical)
            .initialization(Initialization::Random)
            .n_init(starts)
            .unwrap()
    };
    let levels: Vec<f64> = (1..6)
        .map(|n| one(n).fit(&x).unwrap().convergence()[0].log_likelihood())
        .collect();
    assert!(
        levels.windows(2).all(|pair| pair[1] >= pair[0]),
        "{levels:?}"
    );
    assert!(levels[4] > levels[0], "{levels:?}");
    Ok(())
}

#[test]
fn dead_components_are_reported_or_moved() -> Result<()> {
    let x = groups(30, 2, 2, 6.0, 33);
    // The third component starts where nothing is.
    let start = Mixture::new(
        Covariance::Diagonal,
        &tensor(&[0.4, 0.4, 0.2], &[3]),
        &tensor(&[6.0, 0.0, 0.0, 6.0, 900.0, 900.0], &[3, 2]),
        &tensor(&[1.0; 6], &[3, 2]),
    )?;
    let em = em(3, Covariance::Diagonal).initialization(Initialization::Mixture(Box::new(start)));
    let fit = em.fit(&x)?;
    assert_eq!(fit.convergence()[0].empty_components, [2]);
    assert_eq!(fit.mixture.weights().to_vec1::<f64>()?[2], 0.0);
    assert!(
        numbers(&fit.mixture.log_density(&x)?)
            .iter()
            .all(|v| v.is_finite())
    );
    let moved = em
        .empty_components(EmptyComponent::Reseed)
        .max_iterations(8)
        .fit(&x)?;
    assert!(moved.convergence()[0].empty_components.is_empty());
    assert!(moved.mixture.weights().to_vec1::<f64>()?[2] > 0.01);
    assert!(moved.convergence()[0].log_likelihood() > fit.convergence()[0].log_likelihood());
    Ok(())
}

/// Fits that must either fail with a message or give numbers.
#[test]
fn degenerate_data_is_an_error_or_finite() -> Result<()> {
    let cloud = numbers(&normal(&[20, 2], 40));
    let column = |f: &dyn Fn(usize) -> f64| tensor(&(0..40).map(f).collect::<Vec<_>>(), &[20, 2]);
    let cases = [
        column(&|i| if i % 2 == 0 { cloud[i] } else { 3.0 }),
        column(&|i| {
            if i % 2 == 0 {
                cloud[i]
            } else {
                2.0 * cloud[i - 1]
            }
        }),
        column(&|i| (i / 2 % 3) as f64),
        column(&|i| cloud[i] * 1e-30),
        column(&|i| cloud[i] * 1e30),
        column(&|i| if i == 7 { 1e30 } else { cloud[i] }),
        column(&|i| if i == 7 { 1e-38 } else { 0.0 }),
    ];
    let mut failed = 0;
    for (case, kind) in (0..cases.len()).flat_map(|c| KINDS.map(|k| (c, k))) {
        for (dtype, regularisation) in [DType::F64, DType::F32]
            .into_iter()
            .flat_map(|d| [(d, 0.0), (d, 1e-6)])
        {
            let x = cases[case].to_dtype(dtype)?;
            let fit = Em::new(2, kind)?.regularisation(regularisation)?.fit(&x);
            match fit {
                Err(error) => {
                    failed += 1;
                    assert!(error.to_string().len() > 40, "{error}");
                }
                Ok(fit) => {
                    let m = &fit.mixture;
                    let all = [m.weights(), m.means(), m.covariances()];
                    let finite = |x: &&Tensor| numbers(x).iter().all(|v| v.is_finite());
                    assert!(all.iter().all(finite), "{case} {kind:?} {dtype:?}");
                    assert!(
                        fit.convergence()[0]
                            .log_likelihoods
                            .iter()
                            .all(|v| v.is_finite())
                    );
                }
            }
        }
    }
    // Collinear columns have no matrix, and constant ones no variance, without regularisation.
    assert!(failed >= 8, "{failed}");
    Ok(())
}

#[test]
fn bad_input_is_an_error_that_says_what_to_do() -> Result<()> {
    let says = |error: decalign_core::Error, words: &[&str]| {
        let text = error.to_string();
        assert!(words.iter().all(|w| text.contains(w)), "{text}");
    };
    let x = normal(&[6, 2], 41);
    let em = || em(3, Covariance::Full);
    says(
        Em::new(0, Covariance::Full).unwrap_err(),
        &["components", "at least one"],
    );
    says(
        Em::new(1, Covariance::Full)?.n_init(0).unwrap_err(),
        &["n_init"],
    );
    says(
        Em::new(1, Covariance::Full)?
            .tolerance(f64::NAN)
            .unwrap_err(),
        &["tolerance", "NaN"],
    );
    says(
        Em::new(1, Covariance::Full)?
            .regularisation(-1.0)
            .unwrap_err(),
        &["regularisation", "-1"],
    );
    says(em().fit(&normal(&[4], 0)).unwrap_err(), &["(n, d)"]);
    says(
        em().fit(&x.to_dtype(DType::U32)?).unwrap_err(),
        &["f32 or f64"],
    );
    says(
        em().fit(&x.narrow(0, 0, 0)?).unwrap_err(),
        &["at least one"],
    );
    let nan = Tensor::new(&[[0f32, 1.0], [f32::NAN, 2.0]], &Device::Cpu)?;
    says(
        em().fit(&nan).unwrap_err(),
        &["row 1, column 0", "1 entries"],
    );
    let twice = Tensor::new(&[[0f64, 1.0], [2.0, 2.0], [0.0, 1.0]], &Device::Cpu)?;
    says(
        em().fit(&twice).unwrap_err(),
        &["singular", "raise the regularisation", "fewer"],
    );
    says(
        em().fit(&x).unwrap_err(),
        &["singular", "raise the regularisation"],
    );
    let batch = Tensor::stack(&[&x, &x.zeros_like()?], 0)?;
    says(
        Em::new(1, Covariance::Full)?
            .regularisation(0.0)?
            .fit(&batch)
            .unwrap_err(),
        &["problem 1", "singular"],
    );
    let start = Initialization::Rows(vec![0, 1, 6]);
    says(
        em().initialization(start).fit(&x).unwrap_err(),
        &["initial row", "6"],
    );
    says(
        em().initialization(Initialization::Rows(vec![0]))
            .fit(&x)
            .unwrap_err(),
        &["one a component"],
    );
    for (weights, words) in [
        (vec![1.0; 5], "shape"),
        (vec![-1.0; 6], "not negative"),
        (vec![f64::NAN; 6], "not negative"),
        (vec![0.0; 6], "must be positive"),
    ] {
        let n = weights.len();
        says(
            em().fit_weighted(&x, &tensor(&weights, &[n])).unwrap_err(),
            &[words],
        );
    }
    Ok(())
}

#[test]
fn strided_tensors_are_read_as_they_look() -> Result<()> {
    let wide = normal(&[3, 40], 60);
    let (turned, plain) = (wide.t()?, wide.t()?.contiguous()?);
    // Every second column of a wider tensor, behind an offset.
    let parent = Tensor::cat(&[&normal(&[5, 3], 61), &plain], 0)?;
    let narrow = parent.narrow(0, 5, 40)?;
    for kind in KINDS {
        let em = Em::new(2, kind)?.regularisation(1e-3)?;
        let want = em.fit(&plain)?.mixture;
        for x in [&turned, &narrow] {
            same(&em.fit(x)?.mixture, &want, 0.0);
            assert_eq!(
                numbers(&want.log_densities(x)?),
                numbers(&want.log_densities(&plain)?)
            );
        }
    }
    Ok(())
}

#[test]
fn sizes_about_the_edges_of_blocks_and_chunks() -> Result<()> {
    // One step on all rows is one step on the same rows twice, wherever blocks and chunks end.
    for (n, d) in [
        (1, 1),
        (15, 17),
        (16, 16),
        (17, 15),
        (127, 33),
        (128, 1),
        (129, 6),
        (1023, 2),
        (1025, 31),
    ] {
        let x = normal(&[n, d], 62 + n as u64);
        let twice = Tensor::cat(&[&x, &x], 0)?;
        for (kind, dtype) in KINDS
            .into_iter()
            .flat_map(|k| [(k, DType::F64), (k, DType::F32)])
        {
            let k = n.min(3);
            let em = Em::new(k, kind)?.initialization(Initialization::Rows((0..k).collect()));
            let em = em.regularisation(0.1)?.max_iterations(2).tolerance(0.0)?;
            let fit = |x: &Tensor| em.fit(&x.to_dtype(dtype)?);
            let (one, two) = (fit(&x)?, fit(&twice)?);
            let tolerance = if dtype == DType::F64 { 1e-11 } else { 2e-4 };
            same(&two.mixture, &one.mixture, tolerance);
            let wide = em.fit(&x)?;
            same(&one.mixture, &wide.mixture, 1e-3);
        }
    }
    Ok(())
}

#[test]
fn huge_and_tiny_columns_in_single_precision() -> Result<()> {
    let x = groups(25, 3, 2, 4.0, 63);
    for kind in KINDS {
        let em = em(3, kind).tolerance(1e-6)?;
        for scale in [1e-15, 1e15, 1e-30, 1e30] {
            // Squares of 1e30 have no place in f32: an error with a remedy, not an infinity.
            let single = (&x * scale)?.to_dtype(DType::F32)?;
            match em.fit(&single) {
                Ok(fit) => {
                    let m = &fit.mixture;
                    for part in [m.weights(), m.means(), m.covariances()] {
                        assert!(numbers(part).iter().all(|v| v.is_finite()));
                    }
                    assert!(
                        numbers(&m.log_density(&single)?)
                            .iter()
                            .all(|v| v.is_finite())
                    );
                }
                Err(error) => {
                    let text = error.to_string();
                    assert!(text.contains("f64") || text.contains("singular"), "{text}");
                }
            }
        }
    }
    Ok(())
}
