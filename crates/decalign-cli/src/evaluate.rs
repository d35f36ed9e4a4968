//! `decalign evaluate`.

use decalign::metrics::Bootstrap;
use decalign_report::run_folder::intervals;
use serde_json::json;

use crate::args::{Evaluate, Samples};
use crate::output::{CliResult, print, print_json};
use crate::{source, table};

pub(crate) fn run(arguments: Evaluate) -> CliResult {
    let (predictor, data) = source::model_and_data(&arguments.input)?;
    let has_split = data.split_names().next().is_some();
    let samples = arguments.part.unwrap_or(if has_split {
        Samples::Test
    } else {
        Samples::All
    });
    let rows = source::rows(&data, arguments.input.split.as_deref(), &predictor, samples)?;
    let (predictions, labels) = predictor.predict_with_labels(&data, &rows)?;
    let (benchmark, scores) = (predictor.benchmark(), predictions.all_scores());
    if arguments.json {
        let mut value = json!(benchmark.evaluate(scores, &labels));
        value["intervals"] = intervals(benchmark, "figures", scores, &labels);
        return print_json(&value);
    }
    let figures = Bootstrap::default().metrics(benchmark, scores, &labels);
    let header = figures.iter().map(|(name, _)| (*name).to_owned()).collect();
    let row = |name: String, of: fn(&decalign::metrics::Interval) -> f64| {
        let cells = figures
            .iter()
            .map(|(_, interval)| format!("{:.4}", of(interval)));
        (name, cells.collect())
    };
    let rows = vec![
        row(format!("{} samples", rows.len()), |i| i.estimate),
        row("  95 % from".to_owned(), |i| i.low),
        row("  95 % to".to_owned(), |i| i.high),
    ];
    print(&table::lines(header, rows))
}
