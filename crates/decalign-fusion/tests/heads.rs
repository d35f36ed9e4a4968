//! Pooling, heads, and samples that lack a modality.

#![allow(clippy::unwrap_used)]

use candle_core::{DType, Device, Tensor, Var};
use decalign_core::nn::{Mode, Parameters};
use decalign_core::random::Stream as Random;
use decalign_core::{Result, gradcheck};
use decalign_fusion::{
    Attention, CrossModalEncoder, Encoder, EncoderSettings, HeadSettings, Join, LayerSettings,
    MaskedSequence, Pool, PooledHead, Pooling, Presence, Task, last_pool, max_pool, mean_pool,
};
use proptest::prelude::*;

mod common;
use common::{distance, mask, normal, numbers};

const POOLINGS: [Pooling; 4] = [
    Pooling::Mean,
    Pooling::Max,
    Pooling::Last,
    Pooling::Attention,
];

fn parameters() -> Parameters {
    Parameters::new(3, DType::F64, &Device::Cpu)
}

#[test]
fn pools_have_gradients() -> Result<()> {
    let x = [normal(&[2, 3, 4], 0)];
    for there in [
        None,
        Some(mask(&[[1, 1, 0], [0, 0, 0]])),
        Some(mask(&[[0, 1, 1], [1, 0, 0]])),
    ] {
        for pooling in POOLINGS {
            let pool = Pool::new(&parameters(), pooling, 4)?;
            gradcheck(&x, 1e-8, |x| {
                let features = x[0].clone();
                let mask = there.clone();
                Ok(vec![pool.forward(&MaskedSequence::masked(features, mask))?])
            })?;
        }
    }
    Ok(())
}

#[test]
fn pools_are_what_they_say() -> Result<()> {
    let x = normal(&[2, 4, 3], 0);
    let there = mask(&[[0, 1, 1, 0], [0; 4]]);
    let rows = x.to_vec3::<f64>()?;
    let (a, b) = (&rows[0][1], &rows[0][2]);
    let mean = mean_pool(&x, Some(&there))?.to_vec2::<f64>()?;
    let max = max_pool(&x, Some(&there))?.to_vec2::<f64>()?;
    let last = last_pool(&x, Some(&there))?.to_vec2::<f64>()?;
    for i in 0..3 {
        assert!((mean[0][i] - (a[i] + b[i]) / 2.0).abs() < 1e-14);
        assert_eq!(max[0][i], a[i].max(b[i]));
        assert_eq!(last[0][i], b[i]);
    }
    for pooled in [mean, max, last] {
        assert_eq!(pooled[1], [0.0; 3]);
    }
    // Without a mask, all steps.
    assert_eq!(last_pool(&x, None)?.to_vec2::<f64>()?[1], rows[1][3]);
    assert_eq!(distance(&max_pool(&x, None)?, &x.max(1)?), 0.0);
    // Attention by hand.
    let set = parameters();
    let pool = Pool::new(&set, Pooling::Attention, 3)?;
    let query = set.named()[0].1.as_tensor().to_vec1::<f64>()?;
    let logit = |row: &[f64]| row.iter().zip(&query).map(|(a, b)| a * b).sum::<f64>() / 3f64.sqrt();
    let (wa, wb) = (logit(a).exp(), logit(b).exp());
    let y = pool
        .forward(&MaskedSequence::masked(x.clone(), there))?
        .to_vec2::<f64>()?;
    for i in 0..3 {
        assert!((y[0][i] - (wa * a[i] + wb * b[i]) / (wa + wb)).abs() < 1e-14);
    }
    assert_eq!(y[1], [0.0; 3]);
    Ok(())
}

