//! Lines over a common axis.

use super::frame::{Frame, Scale};
use super::{canvas, legend, shape};
use crate::colour::category;
use crate::node::Node;
use crate::table::short;

/// A named line.
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// Lines with a legend; `diagonal` draws where both axes are equal.
pub(crate) fn lines(
    title: &str,
    [x_name, y_name]: [&str; 2],
    series: &[Series],
    diagonal: bool,
) -> Node {
    let (width, left, right) = (560.0, 66.0, 16.0);
    let names: Vec<String> = series.iter().map(|s| s.name.clone()).collect();
    let (keys, high) = legend(&names, left, 4.0, width - left - right);
    let all = || series.iter().flat_map(|s| s.points.iter().copied());
    let frame = Frame {
        left,
        top: high + 26.0,
        width: width - left - right,
        height: 220.0,
        x: if diagonal {
            Scale::between(0.0, 1.0)
        } else {
            Scale::of(all().map(|p| p.0))
        },
        y: if diagonal {
            Scale::between(0.0, 1.0)
        } else {
            Scale::of(all().map(|p| p.1))
        },
    };
    let mut drawing = canvas(width, frame.top + frame.height + 44.0, title)
        .children(keys)
        .children(frame.axes(x_name, y_name));
    if diagonal {
        let ends = (frame.place((0.0, 0.0)), frame.place((1.0, 1.0)));
        drawing.push(super::segment(ends.0, ends.1, "#888888").set("stroke-dasharray", "4 3"));
    }
    for (i, line) in series.iter().enumerate() {
        let drawn = line
            .points
            .iter()
            .filter(|p| p.0.is_finite() && p.1.is_finite());
        let places: Vec<(f64, f64)> = drawn.clone().map(|p| frame.place(*p)).collect();
        let path: Vec<String> = places
            .iter()
            .map(|(x, y)| format!("{x:.2},{y:.2}"))
            .collect();
        let stroke = Node::new("polyline")
            .set("points", path.join(" "))
            .set("fill", "none")
            .set("stroke", category(i))
            .set("stroke-width", 2)
            .set("stroke-dasharray", ["none", "6 3", "2 3"][i / 6 % 3]);
        drawing.push(stroke);
        let radius = if places.len() > 40 { 1.5 } else { 3.0 };
        for (place, (x, y)) in places.into_iter().zip(drawn) {
            let says = format!("{}: {} at {x_name} {}", line.name, short(*y), short(*x));
            drawing.push(shape(i, place, radius).set("class", "mark").title(says));
        }
    }
    drawing
}
