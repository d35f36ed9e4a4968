//! Tables: a folder with one CSV or TSV file a modality, and one about the samples.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use super::samples::{Label, Samples};
use crate::array::{Array, Element, ElementKind};
use crate::bytes::Bytes;
use crate::error::Parsed;
use crate::{Dataset, Error, Modality, ModalityKind, Result};

/// The names of tables that describe samples and hold no features.
const ABOUT: [&str; 2] = ["labels", "samples"];

pub(crate) fn folder(path: &Path) -> Result<Dataset> {
    let origin = path.display().to_string();
    let entries = std::fs::read_dir(path).map_err(|error| Error::io(path, error))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| is_table(file));
    files.sort();
    let (about, mut features): (Vec<PathBuf>, Vec<PathBuf>) = files
        .into_iter()
        .partition(|file| ABOUT.contains(&stem(file).as_str()));
    if features.is_empty() {
        let message = "a folder without tables; expected text.csv, audio.tsv, ... and labels.csv";
        return Err(Error::format(&origin, message));
    }
    if about.len() > 1 {
        let message = "two tables about samples; keep labels or samples, in one format";
        return Err(Error::format(&origin, message));
    }
    features.sort_by_cached_key(|file| (ModalityKind::of(&stem(file)), stem(file)));
    let tables = features.iter().map(|file| Table::read(file));
    let tables = tables.collect::<Result<Vec<_>>>()?;
    let samples = match about.first() {
        Some(file) => samples(file)?,
        None => Samples::default(),
    };
    dataset(&origin, tables, samples)
}

pub(crate) fn single(path: &Path) -> Result<Dataset> {
    let origin = path.display().to_string();
    dataset(&origin, vec![Table::read(path)?], Samples::default())
}

fn is_table(path: &Path) -> bool {
    path.is_file() && path.extension().is_some_and(|e| e == "csv" || e == "tsv")
}

fn stem(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default();
    stem.to_string_lossy().into_owned()
}

/// Joins tables by identifier, or row by row where they have none.
fn dataset(origin: &str, tables: Vec<Table>, mut samples: Samples) -> Result<Dataset> {
    let mut ids: Vec<String> = samples.ids.iter().flatten().cloned().collect();
    if ids.is_empty() {
        // The first table with identifiers decides the order.
        if let Some(table) = tables.iter().find_map(|t| t.ids.as_ref()) {
            for id in table {
                if ids.last() != Some(id) {
                    ids.push(id.clone());
                }
            }
            samples.ids = ids.iter().cloned().map(Some).collect();
        }
    }
    let mut places = HashMap::new();
    for (i, id) in ids.iter().enumerate() {
        if places.insert(id.as_str(), i).is_some() {
            let message = format!("{id:?} is there twice, and not in rows that follow one another");
            return Err(Error::field(origin, "id", message));
        }
    }
    let modalities = tables
        .into_iter()
        .map(|table| table.modality(origin, &places));
    let data = Dataset::new(origin, modalities.collect::<Result<_>>()?)?;
    samples.onto(data)
}

/// A table of numbers.
struct Table {
    name: String,
    /// The identifier of each row, where there is a column of them.
    ids: Option<Vec<String>>,
    /// The step of each row, where there is a column of them.
    steps: Option<Vec<i64>>,
    width: usize,
    numbers: Vec<f32>,
}

/// The positions of the columns that are not features.
#[derive(Clone, Copy, Default)]
struct Columns {
    id: Option<usize>,
    step: Option<usize>,
}

impl Table {
    fn read(path: &Path) -> Result<Self> {
        let mut table = Self {
            name: stem(path),
            ids: None,
            steps: None,
            width: 0,
            numbers: Vec::new(),
        };
        let mut columns = Columns::default();
        each_row(path, |i, row| {
            if i == 0 && is_header(row) {
                let find = |name: &str| row.iter().position(|cell| cell.trim() == name);
                columns = Columns {
                    id: find("id"),
                    step: find("step"),
                };
                table.ids = columns.id.map(|_| Vec::new());
                table.steps = columns.step.map(|_| Vec::new());
                return Ok(());
            }
            table.row(row, columns)
        })?;
        if table.width == 0 {
            return Err(Error::format(
                &path.display().to_string(),
                "holds no number",
            ));
        }
        Ok(table)
    }

    fn row(&mut self, row: &csv::StringRecord, columns: Columns) -> Parsed {
        let before = self.numbers.len();
        for (i, cell) in row.iter().enumerate() {
            let cell = cell.trim();
            if columns.id == Some(i) {
                self.ids.get_or_insert_default().push(cell.to_owned());
            } else if columns.step == Some(i) {
                let step = cell
                    .parse()
                    .map_err(|_| format!("step {cell:?} is no whole number"))?;
                self.steps.get_or_insert_default().push(step);
            } else if cell.is_empty() {
                self.numbers.push(f32::NAN);
            } else {
                let number = cell.parse().map_err(|_| {
                    let shown: String = cell.chars().take(40).collect();
                    format!("{shown:?} in column {} is no number", i + 1)
                })?;
                self.numbers.push(number);
            }
        }
        let width = self.numbers.len() - before;
        if self.width == 0 {
            self.width = width;
        }
        match width == self.width {
            true => Ok(()),
            false => Err(format!(
                "{width} features, the rows before have {}",
                self.width
            )),
        }
    }

