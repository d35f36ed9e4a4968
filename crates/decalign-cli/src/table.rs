//! Text tables.

/// A table with aligned columns.
pub(crate) fn lines(header: Vec<String>, rows: Vec<(String, Vec<String>)>) -> String {
    let name_width = rows
        .iter()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    let width = |i: usize| {
        let cells = rows
            .iter()
            .filter_map(|(_, cells)| cells.get(i))
            .chain(header.get(i));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |name: &str, cells: &[String]| {
        let cells = cells
            .iter()
            .enumerate()
            .map(|(i, cell)| format!("  {cell:>w$}", w = width(i)));
        format!("{name:<name_width$}{}\n", cells.collect::<String>())
    };
    let rows = rows.iter().map(|(name, cells)| line(name, cells));
    std::iter::once(line("", &header)).chain(rows).collect()
}
