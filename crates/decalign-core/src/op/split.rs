//! A tensor cut into pieces.

use candle_core::Tensor;

use super::backward::{Backward, InputGradients};
use super::output::Output;
use super::record::record;
use crate::{Elements, Error, Real, Result, with_real};

/// Pieces of `x` along its first dimension, of the given sizes in order.
///
/// Candle's `narrow` gives the same pieces; its backward pass pads the gradient of each with zeros and adds them up,
/// where this one puts them side by side.
///
/// # Shapes
/// `x` (n, ...), the sizes adding up to n; piece i is (sizes\[i\], ...).
///
/// # Errors
/// When the sizes do not add up.
///
/// ```
/// use candle_core::{Device, Var};
///
/// let x = Var::new(&[1f64, 2.0, 3.0], &Device::Cpu)?;
/// let pieces = decalign_core::op::split(&x, &[2, 1])?;
/// assert_eq!(pieces[1].to_vec1::<f64>()?, [3.0]);
/// let gradients = pieces[0].sqr()?.sum_all()?.backward()?;
/// assert_eq!(gradients.get(&x).unwrap().to_vec1::<f64>()?, [2.0, 4.0, 0.0]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn split(x: &Tensor, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let total: usize = sizes.iter().sum();
    if x.rank() == 0 || x.dim(0)? != total {
        let expected = format!("a first dimension of {total}, cut into {sizes:?}");
        return Err(Error::tensor("tensor to split", expected, x.shape()));
    }
    if !x.track_op() || !x.device().is_cpu() {
        let mut first = 0;
        return sizes
            .iter()
            .map(|size| {
                first += size;
                Ok(x.narrow(0, first - size, *size)?)
            })
            .collect();
    }
    with_real!("x", x, T => pieces::<T>(x, sizes))
}

fn pieces<T: Real>(x: &Tensor, sizes: &[usize]) -> Result<Vec<Tensor>> {
    let row: usize = x.dims()[1..].iter().product();
    let outputs = {
        let mut rest: &[T] = &Elements::<T>::new(x)?;
        let mut outputs = Vec::new();
        for size in sizes {
            let (piece, behind) = rest.split_at(size * row);
            let mut dims = x.dims().to_vec();
            dims[0] = *size;
            outputs.push(Output::new(piece.to_vec(), dims));
            rest = behind;
        }
        outputs
    };
    record("split", &[x], outputs, backward)
}

fn backward(b: &Backward) -> Result<InputGradients> {
    let gradients = (0..b.outputs.len()).map(|i| b.gradient(i));
    let gradients = gradients.collect::<Result<Vec<_>>>()?;
    Ok(vec![Some(Tensor::cat(&gradients, 0)?)])
}