#[test]
fn masked_steps_are_never_read() -> Result<()> {
    let there = mask(&[[0, 1, 1, 0], [0; 4]]);
    for dtype in [DType::F64, DType::F32] {
        let set = Parameters::new(1, dtype, &Device::Cpu);
        let clean = normal(&[2, 4, 3], 0).to_dtype(dtype)?;
        let poison = Tensor::full(f64::NAN, clean.shape(), &Device::Cpu)?.to_dtype(dtype)?;
        let exists = there.ne(0.0)?.unsqueeze(2)?.broadcast_as(clean.shape())?;
        let poisoned = exists.where_cond(&clean, &poison)?;
        for pooling in [
            Pooling::Mean,
            Pooling::Max,
            Pooling::Last,
            Pooling::Attention,
        ] {
            let pool = Pool::new(&set, pooling, 3)?;
            let of = |x: &Tensor| -> Result<[Vec<f64>; 2]> {
                let x = Var::from_tensor(x)?;
                let sequence = MaskedSequence::masked(x.as_tensor().clone(), there.clone());
                let y = pool.forward(&sequence)?;
                let gradient = y.sqr()?.sum_all()?.backward()?.get(&x).unwrap().clone();
                Ok([numbers(&y), numbers(&gradient)])
            };
            assert_eq!(of(&clean)?, of(&poisoned)?, "{pooling:?} {dtype:?}");
        }
    }
    Ok(())
}

#[test]
fn of_equal_largest_steps_the_first_has_the_gradient() -> Result<()> {
    let x = Var::new(&[[[1f64], [3.0], [3.0]]], &Device::Cpu)?;
    let store = max_pool(&x, None)?.sum_all()?.backward()?;
    let g = store.get(&x).unwrap().flatten_all()?.to_vec1::<f64>()?;
    assert_eq!(g, [0.0, 1.0, 0.0]);
    Ok(())
}

fn head(pooling: Pooling, join: Join, task: Task) -> Result<(Parameters, PooledHead)> {
    let set = parameters();
    let head = PooledHead::new(
        &set,
        HeadSettings::new(4, 3, task).pooling(pooling).join(join),
    )?;
    Ok((set, head))
}

#[test]
fn heads_have_gradients_and_outputs() -> Result<()> {
    let x: Vec<Tensor> = (0..2).map(|i| normal(&[2, 2 + i, 4], i as u64)).collect();
    let presence = Presence::new(&mask(&[[1, 1, 1], [1, 0, 1]]))?;
    for pooling in POOLINGS {
        for join in [Join::Concatenate, Join::Mean] {
            let (_, head) = head(pooling, join, Task::Regression { outputs: 2 })?;
            gradcheck(&x, 1e-7, |x| {
                // The third modality is not active.
                let streams = [
                    Some(MaskedSequence::new(x[0].clone())),
                    Some(MaskedSequence::new(x[1].clone())),
                    None,
                ];
                Ok(vec![head.forward(&streams, &presence, Mode::Inference)?])
            })?;
        }
    }
    let (_, classes) = head(
        Pooling::Mean,
        Join::Mean,
        Task::Classification { classes: 5 },
    )?;
    let streams: Vec<_> = (0..3)
        .map(|i| Some(MaskedSequence::new(normal(&[2, 3, 4], i))))
        .collect();
    let logits = classes.forward(&streams, &presence, Mode::Inference)?;
    let sums = classes.scores(&logits)?.sum(1)?;
    assert!(distance(&sums, &sums.ones_like()?) < 1e-14);
    Ok(())
}

#[test]
fn a_mean_of_modalities_is_over_those_that_are_there() -> Result<()> {
    let (set, head) = head(Pooling::Last, Join::Mean, Task::Regression { outputs: 4 })?;
    let eye = Tensor::eye(4, DType::F64, &Device::Cpu)?;
    for (name, var) in set.named() {
        var.set(&if name == "weight" {
            eye.clone()
        } else {
            var.zeros_like()?
        })?;
    }
    let x: Vec<Tensor> = (0..3).map(|i| normal(&[2, 1, 4], i)).collect();
    let streams: Vec<_> = x
        .iter()
        .map(|x| Some(MaskedSequence::new(x.clone())))
        .collect();
    let presence = Presence::new(&mask(&[[1, 0, 1], [0, 0, 0]]))?;
    let y = head.forward(&streams, &presence, Mode::Inference)?;
    let want = ((&x[0] + &x[2])? / 2.0)?.squeeze(1)?;
    assert!(distance(&y.narrow(0, 0, 1)?, &want.narrow(0, 0, 1)?) < 1e-14);
    assert_eq!(y.to_vec2::<f64>()?[1], [0.0; 4]);
    Ok(())
}

fn encoder() -> Result<(Parameters, CrossModalEncoder)> {
    let set = parameters();
    let settings = EncoderSettings::new(2, LayerSettings::new(4, 2));
    let encoders = ["a", "b", "c"].map(|name| Encoder::new(&set.scope(name), settings));
    let encoders = encoders.into_iter().collect::<Result<_>>()?;
    Ok((set, CrossModalEncoder::new(encoders)?))
}

