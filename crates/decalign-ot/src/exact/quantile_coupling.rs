//! Transport on a line: the quantile coupling, by merging both sorted sides.

use decalign_core::{Error, Result};

use super::masses::Masses;

/// The exponent of a distance.
#[derive(Clone, Copy)]
pub(super) struct Power(f64);

impl Power {
    pub(super) fn new(p: f64) -> Result<Self> {
        match p >= 1.0 && p.is_finite() {
            true => Ok(Self(p)),
            false => Err(Error::value("p", p, "must be at least 1 and finite")),
        }
    }

    fn cost(self, difference: f64) -> f64 {
        match self.0 {
            1.0 => difference.abs(),
            2.0 => difference * difference,
            p => difference.abs().powf(p),
        }
    }

    /// The derivative of the cost; 0 at a distance of 0, for p = 1 too.
    fn slope(self, difference: f64) -> f64 {
        match self.0 {
            _ if difference == 0.0 => 0.0,
            1.0 => difference.signum(),
            2.0 => 2.0 * difference,
            p => p * difference.abs().powf(p - 1.0) * difference.signum(),
        }
    }
}

/// The cost of a transport and its derivatives with respect to points and weights.
pub(super) struct LineTransport {
    pub(super) cost: f64,
    pub(super) x: Vec<f64>,
    pub(super) y: Vec<f64>,
    /// Centred over the points with mass, 0 elsewhere.
    pub(super) a: Vec<f64>,
    pub(super) b: Vec<f64>,
}

/// The quantile coupling: sorted points are coupled in order (the north-west corner rule).
///
/// Potentials satisfy `f_i + g_j = c_ij` on every coupled pair. Where a source and a target are used up at once,
/// a range of potentials is optimal; the middle is taken, which is the mean of the one-sided derivatives. Convex
/// costs make all of them feasible (Monge).
pub(super) fn quantile_coupling(
    x: &[f64],
    y: &[f64],
    masses: &Masses,
    power: Power,
) -> LineTransport {
    let [rows, columns] = [(x, 0), (y, 1)].map(|(x, side)| ascending(x, &masses.places[side]));
    let place = |i: usize, j: usize| (masses.places[0][rows[i]], masses.places[1][columns[j]]);
    let difference = |i: usize, j: usize| {
        let (i, j) = place(i, j);
        x[i] - y[j]
    };
    let cost = |i: usize, j: usize| power.cost(difference(i, j));
    let mut found = LineTransport {
        cost: 0.0,
        x: vec![0.0; x.len()],
        y: vec![0.0; y.len()],
        a: vec![0.0; x.len()],
        b: vec![0.0; y.len()],
    };
    let (mut i, mut j) = (0, 0);
    let (mut left, mut open) = (masses.a[rows[0]], masses.b[columns[0]]);
    let (mut f, mut g) = (0.0, cost(0, 0));
    loop {
        let amount = left.min(open);
        found.add(place(i, j), masses.weight(amount), difference(i, j), power);
        (found.a[place(i, j).0], found.b[place(i, j).1]) = (f, g);
        (left, open) = (left - amount, open - amount);
        match (left, open) {
            (0, 0) if i + 1 == rows.len() || j + 1 == columns.len() => break,
            (0, 0) => {
                let rise = |j: usize| cost(i + 1, j) - cost(i, j);
                f += 0.5 * (rise(j) + rise(j + 1));
                (i, j) = (i + 1, j + 1);
                g = cost(i, j) - f;
                (left, open) = (masses.a[rows[i]], masses.b[columns[j]]);
            }
            (0, _) => {
                i += 1;
                f = cost(i, j) - g;
                left = masses.a[rows[i]];
            }
            _ => {
                j += 1;
                g = cost(i, j) - f;
                open = masses.b[columns[j]];
            }
        }
    }
    centre(&mut found.a, &masses.places[0]);
    centre(&mut found.b, &masses.places[1]);
    found
}

impl LineTransport {
    fn add(&mut self, (i, j): (usize, usize), mass: f64, difference: f64, power: Power) {
        self.cost += mass * power.cost(difference);
        let slope = mass * power.slope(difference);
        self.x[i] += slope;
        self.y[j] -= slope;
    }
}

/// The order of the points at `places`.
fn ascending(x: &[f64], places: &[usize]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..places.len()).collect();
    order.sort_by(|i, j| x[places[*i]].total_cmp(&x[places[*j]]));
    order
}

fn centre(x: &mut [f64], places: &[usize]) {
    let mean = places.iter().map(|i| x[*i]).sum::<f64>() / places.len() as f64;
    places.iter().for_each(|i| x[*i] -= mean);
}
