//! Launches on CUDA.

// Launching a kernel is unsafe: that its arguments fit is checked here, what it does with them by
// the emulator's tests.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::CudaStorageSlice;
use candle_core::cuda_backend::cudarc::cublas::result as cublas;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasOperation_t;
use candle_core::cuda_backend::cudarc::driver::result as driver;
use candle_core::cuda_backend::cudarc::driver::sys::CUdevice_attribute_enum as Attribute;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute_enum as Allowed;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg, SyncOnDrop,
};
use candle_core::cuda_backend::cudarc::nvrtc::{CompileOptions, compile_ptx_with_opts};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp1, Layout, Shape, Storage, StorageRef,
    Tensor,
};

use super::launch::{Argument, Launch, Value};
use super::memory::Room;
use super::{Language, Memory, Program, cache};
use crate::gemm::Store;
use crate::{Error, Result};

/// Memory that is not initialised.
pub(super) fn empty(device: &CudaDevice, dtype: DType, shape: &Shape) -> Result<CudaStorage> {
    let n = shape.elem_count();
    // SAFETY: the numbers are plain; that a kernel writes them before they are read is what the emulator's tests check.
    let slice = unsafe {
        match dtype {
            DType::F64 => CudaStorageSlice::F64(device.alloc(n)?),
            DType::U32 => CudaStorageSlice::U32(device.alloc(n)?),
            DType::BF16 => CudaStorageSlice::BF16(device.alloc(n)?),
            DType::F16 => CudaStorageSlice::F16(device.alloc(n)?),
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
    // First of all: this locks memory for a moment, parts of which may be read by the same kernel.
    let updates: Vec<Option<u64>> = arguments
        .iter()
        .map(|a| match a {
            Argument::Update(x) => updated(x, &stream).map(Some),
            _ => Ok(None),
        })
        .collect::<Result<_>>()?;
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
    for ((guard, argument), update) in guards.iter().zip(&mut arguments).zip(updates) {
        values.push(match argument {
            Argument::Value(value) => Some(*value),
            _ => None,
        });
        let place = match (guard.as_deref(), argument) {
            (Some(Storage::Cuda(x)), Argument::Input(tensor)) => {
                let start = tensor.layout().start_offset();
                Some(input(x, start, &stream)?)
            }
            (_, Argument::Output(memory)) => match memory.room() {
                Room::Own(Storage::Cuda(x)) => Some(output(x, &stream)?),
                Room::Part(part) => {
                    pointers.push(address(part, &stream)?);
                    continue;
                }
                Room::Own(_) => return Err(elsewhere()),
            },
            (_, Argument::Update(_)) => {
                pointers.push(update.unwrap_or(0));
                continue;
            }
            (_, Argument::Value(_) | Argument::Nothing { .. }) => None,
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
        shared_mem_bytes: launch.large as u32,
    };
    if launch.large > 0 {
        let most = Allowed::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function
            .set_attribute(most, launch.large as i32)
            .map_err(failed)?;
    }
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
            CudaStorageSlice::BF16($slice) => $body,
            CudaStorageSlice::F16($slice) => $body,
            _ => {
                let expected = "f32, f64, u32, u8, bf16 or f16";
                return Err(Error::tensor("argument", expected, "another"));
            }
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

/// See [`super::multiply`]: what is a table of rows here is one of columns to the library, so that the sides change places.
pub(super) fn multiply(
    device: &CudaDevice,
    out: &mut Memory,
    at: usize,
    [a, b]: [&Tensor; 2],
    store: Store,
) -> Result<()> {
    let ((m, k), n) = (a.dims2()?, b.dim(1)?);
    let (a, b) = (a.detach(), b.detach());
    let ((a, transpose_a, step_a), (b, transpose_b, step_b)) = (operand(&a)?, operand(&b)?);
    let size = |n: usize| i32::try_from(n).map_err(failed);
    let stream = device.cuda_stream();
    let (x, y, dtype) = (address(&a, &stream)?, address(&b, &stream)?, a.dtype());
    let start = (at * dtype.size_in_bytes()) as u64;
    let z = start
        + match out.room() {
            Room::Own(Storage::Cuda(z)) => output(z, &stream)?.0,
            Room::Part(part) => address(part, &stream)?,
            Room::Own(_) => return Err(elsewhere()),
        };
    let (rows, columns, inner) = (size(m)?, size(n)?, size(k)?);
    let (step_a, step_b) = (size(step_a)?, size(step_b)?);
    let adds = matches!(store, Store::Add);
    let blas = device.cublas_handle();
    macro_rules! gemm {
        ($t:ty, $function:path) => {{
            let (one, beta): ($t, $t) = (1.0, if adds { 1.0 } else { 0.0 });
            // SAFETY: the addresses hold (m, k), (k, n) and (m, n) elements with these steps, and live until this returns to
            // a stream on which all that follows waits.
            unsafe {
                $function(
                    *blas.handle(),
                    transpose_b,
                    transpose_a,
                    columns,
                    rows,
                    inner,
                    &raw const one,
                    y as *const $t,
                    step_b,
                    x as *const $t,
                    step_a,
                    &raw const beta,
                    z as *mut $t,
                    columns,
                )
            }
            .map_err(failed)
        }};
    }
    match (dtype, b.dtype()) {
        (DType::F32, DType::F32) => gemm!(f32, cublas::sgemm),
        (DType::F64, DType::F64) => gemm!(f64, cublas::dgemm),
        _ => Err(Error::tensor(
            "product",
            "operands of one type, f32 or f64",
            b.dtype(),
        )),
    }
}

/// Where the first element of a tensor lies.
fn address(x: &Tensor, stream: &CudaStream) -> Result<u64> {
    let (storage, layout) = x.storage_and_layout();
    match &*storage {
        Storage::Cuda(x) => Ok(input(x, layout.start_offset(), stream)?.0),
        _ => Err(elsewhere()),
    }
}

/// Sets a piece of memory to zeros.
pub(super) fn clear(device: &CudaDevice, part: &Tensor) -> Result<()> {
    let stream = device.cuda_stream();
    let (at, bytes) = (
        address(part, &stream)?,
        part.elem_count() * part.dtype().size_in_bytes(),
    );
    // SAFETY: the piece has so many bytes, which nothing else uses.
    unsafe { driver::memset_d8_async(at, 0, bytes, stream.cu_stream()) }.map_err(failed)
}

/// A piece in memory of its own.
pub(super) fn copied(part: &Tensor) -> Result<Storage> {
    let (storage, layout) = part.storage_and_layout();
    let Storage::Cuda(from) = &*storage else {
        return Err(elsewhere());
    };
    let mut to = empty(&from.device, part.dtype(), part.shape())?;
    from.copy_strided_src(&mut to, 0, layout)?;
    Ok(Storage::Cuda(to))
}

/// An operand as the library takes it: whether it is transposed, and the step from one row (or column) to the next.
fn operand(x: &Tensor) -> Result<(Tensor, cublasOperation_t, usize)> {
    let ((rows, columns), steps) = (x.dims2()?, x.stride().to_vec());
    match steps[..] {
        [step, 1] if step >= columns => Ok((x.clone(), cublasOperation_t::CUBLAS_OP_N, step)),
        [1, step] if step >= rows => Ok((x.clone(), cublasOperation_t::CUBLAS_OP_T, step)),
        _ => Ok((x.contiguous()?, cublasOperation_t::CUBLAS_OP_N, columns)),
    }
}

/// Takes the place of a tensor that is written: Candle lends its storage mutably to such an operation only.
struct Locate<'a> {
    stream: &'a CudaStream,
    pointer: Cell<u64>,
}

impl InplaceOp1 for Locate<'_> {
    fn name(&self) -> &'static str {
        "update"
    }

    fn cpu_fwd(&self, _: &mut CpuStorage, _: &Layout) -> candle_core::Result<()> {
        candle_core::bail!("update: the tensor is not on the device")
    }

    fn cuda_fwd(&self, x: &mut CudaStorage, layout: &Layout) -> candle_core::Result<()> {
        // What says that it is in use goes at once: the kernel starts on the stream that all else is on.
        let (pointer, bytes) = match &mut x.slice {
            CudaStorageSlice::F32(x) => (x.device_ptr_mut(self.stream).0, 4),
            CudaStorageSlice::F64(x) => (x.device_ptr_mut(self.stream).0, 8),
            _ => candle_core::bail!("update: the tensor is f32 or f64"),
        };
        self.pointer
            .set(pointer + (layout.start_offset() * bytes) as u64);
        Ok(())
    }
}

fn updated(x: &Tensor, stream: &CudaStream) -> Result<u64> {
    let place = Locate {
        stream,
        pointer: Cell::new(0),
    };
    x.inplace_op1(&place)?;
    Ok(place.pointer.get())
}

/// What a function was loaded by: where the texts lie that it is made of, and the numbers that go into them.
type Key = Vec<usize>;

/// Functions that are loaded: building a text and its hash at every launch would be felt.
static LOADED: LazyLock<Mutex<HashMap<Key, CudaFunction>>> = LazyLock::new(Mutex::default);

fn load(program: &Program, function: &str, device: &CudaDevice) -> Result<CudaFunction> {
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

/// What the device can: major and minor number.
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
