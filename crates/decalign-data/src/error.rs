//! What goes wrong with data, in one line.

use std::fmt;
use std::path::Path;

/// What was wrong, where, and what was expected.
///
/// Opaque: print it for the sentence, which names the file and the field.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Repr>);

#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("{path}: {source}")]
    Io {
        path: String,
        source: std::io::Error,
    },
    #[error("{origin}: {field}: {message}")]
    Field {
        origin: String,
        field: String,
        message: String,
    },
    #[error("{origin}: {message}")]
    Format { origin: String, message: String },
    #[error(transparent)]
    Tensor(#[from] candle_core::Error),
}

/// The result of working with data.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file that cannot be read or written.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.display().to_string();
        Self(Box::new(Repr::Io { path, source }))
    }

    /// A field of a file or data set that is not what it must be.
    pub(crate) fn field(
        origin: &str,
        field: impl fmt::Display,
        message: impl Into<String>,
    ) -> Self {
        Self(Box::new(Repr::Field {
            origin: origin.to_owned(),
            field: field.to_string(),
            message: message.into(),
        }))
    }

    /// A file that is not of its format.
    pub(crate) fn format(origin: &str, message: impl fmt::Display) -> Self {
        Self(Box::new(Repr::Format {
            origin: origin.to_owned(),
            message: message.to_string(),
        }))
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        Self(Box::new(Repr::Tensor(error)))
    }
}
