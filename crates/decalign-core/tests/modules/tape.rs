//! The tape against Candle's own graph.

use candle_core::{Device, Tensor, Var};
use decalign_core::Result;
use decalign_core::nn::{Mode, linear, linear_relu_dropout, softmax};
use decalign_core::op::{Gradients, Tape};
use decalign_core::random::Stream;

/// Recorded operations with Candle's before, between and behind them; `x` twice.
fn mixed(x: &Tensor, w: &Tensor, b: &Tensor) -> Result<Tensor> {
    let scaled = (x * 3.0)?;
    let mode = Mode::Training(Stream::new(3, 4));
    let hidden = linear_relu_dropout(&scaled, w, Some(b), (0.3, mode))?;
    let both = Tensor::cat(&[&hidden, &linear(&hidden, w, None)?], 1)?;
    let y = (softmax(&both)? * both.sin()?)?;
    Ok((y.sum_all()? + linear(x, w, Some(b))?.sqr()?.mean_all()?)?)
}

#[test]
fn gradients_are_those_of_candle() -> Result<()> {
    let normal = |shape: &[usize], n| Stream::new(1, n).normal_tensor(shape);
    let [x, w, b] = [normal(&[4, 3], 1)?, normal(&[3, 3], 2)?, normal(&[3], 3)?];
    let vars = [
        Var::from_tensor(&x)?,
        Var::from_tensor(&w)?,
        Var::from_tensor(&b)?,
    ];
    let unused = Var::new(1f64, &Device::Cpu)?;
    let plain = mixed(&vars[0], &vars[1], &vars[2])?;
    let tape = Tape::new();
    let taped = tape.run(|| mixed(&vars[0], &vars[1], &vars[2]))?;
    assert_eq!(plain.to_scalar::<f64>()?, taped.to_scalar::<f64>()?);
    let want = Gradients::from(plain.backward()?);
    // Twice: a tape may be walked again.
    for _ in 0..2 {
        let got = tape.backward(&taped)?;
        assert!(got.get(&unused).is_none());
        for v in &vars {
            let (got, want) = (got.get(v).unwrap(), want.get(v).unwrap());
            let apart = (got - want)?.abs()?.max_all()?.to_scalar::<f64>()?;
            assert!(apart < 1e-14, "{apart}");
        }
    }
    Ok(())
}

#[test]
fn what_is_not_on_the_tape_is_an_error() -> Result<()> {
    let x = Tensor::new(1f64, &Device::Cpu)?;
    let error = Tape::new().backward(&x).unwrap_err().to_string();
    assert!(error.contains("computed on this tape"), "{error}");
    Ok(())
}