    /// The rows as sequences. With identifiers, the rows of one identifier are the steps of a sample; else each row is a
    /// sample of one step.
    fn modality(self, origin: &str, places: &HashMap<&str, usize>) -> Result<Modality> {
        let rows = self.numbers.len() / self.width;
        let says = |message: String| Error::field(origin, &self.name, message);
        let mut order: Vec<usize> = (0..rows).collect();
        let mut lengths = vec![1; rows];
        if let Some(ids) = &self.ids {
            let mut samples = Vec::with_capacity(rows);
            for (row, id) in ids.iter().enumerate() {
                let place = places.get(id.as_str());
                let place =
                    place.ok_or_else(|| says(format!("row {}: no sample {id:?}", row + 1)))?;
                samples.push(*place);
            }
            let step = |row: usize| self.steps.as_ref().map_or(0, |steps| steps[row]);
            // A stable sort: without a column of steps, the order of the file is kept.
            order.sort_by_key(|row| (samples[*row], step(*row)));
            lengths = vec![0; places.len()];
            samples.iter().for_each(|place| lengths[*place] += 1);
        }
        let row = |row: &usize| &self.numbers[row * self.width..][..self.width];
        let bytes = order.iter().flat_map(row).flat_map(|v| v.to_le_bytes());
        let bytes = Bytes::from(bytes.collect::<Vec<u8>>());
        let blocks = sequences(&bytes, &lengths, self.width).map_err(says)?;
        let same = lengths.iter().all(|length| *length == 1);
        Modality::stored(&self.name, blocks, (!same).then_some(lengths), origin)
    }
}

/// Consecutive sequences as arrays (1, T, D); one array (N, D) when all have one step.
pub(super) fn sequences(bytes: &Bytes, lengths: &[usize], width: usize) -> Parsed<Vec<Array>> {
    let element = Element {
        kind: ElementKind::Float,
        size: 4,
        big_endian: false,
    };
    if lengths.iter().all(|length| *length == 1) {
        let shape = vec![lengths.len(), width];
        return Ok(vec![Array::new(bytes.clone(), element, shape, None)?]);
    }
    let (mut blocks, mut start) = (Vec::with_capacity(lengths.len()), 0);
    for length in lengths {
        let end = start + 4 * length * width;
        let piece = bytes.slice(start..end).ok_or("numbers are missing")?;
        blocks.push(Array::new(piece, element, vec![1, *length, width], None)?);
        start = end;
    }
    Ok(blocks)
}

/// True for a row of column names: it has a cell that is neither a number nor empty.
fn is_header(row: &csv::StringRecord) -> bool {
    let is_word = |cell: &str| !cell.trim().is_empty() && cell.trim().parse::<f32>().is_err();
    row.iter().any(is_word)
}

/// Calls `f` for every row and adds the line to its errors.
fn each_row(path: &Path, mut f: impl FnMut(usize, &csv::StringRecord) -> Parsed) -> Result<()> {
    let origin = path.display().to_string();
    let tabs = path.extension().is_some_and(|e| e == "tsv");
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .delimiter(if tabs { b'\t' } else { b',' })
        .from_path(path)
        .map_err(|error| Error::format(&origin, error))?;
    let mut row = csv::StringRecord::new();
    for i in 0.. {
        let line = reader.position().line();
        match reader.read_record(&mut row) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => return Err(Error::format(&origin, error)),
        }
        f(i, &row).map_err(|message| Error::field(&origin, format!("line {line}"), message))?;
    }
    Ok(())
}

/// Reads the table that describes samples: any of the columns id, label, split, group and text.
fn samples(path: &Path) -> Result<Samples> {
    let mut samples = Samples::default();
    let mut columns: Vec<String> = Vec::new();
    each_row(path, |i, row| {
        if i == 0 {
            columns = row.iter().map(|cell| cell.trim().to_owned()).collect();
            let known = ["id", "label", "split", "group", "text"];
            return match columns.iter().any(|c| known.contains(&c.as_str())) {
                true => Ok(()),
                false => Err(format!("none of the columns {} is there", known.join(", "))),
            };
        }
        if row.len() != columns.len() {
            return Err(format!("{} cells for {} columns", row.len(), columns.len()));
        }
        let cell = |name: &str| {
            let place = columns.iter().position(|column| column == name)?;
            row.get(place).map(str::to_owned)
        };
        samples.ids.push(cell("id").map(|id| id.trim().to_owned()));
        samples.texts.push(cell("text"));
        samples.groups.push(cell("group"));
        samples.parts.push(cell("split"));
        let label = cell("label").filter(|label| !label.trim().is_empty());
        samples
            .labels
            .push(label.map(|label| Label::parse(label.trim())));
        Ok(())
    })?;
    Ok(samples)
}
