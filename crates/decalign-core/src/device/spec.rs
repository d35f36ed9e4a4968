//! Devices by name.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

use super::runtime::{Cuda, Metal, Runtime};
use crate::{Error, Result};

/// A device given as text: `cpu`, `cuda` or `cuda:N`, `metal`, or `auto` for the first device there is.
///
/// ```
/// use decalign_core::device::DeviceSpec;
/// assert_eq!("cuda:1".parse::<DeviceSpec>()?, DeviceSpec::Cuda(1));
/// assert!("cpu".parse::<DeviceSpec>()?.open()?.is_cpu());
/// assert!("gpu".parse::<DeviceSpec>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceSpec {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
    /// The Metal device.
    Metal,
    /// CUDA if this program was built for it and the machine has a device, else Metal, else the CPU.
    Auto,
}

impl FromStr for DeviceSpec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let number = text.strip_prefix("cuda:").map(str::parse);
        match (text, number) {
            ("cpu", _) => Ok(Self::Cpu),
            ("cuda", _) => Ok(Self::Cuda(0)),
            ("metal", _) => Ok(Self::Metal),
            ("auto", _) => Ok(Self::Auto),
            (_, Some(Ok(number))) => Ok(Self::Cuda(number)),
            _ => Err(Error::value(
                "device",
                text,
                "must be cpu, cuda, cuda:N, metal or auto",
            )),
        }
    }
}

impl fmt::Display for DeviceSpec {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => write!(f, "metal"),
            Self::Auto => write!(f, "auto"),
        }
    }
}

impl DeviceSpec {
    /// Opens the device. All callers get the same CUDA device, with one stream.
    ///
    /// # Errors
    /// When this program was built without the feature that the device needs, or there is no such device.
    pub fn open(self) -> Result<Device> {
        let missing = |backend: &str, feature: &str| {
            let what = format!("this program was built without {backend}");
            Error::device(self, format!("{what}; rebuild with --features {feature}"))
        };
        let absent = |e: candle_core::Error| {
            let what = format!("no such device works on this machine ({})", first_line(&e));
            Error::device(self, format!("{what}; choose another device, or auto"))
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cuda_is_available() => Err(missing("CUDA", "cuda")),
            Self::Metal if !metal_is_available() => Err(missing("Metal", "metal")),
            Self::Cuda(number) => Cuda::open(number).map_err(absent),
            Self::Metal => Metal::open(0).map_err(absent),
            Self::Auto => Ok(available().unwrap_or(Device::Cpu)),
        }
    }
}

/// The first line of an error.
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The first device of this machine that this program was built for.
pub fn available() -> Option<Device> {
    Cuda::open(0).or_else(|_| Metal::open(0)).ok()
}