fn streams() -> Vec<Option<MaskedSequence>> {
    let there = mask(&[[1, 1, 0, 1], [1, 1, 1, 0], [0, 1, 1, 1]]);
    vec![
        Some(MaskedSequence::new(normal(&[3, 3, 4], 0))),
        Some(MaskedSequence::masked(normal(&[3, 4, 4], 1), there)),
        Some(MaskedSequence::new(normal(&[3, 2, 4], 2))),
    ]
}

#[test]
fn a_batch_that_lacks_nothing_is_encoded_bit_for_bit() -> Result<()> {
    let (_, encoder) = encoder()?;
    let presence = Presence::new(&Tensor::ones((3, 3), DType::F64, &Device::Cpu)?)?;
    let mode = Mode::Training(Random::new(1, 2));
    for attention in [Attention::Cross, Attention::SelfOnly { causal: false }] {
        let plain = encoder.forward(&streams(), attention, mode)?;
        let present = encoder.forward_present(&streams(), &presence, attention, mode)?;
        for (a, b) in plain.iter().zip(&present) {
            assert_eq!(distance(a.as_ref().unwrap(), b.as_ref().unwrap()), 0.0);
        }
    }
    Ok(())
}

#[test]
fn samples_that_lack_nothing_do_not_notice_those_that_do() -> Result<()> {
    let (_, encoder) = encoder()?;
    let some = Presence::new(&mask(&[[1, 1, 1], [1, 0, 1], [0, 1, 0]]))?;
    let (plain, present) = (
        encoder.forward(&streams(), Attention::Cross, Mode::Inference)?,
        encoder.forward_present(&streams(), &some, Attention::Cross, Mode::Inference)?,
    );
    for (a, b) in plain.iter().flatten().zip(present.iter().flatten()) {
        assert_eq!(distance(&a.narrow(0, 0, 1)?, &b.narrow(0, 0, 1)?), 0.0);
    }
    // A sample without modality 1 is one of a batch where that is not active.
    let mut without = streams();
    without[1] = None;
    let without = encoder.forward(&without, Attention::Cross, Mode::Inference)?;
    for m in [0, 2] {
        let (a, b) = (present[m].as_ref().unwrap(), without[m].as_ref().unwrap());
        assert!(distance(&a.narrow(0, 1, 1)?, &b.narrow(0, 1, 1)?) < 1e-14);
    }
    let zeros = present[1].as_ref().unwrap().narrow(0, 1, 1)?;
    assert_eq!(distance(&zeros, &zeros.zeros_like()?), 0.0);
    Ok(())
}

#[test]
fn what_is_missing_reaches_neither_results_nor_gradients() -> Result<()> {
    let presence = Presence::new(&mask(&[[1, 0, 1], [1, 0, 0], [1, 1, 1]]))?;
    let run = |fill: f64, attention| -> Result<(Tensor, Vec<Tensor>)> {
        let (set, encoder) = encoder()?;
        let head_set = Parameters::new(4, DType::F64, &Device::Cpu);
        let settings = HeadSettings::new(4, 3, Task::Regression { outputs: 1 });
        let settings = settings.pooling(Pooling::Attention);
        let head = PooledHead::new(&head_set, settings)?;
        let mut x = streams();
        for (m, missing) in [(1, vec![0, 1]), (2, vec![1])] {
            let stream = x[m].as_mut().unwrap();
            let (_, t, d) = stream.features.dims3()?;
            let filler = Tensor::full(fill, (1, t, d), &Device::Cpu)?;
            for b in missing {
                let range = [b..b + 1, 0..t, 0..d];
                stream.features = stream.features.slice_assign(&range, &filler)?;
            }
        }
        let vars: Vec<Var> = x
            .iter()
            .flatten()
            .map(|s| Ok(Var::from_tensor(&s.features)?))
            .collect::<Result<_>>()?;
        for (s, v) in x.iter_mut().flatten().zip(&vars) {
            s.features = v.as_tensor().clone();
        }
        let y = encoder.forward_present(&x, &presence, attention, Mode::Inference)?;
        let encoded: Vec<Option<MaskedSequence>> = y
            .into_iter()
            .zip(&x)
            .map(|(y, x)| Some(MaskedSequence::masked(y?, x.as_ref()?.mask.clone())))
            .collect();
        let y = head.forward(&encoded, &presence, Mode::Inference)?;
        let store = y.sqr()?.sum_all()?.backward()?;
        let mut gradients = Vec::new();
        for (_, var) in set.named().into_iter().chain(head_set.named()) {
            gradients.extend(store.get(&var).cloned());
        }
        for (m, missing) in [(1, vec![0, 1]), (2, vec![1])] {
            let g = store.get(&vars[m]).unwrap();
            for b in missing {
                let g = g.narrow(0, b, 1)?;
                assert_eq!(distance(&g, &g.zeros_like()?), 0.0);
            }
        }
        Ok((y, gradients))
    };
    for attention in [Attention::Cross, Attention::SelfOnly { causal: false }] {
        let (y, gradients) = run(0.0, attention)?;
        for fill in [1e6, f64::NAN, f64::INFINITY] {
            let (z, others) = run(fill, attention)?;
            assert_eq!(distance(&y, &z), 0.0);
            assert_eq!(gradients.len(), others.len());
            for (a, b) in gradients.iter().zip(&others) {
                assert_eq!(distance(a, b), 0.0);
            }
        }
    }
    Ok(())
}

