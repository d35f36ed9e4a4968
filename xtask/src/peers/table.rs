//! Rows of a comparison: read from a table, printed as text and as JSON.

use serde_json::{Value, json};

use super::measurements::Measurements;

/// A row of a comparison.
pub(super) struct Row<'a> {
    case: &'a str,
    /// The name of our measurement.
    ours: &'a str,
    /// The name of the measurement beside it.
    peer: Option<&'a str>,
    /// The goal as the table has it.
    goal_text: &'a str,
    goal: Goal,
    unit: Unit,
}

#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    Bytes,
    /// A number without a unit, such as an error.
    Number,
}

#[derive(Clone, Copy)]
enum Goal {
    /// `>= 7`: the peer's value is at least 7 times ours.
    PeerByOurs(f64),
    /// `<= 1.5`: ours is at most 1.5 times the peer's.
    OursByPeer(f64),
    /// `<= 8 ms`: ours is at most this many seconds.
    Seconds(f64),
    None,
}

/// Reads lines `case | ours | peer | goal | unit`; cells at the end may be absent, and `#` begins a comment.
pub(super) fn parse(table: &str) -> Result<Vec<Row<'_>>, String> {
    let lines = table.lines().filter(|line| !line.starts_with('#'));
    lines.map(row).collect()
}

fn row(line: &str) -> Result<Row<'_>, String> {
    let wrong = || format!("{line}: expected case | ours | peer | goal | unit");
    let mut cells = line.split(" | ");
    let mut cell = || cells.next().unwrap_or_default().trim_end();
    let [case, ours, peer, goal_text, unit] = [(); 5].map(|()| cell());
    let unit = match unit.trim() {
        "" => Unit::Seconds,
        "bytes" => Unit::Bytes,
        "number" => Unit::Number,
        _ => return Err(wrong()),
    };
    let words: Vec<&str> = goal_text.split(' ').collect();
    let number = |text: &str| text.parse::<f64>().map_err(|_| wrong());
    let goal = match words.as_slice() {
        [""] => Goal::None,
        [">=", times] => Goal::PeerByOurs(number(times)?),
        ["<=", times] => Goal::OursByPeer(number(times)?),
        ["<=", value, "ms"] => Goal::Seconds(number(value)? * 1e-3),
        ["<=", value, "us"] => Goal::Seconds(number(value)? * 1e-6),
        _ => return Err(wrong()),
    };
    Ok(Row {
        case,
        ours,
        peer: Some(peer).filter(|peer| !peer.is_empty()),
        goal_text,
        goal,
        unit,
    })
}

impl Row<'_> {
    /// Peer by ours, or ours by peer where the goal is so.
    fn ratio(&self, measurements: &Measurements) -> Option<f64> {
        let (ours, peer) = (measurements.get(self.ours)?, measurements.get(self.peer?)?);
        match self.goal {
            Goal::OursByPeer(_) => Some(ours / peer),
            _ => Some(peer / ours),
        }
    }

    /// True where the goal is reached; none without a goal or a measurement.
    fn reached(&self, measurements: &Measurements) -> Option<bool> {
        match self.goal {
            Goal::PeerByOurs(least) => Some(self.ratio(measurements)? >= least),
            Goal::OursByPeer(most) => Some(self.ratio(measurements)? <= most),
            Goal::Seconds(most) => Some(measurements.get(self.ours)? <= most),
            Goal::None => None,
        }
    }
}

/// Three digits and a unit; a dash where nothing was measured.
fn format(value: Option<f64>, unit: Unit) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let scales: &[(f64, &str)] = match unit {
        Unit::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")],
        Unit::Bytes => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB")],
        Unit::Number => return format!("{value:.1e}"),
    };
    let scale = scales.iter().find(|(scale, _)| value >= *scale);
    let (scale, name) = scale.unwrap_or(&scales[scales.len() - 1]);
    let digits = match value / scale {
        v if v < 10.0 => 2,
        v if v < 100.0 => 1,
        _ => 0,
    };
    format!("{:.digits$} {name}", value / scale)
}

/// The table as text.
pub(super) fn text(rows: &[Row], measurements: &Measurements) -> String {
    let mut cells = vec![["case", "ours", "peer", "ratio", "goal", "reached"].map(str::to_owned)];
    for row in rows {
        let value = |name: Option<&str>| format(name.and_then(|n| measurements.get(n)), row.unit);
        let ratio = row.ratio(measurements);
        let reached = match row.reached(measurements) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        cells.push([
            row.case.to_owned(),
            value(Some(row.ours)),
            value(row.peer),
            ratio.map_or("-".to_owned(), |r| format!("{r:.3}")),
            row.goal_text.to_owned(),
            reached.to_owned(),
        ]);
    }
    let widths = [0, 1, 2, 3, 4, 5].map(|i| cells.iter().map(|c| c[i].len()).max().unwrap_or(0));
    let mut out = String::new();
    for row in &cells {
        let mut line = format!("{:<1$}", row[0], widths[0]);
        for (cell, width) in row.iter().zip(widths).skip(1) {
            line += &format!("  {cell:>width$}");
        }
        out += line.trim_end();
        out.push('\n');
    }
    out
}

/// The rows, and every measurement by name.
pub(super) fn json(rows: &[Row], measurements: &Measurements) -> Value {
    let row = |row: &Row| {
        json!({
            "case": row.case.trim(),
            "measured": [row.ours, row.peer],
            "ours": measurements.get(row.ours),
            "peer": row.peer.and_then(|name| measurements.get(name)),
            "ratio": row.ratio(measurements),
            "goal": row.goal_text,
            "reached": row.reached(measurements),
        })
    };
    let all = measurements
        .names()
        .map(|name| (name.to_owned(), json!(measurements.get(name))));
    json!({
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "measurements": Value::Object(all.collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_compare_with_their_goals() {
        let mut measurements = Measurements::default();
        for line in [
            "{\"name\": \"ours\", \"value\": 3.1e-4}",
            "{\"name\": \"theirs\", \"value\": 0.0031}",
        ] {
            measurements.add("P", line).unwrap();
        }
        for (line, expected) in [
            ("a case | P ours | P theirs | >= 9", Some(true)),
            ("a case | P ours | P theirs | >= 11", Some(false)),
            ("a case | P ours | P theirs | <= 0.05", Some(false)),
            ("a case | P ours |          | <= 1 ms", Some(true)),
            ("a case | P ours |          | <= 300 us", Some(false)),
            ("a case | P ours | P absent | >= 1", None),
            ("a case | P ours", None),
        ] {
            let row = row(line).unwrap();
            assert_eq!(row.reached(&measurements), expected, "{line}");
        }
        let rows = parse("# comment\na case | P ours | P theirs | >= 9").unwrap();
        let last = "a case  310 us  3.10 ms  10.000  >= 9      yes";
        assert_eq!(text(&rows, &measurements).lines().last(), Some(last));
        assert!(row("a case | P ours | P theirs | at most 9").is_err());
    }

    #[test]
    fn all_tables_are_read() {
        let rows = crate::peers::TABLES.map(|(_, table)| parse(table).unwrap().len());
        assert_eq!(rows, [2, 13, 22, 28, 37]);
    }
}
