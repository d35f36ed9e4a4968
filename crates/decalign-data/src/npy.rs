//! numpy's `.npy` files, and `.npz` archives of them.

use std::io::Read;
use std::path::Path;

use zip::{CompressionMethod, ZipArchive};

use crate::array::{Array, Element, fortran_strides, size_of};
use crate::bytes::Bytes;
use crate::error::Parsed;
use crate::fields::{Entry, Fields};
use crate::{Dataset, Error, Result};

pub(crate) const MAGIC: &[u8] = b"\x93NUMPY";

/// The largest header that is read; numpy writes some hundred bytes.
const HEADER_LIMIT: usize = 1 << 16;

/// The largest compression ratio of deflate.
const DEFLATE_LIMIT: u64 = 1032;

/// Reads a `.npy` file: an array in C or Fortran order, of either byte order.
///
/// The elements stay in the mapped file. (The crate `npyz` reads them one by one, and its header parser recurses.)
///
/// # Errors
/// When the file does not exist or is no `.npy` file, or its elements are neither numbers nor strings.
pub fn open_npy(path: impl AsRef<Path>) -> Result<Array> {
    let path = path.as_ref();
    array(&Bytes::open(path)?)
        .map_err(|message| Error::format(&path.display().to_string(), message))
}

/// Reads the bytes of a `.npy` file.
///
/// # Errors
/// As [`open_npy`].
pub fn read_npy(bytes: Vec<u8>) -> Result<Array> {
    array(&bytes.into()).map_err(|message| Error::format("npy", message))
}

/// A data set of one modality, named after the file.
pub(crate) fn dataset(bytes: &Bytes, path: &Path, origin: &str) -> Result<Dataset> {
    let array = array(bytes).map_err(|message| Error::format(origin, message))?;
    let name = path.file_stem().map(|s| s.to_string_lossy().into_owned());
    let name = name.unwrap_or_else(|| "features".to_owned());
    let fields = Fields {
        origin: origin.to_owned(),
        entries: vec![(name, Entry::Array(array))],
        ..Fields::default()
    };
    fields.dataset()
}

pub(crate) fn array(bytes: &Bytes) -> Parsed<Array> {
    let bad = |what: &str| format!("not a npy file: {what}");
    let rest = bytes
        .strip_prefix(MAGIC)
        .ok_or_else(|| bad("the first bytes are not \\x93NUMPY"))?;
    let (start, length) = match rest {
        [1, _, a, b, ..] => (10, usize::from(u16::from_le_bytes([*a, *b]))),
        [2 | 3, _, a, b, c, d, ..] => {
            let length = u32::from_le_bytes([*a, *b, *c, *d]);
            (12, usize::try_from(length).unwrap_or(usize::MAX))
        }
        _ => return Err(bad("unknown version; 1 to 3 are read")),
    };
    if length > HEADER_LIMIT {
        return Err(bad("a header of more than 64 kB"));
    }
    let header = bytes
        .get(start..start + length)
        .ok_or_else(|| bad("cut short"))?;
    let header = std::str::from_utf8(header).map_err(|_| bad("its header is no text"))?;
    let header = Header::parse(header).map_err(|what| bad(&what))?;
    let data = bytes
        .slice(start + length..bytes.len())
        .ok_or_else(|| bad("cut short"))?;
    // A shape whose size overflows has no strides; `Array::new` reports it.
    let fits = size_of(&header.shape, header.element).is_some();
    let strides = (header.fortran && fits).then(|| fortran_strides(&header.shape));
    Array::new(data, header.element, header.shape, strides).map_err(|what| bad(&what))
}

/// The header: a Python dictionary of three known keys.
struct Header {
    element: Element,
    shape: Vec<usize>,
    fortran: bool,
}