#[test]
fn wrong_input_is_named() -> Result<()> {
    let (_, encoder) = encoder()?;
    let attend = |presence: &Presence| {
        let y = encoder.forward_present(&streams(), presence, Attention::Cross, Mode::Inference);
        y.unwrap_err().to_string()
    };
    assert!(attend(&Presence::all(2)).contains("modalities of the presence is 2"));
    let short = Presence::new(&mask(&[[1, 0, 1]]))?;
    assert!(attend(&short).contains("modality 1"));
    assert!(Presence::new(&normal(&[3], 0)).is_err());
    assert!(mean_pool(&normal(&[2, 3], 0), None).is_err());
    assert!(max_pool(&normal(&[2, 0, 3], 0), None).is_err());
    let error = last_pool(&normal(&[2, 4, 3], 0), Some(&mask(&[[1, 1]]))).unwrap_err();
    assert!(error.to_string().contains("pooling mask"), "{error}");
    let (_, head) = head(Pooling::Mean, Join::Mean, Task::Regression { outputs: 1 })?;
    let all = Presence::all(3);
    let none = head
        .forward(&[None, None, None], &all, Mode::Inference)
        .unwrap_err();
    assert!(none.to_string().contains("at least one modality"), "{none}");
    assert!(head.forward(&[None], &all, Mode::Inference).is_err());
    let zero = Task::Classification { classes: 0 };
    assert!(self::head(Pooling::Mean, Join::Mean, zero).is_err());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30))]

    /// Pools do not see steps that do not exist, and but for the last step no order.
    #[test]
    fn pools_see_a_set_of_steps(steps in 1usize..7, padding in 0usize..4, seed: u64) {
        let x = Random::new(seed, 0).normal_tensor((2, steps, 4)).unwrap();
        let junk = Tensor::full(1e30f64, (2, padding.max(1), 4), &Device::Cpu).unwrap().narrow(1, 0, padding.max(1)).unwrap();
        let long = Tensor::cat(&[&x, &junk], 1).unwrap();
        let row: Vec<f64> = (0..long.dim(1).unwrap()).map(|i| f64::from(u8::from(i < steps))).collect();
        let there = Tensor::new(vec![row.clone(), row], &Device::Cpu).unwrap();
        let order: Vec<u32> = (0..steps as u32).rev().collect();
        let turned = x.index_select(&Tensor::new(order, &Device::Cpu).unwrap(), 1).unwrap();
        for pooling in POOLINGS {
            let pool = Pool::new(&parameters(), pooling, 4).unwrap();
            let y = pool.forward(&MaskedSequence::new(x.clone())).unwrap();
            let padded = pool.forward(&MaskedSequence::masked(long.clone(), there.clone())).unwrap();
            prop_assert!(distance(&y, &padded) < 1e-13, "{pooling:?}");
            if pooling != Pooling::Last {
                let turned = pool.forward(&MaskedSequence::new(turned.clone())).unwrap();
                prop_assert!(distance(&y, &turned) < 1e-13);
            }
        }
    }
}
