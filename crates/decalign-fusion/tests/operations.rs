//! Every operation: fused equals reference, values and gradients, f32 and f64, strided input,
//! masks, dropout; gradients against central differences.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::random::Stream as Random;
use decalign_core::{Result, agree, gradcheck};
use decalign_fusion::{
    Attention, CrossModalEncoder, Encoder, LayerSettings, Stream, dot_product_attention,
    dot_product_attention_reference, mean_pool, project, project_context, reference, residual_norm,
};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Random::new(5, number).normal_tensor(shape).unwrap()
}

/// The largest difference; NaN if one is.
fn distance(a: &Tensor, b: &Tensor) -> f64 {
    let wide = |x: &Tensor| x.to_dtype(DType::F64).unwrap();
    let apart = (wide(a) - wide(b)).unwrap().flatten_all().unwrap();
    let apart = apart.to_vec1::<f64>().unwrap().into_iter().map(f64::abs);
    apart.fold(0.0, |m, v| if v > m || v.is_nan() { v } else { m })
}

type Run<'a> = &'a dyn Fn(&[Tensor]) -> Result<Vec<Tensor>>;

/// Holds two implementations equal, values and gradients.
fn same(inputs: &[Tensor], fused: Run, plain: Run) {
    agree(inputs, (1e-11, 1e-4), fused, plain).unwrap();
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
        for (causal, mask, drop) in [
            (false, None, (0.0, Mode::Inference)),
            (true, None, (0.0, Mode::Inference)),
            (false, Some(&some), (0.0, Mode::Inference)),
            (true, Some(&none), (0.0, Mode::Inference)),
            (false, Some(&some), (0.4, training)),
        ] {
            let fused = |x: &[Tensor]| {
                Ok(vec![dot_product_attention(
                    &x[0], &x[1], &x[2], heads, causal, mask, drop,
                )?])
            };
            same(&inputs, &fused, &|x| {
                let y = dot_product_attention_reference(
                    &x[0], &x[1], &x[2], heads, causal, mask, drop,
                )?;
                Ok(vec![y])
            });
            gradcheck(&inputs, 1e-7, fused)?;
        }
    }
    Ok(())
}

#[test]
fn a_query_without_keys_gives_zeros_and_zero_gradients() -> Result<()> {
    let q = Var::from_tensor(&normal(&[1, 2, 4], 0))?;
    let k = normal(&[1, 3, 4], 1);
    let mask = Tensor::zeros((1, 3), DType::F64, &Device::Cpu)?;
    let y = dot_product_attention(&q, &k, &k, 2, false, Some(&mask), (0.0, Mode::Inference))?;
    assert_eq!(y.abs()?.sum_all()?.to_scalar::<f64>()?, 0.0);
    let gradient = y.sum_all()?.backward()?;
    let gradient = gradient.get(&q).unwrap().abs()?.sum_all()?;
    assert_eq!(gradient.to_scalar::<f64>()?, 0.0);
    Ok(())
}

