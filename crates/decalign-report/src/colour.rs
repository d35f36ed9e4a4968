//! Colours that colour-blind readers can tell apart.

/// Okabe and Ito (2008), "Color Universal Design", without black and yellow: both stay readable on
/// white and on print.
const CATEGORIES: [&str; 6] = [
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
];

/// The colour of a category. Colours repeat after six; shapes and labels then distinguish categories.
pub(crate) fn category(i: usize) -> &'static str {
    CATEGORIES[i % CATEGORIES.len()]
}

/// Stops of a scale from light to dark with one hue, so that it also reads in grey.
const SEQUENCE: [[f64; 3]; 5] = [
    [247.0, 251.0, 255.0],
    [198.0, 219.0, 239.0],
    [107.0, 174.0, 214.0],
    [33.0, 113.0, 181.0],
    [8.0, 48.0, 107.0],
];

/// The colour of a share from 0 (light) to 1 (dark).
pub(crate) fn sequential(share: f64) -> String {
    let share = if share.is_finite() {
        share.clamp(0.0, 1.0)
    } else {
        0.0
    };
    let place = share * (SEQUENCE.len() - 1) as f64;
    let low = (place as usize).min(SEQUENCE.len() - 2);
    let part = place - low as f64;
    let mix = |c: usize| {
        let (a, b) = (SEQUENCE[low][c], SEQUENCE[low + 1][c]);
        (a + (b - a) * part).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// A colour for text on [`sequential`].
pub(crate) fn on_sequential(share: f64) -> &'static str {
    if share > 0.55 { "#ffffff" } else { "#111111" }
}
