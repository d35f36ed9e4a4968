//! Python pickles, read without running anything.
//!
//! An interpreter of the opcodes of protocols 0 to 5 that knows plain values (None, booleans,
//! integers of 64 bits, floats, strings, bytes, lists, tuples, sets, dictionaries) and numpy arrays of numbers,
//! strings and plain values, under the names of numpy 1 and 2. Any other name is refused, with the
//! name and its byte.
//!
//! - The file is mapped; an array is a span of it until its elements are asked for.
//! - Shared values stay shared; values that contain themselves are refused.
//! - There is no recursion. Memory beyond the arrays is bounded by 16 MB and 16 times the file's
//!   size, whatever the file says.
//!
//! Alternatives do not fit: `serde-pickle` knows no numpy, and Candle's reader of `.pth` files builds what
//! a file says without bounds.
//!
//! ```
//! use decalign_data::pickle::{Item, Pickle};
//! // pickle.dumps({"x": [1, 2.5]}, protocol=2)
//! let bytes = b"\x80\x02}q\x00X\x01\x00\x00\x00xq\x01]q\x02(K\x01G@\x04\x00\x00\x00\x00\x00\x00es.";
//! let pickle = Pickle::read(bytes.to_vec(), "example")?;
//! let Some(Item::List(list)) = pickle.root().get("x") else { panic!() };
//! assert!(matches!(list.item(1), Some(Item::Float(2.5))));
//! # Ok::<(), decalign_data::Error>(())
//! ```

mod cycles;
mod heap;
mod item;
mod machine;
mod memo;
mod opcode;
mod reader;
mod reduce;
mod spelling;
mod stack;

use std::path::Path;

use crate::bytes::Bytes;
use crate::{Error, Result};
use heap::{Heap, Value};
pub use item::{Dict, Item, List, NumpyArray, Text};
use machine::Machine;

/// A pickle: its values, and the places of its arrays in the file.
#[derive(Debug)]
pub struct Pickle {
    origin: String,
    file: Bytes,
    heap: Heap,
    root: Value,
}

impl Pickle {
    /// Reads a file.
    ///
    /// # Errors
    /// When it does not exist, is truncated or no pickle, contains itself, or refers to a name that is
    /// neither a plain value's nor numpy's; the message gives the byte.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::new(Bytes::open(path)?, &path.display().to_string())
    }

    /// Reads bytes; `origin` stands in errors.
    ///
    /// # Errors
    /// As [`Pickle::open`].
    pub fn read(bytes: Vec<u8>, origin: &str) -> Result<Self> {
        Self::new(bytes.into(), origin)
    }

    pub(crate) fn new(file: Bytes, origin: &str) -> Result<Self> {
        let bad = |at: usize, message: &str| {
            Error::format(
                origin,
                format!("not a pickle of data: byte {at}: {message}"),
            )
        };
        let (heap, root) = Machine::new(&file)
            .run()
            .map_err(|fault| bad(fault.at, &fault.message))?;
        if let Some(at) = cycles::find(&heap, root) {
            return Err(bad(at, "a value that is part of itself"));
        }
        Ok(Self {
            origin: origin.to_owned(),
            file,
            heap,
            root,
        })
    }

    /// The value that was pickled.
    pub fn root(&self) -> Item<'_> {
        Item::new(self, self.root)
    }
}
