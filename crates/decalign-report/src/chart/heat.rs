//! Heat maps, with the numbers in the cells.

use super::{canvas, cut, label, rectangle, text_width};
use crate::colour::{on_sequential, sequential};
use crate::node::Node;
use crate::table::short;

/// The content of a heat map.
pub(crate) struct Heat {
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Row by row; `None` where there is no number.
    pub(crate) values: Vec<Option<f64>>,
    /// The names of the axes.
    pub(crate) names: [String; 2],
    /// Shade cells by their fraction of the row, as in a confusion matrix.
    pub(crate) by_row: bool,
}

/// A heat map; a darker cell holds a larger number.
pub(crate) fn heat(title: &str, map: &Heat) -> Node {
    let longest = |texts: &[String]| {
        texts
            .iter()
            .map(|t| text_width(&cut(t, 16)))
            .fold(0.0, f64::max)
    };
    let left = (longest(&map.rows) + 34.0).max(60.0);
    let columns = map.columns.len().max(1) as f64;
    let cell = ((620.0 - left) / columns).clamp(30.0, 72.0);
    let high = cell.min(34.0);
    let tilted = longest(&map.columns) > cell - 4.0;
    let top = 30.0
        + if tilted {
            longest(&map.columns).min(120.0) * 0.72 + 8.0
        } else {
            18.0
        };
    let size = (
        left + cell * columns + 20.0,
        top + high * map.rows.len() as f64 + 14.0,
    );
    let wide = size.0 + if tilted { 60.0 } else { 0.0 };
    let mut drawing = canvas(wide, size.1, title)
        .child(label(left, 14.0, "start", &map.names[1]).set("font-style", "italic"));
    let middle = top + high * map.rows.len() as f64 / 2.0;
    let turned = format!("rotate(-90 12 {middle:.1})");
    let name = label(12.0, middle, "middle", &map.names[0]).set("font-style", "italic");
    drawing.push(name.set("transform", turned));
    for (c, name) in map.columns.iter().enumerate() {
        let x = left + cell * (c as f64 + 0.5);
        let text = match tilted {
            true => label(x, top - 6.0, "start", &cut(name, 16))
                .set("transform", format!("rotate(-45 {x:.1} {:.1})", top - 6.0)),
            false => label(x, top - 6.0, "middle", name),
        };
        drawing.push(text);
    }
    for (r, name) in map.rows.iter().enumerate() {
        let y = top + high * r as f64;
        drawing.push(label(
            left - 6.0,
            y + high / 2.0 + 4.0,
            "end",
            &cut(name, 16),
        ));
        let row = &map.values[r * map.columns.len()..][..map.columns.len()];
        let shares = match map.by_row {
            true => shares_of_sum(row),
            false => shares_of_range(row, &map.values),
        };
        for (c, (value, share)) in row.iter().zip(shares).enumerate() {
            let place = (left + cell * c as f64, y);
            let says = [name.as_str(), &map.columns[c]];
            drawing.push(one(place, (cell, high), *value, share, says));
        }
    }
    drawing
}

/// A cell with its number.
fn one(
    (x, y): (f64, f64),
    (w, h): (f64, f64),
    value: Option<f64>,
    share: f64,
    says: [&str; 2],
) -> Node {
    let Some(value) = value else {
        return rectangle(x, y, w - 1.0, h - 1.0).set("fill", "#eeeeee");
    };
    let text = match w {
        w if value == value.trunc() || w > 48.0 => short(value),
        _ => format!("{value:.2}"),
    };
    let number = label(x + w / 2.0, y + h / 2.0 + 4.0, "middle", &text)
        .set("font-size", 11)
        .set("style", format!("fill:{}", on_sequential(share)));
    let shade = rectangle(x, y, w - 1.0, h - 1.0)
        .set("class", "mark")
        .set("fill", sequential(share))
        .title(format!("{}, {}: {}", says[0], says[1], short(value)));
    Node::new("g").child(shade).child(number)
}

fn shares_of_sum(row: &[Option<f64>]) -> Vec<f64> {
    let sum: f64 = row.iter().flatten().sum();
    row.iter()
        .map(|v| v.unwrap_or(0.0) / sum.max(f64::MIN_POSITIVE))
        .collect()
}

fn shares_of_range(row: &[Option<f64>], all: &[Option<f64>]) -> Vec<f64> {
    let known = || all.iter().flatten().copied().filter(|v| v.is_finite());
    let (low, high) = (
        known().fold(f64::INFINITY, f64::min),
        known().fold(f64::NEG_INFINITY, f64::max),
    );
    let share = |v: &Option<f64>| match v {
        Some(v) if high > low => (v - low) / (high - low),
        _ => 0.5,
    };
    row.iter().map(share).collect()
}
