//! The kind of a modality and its key in parameter names, both by its name.

/// The kinds of modality that settings distinguish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ModalityKind {
    /// A name that begins with `text`: text dropout, and the text encoder's tokens.
    Text,
    /// A name that begins with `audio`.
    Audio,
    /// A name that begins with `vision`.
    Vision,
    /// Any other name.
    Other,
}

impl ModalityKind {
    /// The kind of a modality by its name.
    pub fn of(name: &str) -> Self {
        match name {
            name if name.starts_with("text") => Self::Text,
            name if name.starts_with("audio") => Self::Audio,
            name if name.starts_with("vision") => Self::Vision,
            _ => Self::Other,
        }
    }
}

/// The key of a modality in parameter names: upstream's one-letter names for its three modalities, any other name
/// unchanged except that dots, which separate scopes, become underscores.
///
/// ```
/// use decalign::model::parameter_key;
/// assert_eq!(parameter_key("text"), "l");
/// assert_eq!(parameter_key("fou"), "fou");
/// ```
pub fn parameter_key(modality: &str) -> String {
    match modality {
        "text" => "l".to_owned(),
        "audio" => "a".to_owned(),
        "vision" => "v".to_owned(),
        other => other.replace('.', "_"),
    }
}
