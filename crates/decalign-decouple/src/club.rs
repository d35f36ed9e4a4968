//! CLUB: an upper bound of mutual information.

use candle_core::Tensor;
use decalign_core::nn::{Init, Parameters, linear, linear_relu};
use decalign_core::{Error, Result};

use crate::measure::traits::Requirements;
use crate::objective::{Batch, Objective, TimeAxis};
use crate::reference;
use crate::table::{Table, analytic, finite_tensor, same_kind};

/// The bound of one conditional density `q(y | x) = N(mean, diag exp(log_variance))`, in nats:
///
/// ```text
/// mean_i [ log q(y_i | x_i) - mean over j != i of log q(y_j | x_i) ]
/// ```
///
/// Computed in O(n d) and exactly: the mean over j of `(y_j - mean_i)^2` is the variance of y plus the
/// square of `mean(y) - mean_i`, so no pair is met and no negative is drawn. Leaving j = i out makes it
/// unbiased; the paper includes it, which multiplies the value by (n - 1) / n.
///
/// It bounds mutual information only if q is the true conditional. For a poor q it may be negative; it is not clamped,
/// as a clamp has no gradient.
///
/// # Shapes
/// `y`, `mean`, `log_variance` (n, d), n >= 2. The result is a scalar.
///
/// # Errors
/// When shapes or dtypes differ, there is one row only, an entry is not finite, or variances underflow.
///
/// Source: Cheng and others, CLUB (ICML 2020), section 3.2.
///
/// ```
/// use candle_core::{Device, Tensor};
/// use decalign_decouple::club;
/// let y = Tensor::new(&[[1f64], [-1.0]], &Device::Cpu)?;
/// // q predicts y exactly: log-densities of own samples are 0, of the others -2.
/// let bound = club(&y, &y, &y.zeros_like()?)?.to_scalar::<f64>()?;
/// assert_eq!(bound, 2.0);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn club(y: &Tensor, mean: &Tensor, log_variance: &Tensor) -> Result<Tensor> {
    let requirements = Requirements::rows(2).paired().same_width();
    requirements.check(y, mean)?;
    requirements.check(y, log_variance)?;
    let inputs = [("y", y), ("mean", mean), ("log variance", log_variance)];
    let plain = || reference::club(y, mean, log_variance);
    analytic("club", &inputs, plain, |tables| {
        bound(&tables[0], &tables[1], &tables[2])
    })
}

/// With e = y - mean(y), s = mean e^2 and r_i = mean(y) - mean_i, a cell of the bound is
/// `w D`, w = exp(-log_variance) / (2 (n - 1)), `D = s - e^2 - 2 e r`: no squares that would cancel
/// remain.
fn bound(y: &Table, mean: &Table, log_variance: &Table) -> (f64, Vec<Vec<f64>>) {
    let (width, n) = (y.width, y.n() as f64);
    let centre = y.mean();
    let e = y.clone().centred();
    let mut squares = vec![0.0; width];
    for row in e.rows() {
        squares
            .iter_mut()
            .zip(row)
            .for_each(|(s, e)| *s += e * e / n);
    }
    let [mut de, mut dm, mut dv] = [y.zeros(), y.zeros(), y.zeros()];
    let mut sums = vec![0.0; width];
    let mut mean_gradients = vec![0.0; width];
    let mut value = 0.0;
    for at in 0..e.data.len() {
        let i = at % width;
        let (e, r) = (e.data[at], centre[i] - mean.data[at]);
        let w = (-log_variance.data[at]).exp() * 0.5 / (n - 1.0);
        let d = squares[i] - e * e - 2.0 * e * r;
        value += w * d;
        dv[at] = -w * d;
        dm[at] = 2.0 * w * e;
        de[at] = -2.0 * w * (e + r);
        // The gradients through s and through the mean inside r.
        sums[i] += w;
        mean_gradients[i] -= 2.0 * w * e;
    }
    // As e is centred, the mean of de is removed; the gradient through s has no mean.
    let mut dy = crate::table::without_mean(de, width);
    for (dy, e) in dy.chunks_exact_mut(width).zip(e.rows()) {
        for i in 0..width {
            dy[i] += (2.0 * e[i] * sums[i] + mean_gradients[i]) / n;
        }
    }
    (value, vec![dy, dm, dv])
}

