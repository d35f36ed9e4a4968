//! MMSA's layout as a pickle of protocol 4, which numpy 1 and 2 load.

use super::{Output, unwritable};
use crate::{Dataset, Labels, Modality, Part, Result};

pub(super) fn write(data: &Dataset, out: &mut Output<'_>) -> Result<()> {
    let [split] = data.splits() else {
        let message = match data.splits().len() {
            0 => "a pickle of this layout needs a split; this data has none",
            _ => "a pickle of this layout has one split; choose it by name",
        };
        return Err(unwritable(data.origin(), message));
    };
    let outside = split.parts.iter().filter(|p| p.is_none()).count();
    if outside > 0 {
        let message = format!(
            "{outside} samples are in no part of {}; a pickle of parts cannot hold them",
            split.field
        );
        return Err(unwritable(data.origin(), message));
    }
    // PROTO 4, EMPTY_DICT.
    out.put(b"\x80\x04}")?;
    for part in Part::ALL {
        out.put(&text(&part.to_string()))?;
        write_part(data, &split.rows(part), out)?;
        out.put(b"s")?;
    }
    out.put(b".")
}

fn write_part(data: &Dataset, rows: &[usize], out: &mut Output<'_>) -> Result<()> {
    out.put(b"}")?;
    for modality in data.modalities() {
        out.put(&text(modality.name()))?;
        features(modality, rows, data.origin(), out)?;
        out.put(b"s")?;
        if let Some(lengths) = modality.lengths() {
            let lengths = rows.iter().map(|i| integer(lengths[*i] as i64));
            out.put(&text(&format!("{}_lengths", modality.name())))?;
            out.put(&list(lengths))?;
            out.put(b"s")?;
        }
    }
    if let Some(tokens) = data.tokens() {
        let numbers = tokens.gather(rows)?;
        let bytes: Vec<u8> = numbers
            .iter()
            .flat_map(|v| i64::from(*v).to_le_bytes())
            .collect();
        out.put(&text(&format!("{}_bert", tokens.name())))?;
        out.put(&array_start(
            "i8",
            &[rows.len(), 3, tokens.steps()],
            bytes.len(),
        ))?;
        out.put(&bytes)?;
        out.put(ARRAY_END)?;
        out.put(b"s")?;
    }
    match data.labels() {
        Some(Labels::Scores(values)) => {
            let bytes: Vec<u8> = rows.iter().flat_map(|i| values[*i].to_le_bytes()).collect();
            out.put(&text("regression_labels"))?;
            out.put(&array_start("f4", &[rows.len()], bytes.len()))?;
            out.put(&bytes)?;
            out.put(ARRAY_END)?;
            out.put(b"s")?;
        }
        Some(Labels::Classes { values, .. }) => {
            out.put(&text("classification_labels"))?;
            out.put(&list(rows.iter().map(|i| integer(i64::from(values[*i])))))?;
            out.put(b"s")?;
        }
        None => {}
    }
    for (key, strings) in [("id", data.ids()), ("raw_text", data.texts())] {
        if let Some(strings) = strings {
            out.put(&text(key))?;
            out.put(&list(rows.iter().map(|i| text(&strings[*i]))))?;
            out.put(b"s")?;
        }
    }
    Ok(())
}

fn features(modality: &Modality, rows: &[usize], origin: &str, out: &mut Output<'_>) -> Result<()> {
    let shape = [rows.len(), modality.steps(), modality.width()];
    let length = shape.iter().product::<usize>() * out.precision.size();
    out.put(&array_start(out.precision.numpy(), &shape, length))?;
    out.features(modality, rows, origin)?;
    out.put(ARRAY_END)
}

/// The opcodes of an array before its bytes: `_reconstruct(ndarray, (0,), b"b")` and the beginning of its state.
fn array_start(element: &str, shape: &[usize], bytes: usize) -> Vec<u8> {
    let mut code =
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R".to_vec();
    // The state: (1, shape, dtype, fortran, bytes).
    code.extend(b"(K\x01(");
    code.extend(shape.iter().flat_map(|d| integer(*d as i64)));
    code.extend(b"tcnumpy\ndtype\n");
    code.extend(text(element));
    code.extend(b"\x89\x88\x87R(K\x03");
    code.extend(text("<"));
    code.extend(b"NNNJ\xFF\xFF\xFF\xFFJ\xFF\xFF\xFF\xFFK\x00tb\x89");
    // BINBYTES8.
    code.push(0x8E);
    code.extend((bytes as u64).to_le_bytes());
    code
}

/// TUPLE, BUILD.
const ARRAY_END: &[u8] = b"tb";

fn text(text: &str) -> Vec<u8> {
    // BINUNICODE8.
    let mut code = vec![0x8D];
    code.extend((text.len() as u64).to_le_bytes());
    code.extend(text.as_bytes());
    code
}

fn integer(value: i64) -> Vec<u8> {
    if let Ok(value) = i32::try_from(value) {
        let mut code = vec![b'J'];
        code.extend(value.to_le_bytes());
        return code;
    }
    // LONG1 of eight bytes.
    let mut code = vec![0x8A, 8];
    code.extend(value.to_le_bytes());
    code
}

fn list(items: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut code = b"](".to_vec();
    items.for_each(|item| code.extend(item));
    code.push(b'e');
    code
}
