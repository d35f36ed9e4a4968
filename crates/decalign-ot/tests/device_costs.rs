//! Costs in the emulator against the loops of the CPU: see docs/device.md.
#![allow(clippy::unwrap_used)]

use candle_core::Tensor;
use decalign_core::device::emulator::{available, emulated, holds};
use decalign_core::nn::softmax;
use decalign_core::random::Stream;
use decalign_core::{Result, gradcheck};
use decalign_ot::{Reduction, bures_wasserstein_diagonal, coupling_cost, prototype_costs};

fn normal(shape: &[usize], number: u64) -> Tensor {
    Stream::new(3, number).normal_tensor(shape).unwrap()
}

#[test]
fn costs_between_gaussians() -> Result<()> {
    let cost = |x: &[Tensor], reduction| {
        let (v, v2) = (x[1].sqr()?, x[3].sqr()?);
        let cost = bures_wasserstein_diagonal((&x[0], &v), (&x[2], &v2), reduction)?;
        Ok(vec![cost])
    };
    for ((k, l, width), reduction) in [
        ((1, 1, 1), Reduction::Sum),
        ((7, 7, 5), Reduction::Mean),
        ((3, 9, 70), Reduction::Sum),
    ] {
        let shapes = [[k, width], [k, width], [l, width], [l, width]];
        let inputs: Vec<Tensor> = (0..4).map(|i| normal(&shapes[i], i as u64)).collect();
        holds(&inputs, (1e-12, 1e-5), |x| cost(x, reduction))?;
        if available() && width < 9 {
            gradcheck(&inputs, 1e-5, |x| emulated(5, || cost(x, reduction)))?;
        }
    }
    Ok(())
}

#[test]
fn costs_of_couplings() -> Result<()> {
    let cost = |x: &[Tensor], floor: Option<f64>, reduction| {
        let gamma = softmax(&x[1])?;
        let variances = x.get(3).map(Tensor::sqr).transpose()?;
        let variances = variances.as_ref().zip(floor);
        Ok(vec![coupling_cost(
            &x[0], &gamma, &x[2], variances, reduction,
        )?])
    };
    for ((batch, k, width), reduction) in [
        ((1, 1, 1), Reduction::Sum),
        ((6, 4, 5), Reduction::Mean),
        ((40, 7, 70), Reduction::Sum),
    ] {
        let shapes = [[batch, width], [batch, k], [k, width], [k, width]];
        let inputs: Vec<Tensor> = (0..4).map(|i| normal(&shapes[i], 20 + i as u64)).collect();
        for count in [3, 4] {
            // The floor is above some of the variances.
            let floor = (count == 4).then_some(0.1);
            let inputs = &inputs[..count];
            holds(inputs, (1e-12, 1e-5), |x| cost(x, floor, reduction))?;
            if available() && width < 9 {
                gradcheck(inputs, 1e-5, |x| emulated(5, || cost(x, floor, reduction)))?;
            }
        }
    }
    Ok(())
}

#[test]
fn costs_between_mixtures() -> Result<()> {
    let costs = |x: &[Tensor], floor: Option<f64>, reduction| {
        let lists: Vec<&[Tensor]> = x.chunks(x.len() / 4).collect();
        let each = |x: &[Tensor], f: fn(&Tensor) -> Result<Tensor>| {
            x.iter().map(f).collect::<Result<Vec<_>>>()
        };
        let gamma = each(lists[1], softmax)?;
        let variances = each(lists[3], |v| Ok(v.sqr()?))?;
        let costs = prototype_costs(lists[0], &gamma, lists[2], &variances, floor, reduction)?;
        Ok([costs.prototypes, costs.samples].concat())
    };
    // The floor is above some of the variances.
    let floor = Some(0.1);
    for (modalities, (batch, k, width), floors, reduction) in [
        (2, (1, 1, 1), &[None, floor][..], Reduction::Sum),
        (3, (5, 2, 3), &[None, floor], Reduction::Mean),
        (2, (41, 9, 40), &[None], Reduction::Mean),
        (3, (70, 7, 64), &[floor], Reduction::Sum),
        // More blocks of columns than warps.
        (2, (3, 9, 520), &[floor], Reduction::Mean),
    ] {
        let shapes = [[batch, width], [batch, k], [k, width], [k, width]];
        let inputs: Vec<Tensor> = (0..4 * modalities)
            .map(|i| normal(&shapes[i / modalities], 40 + i as u64))
            .collect();
        for &floor in floors {
            holds(&inputs, (1e-12, 1e-5), |x| costs(x, floor, reduction))?;
            if available() && width < 9 {
                gradcheck(&inputs, 1e-5, |x| {
                    emulated(5, || costs(x, floor, reduction))
                })?;
            }
        }
    }
    Ok(())
}

/// On a device as one by one: four modalities, and batches of several sizes.
#[test]
fn costs_between_other_mixtures() -> Result<()> {
    let all = |shapes: &[[usize; 2]], from: u64| -> Vec<Tensor> {
        let each = shapes.iter().zip(from..);
        each.map(|(shape, i)| normal(shape, i)).collect()
    };
    for batches in [&[3, 3, 3, 3][..], &[3, 4]] {
        let n = batches.len();
        let samples: Vec<_> = batches.iter().map(|b| [*b, 2]).collect();
        let cells: Vec<_> = batches.iter().map(|b| [*b, 2]).collect();
        let prototypes = vec![[2, 2]; n];
        let inputs = [
            all(&samples, 70),
            all(&cells, 80),
            all(&prototypes, 90),
            all(&prototypes, 100),
        ]
        .concat();
        holds(&inputs, (1e-12, 1e-5), |x| {
            let lists: Vec<&[Tensor]> = x.chunks(n).collect();
            let variances = lists[3].iter().map(Tensor::sqr);
            let variances = variances.collect::<candle_core::Result<Vec<_>>>()?;
            let reduction = Reduction::Sum;
            let costs = prototype_costs(lists[0], lists[1], lists[2], &variances, None, reduction)?;
            assert_eq!(costs.prototypes.len(), n * (n - 1) / 2);
            assert_eq!(costs.samples.len(), n * (n - 1));
            Ok([costs.prototypes, costs.samples].concat())
        })?;
    }
    let x = all(&[[3, 2], [3, 2]], 70);
    assert!(prototype_costs(&x, &x, &x[..1], &x, None, Reduction::Sum).is_err());
    Ok(())
}
