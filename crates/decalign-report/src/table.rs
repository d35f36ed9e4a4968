//! Tables as text, CSV, JSON and HTML.

use serde_json::{Map, Value, json};

use crate::chart::Series;
use crate::node::Node;

/// A cell of a [`Table`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Cell {
    /// Words.
    Text(String),
    /// A number.
    Number(f64),
    /// Nothing.
    Empty,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        Self::Text(text.clone())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Number(value)
    }
}

impl From<usize> for Cell {
    fn from(value: usize) -> Self {
        Self::Number(value as f64)
    }
}

impl From<Option<f64>> for Cell {
    fn from(value: Option<f64>) -> Self {
        value.map_or(Self::Empty, Self::Number)
    }
}

impl Cell {
    /// The text for people: four decimals, none for integers.
    fn short(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Number(v) => short(*v),
            Self::Empty => String::new(),
        }
    }

    /// The text for programs: all digits.
    fn exact(&self) -> String {
        match self {
            Self::Number(v) => v.to_string(),
            other => other.short(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Text(text) => json!(text),
            Self::Number(v) => json!(v),
            Self::Empty => Value::Null,
        }
    }
}

/// A number as text for people.
pub(crate) fn short(v: f64) -> String {
    match v {
        v if v == v.trunc() && v.abs() < 1e9 => format!("{v:.0}"),
        v if v.abs() >= 1e-3 && v.abs() < 1e6 => format!("{v:.4}"),
        v => format!("{v:.3e}"),
    }
}

/// A row of cells.
macro_rules! cells {
    ($($cell:expr),+) => {
        vec![$($crate::table::Cell::from($cell)),+]
    };
}
pub(crate) use cells;

/// Named columns and rows of cells.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Table {
    /// The name of every column.
    pub columns: Vec<String>,
    /// The rows; each has as many cells as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

impl Table {
    /// A table without rows.
    pub fn new<S: Into<String>>(columns: impl IntoIterator<Item = S>) -> Self {
        Self {
            columns: columns.into_iter().map(Into::into).collect(),
            rows: Vec::new(),
        }
    }

    /// Adds a row; missing cells are empty.
    pub fn push(&mut self, mut row: Vec<Cell>) {
        row.resize(self.columns.len(), Cell::Empty);
        self.rows.push(row);
    }

    /// One row a label, one column a series of as many points.
    pub(crate) fn of_series(
        first: &str,
        labels: impl Iterator<Item = Cell>,
        series: &[Series],
    ) -> Self {
        let names = series.iter().map(|s| s.name.as_str());
        let mut table = Self::new(std::iter::once(first).chain(names));
        for (i, label) in labels.enumerate() {
            let values = series.iter().map(|s| Cell::from(s.points[i].1));
            table.push(std::iter::once(label).chain(values).collect());
        }
        table
    }

    /// CSV; numbers read back exactly.
    pub fn csv(&self) -> String {
        let mut writer = csv::Writer::from_writer(Vec::new());
        let rows = self
            .rows
            .iter()
            .map(|r| r.iter().map(Cell::exact).collect());
        let all = std::iter::once(self.columns.clone()).chain(rows);
        // Memory does not refuse, and every row has the header's length.
        for row in all.collect::<Vec<Vec<String>>>() {
            let _ = writer.write_record(row);
        }
        let bytes = writer.into_inner().unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// One object a row.
    pub fn json(&self) -> Value {
        let row = |row: &Vec<Cell>| {
            let cells = self.columns.iter().zip(row);
            let object: Map<String, Value> = cells
                .map(|(name, cell)| (name.clone(), cell.json()))
                .collect();
            Value::Object(object)
        };
        self.rows.iter().map(row).collect()
    }

    /// Aligned columns, numbers to the right.
    pub fn text(&self) -> String {
        let rows: Vec<Vec<String>> = std::iter::once(self.columns.clone())
            .chain(
                self.rows
                    .iter()
                    .map(|r| r.iter().map(Cell::short).collect()),
            )
            .collect();
        let width = |i: usize| rows.iter().map(|r| r[i].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let left = |i: usize| matches!(self.rows.first().map(|r| &r[i]), Some(Cell::Text(_)));
        let line = |row: &Vec<String>| {
            let cells = row.iter().enumerate().map(|(i, cell)| match left(i) {
                true => format!("{cell:<w$}", w = widths[i]),
                false => format!("{cell:>w$}", w = widths[i]),
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            line.trim_end().to_owned() + "\n"
        };
        rows.iter().map(line).collect()
    }

    pub(crate) fn html(&self) -> Node {
        let heads = self.columns.iter();
        let head = Node::new("tr")
            .children(heads.map(|name| Node::with_text("th", name).set("scope", "col")));
        let row = |row: &Vec<Cell>| {
            let cells = row.iter().map(|cell| match cell {
                Cell::Number(_) => Node::with_text("td", cell.short()).set("class", "n"),
                _ => Node::with_text("td", cell.short()),
            });
            Node::new("tr").children(cells)
        };
        let table = Node::new("table")
            .child(Node::new("thead").child(head))
            .child(Node::new("tbody").children(self.rows.iter().map(row)));
        Node::new("div").set("class", "scroll").child(table)
    }
}
