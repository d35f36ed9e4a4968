//! Transport on a line: both sides in order, like steps of a stair.

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

    /// The derivative of the cost; at a distance of 0 it is 0, for p = 1 too.
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
pub(super) struct Moved {
    pub(super) cost: f64,
    pub(super) x: Vec<f64>,
    pub(super) y: Vec<f64>,
    /// Centred over the points with mass, 0 elsewhere.
    pub(super) a: Vec<f64>,
    pub(super) b: Vec<f64>,
}

/// The quantile coupling: the least of each side meets the least of the other.
///
/// Potentials go along the stair, `f_i + g_j = c_ij` on every step. Where both sides end at once a
/// range of them is optimal; its middle is taken, so that they are the mean of the derivatives
/// from both sides. Convex costs make all of them feasible (Monge).
pub(super) fn transport(x: &[f64], y: &[f64], masses: &Masses, power: Power) -> Moved {
    let [rows, columns] = [(x, 0), (y, 1)].map(|(x, side)| ascending(x, &masses.places[side]));
    let place = |i: usize, j: usize| (masses.places[0][rows[i]], masses.places[1][columns[j]]);
    let difference = |i: usize, j: usize| {
        let (i, j) = place(i, j);
        x[i] - y[j]
    };
    let cost = |i: usize, j: usize| power.cost(difference(i, j));
    let mut moved = Moved {
        cost: 0.0,
        x: vec![0.0; x.len()],
        y: vec![0.0; y.len()],
        a: vec![0.0; x.len()],
        b: vec![0.0; y.len()],
    };
    let (mut i, mut j) = (0, 0);
    let (mut left, mut room) = (masses.a[rows[0]], masses.b[columns[0]]);
    let (mut f, mut g) = (0.0, cost(0, 0));
    loop {
        let amount = left.min(room);
        moved.add(place(i, j), masses.weight(amount), difference(i, j), power);
        (moved.a[place(i, j).0], moved.b[place(i, j).1]) = (f, g);
        (left, room) = (left - amount, room - amount);
        match (left, room) {
            (0, 0) if i + 1 == rows.len() || j + 1 == columns.len() => break,
            (0, 0) => {
                let rise = |j: usize| cost(i + 1, j) - cost(i, j);
                f += 0.5 * (rise(j) + rise(j + 1));
                (i, j) = (i + 1, j + 1);
                g = cost(i, j) - f;
                (left, room) = (masses.a[rows[i]], masses.b[columns[j]]);
            }
            (0, _) => {
                i += 1;
                f = cost(i, j) - g;
                left = masses.a[rows[i]];
            }
            _ => {
                j += 1;
                g = cost(i, j) - f;
                room = masses.b[columns[j]];
            }
        }
    }
    centre(&mut moved.a, &masses.places[0]);
    centre(&mut moved.b, &masses.places[1]);
    moved
}

impl Moved {
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
