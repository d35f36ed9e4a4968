//! Axes with ticks at round numbers.

use super::{label, segment};
use crate::node::Node;

/// A range of an axis and its ticks at round numbers.
#[derive(Clone, Debug)]
pub(super) struct Scale {
    pub(super) low: f64,
    pub(super) high: f64,
    pub(super) ticks: Vec<f64>,
    pub(super) digits: usize,
}

impl Scale {
    /// The range of some numbers, widened to round ones.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.filter(|v| v.is_finite()) {
            (low, high) = (low.min(v), high.max(v));
        }
        match (low <= high, low < high) {
            (false, _) => Self::between(0.0, 1.0),
            (_, true) => Self::between(low, high),
            // One value has room on both sides.
            _ => {
                let room = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
                Self::between(low - room, high + room)
            }
        }
    }

    /// From at most `low` to at least `high`, `low < high`.
    pub(super) fn between(low: f64, high: f64) -> Self {
        let raw = (high - low) / 5.0;
        let power = 10f64.powf(raw.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].map(|m| m * power);
        let step = step
            .into_iter()
            .find(|s| *s >= raw * 0.999)
            .unwrap_or(10.0 * power);
        let (first, last) = ((low / step - 1e-9).ceil(), (high / step + 1e-9).floor());
        let first = if first * step > low + 1e-9 * step {
            first - 1.0
        } else {
            first
        };
        let last = if last * step < high - 1e-9 * step {
            last + 1.0
        } else {
            last
        };
        let count = (last - first).round() as usize;
        let ticks: Vec<f64> = (0..=count).map(|i| (first + i as f64) * step).collect();
        let digits = (-(step * 1.001).log10().floor()).max(0.0) as usize;
        let halves = (step / power - 2.5).abs() < 1e-9;
        Self {
            low: first * step,
            high: last * step,
            ticks,
            digits: (digits + usize::from(halves)).min(8),
        }
    }

    fn share(&self, v: f64) -> f64 {
        (v - self.low) / (self.high - self.low)
    }

    fn text(&self, v: f64) -> String {
        match self.high.abs().max(self.low.abs()) < 1e5 {
            true => format!("{:.d$}", if v == 0.0 { 0.0 } else { v }, d = self.digits),
            false => format!("{v:.1e}"),
        }
    }
}

/// A plotting area with an axis below and one on the left.
pub(super) struct Frame {
    pub(super) left: f64,
    pub(super) top: f64,
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) x: Scale,
    pub(super) y: Scale,
}

impl Frame {
    /// The position of a point in the drawing.
    pub(super) fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        (
            self.left + self.width * self.x.share(x),
            self.top + self.height * (1.0 - self.y.share(y)),
        )
    }

    /// Lines at the ticks, their numbers, and the names of the axes.
    pub(super) fn axes(&self, x_name: &str, y_name: &str) -> Vec<Node> {
        let mut nodes = Vec::new();
        let (bottom, right) = (self.top + self.height, self.left + self.width);
        for tick in &self.x.ticks {
            let (x, _) = self.place((*tick, self.y.low));
            nodes.push(segment((x, self.top), (x, bottom), "#e6e6e6"));
            nodes.push(label(x, bottom + 16.0, "middle", &self.x.text(*tick)));
        }
        for tick in &self.y.ticks {
            let (_, y) = self.place((self.x.low, *tick));
            nodes.push(segment((self.left, y), (right, y), "#e6e6e6"));
            nodes.push(label(self.left - 6.0, y + 4.0, "end", &self.y.text(*tick)));
        }
        nodes.push(segment((self.left, bottom), (right, bottom), "#555555"));
        nodes.push(segment(
            (self.left, self.top),
            (self.left, bottom),
            "#555555",
        ));
        nodes.push(label(
            self.left + self.width / 2.0,
            bottom + 34.0,
            "middle",
            x_name,
        ));
        nodes.push(label(self.left - 6.0, self.top - 8.0, "start", y_name));
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_cover_the_range() {
        for (low, high) in [
            (0.0, 1.0),
            (0.912, 0.978),
            (-3.0, 17.0),
            (1e-4, 3e-3),
            (5.0, 1234.0),
        ] {
            let scale = Scale::between(low, high);
            assert!(
                scale.low <= low && scale.high >= high,
                "{low} {high} {scale:?}"
            );
            assert!((4..=9).contains(&scale.ticks.len()), "{scale:?}");
            let written: Vec<f64> = scale
                .ticks
                .iter()
                .map(|t| scale.text(*t).parse().unwrap())
                .collect();
            let wide = scale.high - scale.low;
            let exact = written
                .iter()
                .zip(&scale.ticks)
                .all(|(w, t)| (w - t).abs() < 1e-6 * wide);
            assert!(exact, "{written:?} {scale:?}");
        }
        let one = Scale::of([2.0, f64::NAN].into_iter());
        assert!(one.low < 2.0 && one.high > 2.0);
    }
}
