//! Text formats: tables (CSV, TSV), JSON lines, and mappings of arrays in other files (TOML).

mod lines;
mod mapping;
mod samples;
mod table;

pub(crate) use lines::read as read_lines;
pub(crate) use mapping::read as read_mapping;
pub(crate) use table::{folder as read_folder, single as read_table};
