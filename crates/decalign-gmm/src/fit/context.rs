//! One problem with all that its passes need.

use candle_core::Tensor;
use decalign_core::{Elements, Error, Real, Result};

use super::settings::Em;
use crate::covariance::Covariance;
use crate::data::{Data, check_weights};
use crate::frame::Frame;
use crate::maximise::Step;
use crate::parameters::{Parameters, Second};
use crate::pass::{self, Assigned};

/// A problem of a batch.
pub(super) struct Context<'a, T> {
    pub(super) em: &'a Em,
    pub(super) data: Data<'a, T>,
    /// Its number.
    pub(super) problem: usize,
    floor: Vec<f64>,
    /// See [`Step::scatter`].
    scatter: Option<Vec<f64>>,
}

impl<'a, T: Real> Context<'a, T> {
    pub(super) fn new(
        em: &'a Em,
        x: &'a [T],
        width: usize,
        weights: Option<&[T]>,
        problem: usize,
    ) -> Self {
        let frame = Frame::of(x, width, em.covariance);
        let floor = frame.floor(em.regularisation);
        let data = Data::new(x, width, frame, weights);
        let scatter = (em.covariance == Covariance::Tied).then(|| scatter(&data));
        Self {
            em,
            data,
            problem,
            floor,
            scatter,
        }
    }

    /// Second moments that a pass has to sum.
    pub(super) fn second(&self) -> Second {
        match self.em.covariance {
            Covariance::Full => Second::Matrix,
            Covariance::Tied => Second::Nothing,
            _ => Second::Diagonal,
        }
    }

    pub(super) fn step<'b>(&'b self, before: &'b Parameters) -> Step<'b> {
        Step {
            before,
            total: self.data.total,
            floor: &self.floor,
            least: self.data.least_mass(),
            scatter: self.scatter.as_deref(),
        }
    }

    /// The mixture of one component.
    pub(super) fn all(&self) -> Parameters {
        let centre = self.nothing();
        let moments = pass::assigned(&self.data, &centre, self.second(), &Assigned::First);
        self.step(&centre).maximise(&moments)
    }

    /// One component at the origin.
    pub(super) fn nothing(&self) -> Parameters {
        Parameters::zeros(self.em.covariance, 1, self.data.width)
    }

    pub(super) fn epsilon(&self) -> f64 {
        match size_of::<T>() {
            4 => f64::from(f32::EPSILON),
            _ => f64::EPSILON,
        }
    }
}

/// `sum w x x^T`, in f64: it is made once, and within-component scatter is a difference to it.
fn scatter<T: Real>(data: &Data<T>) -> Vec<f64> {
    let d = data.width;
    let size = pass::job(data.rows());
    let parts =
        decalign_core::parallel::map(data.rows().div_ceil(size), data.rows() * d * d, |part| {
            let mut sum = vec![0.0; d * d];
            for i in part * size..data.rows().min((part + 1) * size) {
                let (row, w) = (data.row(i), data.weight(i));
                for (to, a) in sum.chunks_exact_mut(d).zip(&row) {
                    to.iter_mut().zip(&row).for_each(|(t, b)| *t += w * a * b);
                }
            }
            sum
        });
    let mut total = vec![0.0; d * d];
    for part in parts {
        total.iter_mut().zip(part).for_each(|(t, v)| *t += v);
    }
    total
}

/// Sample weights of a problem, read and checked.
pub(crate) fn weights_of<T: Real>(weights: &Tensor, x: &Tensor, shape: &[usize]) -> Result<Vec<T>> {
    if weights.dims() != shape || weights.dtype() != x.dtype() {
        let expected = format!("shape {shape:?} of {:?}, as the data", x.dtype());
        return Err(Error::tensor(
            "sample weights",
            expected,
            (weights.shape(), weights.dtype()),
        ));
    }
    let weights = Elements::<T>::new(weights)?.to_vec();
    let rows = shape.last().copied().unwrap_or(1);
    weights.chunks_exact(rows).try_for_each(check_weights)?;
    Ok(weights)
}
