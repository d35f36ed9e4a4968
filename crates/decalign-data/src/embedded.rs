//! The embedded example data set.

use std::io::Read;

use flate2::read::GzDecoder;

use crate::{Dataset, Error, Result, container};

static MFEAT: &[u8] = include_bytes!("../assets/mfeat.safetensors.gz");

impl Dataset {
    /// UCI Multiple Features: 2000 handwritten digits seen in six ways, ten classes.
    ///
    /// `fou` (76 Fourier coefficients), `fac` (216 profile correlations), `kar` (64 Karhunen-Loève
    /// coefficients), `pix` (240 pixel averages), `zer` (47 Zernike moments), `mor` (6
    /// morphological features); 1200 samples train, 300 validate, 500 test. By R. P. W. Duin, CC
    /// BY 4.0, <https://doi.org/10.24432/C5HC70>.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn mfeat() -> Result<Self> {
        let mut bytes = Vec::new();
        let read = GzDecoder::new(MFEAT).read_to_end(&mut bytes);
        read.map_err(|error| Error::format("mfeat", error))?;
        container::read(bytes.into(), "mfeat")
    }
}
