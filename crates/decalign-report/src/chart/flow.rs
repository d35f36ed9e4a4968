//! Flow charts of transported mass.

use super::{canvas, label, rectangle};
use crate::colour::category;
use crate::node::Node;
use crate::table::short;

/// Columns of masses, and the transport plans between neighbouring columns.
pub(crate) struct Flow {
    pub(crate) columns: Vec<String>,
    /// Masses of each column, summing to 1.
    pub(crate) masses: Vec<Vec<f64>>,
    /// Between column m and m + 1, row after row.
    pub(crate) plans: Vec<Vec<f64>>,
}

/// Draws bands as wide as the mass they carry, in the colour of their origin.
pub(crate) fn flow(title: &str, flow: &Flow) -> Node {
    let (width, height, top, gap, bar) = (600.0, 300.0, 34.0, 6.0, 18.0);
    let most = flow.masses.iter().map(Vec::len).max().unwrap_or(1);
    let scale = height - gap * (most.saturating_sub(1)) as f64;
    let between = (width - 80.0 - bar) / (flow.columns.len().max(2) - 1) as f64;
    let x = |m: usize| 40.0 + between * m as f64;
    let tops: Vec<Vec<f64>> = flow
        .masses
        .iter()
        .map(|m| starts(m, top, scale, gap))
        .collect();
    let mut drawing = canvas(width, top + height + 16.0, title);
    for (m, plan) in flow.plans.iter().enumerate() {
        let (from, to) = (&tops[m], &tops[m + 1]);
        let (mut leave, mut arrive) = (from.clone(), to.clone());
        for i in 0..from.len() {
            for j in 0..to.len() {
                let mass = plan[i * to.len() + j].max(0.0);
                let thick = mass * scale;
                let (a, b) = (leave[i], arrive[j]);
                leave[i] += thick;
                arrive[j] += thick;
                // Bands too thin to see are in the numbers.
                if thick < 0.15 {
                    continue;
                }
                let says = format!(
                    "{} {} to {} {}: {}",
                    flow.columns[m],
                    i + 1,
                    flow.columns[m + 1],
                    j + 1,
                    short(mass)
                );
                drawing.push(band((x(m) + bar, a), (x(m + 1), b), thick, category(i)).title(says));
            }
        }
    }
    for (m, (masses, starts)) in flow.masses.iter().zip(&tops).enumerate() {
        drawing.push(label(x(m) + bar / 2.0, 18.0, "middle", &flow.columns[m]));
        for (k, (mass, y)) in masses.iter().zip(starts).enumerate() {
            let high = (mass * scale).max(0.5);
            let node = rectangle(x(m), *y, bar, high)
                .set("class", "mark")
                .set("fill", category(k));
            drawing.push(node.title(format!(
                "{} {}: mass {}",
                flow.columns[m],
                k + 1,
                short(*mass)
            )));
            drawing.push(
                label(
                    x(m) - 4.0,
                    y + high / 2.0 + 4.0,
                    "end",
                    &(k + 1).to_string(),
                )
                .set("font-size", 10),
            );
        }
    }
    drawing
}

/// The offset of each mass in a stack.
fn starts(masses: &[f64], top: f64, scale: f64, gap: f64) -> Vec<f64> {
    let mut y = top;
    let next = |mass: &f64| {
        let start = y;
        y += mass * scale + gap;
        start
    };
    masses.iter().map(next).collect()
}

fn band((x0, y0): (f64, f64), (x1, y1): (f64, f64), thick: f64, colour: &str) -> Node {
    let middle = (x0 + x1) / 2.0;
    let path = format!(
        "M{x0:.1},{y0:.2} C{middle:.1},{y0:.2} {middle:.1},{y1:.2} {x1:.1},{y1:.2} L{x1:.1},{:.2} C{middle:.1},{:.2} {middle:.1},{:.2} {x0:.1},{:.2} Z",
        y1 + thick,
        y1 + thick,
        y0 + thick,
        y0 + thick
    );
    Node::new("path")
        .set("d", path)
        .set("fill", colour)
        .set("fill-opacity", "0.45")
        .set("class", "mark")
}
