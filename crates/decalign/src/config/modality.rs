//! The key of a modality in parameter names.

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
