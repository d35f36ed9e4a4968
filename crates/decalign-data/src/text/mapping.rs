//! A TOML file that maps arrays of other files to modalities, labels and splits.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use serde::Deserialize;

use crate::array::Array;
use crate::bytes::Bytes;
use crate::fields::{Entry, Fields, is_reserved};
use crate::{Dataset, Error, ModalityKind, Result, container, npy};

/// The content of the TOML file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mapping {
    /// The default file of the arrays.
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

/// The place of an array: its name, or its name, file and lengths.
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

/// The arrays of the opened files, by file and name.
struct Files<'a> {
    origin: &'a str,
    folder: &'a Path,
    default: Option<String>,
    open: HashMap<String, Fields>,
}

pub(crate) fn read(path: &Path) -> Result<Dataset> {
    let origin = path.display().to_string();
    let text = std::fs::read_to_string(path).map_err(|error| Error::io(path, error))?;
    let mapping = Mapping::parse(&text, &origin)?;
    let mut files = Files {
        origin: &origin,
        folder: path.parent().unwrap_or(Path::new("")),
        default: mapping.file.clone(),
        open: HashMap::new(),
    };
    let lines = mapping.lines.as_ref().map(|lines| files.folder.join(lines));
    let data = mapping.fields(&mut files)?.dataset()?;
    match lines {
        Some(lines) => super::lines::onto(&lines, data),
        None => Ok(data),
    }
}

impl Mapping {
    fn parse(text: &str, origin: &str) -> Result<Self> {
        toml::from_str(text).map_err(|error| {
            let line = error
                .span()
                .map_or(0, |span| text[..span.start].lines().count().max(1));
            let message = error.message().replace('\n', " ");
            Error::field(origin, format!("line {line}"), message)
        })
    }

    /// The arrays under the names that they have in a container.
    fn fields(self, files: &mut Files<'_>) -> Result<Fields> {
        let mut entries = Vec::new();
        let mut modalities: Vec<String> = self.modalities.keys().cloned().collect();
        modalities.sort_by_key(|name| (ModalityKind::of(name), name.clone()));
        for (name, source) in &self.modalities {
            if is_reserved(name) {
                let message = "this name is reserved; rename the modality";
                return Err(Error::field(files.origin, name, message));
            }
            entries.push((format!("features.{name}"), files.find(source)?));
            if let Source::Full(full) = source
                && let Some(lengths) = &full.lengths
            {
                let array = files.array(full.file.as_deref(), lengths)?;
                entries.push((format!("lengths.{name}"), array));
            }
        }
        let single = [
            ("labels", self.labels),
            ("split", self.split),
            ("ids", self.ids),
            ("texts", self.texts),
            ("groups", self.groups),
        ];
        let single = single.map(|(name, source)| (name.to_owned(), source));
        let splits = self.splits.into_iter();
        let splits = splits.map(|(name, source)| (format!("split_{name}"), Some(source)));
        for (name, source) in single.into_iter().chain(splits) {
            if let Some(source) = source {
                entries.push((name, files.find(&source)?));
            }
        }
        let entries = entries.into_iter();
        Ok(Fields {
            origin: files.origin.to_owned(),
            entries: entries
                .map(|(name, array)| (name, Entry::Array(array)))
                .collect(),
            modalities,
            classes: self.classes,
        })
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
