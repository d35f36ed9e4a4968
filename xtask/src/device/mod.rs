//! Kernels without a device, by NVIDIA's compilers and the emulator, and everything that runs on a device.

mod cuda_tools;
mod feature_check;
mod kernel_check;
mod suite;

pub(crate) use cuda_tools::install as install_cuda_tools;
pub(crate) use feature_check::run as check_features;
pub(crate) use kernel_check::run as check_kernels;
pub(crate) use suite::run as run_suite;
