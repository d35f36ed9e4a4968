//! `decalign evaluate`.

use crate::args::{Evaluate, Samples};
use crate::output::{Done, print, print_json};
use crate::{source, table};

pub(crate) fn run(arguments: Evaluate) -> Done {
    let (predictor, data) = source::model_and_data(&arguments.input)?;
    let has_split = data.split_names().next().is_some();
    let samples = arguments.part.unwrap_or(if has_split {
        Samples::Test
    } else {
        Samples::All
    });
    let rows = source::rows(&data, arguments.input.split.as_deref(), &predictor, samples)?;
    let metrics = predictor.evaluate(&data, &rows)?;
    match arguments.json {
        true => print_json(&metrics),
        false => print(&table::metrics(&[(
            format!("{} samples", rows.len()),
            metrics,
        )])),
    }
}
