//! The error of this crate.

use std::path::Path;

/// An error with a report: its message names the file, the problem and the remedy.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Error(Box<Repr>);

#[derive(Debug, thiserror::Error)]
enum Repr {
    #[error("{path}: {message}")]
    File { path: String, message: String },
    #[error(transparent)]
    Model(#[from] decalign::Error),
}

/// The result of making a report.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A run does not say what data it was trained on.
    pub fn missing_data(folder: &Path, dataset: &str) -> Self {
        let message =
            format!("trained on {dataset}, which is not here; give its file with --dataset");
        Self::file(folder, message)
    }

    #[cfg(feature = "png")]
    pub(crate) fn figure(name: &str, message: impl std::fmt::Display) -> Self {
        Self::file(Path::new(name), message)
    }

    pub(crate) fn file(path: &Path, message: impl std::fmt::Display) -> Self {
        let (path, message) = (path.display().to_string(), message.to_string());
        Self(Box::new(Repr::File { path, message }))
    }
}

impl From<decalign::Error> for Error {
    fn from(error: decalign::Error) -> Self {
        Self(Box::new(Repr::Model(error)))
    }
}

impl From<decalign_data::Error> for Error {
    fn from(error: decalign_data::Error) -> Self {
        decalign::Error::from(error).into()
    }
}

impl From<candle_core::Error> for Error {
    fn from(error: candle_core::Error) -> Self {
        decalign::Error::from(error).into()
    }
}
