//! Batches, shared inputs, threads.

use candle_core::{DType, Tensor};
use decalign_core::{Result, gradcheck};
use decalign_ot::{KernelSinkhorn, MultiMarginalSinkhorn};

use crate::problems::*;

/// One problem of a batch of inputs.
fn single(x: &[Tensor], b: usize) -> Vec<Tensor> {
    x.iter()
        .map(|x| x.get(b).unwrap().contiguous().unwrap())
        .collect()
}

#[test]
fn a_batch_is_a_loop() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        for dtype in [DType::F32, DType::F64] {
            let x = raw(&sizes, &edges, Some(5), 21);
            let x: Vec<Tensor> = x
                .iter()
                .map(|x| Ok(x.to_dtype(dtype)?))
                .collect::<Result<_>>()?;
            let vars: Vec<_> = x
                .iter()
                .map(|x| Ok(candle_core::Var::from_tensor(x)?))
                .collect::<Result<_>>()?;
            let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
            let solver = MultiMarginalSinkhorn::new(0.2)?
                .tolerance(1e-4)?
                .max_iterations(500)?;
            let kernel = KernelSinkhorn::new(0.5, 20)?;
            let problem = on_graph(&tensors, m, &edges)?;
            let all = solver.solve(&problem)?;
            let loss = kernel.loss(&problem)?;
            assert_eq!(
                (all.value.dims(), loss.dims(), all.convergence().len()),
                (&[5][..], &[5][..], 5)
            );
            let gradients = (&all.value + &loss)?.sum_all()?.backward()?;
            for b in 0..5 {
                let own: Vec<_> = single(&x, b)
                    .iter()
                    .map(|x| Ok(candle_core::Var::from_tensor(x)?))
                    .collect::<Result<_>>()?;
                let tensors: Vec<Tensor> = own.iter().map(|v| v.as_tensor().clone()).collect();
                let problem = on_graph(&tensors, m, &edges)?;
                let one = solver.solve(&problem)?;
                let own_loss = kernel.loss(&problem)?;
                assert_eq!(numbers(&one.value)[0], numbers(&all.value)[b]);
                assert_eq!(numbers(&own_loss)[0], numbers(&loss)[b]);
                assert_eq!(one.convergence()[0], all.convergence()[b]);
                assert_eq!(numbers(&one.plan()?), numbers(&all.plan()?.get(b)?));
                let pair = (one.pair_marginal(0, 1)?, all.pair_marginal(0, 1)?.get(b)?);
                assert_eq!(numbers(&pair.0), numbers(&pair.1));
                for (f, g) in one.potentials.iter().zip(&all.potentials) {
                    assert_eq!(numbers(f), numbers(&g.get(b)?));
                }
                let own_gradients = (&one.value + &own_loss)?.backward()?;
                for (own, var) in own.iter().zip(&vars) {
                    let (g, all) = (own_gradients.get(own).unwrap(), gradients.get(var).unwrap());
                    assert_eq!(numbers(g), numbers(&all.get(b)?));
                }
            }
        }
    }
    Ok(())
}

#[test]
fn shared_inputs_are_those_repeated() -> Result<()> {
    for (sizes, edges) in small() {
        let m = sizes.len();
        // The first marginal and the last cost differ between problems.
        let mut x = raw(&sizes, &edges, None, 31);
        x[0] = normal(&[3, sizes[0]], 1);
        let last = x.len() - 1;
        x[last] = positive(&[&[3], x[last].dims()].concat(), 2);
        let of = |x: &[Tensor]| -> Result<Tensor> {
            Ok(sharp(0.5).solve(&on_graph(x, m, &edges)?)?.value)
        };
        gradcheck(&x, 1e-6, |x| Ok(vec![of(x)?]))?;
        // All costs shared.
        x[last] = x[last].get(0)?;
        let together = of(&x)?;
        gradcheck(&x, 1e-6, |x| Ok(vec![of(x)?]))?;
        for b in 0..3 {
            let mut own = x.clone();
            own[0] = x[0].get(b)?;
            assert_eq!(numbers(&of(&own)?)[0], numbers(&together)[b]);
        }
    }
    Ok(())
}

#[test]
fn threads_do_not_matter() {
    let pool = |n: usize| {
        rayon::ThreadPoolBuilder::new()
            .num_threads(n)
            .build()
            .unwrap()
    };
    let edges = pairs(3);
    let run = |sizes: &[usize], edges: &Edges, batch: Option<usize>| {
        let x = raw(sizes, edges, batch, 2);
        let solver = MultiMarginalSinkhorn::new(0.3)
            .unwrap()
            .tolerance(1e-7)
            .unwrap()
            .max_iterations(30)
            .unwrap();
        let solution = solver
            .solve(&on_graph(&x, sizes.len(), edges).unwrap())
            .unwrap();
        (numbers(&solution.value), solution.convergence().to_vec())
    };
    let cases = [
        (vec![60, 70, 65], edges.clone(), None),
        (vec![600, 700], pairs(2), None),
        (vec![20, 20, 20], edges, Some(4)),
        (vec![600; 4], chain(4), None),
    ];
    for (sizes, edges, batch) in cases {
        let one = pool(1).install(|| run(&sizes, &edges, batch));
        let three = pool(3).install(|| run(&sizes, &edges, batch));
        assert_eq!(one, three, "{sizes:?}");
    }
}
