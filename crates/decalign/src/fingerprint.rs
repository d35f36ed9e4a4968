//! The fingerprint of a data set.

use decalign_data::{Dataset, Labels, Part};

use crate::Result;

/// The BLAKE3 hash, in hexadecimal digits, of all that a data set holds: features in f32, tokens, lengths, labels, splits,
/// ids and texts. Where it was read from does not count.
///
/// ```
/// # use decalign::{Dataset, fingerprint};
/// let digits = Dataset::mfeat()?;
/// assert_eq!(fingerprint(&digits)?, fingerprint(&digits.clone())?);
/// assert_ne!(fingerprint(&digits)?, fingerprint(&digits.select(&["fou", "mor"])?)?);
/// # Ok::<(), decalign::Error>(())
/// ```
///
/// # Errors
/// When the features cannot be read.
pub fn fingerprint(data: &Dataset) -> Result<String> {
    let mut content = Content(blake3::Hasher::new());
    content.count(data.len());
    content.modalities(data)?;
    if let Some(tokens) = data.tokens() {
        // They are numbers like others here.
        content.text("tokens");
        content.modalities(
            &data
                .clone()
                .with_token_modality()?
                .select(&[tokens.name()])?,
        )?;
    }
    match data.labels() {
        Some(Labels::Scores(values)) => {
            content.text("scores");
            content.floats(values);
        }
        Some(Labels::Classes { values, names }) => {
            content.text("classes");
            content.counts(values.iter().map(|v| *v as usize));
            names.iter().for_each(|name| content.text(name));
        }
        _ => content.text("no labels"),
    }
    for split in data.split_names() {
        content.text(split);
        for part in [Part::Train, Part::Valid, Part::Test] {
            // An empty part is an error to train on, not to describe.
            let rows = data.part(Some(split), part).unwrap_or_default();
            content.counts(rows.into_iter());
        }
    }
    for strings in [data.ids(), data.texts()] {
        content.count(strings.map_or(0, <[String]>::len));
        strings
            .unwrap_or_default()
            .iter()
            .for_each(|s| content.text(s));
    }
    Ok(content.0.finalize().to_hex().to_string())
}

/// Content as bytes, every piece with its length before it.
struct Content(blake3::Hasher);

impl Content {
    fn modalities(&mut self, data: &Dataset) -> Result<()> {
        for modality in data.modalities() {
            self.text("modality");
            self.text(modality.name());
            self.counts([modality.steps(), modality.width()].into_iter());
            self.counts(modality.lengths().unwrap_or_default().iter().copied());
            // Each piece has its own hash, so that several threads can work.
            for piece in modality.map_chunks(|_, numbers| hash(numbers))? {
                self.0.update(piece.as_bytes());
            }
        }
        Ok(())
    }

    fn count(&mut self, count: usize) {
        self.0.update(&(count as u64).to_le_bytes());
    }

    fn counts(&mut self, counts: impl ExactSizeIterator<Item = usize>) {
        self.count(counts.len());
        counts.for_each(|count| self.count(count));
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.update(text.as_bytes());
    }

    fn floats(&mut self, values: &[f32]) {
        self.count(values.len());
        self.0.update(hash(values).as_bytes());
    }
}

/// The hash of numbers as little-endian bytes.
fn hash(values: &[f32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    if cfg!(target_endian = "little") {
        hasher.update(bytemuck::cast_slice(values));
    } else {
        values.iter().for_each(|v| {
            hasher.update(&v.to_le_bytes());
        });
    }
    hasher.finalize()
}
