//! Files of any names, mapped to modalities, labels and splits by a small TOML.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use crate::array::Array;
use crate::bytes::Bytes;
use crate::fields::{Entry, Fields, habit, is_reserved};
use crate::{Dataset, Error, Result, container, npy};

/// The mapping, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    /// The file that names are looked up in, unless they say another.
    file: Option<String>,
    /// Modalities by name.
    modalities: BTreeMap<String, Source>,
    labels: Option<Source>,
    #[serde(default)]
    classes: Vec<String>,
    split: Option<Source>,
    /// Further splits by name.
    #[serde(default)]
    splits: BTreeMap<String, Source>,
    ids: Option<Source>,
    texts: Option<Source>,
    groups: Option<Source>,
    /// JSON lines with ids, texts, labels, groups, splits of the same samples.
    lines: Option<String>,
}

/// Where an array is: its name, or that and more.
#[derive(Deserialize)]
#[serde(untagged)]
enum Source {
    Name(String),
    Full(Full),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Full {
    name: String,
    file: Option<String>,
    /// The array of lengths, in the same file.
    lengths: Option<String>,
}

/// Arrays of the files that were opened, by file and name.
struct Files<'a> {
    origin: &'a str,
    folder: &'a Path,
    default: Option<String>,
    open: HashMap<String, Fields>,
}

pub(super) fn read(path: &Path) -> Result<Dataset> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| super::io(path, error))?;
    let mapping: Mapping = toml::from_str(&text).map_err(|error| {
        let line = error
            .span()
            .map_or(0, |span| text[..span.start].lines().count().max(1));
        Error::field(
            &origin,
            format!("line {line}"),
            error.message().replace('\n', " "),
        )
    })?;
    let mut files = Files {
        origin: &origin,
        folder: path.parent().unwrap_or(Path::new("")),
        default: mapping.file.clone(),
        open: HashMap::new(),
    };
    let mut fields = Fields {
        origin: origin.clone(),
        classes: mapping.classes,
        ..Fields::default()
    };
    let mut names: Vec<String> = mapping.modalities.keys().cloned().collect();
    names.sort_by_key(|name| (habit(name), name.clone()));
    for (name, source) in &mapping.modalities {
        if is_reserved(name) {
            return Err(Error::field(
                &origin,
                name,
                "a modality cannot be called so",
            ));
        }
        let array = files.find(source)?;
        fields
            .entries
            .push((format!("features.{name}"), Entry::Array(array)));
        if let Source::Full(full) = source
            && let Some(lengths) = &full.lengths
        {
            let array = files.array(full.file.as_deref(), lengths)?;
            fields
                .entries
                .push((format!("lengths.{name}"), Entry::Array(array)));
        }
    }
    fields.modalities = names;
    let single = [
        ("labels", mapping.labels),
        ("split", mapping.split),
        ("ids", mapping.ids),
        ("texts", mapping.texts),
        ("groups", mapping.groups),
    ];
    let single = single
        .into_iter()
        .map(|(name, source)| (name.to_owned(), source));
    let splits = mapping.splits.into_iter();
    let splits = splits.map(|(name, source)| (format!("split_{name}"), Some(source)));
    for (name, source) in single.chain(splits) {
        if let Some(source) = source {
            fields
                .entries
                .push((name, Entry::Array(files.find(&source)?)));
        }
    }
    let data = fields.dataset()?;
    match mapping.lines {
        Some(lines) => super::lines::onto(&files.folder.join(lines), data),
        None => Ok(data),
    }
}

impl Files<'_> {
    fn find(&mut self, source: &Source) -> Result<Array> {
        match source {
            Source::Name(name) => self.array(None, name),
            Source::Full(full) => self.array(full.file.as_deref(), &full.name),
        }
    }

    fn array(&mut self, file: Option<&str>, name: &str) -> Result<Array> {
        let Some(file) = file.map(str::to_owned).or_else(|| self.default.clone()) else {
            let message = "in which file? Give `file` at the top or beside the name";
            return Err(Error::field(self.origin, name, message));
        };
        if !self.open.contains_key(&file) {
            let fields = self.load(&file)?;
            self.open.insert(file.clone(), fields);
        }
        let fields = self.open.get(&file);
        let entries = fields.map(|f| f.entries.as_slice()).unwrap_or_default();
        let found = entries.iter().find_map(|(there, entry)| match entry {
            Entry::Array(array) if there == name => Some(array.clone()),
            _ => None,
        });
        found.ok_or_else(|| {
            let there: Vec<&str> = entries.iter().map(|(n, _)| n.as_str()).take(20).collect();
            let message = format!("{file} has no such array; there are {}", there.join(", "));
            Error::field(self.origin, name, message)
        })
    }

    fn load(&self, file: &str) -> Result<Fields> {
        let path = self.folder.join(file);
        let origin = path.display().to_string();
        let bytes = Bytes::open(&path)?;
        match crate::Format::of(&path, &bytes[..bytes.len().min(16)]) {
            Some(crate::Format::Npz) => npy::archive(&bytes, &origin),
            Some(crate::Format::Npy) => {
                let array = npy::array(&bytes).map_err(|m| Error::format(&origin, m))?;
                let stem = path.file_stem().unwrap_or_default().to_string_lossy();
                Ok(Fields {
                    entries: vec![(stem.into_owned(), Entry::Array(array))],
                    ..Fields::default()
                })
            }
            Some(crate::Format::Safetensors) => Ok(container::arrays(bytes, &origin)?.0),
            _ => Err(Error::format(&origin, "expected safetensors, npz or npy")),
        }
    }
}
