//! Named configurations.

use super::Config;
use crate::{Error, Result};

/// The names of the presets: the release's four, and the one of the embedded data.
pub const PRESETS: [&str; 5] = ["mosi", "mosei", "sims", "iemocap", "mfeat"];

impl Config {
    /// The preset of the given name, one of [`PRESETS`].
    ///
    /// # Errors
    /// When the name is another.
    pub fn preset(name: &str) -> Result<Self> {
        let text = match name {
            "mosi" => include_str!("../../presets/mosi.json"),
            "mosei" => include_str!("../../presets/mosei.json"),
            "sims" => include_str!("../../presets/sims.json"),
            "iemocap" => include_str!("../../presets/iemocap.json"),
            "mfeat" => include_str!("../../presets/mfeat.json"),
            _ => {
                let message = format!(
                    "no preset is named {name}; there are {}",
                    PRESETS.join(", ")
                );
                return Err(Error::invalid(message));
            }
        };
        Self::from_json(text)
    }
}
