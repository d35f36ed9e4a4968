//! What is added to the logits of attention, and values of another width than keys.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::random::Stream as Random;
use decalign_core::{Result, gradcheck};
use decalign_fusion::{AttentionMask, MultiHeadAttention, dot_product_attention, reference};
use proptest::prelude::*;

mod common;
use common::{distance, normal, same};

type Attend = fn(&Tensor, &Tensor, &Tensor, usize, AttentionMask, (f64, Mode)) -> Result<Tensor>;

/// Attention of inputs q, k, v and bias.
fn attend(
    f: Attend,
    x: &[Tensor],
    heads: usize,
    (causal, keys): (bool, Option<&Tensor>),
    drop: (f64, Mode),
) -> Result<Vec<Tensor>> {
    let mask = AttentionMask::default()
        .causal(causal)
        .keys(keys)
        .bias(Some(&x[3]));
    Ok(vec![f(&x[0], &x[1], &x[2], heads, mask, drop)?])
}

fn inputs((b, l, s): (usize, usize, usize), (d, e): (usize, usize), bias: &[usize]) -> Vec<Tensor> {
    vec![
        normal(&[b, l, d], 0),
        normal(&[b, s, d], 1),
        normal(&[b, s, e], 2),
        normal(bias, 3),
    ]
}

#[test]
fn a_bias_reaches_keys_that_are_not_taken_at_once() {
    let inputs = inputs((2, 7, 150), (128, 128), &[1, 7, 150]);
    let run = |f: Attend| move |x: &[Tensor]| attend(f, x, 1, (true, None), (0.0, Mode::Inference));
    same(
        &inputs,
        &run(dot_product_attention),
        &run(reference::dot_product_attention),
    );
}

#[test]
fn a_bias_of_every_shape_has_its_gradient() -> Result<()> {
    // Small heads are loops, larger ones tiles.
    for (l, s) in [(2, 3), (3, 9)] {
        let keys = Tensor::ones((2, s), DType::F64, &Device::Cpu)?;
        let keys = keys.slice_assign(
            &[0..1, 1..2],
            &Tensor::zeros((1, 1), DType::F64, &Device::Cpu)?,
        )?;
        for bias in [
            vec![2, 2, l, s],
            vec![2, 1, l, s],
            vec![1, 2, l, s],
            vec![2, l, s],
            vec![l, s],
            vec![s],
            vec![2, 2, 1, 1],
            vec![2, 1, 1, s],
            vec![2, l, 1],
            vec![1],
        ] {
            let x = inputs((2, l, s), (4, 6), &bias);
            let training = Mode::Training(Random::new(1, 2));
            for (masked, drop) in [
                ((false, None), (0.0, Mode::Inference)),
                ((true, Some(&keys)), (0.3, training)),
            ] {
                let fused = |x: &[Tensor]| attend(dot_product_attention, x, 2, masked, drop);
                same(&x, &fused, &|x| {
                    attend(reference::dot_product_attention, x, 2, masked, drop)
                });
                gradcheck(&x, 1e-7, fused)?;
            }
        }
    }
    Ok(())
}

#[test]
fn values_may_be_narrower_or_wider_than_keys() -> Result<()> {
    for (d, e) in [(4, 2), (8, 20), (24, 8), (6, 34)] {
        for (l, s) in [(2, 2), (7, 19)] {
            let x = inputs((2, l, s), (d, e), &[s]);
            let drop = (0.0, Mode::Inference);
            let run = |f: Attend, x: &[Tensor]| {
                Ok(vec![f(&x[0], &x[1], &x[2], 2, Default::default(), drop)?])
            };
            let y = run(dot_product_attention, &x)?;
            assert_eq!(y[0].dims(), [2, l, e]);
            same(&x[..3], &|x| run(dot_product_attention, x), &|x| {
                run(reference::dot_product_attention, x)
            });
        }
    }
    Ok(())
}

