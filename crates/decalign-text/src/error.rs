//! What can go wrong with folders, settings and tensors.

use std::fmt;
use std::path::Path;

/// What was wrong, where, and what to do.
///
/// Opaque: print it for the sentence, which names the file or setting.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Repr>);

#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("{path}: {message}")]
    File { path: String, message: String },
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Numeric(decalign_core::Error),
}

/// The result of working with text.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file or folder that is not what it must be.
    pub(crate) fn file(path: &Path, message: impl fmt::Display) -> Self {
        let (path, message) = (path.display().to_string(), message.to_string());
        Self(Box::new(Repr::File { path, message }))
    }

    /// A setting or input that is not what it must be.
    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self(Box::new(Repr::Invalid(message.into())))
    }
}

impl From<decalign_core::Error> for Error {
    fn from(error: decalign_core::Error) -> Self {
        Self(Box::new(Repr::Numeric(error)))
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        decalign_core::Error::from(error).into()
    }
}

impl From<Error> for decalign_core::Error {
    /// For pipelines of numerical operations.
    fn from(error: Error) -> Self {
        match *error.0 {
            Repr::Numeric(error) => error,
            other => Self::value("text", "not usable", other.to_string()),
        }
    }
}
