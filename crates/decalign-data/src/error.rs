//! The error of this crate.

use std::fmt;
use std::path::Path;

/// An error with data: its message names the file, the field, and the value that was expected.
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

/// The result of a step that knows neither file nor field: the caller adds them to the message.
pub(crate) type Parsed<T = ()> = std::result::Result<T, String>;

impl Error {
    /// A file that cannot be read or written.
    pub fn io(path: &Path, source: std::io::Error) -> Self {
        let path = path.display().to_string();
        Self(Box::new(Repr::Io { path, source }))
    }

    /// An invalid field of a file or data set.
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

    /// A file that violates its format.
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
