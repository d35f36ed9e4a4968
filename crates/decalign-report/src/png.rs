//! Figures as PNG.

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};

use crate::error::{Error, Result};
use crate::figure::Figure;

/// Pixels a unit of the drawing: sharp on paper and on dense screens.
const SCALE: f32 = 2.0;

impl Figure {
    /// The drawing as a PNG file, with the fonts of the system.
    ///
    /// # Errors
    /// When there is not enough memory for the picture.
    pub fn png(&self) -> Result<Vec<u8>> {
        let failed = |what: String| Error::figure(&self.name, what);
        let mut options = Options::default();
        options.fontdb_mut().load_system_fonts();
        let tree = Tree::from_str(&self.svg(), &options).map_err(|e| failed(e.to_string()))?;
        let size = tree.size();
        let pixels = |length: f32| (length * SCALE).ceil() as u32;
        let mut picture = Pixmap::new(pixels(size.width()), pixels(size.height()))
            .ok_or_else(|| failed("too large for a picture".to_owned()))?;
        let transform = Transform::from_scale(SCALE, SCALE);
        resvg::render(&tree, transform, &mut picture.as_mut());
        picture.encode_png().map_err(|e| failed(e.to_string()))
    }
}