#[test]
fn an_infinite_bias_hides_a_key() -> Result<()> {
    for (l, s) in [(2, 3), (4, 21)] {
        let x = inputs((2, l, s), (4, 4), &[1]);
        let hidden = |i: usize| if i % 3 == 1 { f64::NEG_INFINITY } else { 0.0 };
        let bias: Vec<f64> = (0..s).map(hidden).collect();
        let keys: Vec<f64> = (0..2 * s)
            .map(|i| f64::from(u8::from(hidden(i % s) == 0.0)))
            .collect();
        let bias = Tensor::from_vec(bias, s, &Device::Cpu)?;
        let keys = Tensor::from_vec(keys, (2, s), &Device::Cpu)?;
        let run = |mask: AttentionMask| {
            dot_product_attention(&x[0], &x[1], &x[2], 2, mask, (0.0, Mode::Inference))
        };
        let by_bias = run(AttentionMask::default().bias(Some(&bias)))?;
        let by_mask = run(AttentionMask::default().keys(Some(&keys)))?;
        // Not equal bit by bit: with a bias weights are counted from the largest.
        assert!(distance(&by_bias, &by_mask) < 1e-15);
        // All of them: zeros, and gradients are zeros too.
        let all = Var::from_tensor(&Tensor::full(f64::NEG_INFINITY, (l, s), &Device::Cpu)?)?;
        let q = Var::from_tensor(&x[0])?;
        let mask = AttentionMask::default().bias(Some(&all));
        for f in [
            dot_product_attention as Attend,
            reference::dot_product_attention,
        ] {
            let y = f(&q, &x[1], &x[2], 2, mask, (0.0, Mode::Inference))?;
            assert_eq!(distance(&y, &y.zeros_like()?), 0.0);
            let store = y.sum_all()?.backward()?;
            for v in [&q, &all] {
                let g = store.get(v).unwrap();
                assert_eq!(distance(g, &g.zeros_like()?), 0.0);
            }
        }
    }
    Ok(())
}

#[test]
fn a_key_that_is_not_there_may_have_any_bias() -> Result<()> {
    for (l, s) in [(2, 3), (4, 21)] {
        let x = inputs((2, l, s), (4, 4), &[1]);
        let mut bias = vec![0.5; s];
        bias[1] = f64::NAN;
        let broken = Tensor::from_vec(bias.clone(), s, &Device::Cpu)?;
        bias[1] = 0.0;
        let sound = Tensor::from_vec(bias, s, &Device::Cpu)?;
        let keys: Vec<f64> = (0..2 * s)
            .map(|i| f64::from(u8::from(i % s != 1)))
            .collect();
        let keys = Tensor::from_vec(keys, (2, s), &Device::Cpu)?;
        for f in [
            dot_product_attention as Attend,
            reference::dot_product_attention,
        ] {
            let run = |bias| {
                let mask = AttentionMask::default()
                    .causal(false)
                    .keys(Some(&keys))
                    .bias(Some(bias));
                f(&x[0], &x[1], &x[2], 2, mask, (0.0, Mode::Inference))
            };
            assert_eq!(distance(&run(&broken)?, &run(&sound)?), 0.0);
        }
    }
    Ok(())
}

#[test]
fn threads_do_not_change_the_gradient_of_a_bias() -> Result<()> {
    let x = inputs((9, 40, 50), (16, 16), &[4, 40, 50]);
    let run = |threads| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let bias = Var::from_tensor(&x[3]).unwrap();
            let mask = AttentionMask::default().bias(Some(&bias));
            let y = dot_product_attention(&x[0], &x[1], &x[2], 4, mask, (0.0, Mode::Inference));
            let loss = y.unwrap().sqr().unwrap().sum_all().unwrap();
            loss.backward().unwrap().get(&bias).unwrap().clone()
        })
    };
    let (one, three) = (run(1), run(3));
    assert!(distance(&one, &one.zeros_like()?) > 0.0);
    assert_eq!(distance(&one, &three), 0.0);
    Ok(())
}

#[test]
fn sources_of_other_widths() -> Result<()> {
    let parameters = Parameters::new(1, DType::F64, &Device::Cpu);
    let attention = MultiHeadAttention::with_sources(&parameters, 8, (5, 3), 2, 0.0)?;
    let names: Vec<String> = parameters
        .named()
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(
        names,
        [
            "in_proj_bias",
            "k_proj_weight",
            "out_proj.bias",
            "out_proj.weight",
            "q_proj_weight",
            "v_proj_weight"
        ]
    );
    let x = [
        normal(&[2, 4, 8], 0),
        normal(&[2, 6, 5], 1),
        normal(&[2, 6, 3], 2),
    ];
    gradcheck(&x, 1e-7, |x| {
        Ok(vec![attention.forward(
            &x[0],
            &x[1],
            &x[2],
            Default::default(),
            Mode::Inference,
        )?])
    })?;
    for (width, heads, sources) in [(8, 3, (5, 3)), (8, 2, (0, 3)), (0, 1, (5, 3))] {
        assert!(MultiHeadAttention::with_sources(&parameters, width, sources, heads, 0.0).is_err());
    }
    Ok(())
}

