//! Tensors as numbers.

use candle_core::{DType, Device, Shape, Tensor};
use decalign_core::{Elements, Error, Real, Result, with_real};

/// The numbers of a tensor of either type, on the CPU.
pub(crate) fn read<T: Real>(x: &Tensor) -> Result<Vec<T>> {
    match x.dtype() {
        DType::F32 | DType::F64 => {
            let x = x.to_device(&Device::Cpu)?.to_dtype(T::DTYPE)?;
            Ok(x.flatten_all()?.to_vec1()?)
        }
        other => Err(Error::tensor("tensor", "dtype f32 or f64", other)),
    }
}

/// A tensor of numbers in the type and on the device of `like`.
pub(crate) fn tensor(numbers: &[f64], shape: impl Into<Shape>, like: &Tensor) -> Result<Tensor> {
    let x = Tensor::from_slice(numbers, shape, &Device::Cpu)?;
    Ok(x.to_dtype(like.dtype())?.to_device(like.device())?)
}

/// Problem `i` of a batch; a tensor without a batch is shared by all problems.
pub(crate) fn select(x: &Tensor, rank: usize, i: usize) -> Result<Tensor> {
    match x.rank() > rank {
        true => Ok(x.get(i)?),
        false => Ok(x.clone()),
    }
}

/// The gradients of all problems as one of an input: concatenated, or summed where all problems share the input; see [`select`].
pub(crate) fn gather(parts: &[Vec<f64>], input: &Tensor, rank: usize) -> Result<Tensor> {
    let numbers = match input.rank() > rank {
        true => parts.concat(),
        false => {
            let mut sum = parts[0].clone();
            for part in &parts[1..] {
                sum.iter_mut().zip(part).for_each(|(s, v)| *s += v);
            }
            sum
        }
    };
    tensor(&numbers, input.dims(), input)
}

/// The smallest and the largest number; an error names the first that is NaN or infinite.
pub(crate) fn finite_range(name: &str, x: &Tensor) -> Result<(f64, f64)> {
    let x = x.to_device(&Device::Cpu)?;
    with_real!(name, x, T => {
        let numbers = Elements::<T>::new(&x)?;
        if let Some(at) = numbers.iter().position(|v| !v.is_finite()) {
            let name = format!("{name} at {}", place(at, x.dims()));
            return Err(Error::value(name, numbers[at], "must be finite"));
        }
        Ok(range(&numbers))
    })
}

fn range<T: Real>(numbers: &[T]) -> (f64, f64) {
    let (mut low, mut high) = (T::infinity(), T::neg_infinity());
    for v in numbers {
        low = if *v < low { *v } else { low };
        high = if *v > high { *v } else { high };
    }
    (low.as_f64(), high.as_f64())
}

/// The index of element `at` of a tensor.
fn place(mut at: usize, dims: &[usize]) -> String {
    let mut index = Vec::new();
    for size in dims.iter().rev() {
        index.push((at % size).to_string());
        at /= size;
    }
    index.reverse();
    format!("({})", index.join(", "))
}

/// Checks that a tensor is a matrix or a batch of matrices, finite, f32 or f64; returns the batch
/// and both sizes.
pub(crate) fn matrices(name: &str, x: &Tensor) -> Result<(Option<usize>, usize, usize)> {
    Ok(ranged(name, x)?.0)
}

/// The batch and both sizes, the smallest and the largest number.
pub(crate) type Ranged = ((Option<usize>, usize, usize), (f64, f64));

/// As [`matrices`], with the range of the numbers.
pub(crate) fn ranged(name: &str, x: &Tensor) -> Result<Ranged> {
    let shape = match *x.dims() {
        [n, m] if n * m > 0 => (None, n, m),
        [b, n, m] if b * n * m > 0 => (Some(b), n, m),
        _ => return Err(unfit(name, x)),
    };
    if !matches!(x.dtype(), DType::F32 | DType::F64) {
        return Err(unfit(name, x));
    }
    Ok((shape, finite_range(name, x)?))
}

fn unfit(name: &str, x: &Tensor) -> Error {
    let expected = "two dimensions, or three with a batch, not empty, f32 or f64";
    Error::tensor(name, expected, (x.shape(), x.dtype()))
}
