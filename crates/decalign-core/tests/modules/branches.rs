//! Parts of a graph on several threads.

use candle_core::{Device, Tensor, Var};
use decalign_core::Result;
use decalign_core::op::{Branch, parallel};

/// Gradients of a loss of three branches that share an input and a parameter.
fn gradients(together: bool) -> Result<Vec<Vec<f64>>> {
    let x = Var::new(&[[1.0f64, -2.0], [0.5, 3.0]], &Device::Cpu)?;
    let w = Var::new(&[[0.3f64, 0.2], [-0.7, 1.1]], &Device::Cpu)?;
    let unused = Var::new(1f64, &Device::Cpu)?;
    let first = |x: &[Tensor]| Ok(vec![x[0].matmul(&w)?.tanh()?, x[0].sqr()?]);
    let second = |x: &[Tensor]| Ok(vec![(&x[0] * w.as_tensor())?.exp()?]);
    // The loss reaches the third branch's parameter only.
    let third = |x: &[Tensor]| Ok(vec![x[0].exp()?, w.sum_all()?]);
    let middle = (x.as_tensor() * 2.0)?;
    let (inputs, parameters) = (vec![middle], vec![w.as_tensor().clone()]);
    let y = match together {
        true => parallel(vec![
            Branch::new(inputs.clone(), parameters.clone(), first),
            Branch::new(inputs.clone(), parameters.clone(), second),
            Branch::new(inputs.clone(), parameters.clone(), third),
        ])?,
        false => vec![first(&inputs)?, second(&inputs)?, third(&inputs)?],
    };
    // One output is not used, and one is used twice.
    let loss = ((&y[0][0] * &y[1][0])? + &y[0][0])?.sum_all()?;
    let loss = (loss + &y[2][1])?;
    let store = loss.backward()?;
    assert!(store.get(&unused).is_none());
    let read = |v: &Var| -> Result<Vec<f64>> {
        Ok(store
            .get(v)
            .map(|g| g.flatten_all()?.to_vec1())
            .transpose()?
            .unwrap_or_default())
    };
    Ok(vec![read(&x)?, read(&w)?, vec![loss.to_scalar()?]])
}

#[test]
fn branches_give_what_a_sequence_gives() -> Result<()> {
    let (together, apart) = (gradients(true)?, gradients(false)?);
    for (a, b) in together.iter().flatten().zip(apart.iter().flatten()) {
        assert!((a - b).abs() <= 1e-14 * b.abs().max(1.0), "{a} {b}");
    }
    assert_eq!(together.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 1]);
    Ok(())
}

#[test]
fn without_gradients_the_outputs_are_plain_and_errors_come_through() -> Result<()> {
    let x = Tensor::ones(2, candle_core::DType::F32, &Device::Cpu)?;
    let y = parallel(vec![Branch::new(vec![x.clone()], vec![], |x| {
        Ok(x.to_vec())
    })])?;
    assert!(!y[0][0].track_op());
    let failing = Branch::new(vec![x], vec![], |x| Ok(vec![x[0].reshape(3)?]));
    assert!(parallel(vec![failing]).is_err());
    Ok(())
}
