//! Launches on CUDA.

// Launching a kernel is unsafe: that its arguments fit is checked here, what it does with them by
// the emulator's tests.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::fs;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::{CudaDevice, CudaStorage, DType, Shape, Storage, StorageRef, Tensor};

use super::launch::{Argument, Launch, Value};
use super::{Language, Program, cache};
use crate::{Error, Result};

/// Memory that is not initialised.
pub(super) fn empty(device: &CudaDevice, dtype: DType, shape: &Shape) -> Result<CudaStorage> {
    let n = shape.elem_count();
    // SAFETY: the numbers are plain; that a kernel writes them before they are read is what the emulator's tests check.
    let slice = unsafe {
        match dtype {
            DType::F64 => CudaStorageSlice::F64(device.alloc(n)?),
            DType::U32 => CudaStorageSlice::U32(device.alloc(n)?),
            _ => CudaStorageSlice::F32(device.alloc(n)?),
        }
    };
    Ok(CudaStorage {
        slice,
        device: device.clone(),
    })
}

/// Where memory lies, and what says that it is in use until it is dropped.
type Place<'a> = (u64, SyncOnDrop<'a>);

pub(super) fn run(launch: Launch, device: &CudaDevice) -> Result<()> {
    let function = load(launch.program, launch.function, device)?;
    let stream = device.cuda_stream();
    let mut arguments = launch.arguments;
    // Tensors of their own beside the arguments, of which the outputs are borrowed mutably.
    let tensors: Vec<Option<Tensor>> = arguments
        .iter()
        .map(|a| match a {
            Argument::Input(x) => Some(x.clone()),
            _ => None,
        })
        .collect();
    let guards: Vec<Option<StorageRef>> = tensors
        .iter()
        .map(|x| x.as_ref().map(|x| x.storage_and_layout().0))
        .collect();
    let mut pointers = Vec::with_capacity(arguments.len());
    let mut in_use = Vec::with_capacity(arguments.len());
    let mut values = Vec::with_capacity(arguments.len());
    for (guard, argument) in guards.iter().zip(&mut arguments) {
        values.push(match argument {
            Argument::Value(value) => Some(*value),
            _ => None,
        });
        let place = match (guard.as_deref(), argument) {
            (Some(Storage::Cuda(x)), Argument::Input(tensor)) => {
                let start = tensor.layout().start_offset();
                Some(input(x, start, &stream)?)
            }
            (_, Argument::Output(memory)) => match memory.storage_mut() {
                Storage::Cuda(x) => Some(output(x, &stream)?),
                _ => return Err(elsewhere()),
            },
            (_, Argument::Value(_)) => None,
            _ => return Err(elsewhere()),
        };
        pointers.push(place.as_ref().map_or(0, |(pointer, _)| *pointer));
        in_use.extend(place.map(|(_, sync)| sync));
    }
    let mut builder = stream.launch_builder(&function);
    for (pointer, value) in pointers.iter().zip(&values) {
        match value {
            None => builder.arg(pointer),
            Some(Value::F32(v)) => builder.arg(v),
            Some(Value::F64(v)) => builder.arg(v),
            Some(Value::U32(v)) => builder.arg(v),
            Some(Value::U64(v)) => builder.arg(v),
        };
    }
    let shape = LaunchConfig {
        grid_dim: (launch.groups as u32, 1, 1),
        block_dim: (launch.program.group_size() as u32, 1, 1),
        shared_mem_bytes: 0,
    };
    // SAFETY: the count of arguments was held against the source in `load`, and their memory lives until `in_use` goes;
    // the emulator runs the same source with the same host code and checks types and every access.
    unsafe { builder.launch(shape) }.map_err(failed)?;
    drop(in_use);
    Ok(())
}

fn elsewhere() -> Error {
    Error::value("argument", "on another device", "move all tensors to one")
}

fn failed(error: impl std::fmt::Display) -> Error {
    candle_core::Error::Msg(format!("CUDA: {error}")).into()
}

/// Calls `$body` with the slice that a storage holds.
macro_rules! with_slice {
    ($storage:expr, $slice:ident => $body:expr) => {
        match $storage {
            CudaStorageSlice::F32($slice) => $body,
            CudaStorageSlice::F64($slice) => $body,
            CudaStorageSlice::U32($slice) => $body,
            CudaStorageSlice::U8($slice) => $body,
            _ => return Err(Error::tensor("argument", "f32, f64, u32 or u8", "another")),
        }
    };
}

fn input<'a>(x: &'a CudaStorage, start: usize, stream: &'a CudaStream) -> Result<Place<'a>> {
    fn bytes_of<T>(_: &impl DevicePtr<T>) -> usize {
        size_of::<T>()
    }
    Ok(with_slice!(&x.slice, slice => {
        let (pointer, sync) = slice.device_ptr(stream);
        (pointer + (start * bytes_of(slice)) as u64, sync)
    }))
}

fn output<'a>(x: &'a mut CudaStorage, stream: &'a CudaStream) -> Result<Place<'a>> {
    Ok(with_slice!(&mut x.slice, slice => slice.device_ptr_mut(stream)))
}

/// The keys of programs by their text: hashing a text at every launch would be felt.
static KEYS: LazyLock<Mutex<HashMap<String, String>>> = LazyLock::new(Mutex::default);

fn load(program: &Program, function: &str, device: &CudaDevice) -> Result<CudaFunction> {
    let title = program.title();
    let known = {
        let keys = KEYS.lock().unwrap_or_else(PoisonError::into_inner);
        keys.get(&format!("{title}-{}", program.group_size()))
            .cloned()
    };
    if let Some(key) = known {
        // The module is loaded: the text is not looked at.
        if let Ok(found) = device.get_or_load_custom_func(function, &key, "") {
            return Ok(found.into_cuda_function());
        }
    }
    program.functions()?;
    let text = program.text(Language::Cuda);
    let arch = architecture(device)?;
    let key = cache::key(&[&text, &arch, &compiler_version(), OPTIONS]);
    let ptx = compiled(&title, &text, &arch, &key)?;
    let found = device.get_or_load_custom_func(function, &key, &ptx)?;
    KEYS.lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(format!("{title}-{}", program.group_size()), key);
    Ok(found.into_cuda_function())
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

fn architecture(device: &CudaDevice) -> Result<String> {
    let stream = device.cuda_stream();
    let attribute = |a| stream.context().attribute(a).map_err(failed);
    let major = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?;
    let minor = attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?;
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
