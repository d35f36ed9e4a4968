//! Losses over epochs.

use crate::chart::{Series, lines};
use crate::figure::Figure;
use crate::run::Run;
use crate::run_folder::EpochTable;
use crate::table::{Cell, Table};

/// The minimised loss, and the alignment losses.
pub(super) fn figures(run: &Run) -> Vec<Figure> {
    let Some(seed) = run.seeds.first().filter(|s| !s.epochs.rows.is_empty()) else {
        return Vec::new();
    };
    let number = seed.checkpoint.config.seed;
    let totals = ["train_total", "train_task", "valid_loss"];
    let known = |c: &&String| c.starts_with("train_") && !totals.contains(&c.as_str());
    let parts: Vec<&str> = seed
        .epochs
        .columns
        .iter()
        .filter(known)
        .map(String::as_str)
        .collect();
    let drawn = [
        (
            "losses",
            "losses",
            totals.to_vec(),
            "Means over samples, of training and of validation",
        ),
        (
            "components",
            "components of the objective",
            parts,
            "Means over training samples, before their weights",
        ),
    ];
    drawn
        .into_iter()
        .filter_map(|(name, title, columns, caption)| {
            let figure = one(run, &seed.epochs, name, title, &columns)?;
            Some(figure.caption(format!("{caption}; seed {number}.")))
        })
        .collect()
}

fn one(
    run: &Run,
    epochs: &EpochTable,
    name: &str,
    title: &str,
    columns: &[&str],
) -> Option<Figure> {
    let there = columns
        .iter()
        .filter(|c| epochs.columns.iter().any(|known| known == *c));
    let series: Vec<Series> = there
        .map(|column| Series {
            name: column.replace("train_", "").replace('_', " "),
            points: epochs.column(column),
        })
        .collect();
    let first = series.first()?;
    let numbers = first.points.iter().map(|(epoch, _)| Cell::from(*epoch));
    let data = Table::of_series("epoch", numbers, &series);
    let heading = format!("{title} of {}", run.name);
    let drawing = lines(&heading, ["epoch", "loss"], &series, false);
    Some(run.figure(name, title, drawing, data))
}
