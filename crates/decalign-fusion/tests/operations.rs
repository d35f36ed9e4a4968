//! Every operation: fused equals reference, values and gradients, f32 and f64, strided input,
//! masks, dropout; gradients against central differences.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::Mode;
use decalign_core::random::Stream as Random;
use decalign_core::{Result, gradcheck};
use decalign_fusion::{
    AttentionMask, attention_weights, dot_product_attention, gelu, mean_pool, project,
    project_context, reference, residual_norm, rotate,
};

mod common;
use common::{distance, normal, same};

/// Keys that the mask leaves, and whether queries see later ones.
fn mask(causal: bool, keys: Option<&Tensor>) -> AttentionMask<'_> {
    AttentionMask::default()
        .causal(causal)
        .keys(keys)
        .bias(None)
}

#[test]
fn attention() -> Result<()> {
    let inputs = [
        normal(&[2, 4, 6], 0),
        normal(&[2, 5, 6], 1),
        normal(&[2, 5, 6], 2),
    ];
    // One key missing, and a sample without any.
    let some = Tensor::new(&[[1f64, 0.0, 1.0, 1.0, 1.0], [1.0; 5]], &Device::Cpu)?;
    let none = Tensor::new(&[[1f64, 0.0, 1.0, 1.0, 1.0], [0.0; 5]], &Device::Cpu)?;
    let training = Mode::Training(Random::new(1, 2));
    for heads in [1, 2, 3] {
        for (causal, keys, drop) in [
            (false, None, (0.0, Mode::Inference)),
            (true, None, (0.0, Mode::Inference)),
            (false, Some(&some), (0.0, Mode::Inference)),
            (true, Some(&none), (0.0, Mode::Inference)),
            (false, Some(&some), (0.4, training)),
        ] {
            let mask = mask(causal, keys);
            let fused = |x: &[Tensor]| {
                Ok(vec![dot_product_attention(
                    &x[0], &x[1], &x[2], heads, mask, drop,
                )?])
            };
            same(&inputs, &fused, &|x| {
                let y = reference::dot_product_attention(&x[0], &x[1], &x[2], heads, mask, drop)?;
                Ok(vec![y])
            });
            gradcheck(&inputs, 1e-7, fused)?;
        }
    }
    Ok(())
}

#[test]
fn numbers_of_16_bits_are_computed_in_f32_and_rounded() -> Result<()> {
    let x = [
        normal(&[2, 7, 8], 0),
        normal(&[2, 9, 8], 1),
        normal(&[2, 9, 8], 2),
    ];
    let bias = normal(&[7, 9], 3);
    let mask = mask(true, None).bias(Some(&bias));
    for dtype in [DType::BF16, DType::F16] {
        let run = |x: &[Tensor], through: DType| {
            let half = |x: &Tensor| x.to_dtype(dtype)?.to_dtype(through);
            let (q, k, v) = (half(&x[0])?, half(&x[1])?, half(&x[2])?);
            let bias = half(&bias)?;
            let mask = mask.bias(Some(&bias));
            let y = dot_product_attention(&q, &k, &v, 2, mask, (0.0, Mode::Inference))?;
            assert_eq!(y.dtype(), through);
            Ok(vec![y.to_dtype(dtype)?.to_dtype(x[0].dtype())?])
        };
        same(&x, &|x| run(x, dtype), &|x| run(x, DType::F32));
    }
    Ok(())
}

