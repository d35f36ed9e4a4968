//! The error that every numerical crate of the workspace returns.

use std::fmt;
use std::path::Path;

/// What went wrong, with the numbers, and what to do about it.
///
/// One type serves all numerical crates (each re-exports it), so that a pipeline made of several
/// of them has one error to handle. It is opaque: ask [`Error::kind`] for the category, print it
/// for the sentence.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Repr>);

/// The category of an [`Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A tensor has another shape, dtype or device than the operation takes.
    Tensor,
    /// A number is outside its range, or not finite.
    Value,
    /// A file or folder is missing or invalid.
    File,
    /// The tensor library failed.
    Backend,
}

#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("{name}: expected {expected}, got {got}")]
    Tensor {
        name: String,
        expected: String,
        got: String,
    },
    #[error("{name} is {got}: {remedy}")]
    Value {
        name: String,
        got: String,
        remedy: String,
    },
    #[error("{path}: {message}")]
    File { path: String, message: String },
    #[error("device {device}: {problem}")]
    Device { device: String, problem: String },
    #[error("{0}")]
    Backend(#[from] candle_core::Error),
}

/// The result of a numerical operation.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A tensor `name` that is not what was `expected` (its shape, dtype or device).
    pub fn tensor(
        name: impl Into<String>,
        expected: impl Into<String>,
        got: impl fmt::Debug,
    ) -> Self {
        Self(Box::new(Repr::Tensor {
            name: name.into(),
            expected: expected.into(),
            got: format!("{got:?}"),
        }))
    }

    /// A value `name` outside its range; `remedy` says what it must be or what to change.
    pub fn value(
        name: impl Into<String>,
        got: impl fmt::Display,
        remedy: impl Into<String>,
    ) -> Self {
        Self(Box::new(Repr::Value {
            name: name.into(),
            got: got.to_string(),
            remedy: remedy.into(),
        }))
    }

    /// A file or folder that is missing or invalid; `message` says what is wrong and what to do.
    pub fn file(path: impl AsRef<Path>, message: impl fmt::Display) -> Self {
        Self(Box::new(Repr::File {
            path: path.as_ref().display().to_string(),
            message: message.to_string(),
        }))
    }

    /// A device that cannot be opened.
    pub(crate) fn device(device: impl fmt::Display, problem: String) -> Self {
        let device = device.to_string();
        Self(Box::new(Repr::Device { device, problem }))
    }

    /// The category of the error.
    pub fn kind(&self) -> ErrorKind {
        match *self.0 {
            Repr::Tensor { .. } => ErrorKind::Tensor,
            Repr::File { .. } => ErrorKind::File,
            Repr::Value { .. } | Repr::Device { .. } => ErrorKind::Value,
            Repr::Backend(_) => ErrorKind::Backend,
        }
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        // An error that crossed the tensor library (from inside an operation) comes back as itself.
        match error {
            candle_core::Error::Wrapped(inner) => Self::tensor_library(&inner.to_string()),
            other => Self(Box::new(Repr::Backend(other))),
        }
    }
}

impl Error {
    fn tensor_library(message: &str) -> Self {
        Self(Box::new(Repr::Backend(candle_core::Error::Msg(
            message.to_owned(),
        ))))
    }
}

impl From<Error> for candle_core::Error {
    fn from(error: Error) -> Self {
        match *error.0 {
            Repr::Backend(inner) => inner,
            other => candle_core::Error::wrap(Error(Box::new(other))),
        }
    }
}
