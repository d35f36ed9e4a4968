//! Radar charts of numbers from 0 to 1.

use super::lines::Series;
use super::{canvas, cut, label, legend, segment, shape};
use crate::colour::category;
use crate::node::Node;
use crate::table::short;

/// One corner a name, one polygon a series; y is drawn from `low` at the centre to 1.
pub(crate) fn radar(title: &str, corners: &[String], series: &[Series], low: f64) -> Node {
    let (width, radius) = (560.0, 150.0);
    let names: Vec<String> = series.iter().map(|s| s.name.clone()).collect();
    let (keys, high) = legend(&names, 16.0, 4.0, width - 32.0);
    let centre = (width / 2.0, high + 36.0 + radius);
    let place = |i: usize, v: f64| {
        let angle = std::f64::consts::TAU * i as f64 / corners.len().max(1) as f64;
        let r = radius * ((v - low) / (1.0 - low)).clamp(0.0, 1.0);
        (centre.0 + r * angle.sin(), centre.1 - r * angle.cos())
    };
    let polygon = |values: &[f64]| {
        let at = values.iter().enumerate().map(|(i, v)| place(i, *v));
        let text: Vec<String> = at.map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        Node::new("polygon")
            .set("points", text.join(" "))
            .set("fill", "none")
    };
    let mut drawing = canvas(width, centre.1 + radius + 36.0, title).children(keys);
    for ring in 1..=4 {
        let v = low + (1.0 - low) * f64::from(ring) / 4.0;
        drawing.push(polygon(&vec![v; corners.len()]).set("stroke", "#dddddd"));
        let (x, y) = place(0, v);
        drawing.push(
            label(
                x + 3.0,
                y - 2.0,
                "start",
                format!("{v:.3}").trim_end_matches(['0', '.']),
            )
            .set("font-size", 10),
        );
    }
    for (i, name) in corners.iter().enumerate() {
        let (x, y) = place(i, 1.0);
        drawing.push(segment(centre, (x, y), "#dddddd"));
        let away = ((x - centre.0) / radius, (y - centre.1) / radius);
        let anchor = match away.0 {
            v if v > 0.2 => "start",
            v if v < -0.2 => "end",
            _ => "middle",
        };
        let at = (x + 12.0 * away.0, y + 14.0 * away.1 + 4.0);
        drawing.push(label(at.0, at.1, anchor, &cut(name, 18)));
    }
    for (i, line) in series.iter().enumerate() {
        let values: Vec<f64> = line.points.iter().map(|p| p.1).collect();
        let outline = polygon(&values)
            .set("stroke", category(i))
            .set("stroke-width", if i == 0 { "2.5" } else { "1.5" })
            .set("stroke-dasharray", ["none", "6 3", "2 3"][i / 6 % 3]);
        drawing.push(outline);
        for (j, v) in values.iter().enumerate() {
            let says = format!("{}, {}: {}", line.name, corners[j], short(*v));
            drawing.push(shape(i, place(j, *v), 3.0).set("class", "mark").title(says));
        }
    }
    drawing
}
