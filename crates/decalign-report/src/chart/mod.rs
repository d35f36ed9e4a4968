//! Charts. Every mark that stands for data has the class `mark` and a title with its numbers.

mod flow;
mod frame;
mod heat;
mod intervals;
mod lines;
mod points;
mod radar;

pub(crate) use flow::{Flow, flow};
pub(crate) use heat::{Heat, heat};
pub(crate) use intervals::{Span, intervals};
pub(crate) use lines::{Series, lines};
pub(crate) use points::{Cloud, Dot, points};
pub(crate) use radar::radar;

use crate::colour::category;
use crate::node::Node;

/// An empty drawing that scales with the page, with an accessible title.
pub(crate) fn canvas(width: f64, height: f64, label: &str) -> Node {
    Node::new("svg")
        .set("xmlns", "http://www.w3.org/2000/svg")
        .set("viewBox", format!("0 0 {width:.0} {height:.0}"))
        .at("width", width)
        .at("height", height)
        .set("role", "img")
        .set("aria-label", label)
        .set("font-family", "system-ui, 'DejaVu Sans', Arial, sans-serif")
        .set("font-size", 12)
        .title(label)
        .child(rectangle(0.0, 0.0, width, height).set("fill", "#ffffff"))
}

pub(crate) fn rectangle(x: f64, y: f64, width: f64, height: f64) -> Node {
    Node::new("rect")
        .at("x", x)
        .at("y", y)
        .at("width", width)
        .at("height", height)
}

pub(crate) fn segment(from: (f64, f64), to: (f64, f64), colour: &str) -> Node {
    Node::new("line")
        .at("x1", from.0)
        .at("y1", from.1)
        .at("x2", to.0)
        .at("y2", to.1)
        .set("stroke", colour)
}

/// Text at a place; `anchor` is start, middle or end.
pub(crate) fn label(x: f64, y: f64, anchor: &str, text: &str) -> Node {
    Node::with_text("text", text)
        .at("x", x)
        .at("y", y)
        .set("text-anchor", anchor)
        .set("fill", "#222222")
}

/// The approximate width of a text, so that the drawing does not depend on installed fonts.
pub(crate) fn text_width(text: &str) -> f64 {
    7.2 * text.chars().count() as f64
}

/// A text cut to a number of characters.
pub(crate) fn cut(text: &str, most: usize) -> String {
    match text.chars().count() <= most {
        true => text.to_owned(),
        false => text.chars().take(most - 1).chain(['…']).collect(),
    }
}

/// The shape of a category, which distinguishes it without colour.
pub(crate) fn shape(i: usize, (x, y): (f64, f64), r: f64) -> Node {
    let corners = |points: &[(f64, f64)]| {
        let points = points.iter();
        let text: Vec<String> = points
            .map(|(dx, dy)| format!("{:.2},{:.2}", x + r * dx, y + r * dy))
            .collect();
        Node::new("polygon").set("points", text.join(" "))
    };
    let node = match i % 4 {
        0 => Node::new("circle").at("cx", x).at("cy", y).at("r", r),
        1 => corners(&[(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)]),
        2 => corners(&[(0.0, -1.2), (1.1, 0.8), (-1.1, 0.8)]),
        _ => corners(&[(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)]),
    };
    node.set("fill", category(i))
}

/// The legend, in rows as wide as the drawing, and its height.
pub(crate) fn legend(names: &[String], left: f64, top: f64, width: f64) -> (Vec<Node>, f64) {
    let (mut x, mut y, mut nodes) = (left, top + 12.0, Vec::new());
    for (i, name) in names.iter().enumerate() {
        let name = cut(name, 40);
        let wide = 26.0 + text_width(&name);
        if x > left && x + wide > left + width {
            (x, y) = (left, y + 18.0);
        }
        nodes.push(shape(i, (x + 6.0, y - 4.0), 5.0));
        nodes.push(label(x + 16.0, y, "start", &name));
        x += wide;
    }
    (nodes, y + 10.0 - top)
}
