//! Named configurations.

use super::Config;
use crate::{Error, Result};

/// The names of the presets: upstream's four, and the one of the embedded data.
pub const PRESETS: [&str; 5] = ["mosi", "mosei", "sims", "iemocap", "mfeat"];

/// Features per step and steps of text, audio and vision in the data that a preset is made for (of `mfeat`, its
/// first three modalities).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PresetShape {
    /// The preset's name.
    pub name: &'static str,
    /// Features per step of each modality.
    pub widths: [usize; 3],
    /// Steps of each modality.
    pub steps: [usize; 3],
}

/// The shapes of all presets, in the order of [`PRESETS`].
pub const PRESET_SHAPES: [PresetShape; 5] = [
    shape("mosi", [768, 5, 20], [50; 3]),
    shape("mosei", [768, 74, 35], [50; 3]),
    shape("sims", [768, 33, 709], [39, 400, 55]),
    shape("iemocap", [1024, 512, 1024], [1; 3]),
    shape("mfeat", [76, 64, 47], [1; 3]),
];

const fn shape(name: &'static str, widths: [usize; 3], steps: [usize; 3]) -> PresetShape {
    PresetShape {
        name,
        widths,
        steps,
    }
}

impl Config {
    /// The configuration with another seed.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed, ..self }
    }

    /// The preset of the given name, one of [`PRESETS`].
    ///
    /// # Errors
    /// When there is no preset of the name.
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
