//! Adam's running means of one parameter.

use candle_core::{Device, Tensor, Var, WithDType};
use decalign_core::Real;

use crate::{Error, Result};

/// The running means of one parameter in its dtype, and the number of steps they hold.
#[derive(Debug, Default)]
pub(super) struct Moments {
    pub(super) single: Means<f32>,
    pub(super) double: Means<f64>,
    pub(super) steps: i32,
}

#[derive(Debug, Default)]
pub(super) struct Means<T> {
    pub(super) gradient: Vec<T>,
    pub(super) square: Vec<T>,
}

impl Moments {
    pub(super) fn of(means: [&Tensor; 2], steps: &Tensor, variable: &Var) -> Result<Self> {
        let count = variable.elem_count();
        let fits = |mean: &&Tensor| mean.dims() == [count] && mean.dtype() == variable.dtype();
        let steps = match steps.to_vec1::<i64>()?[..] {
            [steps] if means.iter().all(fits) => i32::try_from(steps).ok(),
            _ => None,
        };
        let Some(steps) = steps.filter(|steps| *steps > 0) else {
            return Err(Error::invalid("not of this parameter's size and type"));
        };
        let mut moments = Self {
            steps,
            ..Self::default()
        };
        match variable.dtype() {
            candle_core::DType::F64 => moments.double = Means::of(means)?,
            _ => moments.single = Means::of(means)?,
        }
        Ok(moments)
    }
}

impl<T: Real> Means<T> {
    pub(super) fn doubles(&self) -> [Vec<f64>; 2] {
        [&self.gradient, &self.square].map(|x| x.iter().map(|v| v.as_f64()).collect())
    }
}

impl<T: WithDType> Means<T> {
    pub(super) fn tensors(&self) -> Result<[Tensor; 2]> {
        let tensor = |numbers: &Vec<T>| Tensor::new(numbers.as_slice(), &Device::Cpu);
        Ok([tensor(&self.gradient)?, tensor(&self.square)?])
    }

    fn of([gradient, square]: [&Tensor; 2]) -> Result<Self> {
        Ok(Self {
            gradient: gradient.to_vec1()?,
            square: square.to_vec1()?,
        })
    }
}
