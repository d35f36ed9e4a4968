//! Central moments of the columns of a table, and the distance between those of several tables.

use crate::{Error, Result};

/// Central moment discrepancy (CMD): how far samples are from one distribution, coordinate by coordinate.
///
/// ```text
/// CMD = |m_x - m_y| / s + sum_(k = 2..K) |c_k(x) - c_k(y)| / s^k,   c_k = mean (x - m)^k by coordinates
/// ```
///
/// Norms are Euclidean; s is the span of the coordinates (b - a for values in [a, b]). A norm has no
/// gradient at 0: equal moments count as 0 with gradient 0, not NaN.
///
/// Source: Zellinger and others, Central moment discrepancy (CMD) for domain-invariant representation
/// learning, ICLR 2017.
///
/// ```
/// use decalign_core::moments::CentralMomentDiscrepancy;
/// let cmd = CentralMomentDiscrepancy::new(2, 1.0)?;
/// // Means 1 and 3, variances 1 and 4.
/// let (value, gradients) = cmd.evaluate(&[&[0.0, 2.0], &[1.0, 5.0]], 1);
/// assert_eq!((value, gradients.len()), (5.0, 2));
/// # Ok::<(), decalign_core::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CentralMomentDiscrepancy {
    order: u32,
    span: f64,
}

impl CentralMomentDiscrepancy {
    /// Moments up to order K >= 1 of coordinates that span `span`.
    ///
    /// # Errors
    /// When the order is not in 1..=32 or the span is not positive and finite.
    pub fn new(order: u32, span: f64) -> Result<Self> {
        if !(1..=32).contains(&order) {
            return Err(Error::value("order", order, "must be between 1 and 32"));
        }
        if !(span > 0.0 && span.is_finite()) {
            return Err(Error::value("span", span, "must be positive and finite"));
        }
        Ok(Self { order, span })
    }

    /// The highest order K.
    pub fn order(&self) -> u32 {
        self.order
    }

    /// The span s of the coordinates.
    pub fn span(&self) -> f64 {
        self.span
    }

    /// The mean discrepancy over all pairs of samples, and its gradient with respect to each.
    ///
    /// # Shapes
    /// Two samples or more, each of one row or more, row after row of `width` numbers. So are the gradients.
    pub fn evaluate(&self, samples: &[&[f64]], width: usize) -> (f64, Vec<Vec<f64>>) {
        let order = self.order as usize;
        let each: Vec<Moments> = samples
            .iter()
            .map(|x| Moments::new(x, width, order))
            .collect();
        let mut gradients = vec![vec![0.0; order * width]; samples.len()];
        let pairs = (samples.len() * (samples.len() - 1) / 2) as f64;
        let mut value = 0.0;
        for j in 1..samples.len() {
            for i in 0..j {
                for k in 0..order {
                    let scale = (pairs * self.span.powi(k as i32 + 1)).recip();
                    let at = k * width..(k + 1) * width;
                    let (a, b) = (&each[i].moments[at.clone()], &each[j].moments[at.clone()]);
                    let e: Vec<f64> = a.iter().zip(b).map(|(a, b)| a - b).collect();
                    let norm = e.iter().map(|e| e * e).sum::<f64>().sqrt();
                    value += scale * norm;
                    let slope = if norm > 0.0 { scale / norm } else { 0.0 };
                    for (at, e) in at.zip(e) {
                        gradients[i][at] += e * slope;
                        gradients[j][at] -= e * slope;
                    }
                }
            }
        }
        let gradients = each.iter().zip(&gradients);
        let gradients = gradients.map(|(m, g)| m.backward(g, width));
        (value, gradients.collect())
    }
}

/// The mean of every column.
///
/// The first row is subtracted before the sum and added after it: the mean of equal numbers is exact.
///
/// # Shapes
/// `x` one row or more of `width` numbers; the result has `width`.
pub fn column_means(x: &[f64], width: usize) -> Vec<f64> {
    let n = (x.len() / width) as f64;
    let first = &x[..width];
    let mut sums = vec![0.0; width];
    for row in x.chunks_exact(width) {
        for ((s, v), f) in sums.iter_mut().zip(row).zip(first) {
            *s += v - f;
        }
    }
    sums.iter().zip(first).map(|(s, f)| f + s / n).collect()
}

/// Subtracts the mean of every column in place, see [`column_means`]; returns the means.
pub fn centre_columns(x: &mut [f64], width: usize) -> Vec<f64> {
    let mean = column_means(x, width);
    for row in x.chunks_exact_mut(width) {
        row.iter_mut().zip(&mean).for_each(|(v, m)| *v -= m);
    }
    mean
}

/// The mean and the central moments from the second on, order after order.
struct Moments {
    centred: Vec<f64>,
    moments: Vec<f64>,
}

impl Moments {
    fn new(x: &[f64], width: usize, order: usize) -> Self {
        let mut centred = x.to_vec();
        let mut moments = centre_columns(&mut centred, width);
        let mut powers = centred.clone();
        for _ in 2..=order {
            powers.iter_mut().zip(&centred).for_each(|(p, x)| *p *= x);
            moments.extend(column_means(&powers, width));
        }
        Self { centred, moments }
    }

    /// `dc_k / dx_i = k ((x_i - m)^(k-1) - c_(k-1)) / n` with c_1 = 0; `dm / dx_i = 1 / n`.
    fn backward(&self, gradient: &[f64], width: usize) -> Vec<f64> {
        let n = (self.centred.len() / width) as f64;
        let mut dx = vec![0.0; self.centred.len()];
        let mut powers = vec![1.0; dx.len()];
        for (k, g) in gradient.chunks_exact(width).enumerate() {
            let order = (k + 1) as f64;
            let below = |i: usize| match k {
                0 | 1 => 0.0,
                _ => self.moments[(k - 1) * width + i],
            };
            for (at, (dx, p)) in dx.iter_mut().zip(&mut powers).enumerate() {
                let i = at % width;
                *dx += g[i] * order * (*p - below(i)) / n;
                *p *= self.centred[at];
            }
        }
        dx
    }
}
