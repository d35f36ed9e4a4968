//! What a data set is recognised by.

use candle_core::{DType, Device};
use decalign_core::Elements;
use decalign_data::{Dataset, Labels, Part};

use crate::Result;

/// Samples read at once.
const BLOCK: usize = 128;

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
        None => content.text("no labels"),
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
        }
        // By the block: files that are larger than memory are not read into it.
        let rows: Vec<usize> = (0..data.len()).collect();
        for rows in rows.chunks(BLOCK) {
            for sequence in data.batch(rows, DType::F32, &Device::Cpu)?.sequences {
                self.floats(&Elements::<f32>::new(&sequence.features)?);
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
        // By the block: the hash is fastest so.
        let mut bytes = Vec::with_capacity(1 << 16);
        for block in values.chunks(1 << 14) {
            bytes.clear();
            bytes.extend(block.iter().flat_map(|v| v.to_le_bytes()));
            self.0.update(&bytes);
        }
    }
}
