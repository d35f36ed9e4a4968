//! Where to compute, by name.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

use crate::{Error, Result};

/// Where to compute: `cpu`, `cuda` or `cuda:N`, `metal`, or `auto` for the first device there is.
///
/// ```
/// use decalign_core::device::Place;
/// assert_eq!("cuda:1".parse::<Place>()?, Place::Cuda(1));
/// assert!("cpu".parse::<Place>()?.open()?.is_cpu());
/// assert!("gpu".parse::<Place>().is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Place {
    /// The processor.
    #[default]
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
    /// The Metal device.
    Metal,
    /// CUDA where this program was built for it and there is one, else Metal, else the CPU.
    Auto,
}

impl FromStr for Place {
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

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Cpu => write!(f, "cpu"),
            Self::Cuda(number) => write!(f, "cuda:{number}"),
            Self::Metal => write!(f, "metal"),
            Self::Auto => write!(f, "auto"),
        }
    }
}

impl Place {
    /// The device.
    ///
    /// # Errors
    /// When this program was built without the feature that the device needs, or there is no such device.
    pub fn open(self) -> Result<Device> {
        let missing = |feature: &str| {
            let remedy = format!("needs a program built with `--features {feature}`");
            Error::value("device", self, remedy)
        };
        let absent = |e: candle_core::Error| {
            let remedy = format!("this machine has no such device that works ({})", brief(&e));
            Error::value("device", self, remedy)
        };
        match self {
            Self::Cpu => Ok(Device::Cpu),
            Self::Cuda(_) if !cuda_is_available() => Err(missing("cuda")),
            Self::Metal if !metal_is_available() => Err(missing("metal")),
            Self::Cuda(number) => cuda(number).map_err(absent),
            Self::Metal => Device::new_metal(0).map_err(absent),
            Self::Auto => Ok(available().unwrap_or(Device::Cpu)),
        }
    }
}

/// A CUDA device with a stream of its own, so that launches of several threads keep their order; one for all that ask.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
fn cuda(number: usize) -> candle_core::Result<Device> {
    use std::collections::BTreeMap;
    use std::sync::{Mutex, PoisonError};

    static OPEN: Mutex<BTreeMap<usize, Device>> = Mutex::new(BTreeMap::new());
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&number) {
        return Ok(device.clone());
    }
    let device = candle_core::CudaDevice::new_with_stream(number)?;
    // SAFETY: one stream for all tensors of the device, so events have nothing to order.
    unsafe { device.disable_event_tracking() };
    keep_memory(number)?;
    let device = Device::Cuda(device);
    open.insert(number, device.clone());
    Ok(device)
}

/// Has the driver keep what is freed for the next that ask, where it would hand it back at every wait for the device.
#[cfg(feature = "cuda")]
#[allow(unsafe_code)]
fn keep_memory(number: usize) -> candle_core::Result<()> {
    use candle_core::cuda_backend::cudarc::driver::sys;

    let (mut pool, mut most) = (std::ptr::null_mut(), u64::MAX);
    let attribute = sys::CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD;
    // SAFETY: the context of the device is current; the attribute is a number of 64 bits.
    let done = unsafe {
        let found = sys::cuDeviceGetDefaultMemPool(&raw mut pool, number as sys::CUdevice);
        found.result().and_then(|()| {
            sys::cuMemPoolSetAttribute(pool, attribute, (&raw mut most).cast()).result()
        })
    };
    done.map_err(|error| candle_core::Error::Msg(format!("CUDA memory pool: {error}")))
}

#[cfg(not(feature = "cuda"))]
fn cuda(number: usize) -> candle_core::Result<Device> {
    Device::new_cuda(number)
}

/// The first line of an error.
fn brief(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The first device of this machine that this program was built for.
pub fn available() -> Option<Device> {
    let cuda = || cuda(0).ok().filter(|_| cuda_is_available());
    let metal = || Device::new_metal(0).ok().filter(|_| metal_is_available());
    cuda().or_else(metal)
}
