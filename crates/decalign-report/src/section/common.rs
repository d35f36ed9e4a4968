//! Figures that runs and experiments share.

use crate::chart::{Cloud, Dot, Series, Span, intervals, points, radar};
use crate::figure::Figure;
use crate::table::{Cell, Table, cells};

/// Two metrics of a model, and its number of parameters.
pub(super) struct Bubble {
    pub(super) name: String,
    pub(super) at: [f64; 2],
    pub(super) parameters: usize,
}

/// Two metrics against each other, by groups; the area of a point shows the number of parameters.
pub(super) fn bubbles(
    figure: &str,
    column: &str,
    [x, y]: [&str; 2],
    groups: Vec<(String, Vec<Bubble>)>,
) -> Figure {
    let mut data = Table::new([column, x, y, "parameters"]);
    let mut clouds = Vec::new();
    for (name, bubbles) in groups {
        let mut dots = Vec::new();
        for Bubble {
            name,
            at: [a, b],
            parameters,
        } in bubbles
        {
            data.push(cells![&name, a, b, parameters]);
            // The number of parameters differs by orders of magnitude.
            let radius = 3.0 + 3.2 * ((parameters + 1) as f64).log10().max(0.0).sqrt();
            dots.push(Dot::new([a, b], radius).name(name));
        }
        clouds.push(Cloud { name, dots });
    }
    let title = format!("{x} against {y}");
    let drawing = points(&title, [x, y], &clouds);
    Figure::new(figure, &title, drawing, data)
        .caption("Test part, means over seeds. The area grows with the number of parameters.")
}

/// Numbers of classes that a radar shows.
pub(super) const RADAR: std::ops::RangeInclusive<usize> = 3..=24;

/// The accuracy of every class, one polygon a series; at most six are drawn, as one more would hide the others.
pub(super) fn class_radar(figure: &str, classes: &[String], series: &[Series]) -> Option<Figure> {
    let all = series.iter().flat_map(|s| s.points.iter().map(|p| p.1));
    let least = all.fold(1.0, f64::min);
    // The centre is a round number below the least.
    let mut round = [0.9, 0.8, 0.6, 0.4, 0.2].into_iter();
    let low = round.find(|low| *low < least - 0.01).unwrap_or(0.0);
    let names = classes.iter().map(Cell::from);
    let data = Table::of_series("class", names, series);
    let title = "accuracy by class";
    let drawing = radar(title, classes, series, low);
    (!series.is_empty()).then(|| {
        Figure::new(figure, title, drawing, data).caption(format!(
            "Share of each class's test samples that are right, mean over seeds. The centre is {low:.2}."
        ))
    })
}

/// Estimates with intervals on an axis; `columns` name the estimate, its value and its ends. `None` without any.
pub(super) fn interval_figure(
    figure: &str,
    [title, axis]: [&str; 2],
    columns: [&str; 4],
    spans: &[Span],
    line: Option<f64>,
) -> Option<Figure> {
    let mut data = Table::new(columns);
    for span in spans {
        let (low, high) = span.ends.unzip();
        data.push(cells![&span.name, span.value, low, high]);
    }
    let drawing = intervals(title, axis, spans, line);
    (!spans.is_empty()).then(|| Figure::new(figure, title, drawing, data))
}