impl Header {
    fn parse(text: &str) -> Parsed<Self> {
        let value = |key: &str| {
            let after = text
                .split_once(&format!("'{key}'"))
                .or_else(|| text.split_once(&format!("\"{key}\"")));
            let after = after.and_then(|(_, after)| after.trim_start().strip_prefix(':'));
            after
                .map(str::trim_start)
                .ok_or(format!("its header has no {key}"))
        };
        let descr = value("descr")?;
        let name = descr.strip_prefix(['\'', '"']);
        let name = name.and_then(|rest| rest.split(['\'', '"']).next());
        let element = name.and_then(Element::parse).ok_or_else(|| {
            let shown: String = descr.chars().take(40).collect();
            format!("elements {shown}; numbers and strings are read, objects need a pickle")
        })?;
        let order = value("fortran_order")?;
        let fortran = match (order.starts_with("True"), order.starts_with("False")) {
            (true, _) => true,
            (_, true) => false,
            _ => return Err("its header says neither True nor False to fortran_order".into()),
        };
        let shape = value("shape")?;
        let inner = shape
            .strip_prefix('(')
            .and_then(|rest| rest.split_once(')'));
        let inner = inner.ok_or("its header has no shape")?.0;
        let dims = inner.split(',').map(str::trim).filter(|d| !d.is_empty());
        let shape = dims
            .map(|d| d.parse().map_err(|_| format!("{d:.40} in its shape")))
            .collect::<std::result::Result<Vec<usize>, _>>()?;
        Ok(Self {
            element,
            shape,
            fortran,
        })
    }
}

/// The arrays of an archive. Stored arrays stay in the mapped file, compressed ones are unpacked.
pub(crate) fn archive(bytes: &Bytes, origin: &str) -> Result<Fields> {
    let bad = |error: String| Error::format(origin, format!("not a npz archive: {error}"));
    let cursor = std::io::Cursor::new(&**bytes);
    let mut zip = ZipArchive::new(cursor).map_err(|error| bad(error.to_string()))?;
    let mut entries = Vec::new();
    for i in 0..zip.len() {
        let mut file = zip.by_index(i).map_err(|error| bad(error.to_string()))?;
        let full = file
            .name()
            .map_err(|error| bad(error.to_string()))?
            .into_owned();
        let Some(name) = full.strip_suffix(".npy") else {
            let message = "no array; an archive of numpy holds .npy files only";
            return Err(Error::field(origin, full, message));
        };
        let says = |message: String| Error::field(origin, name, message);
        let content = match (file.compression(), file.data_start()) {
            (CompressionMethod::Stored, Some(start)) => {
                let range = usize::try_from(start)
                    .ok()
                    .zip(usize::try_from(file.size()).ok());
                range
                    .and_then(|(start, size)| bytes.slice(start..start.checked_add(size)?))
                    .ok_or_else(|| says("lies outside of the file".to_owned()))?
            }
            _ => unpack(&mut file).map_err(says)?,
        };
        entries.push((
            name.to_owned(),
            Entry::Array(array(&content).map_err(says)?),
        ));
    }
    let mut fields = Fields {
        origin: origin.to_owned(),
        entries,
        ..Fields::default()
    };
    fields.modalities = fields.take_texts("modalities")?;
    fields.classes = fields.take_texts("classes")?;
    Ok(fields)
}

/// Unpacks an entry. Its announced size is checked against the compressed size before memory is taken.
fn unpack<R: Read>(file: &mut zip::read::ZipFile<'_, R>) -> Parsed<Bytes> {
    let most = file.compressed_size().saturating_mul(DEFLATE_LIMIT);
    let announced = file.size();
    if announced > most {
        return Err(format!("{announced} bytes announced, {most} are possible"));
    }
    let mut content = Vec::new();
    // One byte more, to detect an entry that is larger than announced.
    let read = file.by_ref().take(announced + 1).read_to_end(&mut content);
    read.map_err(|error| error.to_string())?;
    match content.len() as u64 == announced {
        true => Ok(content.into()),
        false => Err(format!("not the {announced} bytes that are announced")),
    }
}
