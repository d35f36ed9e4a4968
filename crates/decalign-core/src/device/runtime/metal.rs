//! Metal.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use candle_core::backend::BackendDevice;
use candle_core::{DType, Device, MetalDevice, MetalStorage, Shape, Storage};
use candle_metal_kernels::metal::ComputePipeline;
use objc2_metal::{MTLCompileOptions, MTLSize};

use super::Runtime;
use crate::device::launch::{Argument, Launch, Value, elsewhere};
use crate::device::memory::Block;
use crate::device::program::{Language, Program};
use crate::{Error, Result};

/// A Metal device.
#[derive(Clone)]
pub(in crate::device) struct Metal(MetalDevice);

impl Runtime for Metal {
    fn of(device: &Device) -> Option<Self> {
        match device {
            Device::Metal(device) => Some(Self(device.clone())),
            _ => None,
        }
    }

    fn open(number: usize) -> candle_core::Result<Device> {
        Device::new_metal(number)
    }

    fn device(&self) -> Device {
        Device::Metal(self.0.clone())
    }

    fn empty(&self, dtype: DType, shape: &Shape) -> Result<Block> {
        if dtype == DType::F64 {
            return Err(Error::tensor("memory", "f32: Metal has no f64", dtype));
        }
        let n = shape.elem_count();
        let buffer = self.0.new_buffer(n.max(1), dtype, "decalign")?;
        let storage = MetalStorage::new(buffer, self.0.clone(), n, dtype);
        Ok(Block::Own(Storage::Metal(storage)))
    }

    fn zeros(&self, dtype: DType, shape: &Shape) -> Result<Block> {
        let storage = self.0.zeros_impl(shape, dtype)?;
        Ok(Block::Own(Storage::Metal(storage)))
    }

    fn launch(&self, launch: Launch) -> Result<()> {
        run(launch, &self.0)
    }

    fn has_tables(&self) -> bool {
        false
    }

    fn largest_shared(&self) -> Result<usize> {
        Ok(32 * 1024)
    }
}

fn run(launch: Launch, device: &MetalDevice) -> Result<()> {
    let pipeline = load(launch.program, launch.function, device)?;
    let commands = device.command_encoder()?;
    let encoder = commands.as_ref();
    encoder.set_compute_pipeline_state(&pipeline);
    for (i, argument) in launch.arguments.into_iter().enumerate() {
        match argument {
            Argument::Input(x) => {
                let (storage, layout) = x.storage_and_layout();
                let Storage::Metal(metal) = &*storage else {
                    return Err(elsewhere());
                };
                let offset = layout.start_offset() * x.dtype().size_in_bytes();
                encoder.set_input_buffer(i, Some(metal.buffer()), offset);
            }
            Argument::Update(x) => {
                let (storage, layout) = x.storage_and_layout();
                let Storage::Metal(metal) = &*storage else {
                    return Err(elsewhere());
                };
                let offset = layout.start_offset() * x.dtype().size_in_bytes();
                encoder.set_output_buffer(i, Some(metal.buffer()), offset);
            }
            Argument::Output(memory) => match memory.block() {
                Block::Own(Storage::Metal(metal)) => {
                    encoder.set_output_buffer(i, Some(metal.buffer()), 0)
                }
                _ => return Err(elsewhere()),
            },
            Argument::Nothing { .. } => encoder.set_input_buffer(i, None, 0),
            Argument::Value(Value::F32(v)) => encoder.set_bytes(i, &v),
            Argument::Value(Value::U32(v)) => encoder.set_bytes(i, &v),
            Argument::Value(Value::U64(v)) => encoder.set_bytes(i, &v),
            Argument::Value(Value::F64(v)) => {
                return Err(Error::value("argument", v, "Metal has no f64"));
            }
        }
    }
    let size = |width| MTLSize {
        width,
        height: 1,
        depth: 1,
    };
    encoder.dispatch_thread_groups(size(launch.groups), size(launch.program.group_size()));
    Ok(())
}

/// Pipelines by device, program and function.
static PIPELINES: LazyLock<Mutex<HashMap<String, ComputePipeline>>> = LazyLock::new(Mutex::default);

fn load(program: &Program, function: &str, device: &MetalDevice) -> Result<ComputePipeline> {
    let key = format!(
        "{:?}-{}-{}-{function}",
        device.id(),
        program.title(),
        program.group_size()
    );
    let mut all = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(found) = all.get(&key) {
        return Ok(found.clone());
    }
    program.functions()?;
    let failed = |e: candle_metal_kernels::MetalKernelError| {
        Error::from(candle_core::Error::Msg(format!(
            "{} does not compile: {e}",
            program.title()
        )))
    };
    let options = MTLCompileOptions::new();
    // Infinities and NaN are what they are.
    #[allow(deprecated)]
    options.setFastMathEnabled(false);
    let metal = device.metal_device();
    let library = metal
        .new_library_with_source(&program.text(Language::Metal), Some(&options))
        .map_err(failed)?;
    let entry = library.get_function(function, None).map_err(failed)?;
    let pipeline = metal
        .new_compute_pipeline_state_with_function(&entry)
        .map_err(failed)?;
    all.insert(key, pipeline.clone());
    Ok(pipeline)
}
