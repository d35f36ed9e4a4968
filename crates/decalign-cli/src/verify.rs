//! `decalign verify`.

use std::fmt::Write;

use candle_core::DType;
use decalign::verify::{Comparison, VerifyReport, VerifySettings, verify};

use crate::args::{Dtype, Verify};
use crate::output::{CliResult, Failure, print, print_json};

/// The number of tensors shown without `--all`.
const SHOWN: usize = 10;

pub(crate) fn run(arguments: Verify) -> CliResult {
    let mut settings = VerifySettings::default();
    settings.dtype = arguments.dtype.map(|dtype| match dtype {
        Dtype::F32 => DType::F32,
        Dtype::F64 => DType::F64,
    });
    settings.tolerance = arguments.tolerance;
    settings.strict = arguments.strict;
    settings.weights = arguments.weights.clone();
    let report = verify(&arguments.folder, &settings)?;
    match arguments.json {
        true => print_json(&report)?,
        false => print(&describe(&report, &arguments))?,
    }
    match report.holds {
        true => Ok(()),
        false => Err(Failure::failed("")),
    }
}

fn describe(report: &VerifyReport, arguments: &Verify) -> String {
    let shown = if arguments.all {
        report.tensors.len()
    } else {
        SHOWN
    };
    let mut text = format!("{:>10} {:>10}  tensor\n", "absolute", "relative");
    for tensor in report.tensors.iter().take(shown) {
        // Writing to a string does not fail.
        let _ = writeln!(
            text,
            "{:>10.2e} {:>10.2e}  {}{}",
            tensor.absolute,
            tensor.relative,
            tensor.name,
            remark(tensor)
        );
    }
    let judged = report.tensors.iter().filter(|t| t.judged);
    let failed = judged.clone().filter(|t| !t.holds).count();
    let rounding: usize = report.tensors.iter().map(|t| t.rounding_elements).sum();
    if rounding > 0 {
        let largest = report
            .tensors
            .iter()
            .fold(0.0, |a: f64, t| a.max(t.rounding_absolute));
        let _ = writeln!(
            text,
            "not judged: {rounding} elements of trajectory.* whose recorded gradient is rounding (differ by up to {largest:.2e})"
        );
    }
    let unjudged = report.tensors.len() - judged.clone().count();
    if unjudged > 0 {
        let _ = writeln!(
            text,
            "not judged: {unjudged} tensors of trajectory.* (steps of Adam, in f32)"
        );
    }
    let verdict = if report.holds {
        "holds"
    } else {
        "DOES NOT HOLD"
    };
    let _ = writeln!(
        text,
        "{verdict}: {} of {} tensors within {:e} in {}: {}",
        judged.clone().count() - failed,
        judged.count(),
        report.tolerance,
        report.dtype,
        arguments.folder.display()
    );
    text
}

fn remark(tensor: &Comparison) -> String {
    match &tensor.problem {
        Some(problem) => format!("  FAILS: {problem}"),
        None if !tensor.judged => "  (not judged)".to_owned(),
        None if !tensor.holds => "  FAILS".to_owned(),
        None => String::new(),
    }
}
