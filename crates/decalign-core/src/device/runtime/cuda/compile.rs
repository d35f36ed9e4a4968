//! Functions of programs, compiled once.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::CudaDevice;
use candle_core::cuda_backend::cudarc::driver::CudaFunction;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};

use super::address::failed;
use crate::Result;
use crate::device::program::{Language, Program};
use crate::device::runtime::cache;

/// The key of a loaded function: the addresses of its texts, and the numbers that go into them.
type Key = Vec<usize>;

/// Functions that are loaded: building a text and its hash at every launch would be felt.
static LOADED: LazyLock<Mutex<HashMap<Key, CudaFunction>>> = LazyLock::new(Mutex::default);

/// The function of a program on a device.
pub(super) fn load(program: &Program, function: &str, device: &CudaDevice) -> Result<CudaFunction> {
    let mut key = program.identity();
    key.extend([function.as_ptr() as usize, function.len()]);
    key.push(Arc::as_ptr(device.cuda_stream().context()) as usize);
    let loaded = || LOADED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = loaded().get(&key) {
        return Ok(found.clone());
    }
    program.functions()?;
    let text = program.text(Language::Cuda);
    let arch = architecture(device)?;
    let hash = cache::key(&[&text, &arch, &compiler_version(), OPTIONS]);
    let ptx = compiled(&program.title(), &text, &arch, &hash)?;
    let found = device.get_or_load_custom_func(function, &hash, &ptx)?;
    let found = found.into_cuda_function();
    loaded().insert(key, found.clone());
    Ok(found)
}

/// f32 stays f32: no flush of subnormal numbers, exact division and roots.
const OPTIONS: &str = "--fmad=true";

fn compiler_version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: two places for two numbers.
    unsafe {
        candle_core::cuda_backend::cudarc::nvrtc::sys::nvrtcVersion(&mut major, &mut minor);
    }
    format!("{major}.{minor}")
}

/// The compute capability of the device: major and minor number.
pub(super) fn capability(device: &CudaDevice) -> Result<(i32, i32)> {
    let stream = device.cuda_stream();
    let attribute = |a| stream.context().attribute(a).map_err(failed);
    Ok((
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
        attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
    ))
}

/// Bytes of shared memory that a group may have.
pub(super) fn largest_shared(device: &CudaDevice) -> Result<usize> {
    let most = Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN;
    let stream = device.cuda_stream();
    let bytes = stream.context().attribute(most).map_err(failed)?;
    Ok(usize::try_from(bytes).unwrap_or(0))
}

fn architecture(device: &CudaDevice) -> Result<String> {
    let (major, minor) = capability(device)?;
    Ok(format!("compute_{major}{minor}"))
}

/// The PTX of a text: from disk, or from the compiler and then on disk where that can be written.
fn compiled(title: &str, text: &str, arch: &str, key: &str) -> Result<String> {
    let path = cache::folder().join(format!("{title}-{arch}-{key}.ptx"));
    if let Ok(ptx) = fs::read_to_string(&path)
        && !ptx.is_empty()
    {
        return Ok(ptx);
    }
    let options = CompileOptions {
        options: vec![
            format!("--gpu-architecture={arch}"),
            "--std=c++17".to_owned(),
            OPTIONS.to_owned(),
        ],
        ..Default::default()
    };
    let ptx = compile_ptx_with_opts(text, options)
        .map_err(|e| failed(format!("{title} does not compile: {e:?}")))?
        .to_src();
    let _ = cache::make(&path, |beside| fs::write(beside, &ptx));
    Ok(ptx)
}