#[test]
fn wrong_input_is_named() {
    let x = inputs((2, 3, 5), (4, 4), &[3, 4]);
    let run = |x: &[Tensor], heads| {
        let drop = (0.0, Mode::Inference);
        let error = attend(dot_product_attention, x, heads, (false, None), drop).unwrap_err();
        error.to_string()
    };
    let error = run(&x, 2);
    assert!(
        error.contains("attention bias") && error.contains("[2, 2, 3, 5]"),
        "{error}"
    );
    let odd = [
        x[0].clone(),
        x[1].clone(),
        normal(&[2, 5, 7], 0),
        normal(&[5], 0),
    ];
    assert!(run(&odd, 2).contains("divide the width 7"));
    let short = [
        x[0].clone(),
        x[1].clone(),
        normal(&[2, 4, 4], 0),
        normal(&[5], 0),
    ];
    assert!(run(&short, 2).contains("values"));
    let empty = [
        normal(&[2, 3, 0], 0),
        normal(&[2, 5, 0], 0),
        x[2].clone(),
        normal(&[5], 0),
    ];
    assert!(run(&empty, 2).contains("width 0"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Head widths from 4 to 128, any lengths, with a bias.
    #[test]
    fn tiles_equal_the_reference(l in 1usize..20, s in 1usize..40, heads in 1usize..4, head in 4usize..129, seed: u64) {
        let d = heads * head;
        let random = |shape: &[usize], i| Random::new(seed, i).normal_tensor(shape).unwrap();
        let x = [random(&[2, l, d], 0), random(&[2, s, d], 1), random(&[2, s, d], 2), random(&[heads, l, s], 3)];
        let drop = (0.0, Mode::Inference);
        let fused = attend(dot_product_attention, &x, heads, (false, None), drop).unwrap();
        let plain = attend(reference::dot_product_attention, &x, heads, (false, None), drop).unwrap();
        prop_assert!(distance(&fused[0], &plain[0]) < 1e-12);
    }

    /// What a query sees does not depend on the order of keys.
    #[test]
    fn keys_are_a_set(s in 2usize..20, seed: u64) {
        let random = |shape: &[usize], i| Random::new(seed, i).normal_tensor(shape).unwrap();
        let (q, k, v) = (random(&[1, 3, 8], 0), random(&[1, s, 8], 1), random(&[1, s, 8], 2));
        let order: Vec<u32> = (0..s as u32).map(|i| (i + 1) % s as u32).collect();
        let order = Tensor::new(order, &Device::Cpu).unwrap();
        let turned = |x: &Tensor| x.index_select(&order, 1).unwrap();
        let run = |k: &Tensor, v: &Tensor| dot_product_attention(&q, k, v, 2, Default::default(), (0.0, Mode::Inference)).unwrap();
        prop_assert!(distance(&run(&k, &v), &run(&turned(&k), &turned(&v))) < 1e-13);
    }
}

#[test]
fn nothing_to_attend_from_is_nothing() -> Result<()> {
    // No queries, and no samples.
    for (b, l) in [(2, 0), (0, 3)] {
        let x = [
            Tensor::zeros((b, l, 4), DType::F64, &Device::Cpu)?,
            Tensor::zeros((b, 5, 4), DType::F64, &Device::Cpu)?,
        ];
        let bias = Var::from_tensor(&normal(&[5], 0))?;
        let mask = AttentionMask::default().bias(Some(&bias));
        let y = dot_product_attention(&x[0], &x[1], &x[1], 2, mask, (0.0, Mode::Inference))?;
        assert_eq!(y.dims(), [b, l, 4]);
        let store = y.sum_all()?.backward()?;
        let g = store.get(&bias).unwrap();
        assert_eq!(distance(g, &g.zeros_like()?), 0.0);
    }
    Ok(())
}