/// Log-variances of a network stay within plus and minus this limit.
const LOG_VARIANCE_LIMIT: f64 = 6.0;

/// Mutual information between the unique and the common part of every modality, bounded by [`club()`] with
/// learned densities `q_m(common | unique)`.
///
/// Each q has two networks of one hidden layer, for mean and log-variance; the latter passes
/// `6 tanh(v / 6)`. As an [`Objective`] it needs no second optimiser. Its value is the bound; its gradient is
/// that of
///
/// ```text
/// bound with the networks held constant  +  misfit with the features held constant
/// ```
///
/// so features minimise the bound and networks only fit. If the gradient of the bound reached the networks, they would
/// minimise it by fitting badly; if the gradient of the misfit reached the features, they would become predictable.
///
/// Parameters are `club_<name>.{mean,log_variance}.{0,2}.{weight,bias}`.
///
/// Source: Cheng and others, CLUB (ICML 2020), algorithm 1.
///
/// ```
/// use candle_core::{DType, Device, Tensor};
/// use decalign_core::nn::Parameters;
/// use decalign_decouple::Club;
/// let parameters = Parameters::new(1, DType::F32, &Device::Cpu);
/// let club = Club::new(&parameters, &["text"], 8, 16)?;
/// let unique = Tensor::randn(0f32, 1.0, (4, 8), &Device::Cpu)?;
/// let common = Tensor::randn(0f32, 1.0, (4, 8), &Device::Cpu)?;
/// let loss = (club.bound(0, &unique, &common)? + club.misfit(0, &unique, &common)?)?;
/// // Networks get a gradient, though the features have none.
/// let gradients = loss.backward()?;
/// assert!(gradients.get(&parameters.named()[0].1).is_some());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Club {
    densities: Vec<Density>,
    time_axis: TimeAxis,
}

/// One conditional density.
#[derive(Clone, Debug)]
struct Density {
    mean: [Tensor; 4],
    log_variance: [Tensor; 4],
}

impl Club {
    /// Densities for parts of width `width`, with `hidden` units.
    ///
    /// # Errors
    /// When a size is 0, or names are none or repeated.
    pub fn new(
        parameters: &Parameters,
        names: &[impl AsRef<str>],
        width: usize,
        hidden: usize,
    ) -> Result<Self> {
        crate::encoder::check_names("CLUB", names, width)?;
        if hidden == 0 {
            return Err(Error::value("CLUB's hidden units", 0, "must be at least 1"));
        }
        let densities = names.iter().map(|name| {
            let scope = parameters.scope(format!("club_{}", name.as_ref()));
            Ok(Density {
                mean: network(&scope.scope("mean"), width, hidden)?,
                log_variance: network(&scope.scope("log_variance"), width, hidden)?,
            })
        });
        Ok(Self {
            densities: densities.collect::<Result<_>>()?,
            time_axis: TimeAxis::Mean,
        })
    }

    /// How parts with a time axis become rows, [`TimeAxis::Mean`] by default; the width must not change.
    #[must_use]
    pub fn time_axis(self, time_axis: TimeAxis) -> Self {
        Self { time_axis, ..self }
    }

    /// The bound for one modality: gradients to the features, none to the networks.
    ///
    /// # Shapes
    /// `unique`, `common` (n, width), n >= 2. The result is a scalar.
    ///
    /// # Errors
    /// When there is no such modality, or as [`club()`].
    pub fn bound(&self, modality: usize, unique: &Tensor, common: &Tensor) -> Result<Tensor> {
        let density = self.density(modality, unique, common)?;
        let (mean, log_variance) = density.constant().predict(unique)?;
        club(common, &mean, &log_variance)
    }

