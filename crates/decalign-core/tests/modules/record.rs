//! Recorded operations.

use candle_core::{Device, Tensor, Var};
use decalign_core::Result;
use decalign_core::op::{Output, record};

/// (a, b, c, d, e) -> (a + 2 b + 3 c + 4 d + 5 e, a b), elementwise.
fn mix(x: &[&Tensor]) -> Result<Vec<Tensor>> {
    let rows: Vec<Vec<f64>> = x
        .iter()
        .map(|t| t.to_vec1())
        .collect::<candle_core::Result<_>>()?;
    let n = rows[0].len();
    let sum = (0..n)
        .map(|i| (0..x.len()).map(|j| (j + 1) as f64 * rows[j][i]).sum())
        .collect();
    let product = (0..n).map(|i| rows[0][i] * rows[1][i]).collect();
    let outputs = vec![Output::new::<f64>(sum, n), Output::new::<f64>(product, n)];
    record("mix", x, outputs, |b| {
        let (sum, product) = (b.gradient(0)?, b.gradient(1)?);
        let mut gradients = Vec::new();
        for (j, needed) in b.needed.iter().enumerate() {
            let mut g = (&sum * (j + 1) as f64)?;
            if j < 2 {
                g = (g + (&product * &b.inputs[1 - j])?)?;
            }
            gradients.push(needed.then_some(g));
        }
        Ok(gradients)
    })
}

#[test]
fn gradients_reach_every_input() -> Result<()> {
    let vars: Vec<Var> = (0..5)
        .map(|i| Var::new(&[1.0 + f64::from(i), 2.0], &Device::Cpu))
        .collect::<candle_core::Result<_>>()?;
    // The third input carries no gradient.
    let constant = vars[2].as_tensor().detach();
    let inputs = [vars[0].as_tensor(), &vars[1], &constant, &vars[3], &vars[4]];
    let y = mix(&inputs)?;
    for (loss, product) in [(&y[0] + &y[1])?, y[0].clone(), y[1].clone()]
        .iter()
        .zip([true, false, true])
    {
        // Twice: a graph may be run again.
        for _ in 0..2 {
            let gradients = loss.sum_all()?.backward()?;
            assert!(gradients.get(&constant).is_none());
            let sum = loss.id() != y[1].id();
            let want = f64::from(u8::from(sum)) + if product { 2.0 } else { 0.0 };
            let g = gradients.get(&vars[0]).unwrap().to_vec1::<f64>()?;
            assert_eq!(g[1], want);
            let g = gradients
                .get(&vars[4])
                .map(|g| g.to_vec1::<f64>())
                .transpose()?;
            assert_eq!(g.unwrap()[0], if sum { 5.0 } else { 0.0 });
        }
    }
    Ok(())
}

#[test]
fn a_used_input_feeds_on() -> Result<()> {
    // One variable used twice, and an output that is the input of the next operation.
    let x = Var::new(&[3.0f64], &Device::Cpu)?;
    let y = mix(&[&x, &x])?;
    let z = mix(&[&y[0], &y[1]])?;
    // z1 = (x + 2x) x^2 = 3 x^3.
    let gradients = z[1].sum_all()?.backward()?;
    assert_eq!(gradients.get(&x).unwrap().to_vec1::<f64>()?, [81.0]);
    Ok(())
}

#[test]
fn gradients_of_all_uses_add_up() -> Result<()> {
    let x = Var::new(&[3.0f64, -1.0], &Device::Cpu)?;
    let y = mix(&[&x, &x])?;
    // By two recorded operations, and by Candle's own.
    let (a, b) = (mix(&[&y[0], &y[1]])?, mix(&[&y[1], &y[0]])?);
    let loss = ((&a[0] + &b[1])? + (&y[0] * 7.0)?)?.sum_all()?;
    for _ in 0..2 {
        // 3x + 2 x^2 + 3x x^2 + 21 x
        let got = loss.backward()?.get(&x).unwrap().to_vec1::<f64>()?;
        assert_eq!(got, [3.0f64, -1.0].map(|x| 24.0 + 4.0 * x + 9.0 * x * x));
    }
    Ok(())
}
