//! The list of all keys, from which documentation is written.

use super::key::{Declared, Key};
use super::keys::{Config, DECLARED};

/// Every key of a configuration file in its order.
///
/// ```
/// let keys = decalign::config::keys();
/// let factor = keys.iter().find(|key| key.name == "factor").unwrap();
/// assert_eq!(factor.values, "number, above 0, at most 1");
/// ```
pub fn keys() -> Vec<Key> {
    let defaults = Config::default().to_value().unwrap_or_default();
    let key = |declared: &Declared| Key {
        name: declared.name,
        meaning: declared.meaning.trim().to_owned(),
        values: match declared.range.words() {
            "" => (declared.values)(),
            words => format!("{}, {words}", (declared.values)()),
        },
        default: defaults[declared.name].clone(),
    };
    DECLARED.iter().map(key).collect()
}
