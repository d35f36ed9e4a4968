//! Scatter plots, some with names and sizes.

use super::frame::{Frame, Scale};
use super::{canvas, label, legend, shape, text_width};
use crate::node::Node;
use crate::table::short;

/// A point.
pub(crate) struct Dot {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// In pixels.
    pub(crate) radius: f64,
    /// Written beside it, when not empty.
    pub(crate) name: String,
}

impl Dot {
    /// A point without a name.
    pub(crate) fn new([x, y]: [f64; 2], radius: f64) -> Self {
        let name = String::new();
        Self { x, y, radius, name }
    }

    pub(crate) fn name(self, name: String) -> Self {
        Self { name, ..self }
    }
}

/// Points of one kind.
pub(crate) struct Cloud {
    pub(crate) name: String,
    pub(crate) dots: Vec<Dot>,
}

/// Draws scatter plots over two axes. Names that would overlap move down.
pub(crate) fn points(title: &str, [x_name, y_name]: [&str; 2], clouds: &[Cloud]) -> Node {
    let (width, left, right) = (560.0, 66.0, 16.0);
    let names: Vec<String> = clouds.iter().map(|c| c.name.clone()).collect();
    let (keys, high) = legend(&names, left, 4.0, width - left - right);
    let all = || clouds.iter().flat_map(|c| c.dots.iter());
    let frame = Frame {
        left,
        top: high + 26.0,
        width: width - left - right,
        height: 320.0,
        x: Scale::of(all().map(|d| d.x)),
        y: Scale::of(all().map(|d| d.y)),
    };
    let mut drawing = canvas(width, frame.top + frame.height + 44.0, title)
        .children(keys)
        .children(frame.axes(x_name, y_name));
    let mut written: Vec<(f64, f64, f64)> = Vec::new();
    let mut texts = Vec::new();
    for (i, cloud) in clouds.iter().enumerate() {
        for dot in cloud
            .dots
            .iter()
            .filter(|d| d.x.is_finite() && d.y.is_finite())
        {
            let place = frame.place((dot.x, dot.y));
            let name = if dot.name.is_empty() {
                &cloud.name
            } else {
                &dot.name
            };
            let says = format!(
                "{name}: {x_name} {}, {y_name} {}",
                short(dot.x),
                short(dot.y)
            );
            let mark = shape(i, place, dot.radius)
                .set("class", "mark")
                .set("fill-opacity", "0.7")
                .set("stroke", "#ffffff")
                .set("stroke-width", "0.5");
            drawing.push(mark.title(says));
            if !dot.name.is_empty() {
                texts.push(beside(
                    &dot.name,
                    place,
                    dot.radius,
                    width - right,
                    &mut written,
                ));
            }
        }
    }
    drawing.children(texts)
}

/// Places a name beside its point so that it overlaps no other name.
fn beside(
    name: &str,
    (x, y): (f64, f64),
    radius: f64,
    right: f64,
    written: &mut Vec<(f64, f64, f64)>,
) -> Node {
    let wide = text_width(name);
    let fits = x + radius + 4.0 + wide < right;
    let (start, anchor) = match fits {
        true => (x + radius + 4.0, "start"),
        false => (x - radius - 4.0 - wide, "end"),
    };
    let mut line = y + 4.0;
    let taken = |line: f64, written: &[(f64, f64, f64)]| {
        written
            .iter()
            .any(|(s, w, l)| (l - line).abs() < 12.0 && *s < start + wide && start < s + w)
    };
    while taken(line, written) {
        line += 12.0;
    }
    written.push((start, wide, line));
    let at = if fits { start } else { start + wide };
    label(at, line, anchor, name)
}