#[test]
fn a_query_without_keys_gives_zeros_and_zero_gradients() -> Result<()> {
    let q = Var::from_tensor(&normal(&[1, 2, 4], 0))?;
    let k = normal(&[1, 3, 4], 1);
    let none = Tensor::zeros((1, 3), DType::F64, &Device::Cpu)?;
    let none = mask(false, Some(&none));
    let y = dot_product_attention(&q, &k, &k, 2, none, (0.0, Mode::Inference))?;
    assert_eq!(y.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
    let gradient = y.sum_all()?.backward()?;
    let gradient = gradient.get(&q).unwrap().abs()?.sum_all()?;
    assert_eq!(gradient.to_scalar::<f64>()?, 0.0);
    Ok(())
}

#[test]
fn attention_of_every_size_equals_the_reference() -> Result<()> {
    // Blocks, pieces and groups that are full and not, heads of one slab and of several, all that is left out.
    let training = Mode::Training(Random::new(1, 2));
    for (l, keys, width, heads) in [
        (1, 1, 3, 1),
        (1, 2, 48, 4),
        (4, 4, 6, 2),
        (6, 16, 8, 1),
        (7, 17, 8, 2),
        (13, 33, 24, 2),
        (50, 100, 32, 4),
        (20, 40, 18, 2),
        (5, 9, 128, 1),
        // More keys than are taken at once, and more queries than pass over them.
        (105, 301, 64, 1),
        (13, 70, 4, 1),
    ] {
        let mut inputs = [
            normal(&[2, l, width], 0),
            normal(&[2, keys, width], 1),
            normal(&[2, keys, width], 2),
        ];
        let some: Vec<f64> = (0..2 * keys)
            .map(|i| f64::from(u8::from(i % 3 != 1)))
            .collect();
        let some = Tensor::from_vec(some, (2, keys), &Device::Cpu)?;
        for (causal, keys, drop, larger) in [
            (false, None, (0.0, Mode::Inference), 1.0),
            (true, Some(&some), (0.3, training), 1.0),
            // Logits that are not small.
            (false, Some(&some), (0.3, training), 10.0),
        ] {
            let mask = mask(causal, keys);
            inputs[0] = (&inputs[0] * larger)?;
            same(
                &inputs,
                &|x| {
                    Ok(vec![dot_product_attention(
                        &x[0], &x[1], &x[2], heads, mask, drop,
                    )?])
                },
                &|x| {
                    Ok(vec![reference::dot_product_attention(
                        &x[0], &x[1], &x[2], heads, mask, drop,
                    )?])
                },
            );
        }
    }
    Ok(())
}

#[test]
fn large_logits_and_nan_are_seen() -> Result<()> {
    let q = (normal(&[1, 3, 8], 0) * 1e3)?;
    let k = (normal(&[1, 20, 8], 1) * 1e3)?;
    let run =
        |q: &Tensor| dot_product_attention(q, &k, &k, 1, mask(false, None), (0.0, Mode::Inference));
    let y = run(&q)?;
    let want =
        reference::dot_product_attention(&q, &k, &k, 1, mask(false, None), (0.0, Mode::Inference))?;
    assert!(distance(&y, &want) < 1e-9);
    let broken = Tensor::full(f64::NAN, (1, 1, 8), &Device::Cpu)?;
    let q = Tensor::cat(&[&q, &broken], 1)?;
    let rows = run(&q)?.squeeze(0)?.to_vec2::<f64>()?;
    assert!(rows[..3].iter().flatten().all(|v| v.is_finite()));
    assert!(rows[3].iter().all(|v| v.is_nan()));
    Ok(())
}

#[test]
fn a_large_query_beside_nan_and_values_of_any_size() -> Result<()> {
    let attend = |q: &Tensor, k: &Tensor, v: &Tensor| {
        dot_product_attention(q, k, v, 1, mask(false, None), (0.0, Mode::Inference))
    };
    // A large row before a broken one, and small ones behind: in one group of queries, and in the same lane of three.
    let keys: Vec<f32> = (0..32 * 8).map(|i| if i < 8 { 2.0 } else { 1.0 }).collect();
    let k = Tensor::from_vec(keys, (1, 32, 8), &Device::Cpu)?;
    let v = normal(&[1, 32, 8], 1).to_dtype(DType::F32)?;
    for step in [1, 6] {
        let row = |i: usize| match i {
            0 => 100.0,
            i if i == step => f32::NAN,
            _ => 0.01,
        };
        let queries: Vec<f32> = (0..18 * 8).map(|i| row(i / 8)).collect();
        let q = Tensor::from_vec(queries, (1, 18, 8), &Device::Cpu)?;
        let first = attend(&q, &k, &v)?.narrow(1, 0, 1)?;
        assert!(distance(&first, &v.narrow(1, 0, 1)?) < 1e-5);
    }
    // Logits of about 31 and of -31 in base 2, which is small, with values at both ends of f32.
    for (sign, size) in [(1.0, 1e34), (-1.0, 1e-34)] {
        let q = Tensor::full(sign * 21.5f32.sqrt(), (1, 18, 1), &Device::Cpu)?;
        let k = Tensor::full(21.5f32.sqrt(), (1, 32, 1), &Device::Cpu)?;
        let v = Tensor::full(size, (1, 32, 1), &Device::Cpu)?.to_dtype(DType::F32)?;
        let y = (attend(&q, &k, &v)?.to_dtype(DType::F64)? / size)?;
        assert!(distance(&y, &y.ones_like()?) < 1e-5, "{size}");
    }
    Ok(())
}

#[test]
fn a_context_is_projected_for_every_layer() -> Result<()> {
    let mut inputs = vec![normal(&[2, 5, 4], 0), normal(&[2, 5, 4], 1)];
    for l in 0..3 {
        inputs.extend([normal(&[12, 4], 2 + 2 * l), normal(&[12], 3 + 2 * l)]);
    }
    type Projector = fn(&Tensor, &Tensor, &[(&Tensor, &Tensor)]) -> Result<Vec<[Tensor; 2]>>;
    let run = |x: &[Tensor], project: Projector| {
        let layers: Vec<_> = x[2..].chunks(2).map(|pair| (&pair[0], &pair[1])).collect();
        Ok(project(&x[0], &x[1], &layers)?.concat())
    };
    same(&inputs, &|x| run(x, project_context), &|x| {
        run(x, reference::project_context)
    });
    gradcheck(&inputs, 1e-8, |x| run(x, project_context))?;
    // Outputs that nothing depends on.
    gradcheck(&inputs, 1e-8, |x| {
        Ok(vec![run(x, project_context)?.remove(3)])
    })?;
    let wrong = run(
        &[
            inputs[0].clone(),
            inputs[1].clone(),
            inputs[3].clone(),
            inputs[3].clone(),
        ],
        project_context,
    );
    assert!(wrong.unwrap_err().to_string().contains("layer 0"));
    Ok(())
}

#[test]
fn projections() -> Result<()> {
    let inputs = [
        normal(&[2, 3, 4], 0),
        normal(&[2, 5, 4], 1),
        normal(&[2, 5, 4], 2),
        normal(&[12, 4], 3),
        normal(&[12], 4),
    ];
    let fused = |x: &[Tensor]| Ok(project(&x[0], &x[1], &x[2], &x[3], &x[4])?.to_vec());
    same(&inputs, &fused, &|x| {
        Ok(reference::project(&x[0], &x[1], &x[2], &x[3], &x[4])?.to_vec())
    });
    gradcheck(&inputs, 1e-8, fused)?;
    // The same tensor three times, as in self-attention.
    let same_input = [normal(&[2, 3, 4], 0), normal(&[12, 4], 3), normal(&[12], 4)];
    gradcheck(&same_input, 1e-8, |x| {
        Ok(project(&x[0], &x[0], &x[0], &x[1], &x[2])?.to_vec())
    })
}

#[test]
fn means_over_time() -> Result<()> {
    let some = Tensor::new(&[[1f64, 0.0, 1.0, 1.0], [0.0; 4]], &Device::Cpu)?;
    for mask in [None, Some(&some)] {
        let inputs = [normal(&[2, 4, 3], 0)];
        let fused = |x: &[Tensor]| Ok(vec![mean_pool(&x[0], mask)?]);
        same(&inputs, &fused, &|x| {
            let mask = mask.map(|mask| mask.to_dtype(x[0].dtype())).transpose()?;
            Ok(vec![reference::mean_pool(&x[0], mask.as_ref())?])
        });
        gradcheck(&inputs, 1e-8, fused)?;
    }
    let nothing = mean_pool(&normal(&[1, 4, 3], 0), Some(&some.narrow(0, 1, 1)?))?;
    assert_eq!(nothing.to_vec2::<f64>()?, [[0.0; 3]]);
    Ok(())
}

#[test]
fn residual_norms() -> Result<()> {
    let inputs = [
        normal(&[3, 2, 5], 0),
        normal(&[3, 2, 5], 1),
        normal(&[5], 2),
        normal(&[5], 3),
    ];
    for drop in [
        (0.0, Mode::Inference),
        (0.3, Mode::Training(Random::new(1, 1))),
    ] {
        let fused = |x: &[Tensor]| Ok(vec![residual_norm(&x[0], &x[1], &x[2], &x[3], 1e-5, drop)?]);
        same(&inputs, &fused, &|x| {
            Ok(vec![reference::residual_norm(
                &x[0], &x[1], &x[2], &x[3], 1e-5, drop,
            )?])
        });
        gradcheck(&inputs, 1e-6, fused)?;
    }
    Ok(())
}

#[test]
fn threads_do_not_change_results() -> Result<()> {
    let x = normal(&[16, 40, 16], 0);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let q = Var::from_tensor(&x).unwrap();
            let drop = (0.3, Mode::Training(Random::new(1, 1)));
            let y = dot_product_attention(&q, &q, &q, 4, mask(false, None), drop).unwrap();
            y.sqr()
                .unwrap()
                .sum_all()
                .unwrap()
                .backward()
                .unwrap()
                .get(&q)
                .unwrap()
                .clone()
        })
    };
    assert_eq!(distance(&run(1), &run(3)), 0.0);
    Ok(())
}