    /// The misfit of the density of one modality: the mean over samples and coordinates of `-log q(common | unique)`,
    /// in nats. Gradients to the networks, none to the features.
    ///
    /// It consists of plain tensor operations.
    ///
    /// # Shapes
    /// As [`Club::bound`], n >= 1.
    ///
    /// # Errors
    /// As [`Club::bound`].
    pub fn misfit(&self, modality: usize, unique: &Tensor, common: &Tensor) -> Result<Tensor> {
        let density = self.density(modality, unique, common)?;
        finite_tensor("unique part", unique)?;
        finite_tensor("common part", common)?;
        let (mean, log_variance) = density.predict(&unique.detach())?;
        let squares = (common.detach() - mean)?.sqr()?;
        let each = ((squares * log_variance.neg()?.exp()?)? + log_variance)?;
        let constant = std::f64::consts::TAU.ln();
        Ok(((each.mean_all()? + constant)? * 0.5)?)
    }

    fn density(&self, modality: usize, unique: &Tensor, common: &Tensor) -> Result<&Density> {
        let density = crate::encoder::modality(&self.densities, modality)?;
        let width = density.mean[0].dims()[1];
        for (name, x) in [("unique part", unique), ("common part", common)] {
            if x.rank() != 2 || x.dims()[1] != width || x.dims()[0] != unique.dims()[0] {
                let expected = format!("shape (n, {width}), n the same for both");
                return Err(Error::tensor(name, expected, x.shape()));
            }
            same_kind(name, x, &density.mean[0])?;
        }
        Ok(density)
    }
}

impl Objective for Club {
    fn name(&self) -> &str {
        "club"
    }

    fn loss(&self, batch: &Batch) -> Result<Tensor> {
        let parts = batch.parts();
        crate::encoder::check_count("parts", parts.len(), self.densities.len())?;
        let mut losses = Vec::with_capacity(parts.len());
        for (i, part) in parts.iter().enumerate() {
            let (unique, common) = (
                self.time_axis.apply(&part.unique)?,
                self.time_axis.apply(&part.common)?,
            );
            let misfit = self.misfit(i, &unique, &common)?;
            let bound = self.bound(i, &unique, &common)?;
            // Adds the gradient of the misfit but not its value.
            losses.push((bound + (&misfit - misfit.detach())?)?);
        }
        Ok(Tensor::stack(&losses, 0)?.mean(0)?)
    }
}

impl Density {
    /// This density with constant networks.
    fn constant(&self) -> Self {
        let constant = |all: &[Tensor; 4]| all.each_ref().map(Tensor::detach);
        Self {
            mean: constant(&self.mean),
            log_variance: constant(&self.log_variance),
        }
    }

    /// Mean and log-variance given x.
    fn predict(&self, x: &Tensor) -> Result<(Tensor, Tensor)> {
        let run = |[w, b, v, c]: &[Tensor; 4]| linear(&linear_relu(x, w, Some(b))?, v, Some(c));
        let free = run(&self.log_variance)?;
        let limited = ((free / LOG_VARIANCE_LIMIT)?.tanh()? * LOG_VARIANCE_LIMIT)?;
        Ok((run(&self.mean)?, limited))
    }
}

/// Weight and bias of both layers.
fn network(scope: &Parameters, width: usize, hidden: usize) -> Result<[Tensor; 4]> {
    let (first, second) = (scope.scope("0"), scope.scope("2"));
    let init = |fan_in| Init::KaimingUniform { fan_in };
    Ok([
        first.get("weight", (hidden, width), init(width))?,
        first.get("bias", hidden, init(width))?,
        second.get("weight", (width, hidden), init(hidden))?,
        second.get("bias", width, init(hidden))?,
    ])
}
