//! Estimates with intervals, one a row.

use super::frame::{Frame, Scale};
use super::{canvas, cut, label, segment, text_width};
use crate::colour::category;
use crate::node::Node;
use crate::table::short;

/// An estimate, its interval, and single values.
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) value: f64,
    /// Lower and upper end, where known.
    pub(crate) ends: Option<(f64, f64)>,
    pub(crate) single: Vec<f64>,
}

impl Span {
    pub(crate) fn new(name: impl Into<String>, value: f64, ends: Option<(f64, f64)>) -> Self {
        Self {
            name: name.into(),
            value,
            ends,
            single: Vec::new(),
        }
    }
}

/// Dots with whiskers; `line` draws a vertical line at a number.
pub(crate) fn intervals(title: &str, axis: &str, spans: &[Span], line: Option<f64>) -> Node {
    let longest = spans.iter().map(|s| text_width(&cut(&s.name, 28)));
    let left = longest.fold(60.0, f64::max) + 14.0;
    let every = spans.iter().flat_map(|s| {
        let ends = s.ends.map_or([s.value; 2], |(a, b)| [a, b]);
        s.single.iter().copied().chain(ends).chain([s.value])
    });
    let step = 24.0;
    let frame = Frame {
        left,
        top: 14.0,
        width: 600.0 - left,
        height: step * spans.len() as f64,
        x: Scale::of(every.chain(line)),
        y: Scale {
            ticks: Vec::new(),
            ..Scale::between(0.0, 1.0)
        },
    };
    let mut drawing = canvas(
        left + frame.width + 24.0,
        frame.top + frame.height + 44.0,
        title,
    )
    .children(frame.axes(axis, ""));
    let at = |v: f64| frame.place((v, 0.0)).0;
    if let Some(line) = line {
        let (x, bottom) = (at(line), frame.top + frame.height);
        drawing
            .push(segment((x, frame.top), (x, bottom), "#555555").set("stroke-dasharray", "4 3"));
    }
    for (i, span) in spans.iter().enumerate() {
        let y = frame.top + step * (i as f64 + 0.5);
        drawing.push(label(left - 8.0, y + 4.0, "end", &cut(&span.name, 28)));
        for v in &span.single {
            let dot = Node::new("circle")
                .at("cx", at(*v))
                .at("cy", y)
                .at("r", 3.0);
            drawing.push(
                dot.set("fill", "#999999")
                    .set("class", "mark")
                    .title(short(*v)),
            );
        }
        let mut says = format!("{}: {}", span.name, short(span.value));
        if let Some((low, high)) = span.ends {
            says += &format!(" [{}, {}]", short(low), short(high));
            let colour = category(0);
            drawing.push(segment((at(low), y), (at(high), y), colour).set("stroke-width", 2));
            for end in [low, high] {
                drawing.push(
                    segment((at(end), y - 5.0), (at(end), y + 5.0), colour).set("stroke-width", 2),
                );
            }
        }
        let dot = Node::new("circle")
            .at("cx", at(span.value))
            .at("cy", y)
            .at("r", 5.0);
        drawing.push(
            dot.set("fill", category(0))
                .set("class", "mark")
                .title(says),
        );
    }
    drawing
}