#[test]
fn wrong_input_is_named() {
    let (q, k) = (normal(&[2, 3, 4], 0), normal(&[2, 3, 5], 1));
    let drop = (0.0, Mode::Inference);
    let error = dot_product_attention(&q, &k, &k, 2, mask(false, None), drop).unwrap_err();
    assert!(error.to_string().contains("keys"), "{error}");
    let error = dot_product_attention(&q, &q, &q, 3, mask(false, None), drop).unwrap_err();
    assert!(error.to_string().contains("heads is 3"), "{error}");
    let error = dot_product_attention(&q, &q, &q, 2, mask(false, None), (1.5, drop.1)).unwrap_err();
    assert!(error.to_string().contains("1.5"), "{error}");
}

#[test]
fn gelu_has_its_digits() -> Result<()> {
    let x: Vec<f64> = (-60..=60).map(|i| f64::from(i) * 0.2).collect();
    let x = Tensor::new(x, &Device::Cpu)?.reshape((11, 11))?;
    same(
        std::slice::from_ref(&x),
        &|x| Ok(vec![gelu(&x[0])?]),
        &|x| Ok(vec![reference::gelu(&x[0])?]),
    );
    gradcheck(&[x], 1e-8, |x| Ok(vec![gelu(&x[0])?]))?;
    // Of the tail every digit: -6 Phi(-6), with 20 digits from the continued fraction of erfc.
    let tail = gelu(&Tensor::new(&[-6f64], &Device::Cpu)?)?.to_vec1::<f64>()?[0];
    let want = -6.0 * 9.865_876_450_376_98e-10;
    assert!((tail / want - 1.0).abs() < 1e-13, "{tail} {want}");
    let single = gelu(&Tensor::new(&[-6f32], &Device::Cpu)?)?.to_vec1::<f32>()?[0];
    assert!((f64::from(single) / want - 1.0).abs() < 3e-6, "{single}");
    let odd = gelu(&Tensor::new(&[f64::NAN, 40.0, -40.0], &Device::Cpu)?)?.to_vec1::<f64>()?;
    assert!(odd[0].is_nan() && odd[1] == 40.0 && odd[2].abs() < 1e-300);
    Ok(())
}

