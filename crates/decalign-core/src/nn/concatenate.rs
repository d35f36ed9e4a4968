//! Tables one after the other, scaled and dropped out.

use candle_core::Tensor;

use super::{Mode, device};
use crate::device::Backend;
use crate::{Error, Result};

/// Tables one after the other along dimension 1, times `scale`, once for each of `drops`, with dropout of a probability by
/// a mode each. On a device one kernel does all of it for two tables at a time.
///
/// # Shapes
/// Each table (B, T_i, ...), alike but for T_i; each result (B, sum of T_i, ...).
///
/// # Errors
/// When the shapes do not fit, there is no table, or a probability is outside of [0, 1).
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_core::nn::{Mode, concatenate};
///
/// let (a, b) = (Tensor::new(&[[1f32, 2.0]], &Device::Cpu)?, Tensor::new(&[[3f32]], &Device::Cpu)?);
/// let y = concatenate(&[&a, &b], 10.0, &[(0.0, Mode::Inference)])?;
/// assert_eq!(y[0].to_vec2::<f32>()?, [[10.0, 20.0, 30.0]]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn concatenate(tables: &[&Tensor], scale: f64, drops: &[(f64, Mode)]) -> Result<Vec<Tensor>> {
    let dims = whole(tables)?;
    drops
        .iter()
        .try_for_each(|(p, _)| super::dropout::check(*p))?;
    if let Some(backend) = Backend::of(tables[0])? {
        let drops: Vec<_> = drops
            .iter()
            .map(|(p, mode)| mode.stream(*p).map(|stream| (*p, stream)))
            .collect();
        return device::concatenate(&backend, (tables, &dims), scale, &drops);
    }
    let scaled = tables.iter().map(|x| match scale == 1.0 {
        true => Ok((*x).clone()),
        false => Ok((*x * scale)?),
    });
    let scaled = scaled.collect::<Result<Vec<_>>>()?;
    let joined = Tensor::cat(&scaled, 1)?;
    drops
        .iter()
        .map(|(p, mode)| mode.dropout(&joined, *p))
        .collect()
}

/// The shape of all tables together.
fn whole(tables: &[&Tensor]) -> Result<Vec<usize>> {
    let Some(first) = tables.first().filter(|x| x.rank() >= 2) else {
        let remedy = "at least one of rank 2 is needed";
        return Err(Error::value("tables", tables.len(), remedy));
    };
    let mut dims = first.dims().to_vec();
    dims[1] = 0;
    for x in tables {
        let alike = |i: usize| i == 1 || x.dims()[i] == dims[i];
        if x.rank() != dims.len() || !(0..dims.len()).all(alike) {
            let expected = format!("shape {:?} but for dimension 1", first.dims());
            return Err(Error::tensor("table", expected, x.shape()));
        }
        dims[1] += x.dims()[1];
    }
    Ok(dims)
}
