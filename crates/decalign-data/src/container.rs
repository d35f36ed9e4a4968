//! The container: one safetensors file a data set. `docs/data-format.md` describes it.

use std::collections::HashMap;
use std::path::Path;

use candle_core::{DType, Device, Tensor};
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;
use serde::{Deserialize, Serialize};

use crate::split::Split;
use crate::{Dataset, Error, Labels, Modality, Part, Result, write_atomic};

/// The key of the metadata in the file's header.
const KEY: &str = "decalign";
/// The newest version of the container that this crate reads, and the one it writes.
const VERSION: u32 = 1;

/// Class numbers are below this: a larger one is a mistake, not a class.
const CLASS_LIMIT: u32 = 1 << 16;

/// What the tensors themselves do not say. All of it is optional.
#[derive(Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Metadata {
    version: u32,
    /// The modalities in order.
    modalities: Vec<String>,
    /// The classes in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    classes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    texts: Option<Vec<String>>,
}

impl Dataset {
    /// Reads a data set from a safetensors file.
    ///
    /// # Errors
    /// When the file is not there, is not safetensors, or a field is not what it must be; the
    /// message names file, field and what was expected.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|error| Error::io(path, error))?;
        Self::read(&bytes, &path.display().to_string())
    }

    /// Reads a data set from the bytes of a safetensors file; `origin` stands in errors.
    ///
    /// # Errors
    /// As [`Dataset::open`].
    pub fn read(bytes: &[u8], origin: &str) -> Result<Self> {
        let bad = |error| Error::format(origin, format!("not a safetensors file: {error}"));
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(bad)?;
        let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let metadata: Metadata = match text {
            Some(text) if text.starts_with("{\"version\":1,\"config\":") => {
                return Err(Error::format(
                    origin,
                    "this is a checkpoint, not a data set",
                ));
            }
            Some(text) => serde_json::from_str(text).map_err(|error| {
                Error::field(origin, format!("metadata \"{KEY}\""), error.to_string())
            })?,
            None => Metadata::default(),
        };
        if metadata.version > VERSION {
            let message = format!(
                "is {}, this program reads up to {VERSION}",
                metadata.version
            );
            return Err(Error::field(origin, "version", message));
        }
        let file = SafeTensors::deserialize(bytes).map_err(bad)?;
        Reader { origin, file }.read(metadata)
    }

    /// Writes the data set as a safetensors file, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let metadata = Metadata {
            version: VERSION,
            modalities: self
                .modalities()
                .iter()
                .map(|m| m.name().to_owned())
                .collect(),
            classes: self
                .labels()
                .map(|l| l.names().to_vec())
                .unwrap_or_default(),
            ids: self.ids().map(<[String]>::to_vec),
            texts: self.texts().map(<[String]>::to_vec),
        };
        let metadata = serde_json::to_string(&metadata)
            .map_err(|error| Error::format(self.origin(), error))?;
        let header = HashMap::from([(KEY.to_owned(), metadata)]);
        let bytes = safetensors::serialize(self.tensors()?, Some(header))
            .map_err(|error| Error::format(self.origin(), error))?;
        write_atomic(path.as_ref(), &bytes)
    }

    fn tensors(&self) -> Result<Vec<(String, Tensor)>> {
        let integers = |values: Vec<i64>| Tensor::new(values, &Device::Cpu);
        let mut tensors = Vec::new();
        for modality in self.modalities() {
            tensors.push((
                format!("features.{}", modality.name()),
                modality.features().clone(),
            ));
            if let Some(lengths) = modality.lengths() {
                let lengths = integers(lengths.iter().map(|l| *l as i64).collect())?;
                tensors.push((format!("lengths.{}", modality.name()), lengths));
            }
        }
        match self.labels() {
            Some(Labels::Scores(values)) => {
                tensors.push((
                    "labels".to_owned(),
                    Tensor::new(values.as_slice(), &Device::Cpu)?,
                ));
            }
            Some(Labels::Classes { values, .. }) => {
                let values = values.iter().map(|v| i64::from(*v)).collect();
                tensors.push(("labels".to_owned(), integers(values)?));
            }
            None => {}
        }
        for Split { field, parts } in self.splits() {
            let codes = parts
                .iter()
                .map(|part| part.map_or(-1, Part::code))
                .collect();
            tensors.push((field.clone(), integers(codes)?));
        }
        Ok(tensors)
    }
}

/// A file being read.
struct Reader<'a> {
    origin: &'a str,
    file: SafeTensors<'a>,
}