#[test]
fn attention_of_every_size_equals_the_reference() -> Result<()> {
    // Blocks and groups that are full and not, heads of one slab and of several, all that is left out.
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
    ] {
        let inputs = [
            normal(&[2, l, width], 0),
            normal(&[2, keys, width], 1),
            normal(&[2, keys, width], 2),
        ];
        let some: Vec<f64> = (0..2 * keys)
            .map(|i| f64::from(u8::from(i % 3 != 1)))
            .collect();
        let some = Tensor::from_vec(some, (2, keys), &Device::Cpu)?;
        for (causal, mask, drop) in [
            (false, None, (0.0, Mode::Inference)),
            (true, Some(&some), (0.3, training)),
        ] {
            same(
                &inputs,
                &|x| {
                    Ok(vec![dot_product_attention(
                        &x[0], &x[1], &x[2], heads, causal, mask, drop,
                    )?])
                },
                &|x| {
                    Ok(vec![dot_product_attention_reference(
                        &x[0], &x[1], &x[2], heads, causal, mask, drop,
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
    let run = |q: &Tensor| dot_product_attention(q, &k, &k, 1, false, None, (0.0, Mode::Inference));
    let y = run(&q)?;
    let want = dot_product_attention_reference(&q, &k, &k, 1, false, None, (0.0, Mode::Inference))?;
    assert!(distance(&y, &want) < 1e-9);
    let broken = Tensor::full(f64::NAN, (1, 1, 8), &Device::Cpu)?;
    let q = Tensor::cat(&[&q, &broken], 1)?;
    let rows = run(&q)?.squeeze(0)?.to_vec2::<f64>()?;
    assert!(rows[..3].iter().flatten().all(|v| v.is_finite()));
    assert!(rows[3].iter().all(|v| v.is_nan()));
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
        let fused = |x: &[Tensor]| Ok(vec![residual_norm(&x[0], &x[1], &x[2], &x[3], drop)?]);
        same(&inputs, &fused, &|x| {
            Ok(vec![reference::residual_norm(
                &x[0], &x[1], &x[2], &x[3], drop,
            )?])
        });
        gradcheck(&inputs, 1e-6, fused)?;
    }
    Ok(())
}

#[test]
fn pooling() -> Result<()> {
    let x = [normal(&[2, 3, 4], 0)];
    let mask = Tensor::new(&[[1f64, 1.0, 0.0], [0.0, 0.0, 0.0]], &Device::Cpu)?;
    gradcheck(&x, 1e-8, |x| {
        Ok(vec![
            mean_pool(&x[0], None)?,
            mean_pool(&x[0], Some(&mask))?,
        ])
    })?;
    let pooled = mean_pool(&x[0], Some(&mask))?.to_vec2::<f64>()?;
    let rows = x[0].to_vec3::<f64>()?;
    assert!((pooled[0][1] - (rows[0][0][1] + rows[0][1][1]) / 2.0).abs() < 1e-12);
    assert_eq!(pooled[1], [0.0; 4]);
    Ok(())
}

fn encoder(names: &[&str], dropout: f64) -> Result<(Parameters, CrossModalEncoder)> {
    let parameters = Parameters::new(3, DType::F64, &Device::Cpu);
    let settings = LayerSettings {
        width: 4,
        heads: 2,
        attention_dropout: dropout,
        relu_dropout: dropout,
        residual_dropout: dropout,
    };
    let encoders = names
        .iter()
        .map(|name| Encoder::new(&parameters.scope(name), 2, settings, dropout))
        .collect::<Result<_>>()?;
    Ok((parameters, CrossModalEncoder::new(encoders)?))
}

fn streams(x: &[Tensor]) -> Vec<Option<Stream>> {
    x.iter()
        .map(|x| {
            Some(Stream {
                features: x.clone(),
                mask: None,
            })
        })
        .collect()
}

#[test]
fn encoders_pass_gradients_through_every_layer() -> Result<()> {
    let x: Vec<Tensor> = (0..3).map(|i| normal(&[2, 2 + i, 4], i as u64)).collect();
    let (_, encoder) = encoder(&["a", "b", "c"], 0.2)?;
    for attention in [Attention::Cross, Attention::SelfOnly { causal: true }] {
        let mode = Mode::Training(Random::new(4, 4));
        gradcheck(&x, 1e-6, |x| {
            let y = encoder.forward(&streams(x), attention, mode)?;
            Ok(y.into_iter().flatten().collect())
        })?;
    }
    Ok(())
}

#[test]
fn an_absent_modality_is_neither_encoded_nor_attended_to() -> Result<()> {
    let x: Vec<Tensor> = (0..3).map(|i| normal(&[2, 3, 4], i)).collect();
    let (_, three) = encoder(&["a", "b", "c"], 0.0)?;
    let (_, two) = encoder(&["a", "b"], 0.0)?;
    let mut some = streams(&x);
    some[2] = None;
    let y = three.forward(&some, Attention::Cross, Mode::Inference)?;
    let z = two.forward(&streams(&x[..2]), Attention::Cross, Mode::Inference)?;
    assert!(y[2].is_none());
    // Parameters are drawn by name, so both encoders start alike.
    assert_eq!(
        distance(y[0].as_ref().unwrap(), z[0].as_ref().unwrap()),
        0.0
    );
    Ok(())
}

#[test]
fn padding_behind_a_mask_changes_nothing() -> Result<()> {
    let (a, b) = (normal(&[2, 3, 4], 0), normal(&[2, 5, 4], 1));
    let (_, encoder) = encoder(&["a", "b"], 0.0)?;
    let mask = Tensor::new(
        &[[1f64, 1.0, 1.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]],
        &Device::Cpu,
    )?;
    let forward = |b: &Tensor, mask: Option<&Tensor>| {
        let b = Stream {
            features: b.clone(),
            mask: mask.cloned(),
        };
        let a = Stream {
            features: a.clone(),
            mask: None,
        };
        encoder.forward(&[Some(a), Some(b)], Attention::Cross, Mode::Inference)
    };
    let padded = forward(&b, Some(&mask))?;
    let cut = forward(&b.narrow(1, 0, 3)?, None)?;
    assert!(distance(padded[0].as_ref().unwrap(), cut[0].as_ref().unwrap()) < 1e-12);
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
            let y = dot_product_attention(&q, &q, &q, 4, false, None, drop).unwrap();
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
    let error = dot_product_attention(&q, &k, &k, 2, false, None, drop).unwrap_err();
    assert!(error.to_string().contains("keys and values"), "{error}");
    let error = dot_product_attention(&q, &q, &q, 3, false, None, drop).unwrap_err();
    assert!(error.to_string().contains("heads is 3"), "{error}");
    let error = dot_product_attention(&q, &q, &q, 2, false, None, (1.5, drop.1)).unwrap_err();
    assert!(error.to_string().contains("1.5"), "{error}");
}
