//! Devices by name.

use std::fmt;
use std::str::FromStr;

use candle_core::Device;
use candle_core::utils::{cuda_is_available, metal_is_available};

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
            Self::Cuda(number) => cuda(number).map_err(absent),
            Self::Metal => Device::new_metal(0).map_err(absent),
            Self::Auto => Ok(available().unwrap_or(Device::Cpu)),
        }
    }
}

/// A CUDA device with one stream, so that launches of several threads keep their order. All callers share it.
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

/// Keeps freed blocks in the memory pool instead of returning them at each synchronisation.
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
fn first_line(error: &candle_core::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or_default().to_owned()
}

/// The first device of this machine that this program was built for.
pub fn available() -> Option<Device> {
    let cuda = || cuda(0).ok().filter(|_| cuda_is_available());
    let metal = || Device::new_metal(0).ok().filter(|_| metal_is_available());
    cuda().or_else(metal)
}