impl Reader<'_> {
    fn read(&self, metadata: Metadata) -> Result<Dataset> {
        let modalities = self.modality_names(&metadata)?;
        let modalities = modalities
            .iter()
            .map(|(name, field)| self.modality(name, field));
        let mut data = Dataset::new(self.origin, modalities.collect::<Result<_>>()?)?;
        if let Some(labels) = self.labels(metadata.classes)? {
            data = data.with_labels(labels)?;
        }
        let mut splits: Vec<&str> = self.names().filter(|name| is_split(name)).collect();
        splits.sort_unstable();
        for field in splits {
            let name = field.strip_prefix("split_").unwrap_or_default();
            data = data.with_split(name, self.split(field)?)?;
        }
        if let Some(ids) = metadata.ids {
            data = data.with_ids(ids)?;
        }
        if let Some(texts) = metadata.texts {
            data = data.with_texts(texts)?;
        }
        Ok(data)
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.file.names().into_iter()
    }

    /// Name and field of every modality, in the order of the metadata; without, text, audio and
    /// vision come first, then the alphabet.
    fn modality_names(&self, metadata: &Metadata) -> Result<Vec<(String, String)>> {
        let mut found: Vec<(String, String)> = self
            .names()
            .filter(|name| !is_split(name) && *name != "labels" && !name.starts_with("lengths."))
            .map(|name| {
                (
                    name.strip_prefix("features.").unwrap_or(name).to_owned(),
                    name.to_owned(),
                )
            })
            .collect();
        let known = |name: &str| found.iter().any(|(known, _)| known == name);
        if let Some(name) = self
            .names()
            .filter_map(|n| n.strip_prefix("lengths."))
            .find(|n| !known(n))
        {
            let message = "lengths of a modality that is not there";
            return Err(Error::field(
                self.origin,
                format!("lengths.{name}"),
                message,
            ));
        }
        let listed = &metadata.modalities;
        if let Some((name, _)) = found
            .iter()
            .find(|(name, _)| !listed.is_empty() && !listed.contains(name))
        {
            let message = "the metadata lists the modalities, but not this one";
            return Err(Error::field(self.origin, name, message));
        }
        let rank = |name: &str| match metadata.modalities.is_empty() {
            true => ["text", "audio", "vision"]
                .iter()
                .position(|known| name.starts_with(known))
                .unwrap_or(3),
            false => metadata
                .modalities
                .iter()
                .position(|m| m == name)
                .unwrap_or(usize::MAX),
        };
        found.sort_by_cached_key(|(name, _)| (rank(name), name.clone()));
        if let Some(name) = metadata
            .modalities
            .iter()
            .find(|m| found.iter().all(|(name, _)| name != *m))
        {
            let message = "the metadata lists this modality, the file has no such tensor";
            return Err(Error::field(
                self.origin,
                format!("features.{name}"),
                message,
            ));
        }
        Ok(found)
    }

    fn modality(&self, name: &str, field: &str) -> Result<Modality> {
        let lengths = match self.integers(&format!("lengths.{name}"))? {
            Some(lengths) => {
                let length = |(i, l): (usize, &i64)| {
                    usize::try_from(*l).map_err(|_| {
                        Error::field(
                            self.origin,
                            format!("lengths.{name}"),
                            format!("{l} at sample {i} is negative"),
                        )
                    })
                };
                Some(
                    lengths
                        .iter()
                        .enumerate()
                        .map(length)
                        .collect::<Result<_>>()?,
                )
            }
            None => None,
        };
        let features = self.tensor(field)?;
        let bad = |error: Error| Error::format(self.origin, error);
        Modality::new(name, &features, lengths).map_err(bad)
    }

    /// Integers are classes, floating numbers scores; (N) or (N, 1).
    fn labels(&self, classes: Vec<String>) -> Result<Option<Labels>> {
        let Ok(view) = self.file.tensor("labels") else {
            return Ok(None);
        };
        if self.to_dtype("labels", &view)?.is_float() {
            let labels = self.tensor("labels")?.to_dtype(DType::F32)?.flatten_all()?;
            return Ok(Some(Labels::Scores(labels.to_vec1()?)));
        }
        let class = |(i, v): (usize, &i64)| match u32::try_from(*v) {
            Ok(class) if class < CLASS_LIMIT => Ok(class),
            _ => {
                let message =
                    format!("{v} at sample {i} is not a class 0, 1, 2, ... below {CLASS_LIMIT}");
                Err(Error::field(self.origin, "labels", message))
            }
        };
        let values = self.integers("labels")?.unwrap_or_default();
        let values: Vec<u32> = values
            .iter()
            .enumerate()
            .map(class)
            .collect::<Result<_>>()?;
        Ok(Some(match classes.is_empty() {
            true => Labels::classes(values),
            false => Labels::Classes {
                values,
                names: classes,
            },
        }))
    }

    fn split(&self, field: &str) -> Result<Vec<Option<Part>>> {
        let codes = self.integers(field)?.unwrap_or_default();
        let part = |(i, code): (usize, &i64)| {
            Part::from_code(*code).ok_or_else(|| {
                let message = format!(
                    "{code} at sample {i}; expected 0 (train), 1 (valid), 2 (test) or -1 (none)"
                );
                Error::field(self.origin, field, message)
            })
        };
        codes.iter().enumerate().map(part).collect()
    }

    /// The numbers of an integer tensor (N) or (N, 1), if there is one of this name.
    fn integers(&self, field: &str) -> Result<Option<Vec<i64>>> {
        let Ok(view) = self.file.tensor(field) else {
            return Ok(None);
        };
        let dtype = self.to_dtype(field, &view)?;
        let flat = matches!(view.shape(), [_] | [_, 1]);
        if dtype.is_float() || !flat {
            let message = format!(
                "expected integers (N), got {dtype:?} of shape {:?}",
                view.shape()
            );
            return Err(Error::field(self.origin, field, message));
        }
        let tensor = self.tensor(field)?.to_dtype(DType::I64)?;
        Ok(Some(tensor.flatten_all()?.to_vec1()?))
    }

    fn tensor(&self, field: &str) -> Result<Tensor> {
        let bad = |error: String| Error::field(self.origin, field, error);
        let view = self
            .file
            .tensor(field)
            .map_err(|error| bad(error.to_string()))?;
        let dtype = self.to_dtype(field, &view)?;
        Tensor::from_raw_buffer(view.data(), dtype, view.shape(), &Device::Cpu)
            .map_err(|error| bad(error.to_string()))
    }

    fn to_dtype(&self, field: &str, view: &TensorView<'_>) -> Result<DType> {
        DType::try_from(view.dtype())
            .map_err(|error| Error::field(self.origin, field, error.to_string()))
    }
}

fn is_split(name: &str) -> bool {
    name == "split" || name.starts_with("split_")
}