#[test]
fn rotations() -> Result<()> {
    let x = normal(&[2, 3, 8], 0);
    for angles in [normal(&[1, 3, 2], 1), normal(&[2, 3, 2], 2)] {
        same(
            std::slice::from_ref(&x),
            &|x| Ok(vec![rotate(&x[0], 2, &angles)?]),
            &|x| Ok(vec![reference::rotate(&x[0], 2, &angles)?]),
        );
        gradcheck(std::slice::from_ref(&x), 1e-8, |x| {
            Ok(vec![rotate(&x[0], 2, &angles)?])
        })?;
        // Lengths stay.
        let length = |x: &Tensor| x.sqr().unwrap().sum(2).unwrap();
        assert!(distance(&length(&rotate(&x, 2, &angles)?), &length(&x)) < 1e-13);
    }
    let error = rotate(&normal(&[1, 2, 6], 0), 2, &normal(&[1, 2, 1], 1)).unwrap_err();
    assert!(
        error.to_string().contains("width of a head is 3"),
        "{error}"
    );
    let error = rotate(&x, 2, &normal(&[1, 2, 2], 1)).unwrap_err();
    assert!(error.to_string().contains("angles"), "{error}");
    Ok(())
}

#[test]
fn weights_sum_to_one_and_explain_the_result() -> Result<()> {
    let (q, k, v) = (
        normal(&[2, 4, 6], 0),
        normal(&[2, 5, 6], 1),
        normal(&[2, 5, 6], 2),
    );
    let keys = Tensor::new(&[[1f64, 0.0, 1.0, 1.0, 0.0], [0.0; 5]], &Device::Cpu)?;
    let mask = mask(false, Some(&keys));
    let weights = attention_weights(&q, &k, 2, mask)?;
    assert_eq!(weights.dims(), [2, 2, 4, 5]);
    let sums = weights.sum(3)?.to_vec3::<f64>()?;
    assert!(sums[0].iter().flatten().all(|s| (s - 1.0).abs() < 1e-14));
    assert!(sums[1].iter().flatten().all(|s| *s == 0.0));
    let split = |x: &Tensor| x.reshape((2, 5, 2, 3))?.transpose(1, 2)?.contiguous();
    let by_hand = weights
        .matmul(&split(&v)?)?
        .transpose(1, 2)?
        .reshape((2, 4, 6))?;
    let y = dot_product_attention(&q, &k, &v, 2, mask, (0.0, Mode::Inference))?;
    assert!(distance(&y, &by_hand) < 1e-14);
    gradcheck(&[q, k], 1e-7, |x| {
        Ok(vec![attention_weights(&x[0], &x[1], 2, mask)?])
    })
}
