//! The error type of this crate.

use std::fmt;
use std::path::Path;

/// An error: its message says what was wrong, where, and what to do.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Repr>);

/// The category of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A configuration key has an invalid value, or is unknown.
    Config,
    /// A file cannot be read or written, or has other contents than expected.
    File,
    /// Data, weights or arguments do not fit one another.
    Invalid,
    /// Training met a loss or gradient that is not finite.
    Diverged,
    /// A run was told to pause; it can be resumed.
    Interrupted,
    /// Something this version cannot do.
    Unsupported,
    /// A numerical operation failed.
    Numerical,
}

#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("configuration key {key}: {message}")]
    Config { key: String, message: String },
    #[error("{path}: {message}")]
    File { path: String, message: String },
    #[error("{0}")]
    Invalid(String),
    #[error(
        "{what} at step {step} of epoch {epoch}; lower learning_rate or clip, or look at the data"
    )]
    Diverged {
        what: String,
        epoch: usize,
        step: usize,
    },
    #[error("stopped after step {step} of epoch {epoch}")]
    Interrupted { epoch: usize, step: usize },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    Data(#[from] decalign_data::Error),
    #[error(transparent)]
    Numerical(#[from] decalign_core::Error),
}

/// The result of working with a model.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn config(key: impl fmt::Display, message: impl Into<String>) -> Self {
        Repr::Config {
            key: key.to_string(),
            message: message.into(),
        }
        .into()
    }

    pub(crate) fn file(path: &Path, message: impl fmt::Display) -> Self {
        Repr::File {
            path: path.display().to_string(),
            message: message.to_string(),
        }
        .into()
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Repr::Invalid(message.into()).into()
    }

    pub(crate) fn diverged(what: impl Into<String>, epoch: usize, step: usize) -> Self {
        let what = what.into();
        Repr::Diverged { what, epoch, step }.into()
    }

    pub(crate) fn interrupted(epoch: usize, step: usize) -> Self {
        Repr::Interrupted { epoch, step }.into()
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Repr::Unsupported(message.into()).into()
    }

    /// The category of the error.
    pub fn kind(&self) -> ErrorKind {
        match *self.0 {
            Repr::Config { .. } => ErrorKind::Config,
            Repr::File { .. } | Repr::Data(_) => ErrorKind::File,
            Repr::Invalid(_) => ErrorKind::Invalid,
            Repr::Diverged { .. } => ErrorKind::Diverged,
            Repr::Interrupted { .. } => ErrorKind::Interrupted,
            Repr::Unsupported(_) => ErrorKind::Unsupported,
            Repr::Numerical(_) => ErrorKind::Numerical,
        }
    }
}

impl From<Repr> for Error {
    fn from(repr: Repr) -> Self {
        Self(Box::new(repr))
    }
}

impl From<decalign_data::Error> for Error {
    fn from(error: decalign_data::Error) -> Self {
        Repr::Data(error).into()
    }
}

impl From<decalign_core::Error> for Error {
    fn from(error: decalign_core::Error) -> Self {
        match error.kind() {
            decalign_core::ErrorKind::File => Self::invalid(error.to_string()),
            _ => Repr::Numerical(error).into(),
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        decalign_core::Error::from(error).into()
    }
}
