//! Widths of the public files beside those of the data.

use super::findings::{Finding, Severity};
use super::modality::ModalitySummary;

/// Text, audio and vision of the files that presets are made for.
const WIDTHS: [(&str, [usize; 3]); 4] = [
    ("mosi", [768, 5, 20]),
    ("mosei", [768, 74, 35]),
    ("sims", [768, 33, 709]),
    ("iemocap", [1024, 512, 1024]),
];

/// A word about the preset that fits, or that nearly does.
pub(super) fn findings(modalities: &[ModalitySummary]) -> Option<Finding> {
    let width = |name: &str| modalities.iter().find(|m| m.name == name).map(|m| m.width);
    let [Some(text), Some(audio), Some(vision)] = ["text", "audio", "vision"].map(width) else {
        return None;
    };
    let here = [text, audio, vision];
    let agree = |widths: &[usize; 3]| (0..3).filter(|i| widths[*i] == here[*i]).count();
    let (name, widths) = WIDTHS.iter().max_by_key(|(_, widths)| agree(widths))?;
    match agree(widths) {
        3 => Some(Finding::new(
            Severity::Note,
            "modalities",
            format!("widths {here:?} are those of preset {name}"),
            format!("train with --preset {name}"),
        )),
        2 => Some(Finding::new(
            Severity::Note,
            "modalities",
            format!("widths {here:?}, preset {name} is made for {widths:?}"),
            "the preset trains all the same; its settings were chosen for other features",
        )),
        _ => None,
    }
}
