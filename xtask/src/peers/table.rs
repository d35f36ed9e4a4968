//! Rows of a comparison, as text and as JSON.

use serde_json::{Value, json};

use super::measures::Measures;

/// One line of the table: measurements by name, see [`Measures`].
pub(crate) struct Row {
    pub(crate) case: &'static str,
    pub(crate) ours: &'static str,
    pub(crate) peer: Option<&'static str>,
    pub(crate) unit: Unit,
    pub(crate) asked: Asked,
}

#[derive(Clone, Copy)]
pub(crate) enum Unit {
    Seconds,
    Bytes,
    /// A number without a unit, such as an error.
    Plain,
}

/// What the project wants of itself.
#[derive(Clone, Copy)]
pub(crate) enum Asked {
    /// The peer's value is at least so many times ours.
    Times(f64),
    /// Ours is at most so many times the peer's.
    Within(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// For information.
    Nothing,
}

impl Row {
    /// Times, in seconds.
    pub(super) const fn seconds(
        case: &'static str,
        ours: &'static str,
        peer: Option<&'static str>,
        asked: Asked,
    ) -> Self {
        let unit = Unit::Seconds;
        Self {
            case,
            ours,
            peer,
            unit,
            asked,
        }
    }

    /// Numbers without a unit, for information.
    pub(super) const fn plain(case: &'static str, ours: &'static str, peer: &'static str) -> Self {
        let (peer, unit, asked) = (Some(peer), Unit::Plain, Asked::Nothing);
        Self {
            case,
            ours,
            peer,
            unit,
            asked,
        }
    }

    /// Peer's by ours; the other way round where ours is held against a bound.
    fn ratio(&self, measures: &Measures) -> Option<f64> {
        let (ours, peer) = (measures.get(self.ours)?, measures.get(self.peer?)?);
        match self.asked {
            Asked::Within(_) => Some(ours / peer),
            _ => Some(peer / ours),
        }
    }

    /// Whether what is asked was reached; none where nothing is, or a measurement is missing.
    fn reached(&self, measures: &Measures) -> Option<bool> {
        match self.asked {
            Asked::Times(least) => Some(self.ratio(measures)? >= least),
            Asked::Within(most) => Some(self.ratio(measures)? <= most),
            Asked::AtMost(most) => Some(measures.get(self.ours)? <= most),
            Asked::Nothing => None,
        }
    }

    fn asked(&self) -> String {
        match self.asked {
            Asked::Times(least) => format!(">= {least}"),
            Asked::Within(most) => format!("<= {most}"),
            Asked::AtMost(most) => format!("ours <= {}", shown(Some(most), self.unit)),
            Asked::Nothing => String::new(),
        }
    }
}

/// Three digits and a unit; a dash where nothing was measured.
fn shown(value: Option<f64>, unit: Unit) -> String {
    let Some(value) = value else {
        return "-".to_owned();
    };
    let scales: &[(f64, &str)] = match unit {
        Unit::Seconds => &[(1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns")],
        Unit::Bytes => &[(1e9, "GB"), (1e6, "MB"), (1e3, "kB")],
        Unit::Plain => return format!("{value:.1e}"),
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

/// The table.
pub(crate) fn text(rows: &[Row], measures: &Measures) -> String {
    let mut cells = vec![["case", "ours", "peer", "ratio", "asked", "reached"].map(str::to_owned)];
    for row in rows {
        let value = |name: Option<&str>| shown(name.and_then(|n| measures.get(n)), row.unit);
        let ratio = row
            .ratio(measures)
            .map_or("-".to_owned(), |r| format!("{r:.3}"));
        let reached = match row.reached(measures) {
            Some(true) => "yes",
            Some(false) => "NO",
            None => "",
        };
        cells.push([
            row.case.to_owned(),
            value(Some(row.ours)),
            value(row.peer),
            ratio,
            row.asked(),
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
pub(crate) fn json(rows: &[Row], measures: &Measures) -> Value {
    let row = |row: &Row| {
        json!({
            "case": row.case.trim(),
            "measured": [row.ours, row.peer],
            "ours": measures.get(row.ours),
            "peer": row.peer.and_then(|name| measures.get(name)),
            "ratio": row.ratio(measures),
            "asked": row.asked(),
            "reached": row.reached(measures),
        })
    };
    let all = measures
        .names()
        .map(|name| (name.to_owned(), json!(measures.get(name))));
    json!({
        "rows": rows.iter().map(row).collect::<Vec<_>>(),
        "measurements": Value::Object(all.collect()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_say_what_was_reached() {
        let mut measures = Measures::default();
        for line in [
            "{\"name\": \"ours\", \"value\": 3.1e-4}",
            "{\"name\": \"theirs\", \"value\": 0.0031}",
        ] {
            measures.add("P", line).unwrap();
        }
        let row = |peer, asked| Row {
            case: "a case",
            ours: "P ours",
            peer,
            unit: Unit::Seconds,
            asked,
        };
        let reached = |row: &Row| row.reached(&measures);
        let theirs = Some("P theirs");
        assert_eq!(reached(&row(theirs, Asked::Times(9.0))), Some(true));
        assert_eq!(reached(&row(theirs, Asked::Times(11.0))), Some(false));
        assert_eq!(reached(&row(theirs, Asked::Within(0.05))), Some(false));
        assert_eq!(reached(&row(None, Asked::AtMost(1e-3))), Some(true));
        assert_eq!(reached(&row(Some("P absent"), Asked::Times(1.0))), None);
        let table = text(&[row(theirs, Asked::Times(9.0))], &measures);
        let want = "a case  310 us  3.10 ms  10.000   >= 9      yes";
        assert_eq!(table.lines().last(), Some(want));
    }
}
