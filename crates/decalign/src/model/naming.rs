//! What a modality is called in parameter names.

/// The release's one-letter names for its three modalities, any other name as it is.
///
/// Dots separate scopes in parameter names, so they become underscores.
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
